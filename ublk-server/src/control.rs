// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the server asks of `/dev/ublk-control` itself, next to libublk.
//!
//! libublk adds, starts, stops and deletes the devices it made. [`Control`] does what concerns devices of others: looking
//! at them, taking them over, removing them. And it guards against some of libublk's habits:
//!
//! 1. When adding a device fails, libublk 0.4 deletes the id it asked for on the way out. If the reason was that the id
//!    is taken, it thereby deletes *somebody else's live device*. So [`Control::device_exists`] is asked first, and
//!    [`lock_adding`] keeps other servers of this kind from taking the id in between.
//! 2. It reports a missing module on stderr, and other reasons as bare numbers. [`Control::open`] finds out first.
//! 3. It looks for its own description of a device that it did not make, and complains on stderr if there is none.
//!    [`attach`] puts an empty one there for that moment.
//! 4. When it takes a device over it writes the description anew, in a directory it leaves open to everybody, where a
//!    symbolic link may wait. So it is not told that it takes a device over; [`Control`] does that.
//! 5. It deletes without waiting in a way that the driver refuses for devices of users who are not root, and waits for
//!    their last user instead. [`Control::delete`] does not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem::{offset_of, size_of};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};
use libublk::ctrl::{UblkCtrl, UblkCtrlBuilder};
use libublk::{UblkError, sys};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::Error;
use crate::units::Bytes;

const PATH: &str = "/dev/ublk-control";
/// `UBLK_U_CMD_TRY_STOP_DEV` of Linux 7.0: `_IOWR('u', 0x17, struct ublksrv_ctrl_cmd)`. libublk has no name for it yet.
const TRY_STOP_DEV: u32 = sys::UBLK_U_CMD_STOP_DEV & !0xff | 0x17;
/// How often to look for an answer that nobody announced.
const SLICE: Duration = Duration::from_millis(200);
/// How long the driver may take to answer a question.
const QUESTION: Duration = Duration::from_secs(20);
/// How long to wait until a deleted device is gone, where the driver answers only then.
const DELETION: Duration = Duration::from_secs(1);
/// The room for a command in a submission of double size.
const COMMAND_LEN: usize = 80;

/// An open control device.
pub(crate) struct Control {
    file: File,
    ring: IoUring<squeue::Entry128>,
    /// Commands so far: tells their completions apart.
    commands: u64,
}

/// The room for the path of a device's channel.
const PATH_LEN: usize = 32;

