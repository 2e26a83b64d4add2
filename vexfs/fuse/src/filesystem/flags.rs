// SPDX-License-Identifier: MIT OR Apache-2.0

//! File flags: what `chattr` sets and `lsattr` shows, in the two forms that the kernel asks for.

use nix::libc;
use vexfs::fs::SetAttributes;
use vexfs::fs::record::FileFlags;
use vexfs::units::Ino;

use super::VexFilesystem;
use super::convert::now;
use crate::serve::{Failure, Outcome};

/// `FS_IOC_GETFLAGS` and `FS_IOC_SETFLAGS`: their numbers tell the size of a `long`, their value has 4 bytes.
const GET_FLAGS: u32 = 0x8008_6601;
const SET_FLAGS: u32 = 0x4008_6602;
/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`: a `struct fsxattr`, of which only the first number means something here.
const GET_EXTENDED: u32 = 0x801c_581f;
const SET_EXTENDED: u32 = 0x401c_5820;
const EXTENDED_BYTES: usize = 28;

/// The flags that may be changed so. The others of the engine have bits that mean something else there.
const SETTABLE: u32 =
    FileFlags::COMPRESS.0 | FileFlags::IMMUTABLE.0 | FileFlags::APPEND.0 | FileFlags::NO_DUMP.0 | FileFlags::NO_ATIME.0;

/// Those that the extended form has too, with their bits there (`FS_XFLAG_…`).
const EXTENDED: [(u32, u32); 4] = [
    (FileFlags::IMMUTABLE.0, 0x08),
    (FileFlags::APPEND.0, 0x10),
    (FileFlags::NO_ATIME.0, 0x40),
    (FileFlags::NO_DUMP.0, 0x80),
];

fn to_extended(flags: u32) -> u32 {
    let set = EXTENDED.iter().filter(|(flag, _)| flags & flag != 0);
    set.fold(0, |all, (_, extended)| all | extended)
}

/// `None`: there is something in it that cannot be set.
fn from_extended(value: &[u8; EXTENDED_BYTES]) -> Option<u32> {
    let (extended, rest) = value.split_first_chunk::<4>()?;
    let mut extended = u32::from_ne_bytes(*extended);
    let mut flags = 0;
    for (flag, bit) in EXTENDED {
        if extended & bit != 0 {
            flags |= flag;
            extended &= !bit;
        }
    }
    (extended == 0 && rest.iter().all(|&byte| byte == 0)).then_some(flags)
}

impl VexFilesystem {
    /// Answers an ioctl. Whether the caller may is the kernel's to decide.
    pub(super) fn control(&self, ino: Ino, command: u32, value: &[u8]) -> Outcome<Vec<u8>> {
        match command {
            GET_FLAGS => Ok(self.flags(ino)?.to_ne_bytes().to_vec()),
            GET_EXTENDED => {
                let mut answer = to_extended(self.flags(ino)?).to_ne_bytes().to_vec();
                answer.resize(EXTENDED_BYTES, 0);
                Ok(answer)
            }
            SET_FLAGS => {
                let flags = value.first_chunk().ok_or(Failure::Errno(libc::EINVAL))?;
                self.set_flags(ino, u32::from_ne_bytes(*flags), SETTABLE)?;
                Ok(Vec::new())
            }
            SET_EXTENDED => {
                let value = value.first_chunk().ok_or(Failure::Errno(libc::EINVAL))?;
                let flags = from_extended(value).ok_or(Failure::Errno(libc::EOPNOTSUPP))?;
                let among = EXTENDED.iter().fold(0, |all, (flag, _)| all | flag);
                self.set_flags(ino, flags, among)?;
                Ok(Vec::new())
            }
            _ => Err(Failure::Errno(libc::ENOTTY)),
        }
    }

    fn flags(&self, ino: Ino) -> Outcome<u32> {
        Ok(self.fs.attributes(ino)?.inode.flags.0 & SETTABLE)
    }

    /// Sets flags, and leaves those that are not `among` the ones asked about.
    fn set_flags(&self, ino: Ino, flags: u32, among: u32) -> Outcome<()> {
        if flags & !among != 0 {
            return Err(Failure::Errno(libc::EOPNOTSUPP));
        }
        let old = self.fs.attributes(ino)?.inode.flags.0;
        let set = SetAttributes {
            flags: Some(FileFlags(old & !among | flags)),
            now: now(),
            ..SetAttributes::default()
        };
        self.fs.set_attributes(ino, &set)?;
        self.forget_attributes(ino);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extended_form_holds_what_both_have() {
        for flags in [0, FileFlags::IMMUTABLE.0, FileFlags::APPEND.0 | FileFlags::NO_DUMP.0] {
            let mut value = [0; EXTENDED_BYTES];
            value[..4].copy_from_slice(&to_extended(flags).to_ne_bytes());
            assert_eq!(from_extended(&value), Some(flags));
            value[12] = 1;
            assert_eq!(from_extended(&value), None);
        }
    }
}
