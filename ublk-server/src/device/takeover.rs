// SPDX-License-Identifier: MIT OR Apache-2.0

//! Serving a device whose server died.
//!
//! # Protocol
//!
//! 1. *Death*: the driver keeps every request that was not answered, makes applications wait, and calls the device
//!    quiesced once it has let go of the dead process. [`Orphan::find`] waits for that.
//! 2. *Target*: whoever calls opens what stood behind the device. Its lock comes free when the last operation of the dead
//!    process has ended, so that none of them can overtake a new one.
//! 3. *Comparison*: the device must have been made of the same thing, and must fit it still. Nothing was changed so far.
//! 4. *Begin*: the driver frees the channel, after [`super::mend`] where that is needed. Queues come up as for a new device.
//! 5. *End*: the device is live; the driver sends again what was not answered. That may be done a second time, which
//!    writes the same bytes to the same place.
//!
//! An error leaves the device as it was, to be taken over by another process or to be deleted; queues that had come up end.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use libublk::sys;
use nix::errno::Errno;

use super::{Device, INTERVAL, mend, no_eventfd};
use crate::control::{Control, attach, errno_of, forget};
use crate::error::Error;
use crate::identity::{Identity, from_word, is_ours};
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
        if params.basic.attrs & !sys::UBLK_ATTR_READ_ONLY != expected.basic.attrs {
            return differs("it makes writes durable in another way".to_owned());
        }
        Ok(())
    }

    /// Step 4.
    fn begin(&mut self) -> Result<(), Errno> {
        let deadline = Instant::now() + DEATH_TIMEOUT;
        // This ability came with the drivers that need no mending.
        if self.control.features() & u64::from(sys::UBLK_F_QUIESCE) == 0 {
            mend::mend(&self.info, deadline)?;
        }
        loop {
            match self.control.begin_recovery(self.info.dev_id) {
                Err(Errno::EBUSY) if Instant::now() < deadline => thread::sleep(INTERVAL),
                result => return result,
            }
        }
    }
}

impl Device {
    /// Serves a device again whose server died. When this returns, applications go on.
    pub fn take_over<T: Target>(mut orphan: Orphan, target: &Arc<T>) -> Result<Self, Error> {
        orphan.compare(target.as_ref())?;
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
        orphan.begin().map_err(refused)?;
        let mut device = Self::new(ctrl, orphan.control, true, false).map_err(no_eventfd)?;
        device.open_channel(target.as_ref(), &limits, false)?;
        device.start_queues(target)?;
        device.control.end_recovery(info.dev_id).map_err(refused)?;
        device.owned = true;
        tracing::info!("{path} is live again: {limits:?}, {} queues", device.queues.len());
        Ok(device)
    }

    /// Leaves a device that was not taken over to another process, or to nobody.
    pub(super) fn let_go(&mut self) -> Result<(), Error> {
        self.leave.ask();
        let mut result = Ok(());
        for (queue, thread) in std::mem::take(&mut self.queues) {
            result = result.and(self.joined(queue, thread));
        }
        self.leave.close_rings();
        result
    }
}

/// What is known of a device from the driver alone.
#[derive(Debug, Clone, Copy)]
pub struct Survey {
    /// The N of `/dev/ublkbN`.
    pub id: u32,
    /// Whether somebody serves it.
    pub state: State,
    /// Whether it is one of ours.
    pub ours: bool,
    /// What it was made of, if that can be served again.
    pub identity: Option<Identity>,
    /// Its server, or its last one.
    pub pid: i32,
    /// Hardware queues.
    pub queues: u16,
    /// Requests in flight per queue.
    pub depth: u16,
    /// How large it is.
    pub size: Bytes,
}

/// Whether a device is served, as the driver says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is.
    Live,
    /// It waits for a server.
    Orphaned,
    /// It has ended, or has not begun.
    Dead,
}

impl State {
    const fn of(state: u16) -> Self {
        match state as u32 {
            sys::UBLK_S_DEV_LIVE => Self::Live,
            sys::UBLK_S_DEV_DEAD => Self::Dead,
            _ => Self::Orphaned,
        }
    }

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Orphaned => "orphaned",
            Self::Dead => "dead",
        }
    }
}

/// Asks the driver about a device; none if there is none.
pub fn survey(id: u32) -> Result<Option<Survey>, Error> {
    Surveyor::open()?.survey(id)
}

/// Asks the driver again and again, without opening its device each time.
pub struct Surveyor(Control);

impl Surveyor {
    /// Opens the driver's device.
    pub fn open() -> Result<Self, Error> {
        Control::open().map(Self)
    }

    /// As [`survey`].
    pub fn survey(&mut self, id: u32) -> Result<Option<Survey>, Error> {
        let control = &mut self.0;
        let info = match info(control, id) {
            Err(Error::NoDevice(_)) => return Ok(None),
            found => found?,
        };
        let sectors = control.params(id).map_or(0, |params| params.basic.dev_sectors);
        Ok(Some(Survey {
            id,
            state: State::of(info.state),
            ours: is_ours(info.ublksrv_flags),
            identity: from_word(info.ublksrv_flags),
            pid: info.ublksrv_pid,
            queues: info.nr_hw_queues,
            depth: info.queue_depth,
            size: Bytes::new(sectors.saturating_mul(512)),
        }))
    }
}

/// What became of a device that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Done,
    /// It goes when the last user closes it.
    Pending,
}

/// Deletes a device whose server is gone. What applications wait for fails.
pub fn remove(id: u32) -> Result<Removal, Error> {
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
    forget(id);
    let gone = super::wait_until(super::DELETE_TIMEOUT, || !matches!(control.device_exists(id), Ok(true)));
    Ok(if gone { Removal::Done } else { Removal::Pending })
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
