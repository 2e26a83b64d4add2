// SPDX-License-Identifier: MIT OR Apache-2.0

//! Serving a device whose server died.
//!
//! # Protocol
//!
//! 1. *Death*: the driver keeps every request that was not answered, makes applications wait, and calls the device
//!    quiesced once it has let go of the dead process. [`Orphan::find`] waits for that.
//! 2. *Target*: whoever calls opens what stood behind the device. Its lock comes free when the last operation of the dead
//!    process has ended ([`patiently`]), so that none of them can overtake a new one.
//! 3. *Comparison*: the device must have been made of the same thing, and must fit it still. Nothing was changed so far.
//! 4. *Begin*: the driver frees the channel. Queues come up as for a new device.
//! 5. *End*: the device is live; the driver sends again what was not answered. That may be done a second time, which
//!    writes the same bytes to the same place.
//!
//! An error leaves the device as it was, to be taken over by another process or to be deleted. Queues that had come up
//! keep waiting for requests: the process should end, which ends them.

use std::mem;
use std::thread;
use std::time::{Duration, Instant};

use libublk::sys;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Device, INTERVAL};
use crate::control::{Control, attach, errno_of};
use crate::error::Error;
use crate::identity::{from_word, is_ours};
use crate::options::driver_params;
use crate::target::Target;
use crate::units::Bytes;

/// How long the driver may take to notice that a server died, and to let go of it.
const DEATH_TIMEOUT: Duration = Duration::from_secs(5);

/// A device that waits for a server.
pub struct Orphan {
    control: Control,
    info: sys::ublksrv_ctrl_dev_info,
}

impl Orphan {
    /// Finds it, and waits if its server died only just now.
    pub fn find(id: u32) -> Result<Self, Error> {
        let mut control = Control::open()?;
        let deadline = Instant::now() + DEATH_TIMEOUT;
        loop {
            let info = info(&mut control, id)?;
            let state = u32::from(info.state);
            if info.flags & u64::from(sys::UBLK_F_USER_RECOVERY) == 0 || state == sys::UBLK_S_DEV_DEAD {
                return Err(Error::NotRecoverable(id));
            }
            if state != sys::UBLK_S_DEV_LIVE {
                return Ok(Self { control, info });
            }
            if Instant::now() >= deadline {
                return Err(Error::Served {
                    id,
                    pid: info.ublksrv_pid,
                });
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Step 3.
    fn compare<T: Target>(&mut self, target: &T) -> Result<(), Error> {
        let id = self.info.dev_id;
        let differs = |how: String| Err(Error::Mismatch { id, how });
        let made_of = from_word(self.info.ublksrv_flags);
        if made_of.is_none() || made_of != target.identity() {
            return differs("it was made of something else".to_owned());
        }
        let params = self.control.params(id).map_err(|errno| Error::System {
            what: "ask the driver what a device was made for",
            errno,
        })?;
        let limits = target.limits();
        let expected = driver_params(&limits, self.info.max_io_buf_bytes);
        if params.basic.dev_sectors > limits.size.sectors() {
            let size = params
                .basic
                .dev_sectors
                .checked_mul(512)
                .map_or(Bytes::new(u64::MAX), Bytes::new);
            return differs(format!(
                "it is {size} large, and what is behind it only {}",
                limits.size
            ));
        }
        if params.basic.logical_bs_shift < expected.basic.logical_bs_shift {
            let block = limits.block_size.bytes();
            return differs(format!(
                "it has smaller blocks than what is behind it takes now, {block}"
            ));
        }
        // A device that sends no flushes, or trusts FUA, would lose what this target has not made durable.
        if params.basic.attrs != expected.basic.attrs {
            return differs("it makes writes durable in another way".to_owned());
        }
        Ok(())
    }

    /// Step 4. A server that died while it took the device over has begun already, and the driver of Linux 6.12 calls
    /// beginning again invalid.
    fn begin(&mut self) -> Result<(), Errno> {
        let deadline = Instant::now() + DEATH_TIMEOUT;
        loop {
            match self.control.begin_recovery(self.info.dev_id) {
                Err(Errno::EBUSY) if Instant::now() < deadline => thread::sleep(INTERVAL),
                Err(Errno::EINVAL) => return Ok(()),
                result => return result,
            }
        }
    }
}

impl Device {
    /// Serves a device again whose server died. When this returns, applications go on.
    pub fn take_over<T: Target>(mut orphan: Orphan, target: T) -> Result<Self, Error> {
        orphan.compare(&target)?;
        let limits = target.limits();
        let info = orphan.info;
        let ctrl = attach(info.dev_id, &info).map_err(|error| Error::System {
            what: "open a control channel",
            errno: errno_of(&error),
        })?;
        let path = ctrl.get_bdev_path();
        let refused = |errno| Error::TakeOver {
            path: path.clone(),
            errno,
        };
        let ended = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let ended = ended.map_err(|errno| Error::System {
            what: "make an eventfd",
            errno,
        })?;
        orphan.begin().map_err(refused)?;
        let mut device = Self::new(ctrl, orphan.control, ended, false);
        device.open_channel(&target, &limits)?;
        device.start_queues(target)?;
        device.control.end_recovery(info.dev_id).map_err(refused)?;
        device.owned = true;
        tracing::info!("{path} is live again: {limits:?}, {} queues", device.queues.len());
        Ok(device)
    }

    /// Leaves the device to another process, or to nobody. Returns the error of a queue that has ended.
    pub(super) fn let_go(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for (thread, queue) in mem::take(&mut self.queues).into_iter().zip(0..) {
            if thread.is_finished() {
                result = result.and(self.joined(queue, thread));
            }
        }
        result
    }
}

/// Deletes a device whose server is gone. What applications wait for fails.
pub fn delete(id: u32) -> Result<(), Error> {
    let mut control = Control::open()?;
    let deadline = Instant::now() + DEATH_TIMEOUT;
    loop {
        let info = info(&mut control, id)?;
        if !is_ours(info.ublksrv_flags) {
            return Err(Error::NotOurs(id));
        }
        if u32::from(info.state) != sys::UBLK_S_DEV_LIVE {
            break;
        }
        if Instant::now() >= deadline {
            return Err(Error::Served {
                id,
                pid: info.ublksrv_pid,
            });
        }
        thread::sleep(INTERVAL);
    }
    for (what, result) in [
        ("stop the device", control.stop(id)),
        ("delete the device", control.delete(id)),
    ] {
        match result {
            // Somebody else was quicker.
            Ok(()) | Err(Errno::ENODEV) => {}
            Err(errno) => return Err(Error::System { what, errno }),
        }
    }
    Ok(())
}

fn info(control: &mut Control, id: u32) -> Result<sys::ublksrv_ctrl_dev_info, Error> {
    match control.info(id) {
        Ok(Some(info)) => Ok(info),
        Ok(None) => Err(Error::NoDevice(id)),
        Err(Errno::EPERM | Errno::EACCES) => Err(Error::Denied("look at a ublk device")),
        Err(errno) => Err(Error::System {
            what: "ask the driver for a device",
            errno,
        }),
    }
}

/// Opens something for as long as a dead process may still hold its lock.
pub fn patiently<T, E>(mut open: impl FnMut() -> Result<T, E>, is_in_use: impl Fn(&E) -> bool) -> Result<T, E> {
    let deadline = Instant::now() + DEATH_TIMEOUT;
    loop {
        match open() {
            Err(error) if is_in_use(&error) && Instant::now() < deadline => thread::sleep(INTERVAL),
            result => return result,
        }
    }
}
