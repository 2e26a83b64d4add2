// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where is measured: a file without a name in a directory, or a block device.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::statvfs::statvfs;
use vexfs::size::Size;

use super::job::{self, Job};
use crate::failure::failed;

/// Written once before anything is measured, so that nobody measures how blocks are given out.
const FILL: &str = "[fill]\nrw=write\nbs=1m\nioengine=psync\nend_fsync=1\n";

/// See the module's text.
pub(super) struct Place {
    path: PathBuf,
    /// What fio opens.
    name: OsString,
    /// Kept open: the file has no other name than that of the descriptor, and is gone with it. Of a device, so that nobody
    /// mounts it meanwhile.
    _open: File,
    size: Size,
    writable: bool,
}

impl Place {
    /// A directory or block device with room for so much.
    pub(super) fn open(path: &Path, size: Size, overwrite: bool) -> Result<Self> {
        let kind = path.metadata().with_context(|| path.display().to_string())?.file_type();
        if kind.is_dir() {
            Self::in_directory(path, size)
        } else if kind.is_block_device() {
            Self::device(path, size, overwrite)
        } else {
            Err(failed(
                format!("{} is neither a directory nor a block device", path.display()),
                "name the directory where a filesystem is mounted, or a device",
            ))
        }
    }

    fn in_directory(path: &Path, size: Size) -> Result<Self> {
        let room = statvfs(path).with_context(|| format!("asking for the room in {}", path.display()))?;
        let free = room.blocks_available().saturating_mul(room.fragment_size());
        if free < size.0 {
            return Err(failed(
                format!("{} has room for {} and not for {size}", path.display(), Size(free)),
                "name less with --size",
            ));
        }
        let open = nameless(path)
            // What has its size already is not made anew by fio, for which it would need a name.
            .and_then(|file| file.set_len(size.0).map(|()| file))
            .with_context(|| format!("making a file in {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            name: format!("/proc/{}/fd/{}", std::process::id(), open.as_raw_fd()).into(),
            _open: open,
            size,
            writable: true,
        })
    }

    fn device(path: &Path, size: Size, overwrite: bool) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(overwrite);
        if overwrite {
            options.custom_flags(libc::O_EXCL);
        }
        let mut open = options.open(path).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => failed(
                format!("{} is in use", path.display()),
                "unmount it first, or name the directory where it is mounted",
            ),
            _ => anyhow::Error::new(error).context(format!("opening {}", path.display())),
        })?;
        let bytes = open
            .seek(SeekFrom::End(0))
            .with_context(|| path.display().to_string())?;
        if bytes < size.0 {
            return Err(failed(
                format!("{} has {} and not {size}", path.display(), Size(bytes)),
                "name less with --size",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            name: path.as_os_str().to_owned(),
            _open: open,
            size,
            writable: overwrite,
        })
    }

    /// Whether jobs may write.
    pub(super) const fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether a job may be run here.
    pub(super) fn check(&self, job: Job) -> Result<()> {
        if self.writable || !job.writes() {
            return Ok(());
        }
        Err(failed(
            format!("{} would overwrite {}", job.name(), self.path.display()),
            "allow that with --overwrite, or choose jobs that read",
        ))
    }

    /// Writes it once, if it may be written.
    pub(super) fn fill(&self) -> Result<()> {
        if self.writable {
            let size = format!("--size={}", self.size.0);
            job::fio(&self.name, &[&size, "-"], FILL).with_context(|| self.shown())?;
        }
        Ok(())
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

/// A file that nobody else sees, and that is gone when it is closed.
fn nameless(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().custom_flags(libc::O_TMPFILE).open(directory) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {}
        opened => return opened,
    }
    let path = directory.join(format!(".vexfs-ublk-bench-{}", std::process::id()));
    let file = options.create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_with_room_and_nothing_stays_there() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::open(directory.path(), Size(1 << 20), false).unwrap();
        assert!(place.is_writable() && Path::new(place.name()).metadata().unwrap().is_file());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        for (path, size, words) in [
            (directory.path(), u64::MAX, "has room for"),
            (Path::new("/dev/null"), 4096, "neither a directory nor a block device"),
            (Path::new("/nowhere"), 4096, "/nowhere"),
        ] {
            let refused = Place::open(path, Size(size), false).err().unwrap();
            assert!(format!("{refused:#}").contains(words), "{refused:#}");
        }
    }
}
