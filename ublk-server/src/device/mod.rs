// SPDX-License-Identifier: MIT OR Apache-2.0

//! The life of a device.
//!
//! # Protocol
//!
//! 1. *Add*: the driver gives us a number and `/dev/ublkcN`, the channel for requests.
//! 2. *Queues*: one thread each opens its part of the channel and fetches. A queue that cannot says so, and everything
//!    is undone; the driver would otherwise wait for it for ever.
//! 3. *Start*: the driver makes `/dev/ublkbN`. Requests arrive from here on, the first from the kernel looking for
//!    partitions.
//! 4. *Stop*: the driver lets the requests under way finish, fails new ones, and ends the fetches, and so the threads.
//! 5. *Delete*: the driver forgets the number, as soon as the last user has closed the block device.
//!
//! [`Device::drop`] does 4 and 5 for whatever had been reached, so an error at any step leaves no device behind.
//!
//! A device whose target has an [`Identity`](crate::identity::Identity) outlives a server that is killed or that
//! [releases](Device::release) it: `takeover`, and `mend` for what a server left that died while it took a device over.
//!
//! # Threads
//!
//! libublk keeps its control ring in thread-local storage: all of this happens in the thread that called
//! [`Device::start`], and `Device` is not `Send`. Block signals before (see [`crate::signals`]).

mod mend;
mod takeover;

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libublk::ctrl::{UblkCtrl, UblkCtrlBuilder, UblkQueueAffinity};
use libublk::io::UblkDev;
use libublk::{UblkError, UblkFlags, sys};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::control::{Control, errno_of, errno_of_io, forget, lock_adding, outcome};
use crate::error::{Error, QueueError};
use crate::features::Features;
use crate::identity::to_word;
use crate::leave::Leave;
use crate::metrics::{DeviceMetrics, QueueMetrics};
use crate::options::{Options, driver_params};
use crate::queue::{self, Part};
use crate::target::{Limits, Target};
use crate::transfer::{Mode, ModeError};
use crate::units::Bytes;

pub use takeover::{Orphan, Removal, State, Survey, Surveyor, remove, survey};

/// How long `/dev` may take to show the new device.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the last user to close the device; the driver deletes it then, with us or without.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often to look.
const INTERVAL: Duration = Duration::from_millis(5);

/// A block device served by this process. Dropping it stops and deletes the device.
pub struct Device {
    ctrl: UblkCtrl,
    control: Control,
    channel: Option<Arc<UblkDev>>,
    queues: Vec<(u16, JoinHandle<Result<(), QueueError>>)>,
    /// Threads of each queue.
    threads: u16,
    mode: Mode,
    metrics: DeviceMetrics,
    /// Readable when a queue thread has ended.
    ended: Arc<EventFd>,
    /// Asks the queues to leave the device to another server.
    leave: Arc<Leave>,
    /// Whether it outlives this process.
    recoverable: bool,
    /// Whether the driver was told to delete it.
    deleted: bool,
    /// Whether it is ours to stop and delete.
    owned: bool,
    /// What is done in one thread stays in it.
    not_send: PhantomData<*const ()>,
}

/// Why [`Device::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The descriptor is readable.
    Asked,
    /// A queue ended by itself: someone else stopped the device, or the queue broke. [`Device::failure`] tells which.
    QueueEnded,
}

/// What a queue thread tells the thread that started it, once.
enum Report {
    Ready,
    Failed,
}

/// Keeps a queue thread's promise to report once whether it became ready, and to say when it ends, however it ends.
struct Reporter {
    reports: Option<Sender<Report>>,
    ended: Arc<EventFd>,
}

impl Reporter {
    fn report(&mut self, report: Report) {
        if let Some(reports) = self.reports.take() {
            // Fails if nobody waits for the report any more; then it is not missed either.
            let _ = reports.send(report);
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.report(Report::Failed);
        // Fails if the counter is full, and then it is readable, which is the point.
        let _ = self.ended.write(1);
    }
}

impl Device {
    /// Makes a block device of `target`. When this returns, the device is open for I/O. `added` is told its number before
    /// it can be used, and may fail.
    pub fn start<T: Target>(
        target: &Arc<T>,
        options: &Options,
        added: impl FnOnce(u32) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let limits = target.limits();
        options.check(&limits)?;
        let control = Control::open()?;
        let mut device = Self::add(control, target.as_ref(), options)?;
        added(device.id())?;
        device.open_channel(target.as_ref(), &limits, options.read_only)?;
        device.start_queues(target)?;
        device.make_live()?;
        tracing::info!(
            "{} is live: {limits:?}, {:?}, {} threads, queues of {}",
            device.path(),
            device.mode,
            device.queues.len(),
            options.depth
        );
        Ok(device)
    }