/// The memory of a command.
#[repr(C)]
struct Shared<T> {
    /// Of an unprivileged device the driver wants to see that whoever commands may open its channel, root too.
    path: [u8; PATH_LEN],
    answer: T,
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
        Ok(Self {
            file,
            ring,
            commands: 0,
        })
    }

    /// Whether the driver knows a device with this id, be it live, stopped, or deleted but still open somewhere.
    pub(crate) fn device_exists(&mut self, id: u32) -> Result<bool, Errno> {
        Ok(self.info(id)?.is_some())
    }

    /// The driver's record of a device; none if there is no such device.
    pub(crate) fn info(&mut self, id: u32) -> Result<Option<sys::ublksrv_ctrl_dev_info>, Errno> {
        match self.ask(
            sys::UBLK_U_CMD_GET_DEV_INFO,
            id,
            0,
            sys::ublksrv_ctrl_dev_info::default(),
        ) {
            Ok(info) => Ok(Some(info)),
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// What the driver was told about a device when it was made.
    pub(crate) fn params(&mut self, id: u32) -> Result<sys::ublk_params, Errno> {
        let answer = sys::ublk_params {
            // How much of it we know.
            len: u32::try_from(size_of::<sys::ublk_params>()).map_err(|_| Errno::EOVERFLOW)?,
            ..Default::default()
        };
        self.ask(sys::UBLK_U_CMD_GET_PARAMS, id, 0, answer)
    }

    /// Lets a new server connect to a device whose server died. `EBUSY` until the driver has let go of the dead one.
    pub(crate) fn begin_recovery(&mut self, id: u32) -> Result<(), Errno> {
        self.tell(sys::UBLK_U_CMD_START_USER_RECOVERY, id, 0)
    }

    /// Makes a device live again that this process has connected to.
    pub(crate) fn end_recovery(&mut self, id: u32) -> Result<(), Errno> {
        self.tell(sys::UBLK_U_CMD_END_USER_RECOVERY, id, u64::from(std::process::id()))
    }

    /// What the driver can do, as bits `UBLK_F_*`; none from a driver that is too old to tell.
    pub(crate) fn features(&mut self) -> u64 {
        self.ask(sys::UBLK_U_CMD_GET_FEATURES, 0, 0, 0_u64).unwrap_or(0)
    }

    /// Gives a live device another size. `EOPNOTSUPP` from drivers before Linux 6.16.
    pub(crate) fn update_size(&mut self, id: u32, size: Bytes) -> Result<(), Errno> {
        self.tell(sys::UBLK_U_CMD_UPDATE_SIZE, id, size.sectors())
    }

    /// Stops a device that nobody has open, and lets nobody open it any more. `EBUSY` if somebody has; `EOPNOTSUPP` from
    /// drivers that cannot tell.
    pub(crate) fn try_stop(&mut self, id: u32) -> Result<(), Errno> {
        self.tell(TRY_STOP_DEV, id, 0)
    }

    /// Fails what applications wait for, and removes the block device.
    pub(crate) fn stop(&mut self, id: u32) -> Result<(), Errno> {
        self.tell(sys::UBLK_U_CMD_STOP_DEV, id, 0)
    }

    /// Makes the driver forget a stopped device, as soon as nobody has it open.
    pub(crate) fn delete(&mut self, id: u32) -> Result<(), Errno> {
        match self.send(sys::UBLK_U_CMD_DEL_DEV_ASYNC, id, 0, None, (), None) {
            // The driver does not let users do that, and the other command ends when the last user is gone. What it does
            // it has done before.
            Err(Errno::EINVAL) => {
                let path = Some(channel_path(id)?);
                match self.send(sys::UBLK_U_CMD_DEL_DEV, id, 0, path, (), Some(DELETION)) {
                    Err(Errno::ETIMEDOUT) => Ok(()),
                    result => result,
                }
            }
            result => result,
        }
    }

    fn tell(&mut self, operation: u32, id: u32, data: u64) -> Result<(), Errno> {
        self.ask(operation, id, data, ())
    }

    /// Sends a command, and waits for its completion: without the path of the device, which must not be there when it is a
    /// privileged one, and if that does not do, with it. What changes a device takes as long as it takes; questions do not.
    fn ask<T: Copy>(&mut self, operation: u32, id: u32, data: u64, answer: T) -> Result<T, Errno> {
        let patience = (size_of::<T>() > 0).then_some(QUESTION);
        match self.send(operation, id, data, None, answer, patience) {
            Err(Errno::EINVAL) => self.send(operation, id, data, Some(channel_path(id)?), answer, patience),
            result => result,
        }
    }

    /// Sends a command, and waits for its completion. The driver may read and write the answer until then, so it must be
    /// one of the driver's structures.
    fn send<T: Copy>(
        &mut self,
        operation: u32,
        id: u32,
        data: u64,
        path: Option<[u8; PATH_LEN]>,
        answer: T,
        patience: Option<Duration>,
    ) -> Result<T, Errno> {
        let mut shared = Box::new(Shared {
            path: path.unwrap_or_default(),
            answer,
        });
        let (address, length) = match path {
            Some(_) => (&raw mut *shared as u64, PATH_LEN + size_of::<T>()),
            None if size_of::<T>() == 0 => (0, 0),
            None => (&raw mut shared.answer as u64, size_of::<T>()),
        };
        let path_length = if path.is_some() { PATH_LEN } else { 0 };
        let command = command(id, data, address, length, path_length)?;
        self.commands += 1;
        let entry = opcode::UringCmd80::new(types::Fd(self.file.as_raw_fd()), operation)
            .cmd(command)
            .build()
            .user_data(self.commands);
        // SAFETY: the descriptor and the answer stay valid until the completion was taken below, or for ever: leaving
        // earlier leaks the answer.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| Errno::EBUSY)?;
        // Nobody may wait for ever: on Linux 7.2 under emulation a question was seen that never got its answer.
        let slice = types::Timespec::from(SLICE);
        let wait = types::SubmitArgs::new().timespec(&slice);
        let deadline = patience.map(|patience| Instant::now() + patience);
        let completion = loop {
            let waited = self.ring.submitter().submit_with_args(1, &wait);
            let number = self.commands;
            if let Some(completion) = self
                .ring
                .completion()
                .find(|completion| completion.user_data() == number)
            {
                break completion.result();
            }
            let errno = match waited.map_err(|error| errno_of_io(&error)) {
                Ok(_) | Err(Errno::EINTR | Errno::ETIME) => Errno::ETIMEDOUT,
                Err(errno) => errno,
            };
            if errno != Errno::ETIMEDOUT || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                Box::leak(shared);
                return Err(errno);
            }
        };
        match completion {
            0.. => Ok(shared.answer),
            error => Err(Errno::from_raw(-error)),
        }
    }
}

