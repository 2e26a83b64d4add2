// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the server asks of `/dev/ublk-control` itself, next to libublk.
//!
//! libublk adds, starts, stops and deletes devices. Two of its habits need guarding against, and that is what this
//! module is for:
//!
//! 1. When adding a device fails, libublk 0.4 deletes the id it asked for on the way out. If the reason was that the id
//!    is taken, it thereby deletes *somebody else's live device*. So [`Control::device_exists`] is asked first, and
//!    [`lock_adding`] keeps other servers of this kind from taking the id in between.
//! 2. It reports a missing module on stderr, and other reasons as bare numbers. [`Control::open`] finds out first.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};
use libublk::{UblkError, sys};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::Error;

const PATH: &str = "/dev/ublk-control";
/// The room for a command in a submission of double size.
const COMMAND_LEN: usize = 80;

/// An open control device.
pub(crate) struct Control {
    file: File,
    ring: IoUring<squeue::Entry128>,
}

/// Excludes other servers from adding devices while held.
pub(crate) struct AddLock {
    _file: Flock<File>,
}

impl Control {
    /// Opens the device, and finds out whether devices can be made at all.
    pub(crate) fn open() -> Result<Self, Error> {
        let file = open_file()?;
        let ring = IoUring::<squeue::Entry128>::builder().build(4).map_err(Error::Ring)?;
        Ok(Self { file, ring })
    }

    /// Whether the driver knows a device with this id, be it live, stopped, or deleted but still open somewhere.
    pub(crate) fn device_exists(&mut self, id: u32) -> Result<bool, Errno> {
        let mut info = Box::new(sys::ublksrv_ctrl_dev_info::default());
        let command = get_dev_info(id, &raw mut *info as u64)?;
        let entry = opcode::UringCmd80::new(types::Fd(self.file.as_raw_fd()), sys::UBLK_U_CMD_GET_DEV_INFO)
            .cmd(command)
            .build();
        // SAFETY: the descriptor and `info`, which the command writes to, stay valid until its completion was taken
        // below, or for ever: leaving earlier leaks `info`.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| Errno::EBUSY)?;
        let completion = loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    Box::leak(info);
                    return Err(errno_of_io(&error));
                }
            }
            if let Some(completion) = self.ring.completion().next() {
                break completion.result();
            }
        };
        match completion {
            0.. => Ok(true),
            error if error == -(Errno::ENODEV as i32) => Ok(false),
            error => Err(Errno::from_raw(-error)),
        }
    }
}

/// Waits until no other server is adding a device, and keeps them from it until dropped.
pub(crate) fn lock_adding() -> Result<AddLock, Error> {
    let file = Flock::lock(open_file()?, FlockArg::LockExclusive).map_err(|(_, errno)| Error::System {
        what: "lock /dev/ublk-control",
        errno,
    })?;
    Ok(AddLock { _file: file })
}

fn open_file() -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(PATH)
        .map_err(|error| match error.kind() {
            // ENODEV, ENXIO: a node without a driver behind it.
            io::ErrorKind::NotFound => Error::NoDriver,
            _ if matches!(errno_of_io(&error), Errno::ENODEV | Errno::ENXIO) => Error::NoDriver,
            io::ErrorKind::PermissionDenied => Error::Denied("open /dev/ublk-control"),
            _ => Error::Control(error),
        })
}

/// A command that makes the driver write its record of device `id` to `address`.
fn get_dev_info(id: u32, address: u64) -> Result<[u8; COMMAND_LEN], Errno> {
    let mut command = [0; COMMAND_LEN];
    let mut put = |offset: usize, bytes: &[u8]| {
        let place = command
            .get_mut(offset..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
            .ok_or(Errno::EOVERFLOW)?;
        place.copy_from_slice(bytes);
        Ok(())
    };
    let len = u16::try_from(size_of::<sys::ublksrv_ctrl_dev_info>()).map_err(|_| Errno::EOVERFLOW)?;
    put(offset_of!(sys::ublksrv_ctrl_cmd, dev_id), &id.to_ne_bytes())?;
    // The command concerns no queue.
    put(offset_of!(sys::ublksrv_ctrl_cmd, queue_id), &u16::MAX.to_ne_bytes())?;
    put(offset_of!(sys::ublksrv_ctrl_cmd, len), &len.to_ne_bytes())?;
    put(offset_of!(sys::ublksrv_ctrl_cmd, addr), &address.to_ne_bytes())?;
    Ok(command)
}

/// The errno in an I/O error.
pub(crate) fn errno_of_io(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The errno in an error of libublk, whose messages carry none.
pub(crate) fn errno_of(error: &UblkError) -> Errno {
    match error {
        UblkError::UringIOError(code) | UblkError::OtherError(code) => Errno::from_raw(-code),
        UblkError::IOError(error) => errno_of_io(error),
        UblkError::QueueIsDown => Errno::ENODEV,
        UblkError::InvalidVal => Errno::EINVAL,
        UblkError::UringTimeout => Errno::ETIME,
        UblkError::UringIoQueued => Errno::EINPROGRESS,
        UblkError::JsonError(_) => Errno::EIO,
    }
}

/// The outcome of a control command. libublk passes `EBUSY` off as success.
pub(crate) fn outcome(result: Result<i32, UblkError>) -> Result<(), Errno> {
    match result {
        Ok(0..) => Ok(()),
        Ok(code) => Err(Errno::from_raw(-code)),
        Err(error) => Err(errno_of(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_has_its_fields_where_the_driver_looks() {
        let command = get_dev_info(0x0102_0304, 0x1112_1314_1516_1718).unwrap();
        let mut expected = [0; COMMAND_LEN];
        // struct ublksrv_ctrl_cmd: __u32 dev_id; __u16 queue_id; __u16 len; __u64 addr; ...
        expected[0..4].copy_from_slice(&0x0102_0304_u32.to_ne_bytes());
        expected[4..6].copy_from_slice(&[0xff, 0xff]);
        expected[6..8].copy_from_slice(&64_u16.to_ne_bytes());
        expected[8..16].copy_from_slice(&0x1112_1314_1516_1718_u64.to_ne_bytes());
        assert_eq!(command, expected);
    }

    #[test]
    fn busy_is_not_success() {
        assert_eq!(outcome(Ok(0)), Ok(()));
        assert_eq!(outcome(Ok(-16)), Err(Errno::EBUSY));
        assert_eq!(outcome(Err(UblkError::UringIOError(-17))), Err(Errno::EEXIST));
        assert_eq!(
            outcome(Err(UblkError::IOError(io::Error::from_raw_os_error(13)))),
            Err(Errno::EACCES)
        );
    }
}