    /// What it counts and measures.
    pub fn metrics(&self) -> DeviceMetrics {
        self.metrics.clone()
    }

    /// How it talks to the driver.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The block device.
    pub fn path(&self) -> String {
        self.ctrl.get_bdev_path()
    }

    /// The N of `/dev/ublkbN`.
    pub fn id(&self) -> u32 {
        self.ctrl.dev_info().dev_id
    }

    /// Hardware queues.
    pub fn queue_count(&self) -> u16 {
        self.ctrl.dev_info().nr_hw_queues
    }

    /// Requests in flight per queue.
    pub fn depth(&self) -> u16 {
        self.ctrl.dev_info().queue_depth
    }

    /// Whether another process can go on with it.
    pub const fn is_recoverable(&self) -> bool {
        self.recoverable
    }

    /// Waits until a queue has ended or the descriptor is readable.
    pub fn wait(&self, asked: BorrowedFd<'_>) -> Result<Wake, Errno> {
        loop {
            let mut fds = [
                PollFd::new(asked, PollFlags::POLLIN),
                PollFd::new(self.ended.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) if fds[1].any().unwrap_or(true) => return Ok(Wake::QueueEnded),
                Ok(_) if fds[0].any().unwrap_or(true) => return Ok(Wake::Asked),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// What broke a queue that has ended; nothing if the device was stopped from outside.
    pub fn failure(&mut self) -> Option<Error> {
        let (ended, others) = mem::take(&mut self.queues)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, thread)| thread.is_finished());
        self.queues = others;
        let mut result = Ok(());
        for (queue, thread) in ended {
            result = result.and(self.joined(queue, thread));
        }
        result.err()
    }

    /// Gives the device another size. Unsupported by drivers before Linux 6.16.
    pub fn resize(&mut self, size: Bytes) -> Result<(), Errno> {
        self.control.update_size(self.id(), size)
    }

    /// Whether somebody has it open, if the driver can tell. A device that nobody has open is stopped by that.
    pub fn stop_if_unused(&mut self) -> Result<(), Errno> {
        self.control.try_stop(self.id())
    }

    /// Stops and deletes the device. The error, if there is one, is the first that broke a queue.
    pub fn stop(mut self) -> Result<(), Error> {
        self.end()
    }

    /// Leaves a device that outlives this process to the next server, after answering what the target has. Applications
    /// wait from now on.
    pub fn release(mut self) -> Result<(), Error> {
        let result = self.let_go();
        tracing::info!("{} waits for another server", self.path());
        self.owned = false;
        // libublk deletes what it made when it is dropped.
        self.ctrl.disown();
        result
    }

    fn new(ctrl: UblkCtrl, control: Control, recoverable: bool, owned: bool) -> Result<Self, Errno> {
        let ended = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self {
            mode: Mode::of(ctrl.dev_info().flags),
            threads: 1,
            metrics: DeviceMetrics::default(),
            ctrl,
            control,
            channel: None,
            queues: Vec::new(),
            ended: Arc::new(ended),
            leave: Arc::new(Leave::new()?),
            recoverable,
            deleted: false,
            owned,
            not_send: PhantomData,
        })
    }