/// libublk's view of a device that exists.
pub(crate) fn attach(id: u32, info: &sys::ublksrv_ctrl_dev_info) -> Result<UblkCtrl, UblkError> {
    let _description = EmptyDescription::leave(id);
    UblkCtrlBuilder::default()
        .id(i32::try_from(id).map_err(|_| UblkError::InvalidVal)?)
        .nr_queues(info.nr_hw_queues)
        .depth(info.queue_depth)
        .io_buf_bytes(info.max_io_buf_bytes)
        .build()
}

/// Removes what libublk may have written of a device that it does not delete itself.
pub(crate) fn forget(id: u32) {
    let path = PathBuf::from(UblkCtrl::run_dir()).join(format!("{id:04}.json"));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("removing {}: {error}", path.display());
        }
        _ => {}
    }
}

/// A description of a device for libublk that says nothing. Where none can be made, libublk complains, and no more.
struct EmptyDescription(Option<PathBuf>);

impl EmptyDescription {
    fn leave(id: u32) -> Self {
        let directory = PathBuf::from(UblkCtrl::run_dir());
        // It may be there.
        let _ = fs::create_dir(&directory);
        let path = directory.join(format!("{id:04}.json"));
        // Never what is there, nor where a link points to.
        let made = File::create_new(&path).and_then(|mut file| file.write_all(b"{}"));
        Self(made.is_ok().then_some(path))
    }
}

impl Drop for EmptyDescription {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!("removing {}: {error}", path.display());
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

/// Where the channel of a device is, as the driver wants it.
fn channel_path(id: u32) -> Result<[u8; PATH_LEN], Errno> {
    let mut path = [0; PATH_LEN];
    write!(&mut path[..PATH_LEN - 1], "/dev/ublkc{id}").map_err(|_| Errno::ENAMETOOLONG)?;
    Ok(path)
}

/// A command that concerns a device, with a number, and the memory the driver reads or writes, which begins with a path
/// or not.
fn command(id: u32, data: u64, address: u64, length: usize, path_length: usize) -> Result<[u8; COMMAND_LEN], Errno> {
    let mut command = [0; COMMAND_LEN];
    let mut put = |offset: usize, bytes: &[u8]| {
        let place = command
            .get_mut(offset..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
            .ok_or(Errno::EOVERFLOW)?;
        place.copy_from_slice(bytes);
        Ok(())
    };
    let short = |length: usize| u16::try_from(length).map_err(|_| Errno::EOVERFLOW);
    put(offset_of!(sys::ublksrv_ctrl_cmd, dev_id), &id.to_ne_bytes())?;
    // The command concerns no queue.
    put(offset_of!(sys::ublksrv_ctrl_cmd, queue_id), &u16::MAX.to_ne_bytes())?;
    put(offset_of!(sys::ublksrv_ctrl_cmd, len), &short(length)?.to_ne_bytes())?;
    put(offset_of!(sys::ublksrv_ctrl_cmd, addr), &address.to_ne_bytes())?;
    put(offset_of!(sys::ublksrv_ctrl_cmd, data), &data.to_ne_bytes())?;
    let path_length = short(path_length)?.to_ne_bytes();
    put(offset_of!(sys::ublksrv_ctrl_cmd, dev_path_len), &path_length)?;
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
        let command = command(0x0102_0304, 0x2122_2324_2526_2728, 0x1112_1314_1516_1718, 64, 32).unwrap();
        let mut expected = [0; COMMAND_LEN];
        // struct ublksrv_ctrl_cmd: __u32 dev_id; __u16 queue_id; __u16 len; __u64 addr; __u64 data[1]; __u16 dev_path_len; ...
        expected[0..4].copy_from_slice(&0x0102_0304_u32.to_ne_bytes());
        expected[4..6].copy_from_slice(&[0xff, 0xff]);
        expected[6..8].copy_from_slice(&64_u16.to_ne_bytes());
        expected[8..16].copy_from_slice(&0x1112_1314_1516_1718_u64.to_ne_bytes());
        expected[16..24].copy_from_slice(&0x2122_2324_2526_2728_u64.to_ne_bytes());
        expected[24..26].copy_from_slice(&32_u16.to_ne_bytes());
        assert_eq!(command, expected);
    }

    #[test]
    fn stopping_what_is_not_open_has_the_number_of_the_header() {
        // _IOC(_IOC_READ | _IOC_WRITE, 'u', 0x17, 32)
        assert_eq!(TRY_STOP_DEV, 0xc020_7517);
        assert_eq!(size_of::<sys::ublksrv_ctrl_cmd>(), 32);
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