    /// Step 1.
    fn add<T: Target>(mut control: Control, target: &T, options: &Options) -> Result<Self, Error> {
        let lock = lock_adding()?;
        if let Some(id) = options.id {
            match control.device_exists(id) {
                Ok(false) => {}
                // A device that we may not look at exists, too.
                Ok(true) | Err(Errno::EPERM | Errno::EACCES | Errno::EINVAL) => return Err(Error::IdInUse(id)),
                Err(errno) => {
                    return Err(Error::System {
                        what: "ask the driver for a device",
                        errno,
                    });
                }
            }
        }
        let offers = (target.name(), target.transfers());
        let mode = Mode::choose(options.wishes, options.threads, offers, Features::of_driver())?;
        let identity = target.identity();
        // A driver that is too old for it takes no notice.
        let recovery = sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_USER_RECOVERY_REISSUE;
        let owner = if options.wishes.unprivileged {
            sys::UBLK_F_UNPRIVILEGED_DEV
        } else {
            identity.map_or(0, |_| recovery)
        };
        let ctrl = UblkCtrlBuilder::default()
            .name(target.name())
            .ctrl_flags(u64::from(owner | mode.flags()))
            .ctrl_target_flags(to_word(identity))
            .id(options.id.map_or(-1, u32::cast_signed))
            .nr_queues(options.queues)
            .depth(options.depth)
            .io_buf_bytes(options.io_bytes())
            .dev_flags(UblkFlags::UBLK_DEV_F_ADD_DEV)
            .build();
        drop(lock);
        let ctrl = ctrl.map_err(|error| match (&error, errno_of(&error), options.id) {
            // Before the driver was asked: a file or a ring.
            (UblkError::IOError(_), errno, _) => Error::System {
                what: "open a control channel",
                errno,
            },
            (_, Errno::EEXIST, Some(id)) => Error::IdInUse(id),
            (_, Errno::EPERM | Errno::EACCES, _) => Error::Denied("add a ublk device"),
            (_, errno, _) => Error::Add(errno),
        })?;
        let mut device =
            Self::new(ctrl, control, identity.is_some() && !options.wishes.unprivileged, true).map_err(no_eventfd)?;
        device.threads = options.threads;
        // The driver leaves out what it does not know, and says so only here.
        if device.mode != mode {
            return Err(ModeError::Driver(mode.transfer.name()).into());
        }
        let flags = device.ctrl.dev_info().flags;
        if options.wishes.unprivileged && flags & u64::from(sys::UBLK_F_UNPRIVILEGED_DEV) == 0 {
            return Err(ModeError::Privileged.into());
        }
        Ok(device)
    }

    /// Step 2, the part all queues share.
    fn open_channel<T: Target>(&mut self, target: &T, limits: &Limits, read_only: bool) -> Result<(), Error> {
        let describe = |device: &mut UblkDev| {
            device.tgt.dev_size = limits.size.get();
            device.tgt.params = driver_params(limits, device.dev_info.max_io_buf_bytes);
            if read_only {
                device.tgt.params.basic.attrs |= sys::UBLK_ATTR_READ_ONLY;
            }
            // The first is the channel's.
            for (place, file) in device.tgt.fds.iter_mut().skip(1).zip(target.files()) {
                *place = file.as_raw_fd();
                device.tgt.nr_fds += 1;
            }
            Ok(())
        };
        let channel = UblkDev::new(target.name().to_owned(), describe, &self.ctrl).map_err(|error| Error::Channel {
            path: self.ctrl.get_cdev_path(),
            errno: errno_of(&error),
        })?;
        self.channel = Some(Arc::new(channel));
        Ok(())
    }

    /// Step 2: starts the threads, and waits until each has reported.
    ///
    /// Each, even when one has failed: stopping the device ends the fetches there are, but a thread that were to fetch
    /// after that would wait for ever.
    fn start_queues<T: Target>(&mut self, target: &Arc<T>) -> Result<(), Error> {
        let Some(channel) = self.channel.clone() else {
            return Ok(());
        };
        let (reports, inbox) = mpsc::channel();
        let mut started = Ok(());
        let (queues, threads, mode) = (channel.dev_info.nr_hw_queues, self.threads, self.mode);
        let parts = (0..queues).flat_map(|queue| (0..threads).map(move |thread| Part { queue, thread, threads }));
        for part in parts {
            let queue = part.queue;
            let near = self.processors_near(queue);
            let meter = Arc::new(QueueMetrics::new(queue));
            self.metrics.add(Arc::clone(&meter));
            let (channel, target, leave) = (Arc::clone(&channel), Arc::clone(target), Arc::clone(&self.leave));
            let mut reporter = Reporter {
                reports: Some(reports.clone()),
                ended: Arc::clone(&self.ended),
            };
            let thread = thread::Builder::new()
                .name(format!("ublk{}q{queue}t{}", channel.dev_info.dev_id, part.thread))
                .spawn(move || {
                    // Marks the thread as one that writes out dirty memory, lest its own allocations wait for that.
                    UblkCtrl::init_queue_thread();
                    queue::stay_near(&near);
                    queue::serve(&channel, part, mode, &*target, &meter, &leave, || {
                        reporter.report(Report::Ready);
                    })
                });
            match thread {
                Ok(thread) => self.queues.push((queue, thread)),
                Err(error) => {
                    started = Err(Error::System {
                        what: "start a queue thread",
                        errno: errno_of_io(&error),
                    });
                    break;
                }
            }
        }
        let reports: Vec<_> = inbox.iter().take(self.queues.len()).collect();
        started?;
        for report in reports {
            match report {
                Report::Ready => {}
                Report::Failed => return Err(self.why_a_queue_ended()),
            }
        }
        Ok(())
    }

    /// The processors whose requests a queue gets; none if the driver does not tell.
    fn processors_near(&self, queue: u16) -> Vec<usize> {
        let mut affinity = UblkQueueAffinity::new();
        let asked = self.ctrl.get_queue_affinity(queue.into(), &mut affinity);
        asked.map_or(Vec::new(), |_| affinity.to_bits_vec())
    }

    /// Step 3.
    fn make_live(&mut self) -> Result<(), Error> {
        let Some(channel) = &self.channel else { return Ok(()) };
        let path = self.path();
        outcome(self.ctrl.start_dev(channel)).map_err(|errno| Error::Start {
            path: path.clone(),
            errno,
        })?;
        if wait_until(NODE_TIMEOUT, || Path::new(&path).exists()) {
            Ok(())
        } else {
            Err(Error::NoNode(path))
        }
    }

    /// Undoes everything, to learn what a queue had to say.
    fn why_a_queue_ended(&mut self) -> Error {
        match self.end() {
            Err(error) => error,
            // Its fetches were ended in an orderly way: someone else has stopped the device already.
            Ok(()) => Error::Start {
                path: self.path(),
                errno: Errno::ENODEV,
            },
        }
    }

    /// Steps 4 and 5, as far as there is something to undo. Returns the first error of a queue.
    fn end(&mut self) -> Result<(), Error> {
        if !self.owned {
            return self.let_go();
        }
        if self.queues.is_empty() {
            // Nobody has requests: there is nothing to wait for.
        } else if let Err(errno) = outcome(self.ctrl.kill_dev()) {
            // Gone already, or the deletion, which stops as well, must do.
            if errno != Errno::ENODEV {
                tracing::warn!("stopping {} failed: {errno}", self.path());
            }
            self.delete();
        }
        let mut result = Ok(());
        for (queue, thread) in mem::take(&mut self.queues) {
            result = result.and(self.joined(queue, thread));
        }
        self.leave.close_rings();
        // The driver keeps the number for as long as the channel is open.
        self.channel = None;
        self.delete();
        result
    }

    /// What a queue's thread had to say.
    fn joined(&self, queue: u16, thread: JoinHandle<Result<(), QueueError>>) -> Result<(), Error> {
        thread.join().unwrap_or(Err(QueueError::Panicked)).map_err(|source| {
            tracing::info!("queue {queue}: {source}");
            Error::Queue {
                queue,
                path: self.ctrl.get_cdev_path(),
                source,
            }
        })
    }

    fn delete(&mut self) {
        if self.deleted {
            return;
        }
        self.deleted = true;
        // libublk would delete it again when it is dropped, whosever it is then.
        self.ctrl.disown();
        // Without waiting: that could take as long as somebody keeps the block device open.
        let deleted = self.control.delete(self.id());
        forget(self.id());
        match deleted {
            Ok(()) => tracing::info!("{} is deleted", self.path()),
            Err(Errno::ENODEV) => tracing::info!("{} was deleted by someone else", self.path()),
            Err(errno) => tracing::error!("deleting {} failed: {errno}", self.path()),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!("{error}");
        }
        if !self.owned {
            return;
        }
        let id = self.id();
        // With the number free again, the next device can have it.
        if !wait_until(DELETE_TIMEOUT, || !matches!(self.control.device_exists(id), Ok(true))) {
            tracing::warn!(
                "{} is still in use: the driver deletes it when its last user closes it",
                self.path()
            );
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("path", &self.path())
            .field("queues", &self.queues.len())
            .finish_non_exhaustive()
    }
}

fn no_eventfd(errno: Errno) -> Error {
    Error::System {
        what: "make an eventfd",
        errno,
    }
}

/// Whether `condition` became true in time.
fn wait_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(INTERVAL);
    }
}
