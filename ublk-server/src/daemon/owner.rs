// SPDX-License-Identifier: MIT OR Apache-2.0

//! The thread that owns one device. libublk's control ring belongs to a thread, so whatever is done to a device is done in
//! the one that made it, which is told what to do.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::control::errno_of_io;
use crate::device::{Device, Wake};
use crate::error::Error;
use crate::metrics::DeviceMetrics;
use crate::units::Bytes;

/// What the thread can be told. Each carries where the answer goes.
enum Order {
    /// Stop and delete it; only if nobody uses it, where the driver can tell.
    Stop {
        only_unused: bool,
        answer: Sender<Result<(), StopError>>,
    },
    /// Leave it to another process.
    Release(Sender<Result<(), Error>>),
    Resize(Bytes, Sender<Result<(), Errno>>),
}

/// Why a device was not stopped.
#[derive(Debug)]
pub(super) enum StopError {
    /// Somebody has it open.
    InUse,
    /// It is gone, but a queue had broken.
    Broken(Error),
    /// Its thread is gone, and so is it.
    Gone,
}

/// What became of a device by itself.
#[derive(Debug)]
pub(super) enum Fate {
    /// Somebody else stopped it; it is deleted.
    Stopped,
    /// A queue broke. If it is recoverable, it is still there.
    Broken { error: Error, recoverable: bool },
}

/// What is known of a device once it can be used.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) id: u32,
    pub(super) path: String,
    pub(super) recoverable: bool,
    pub(super) metrics: DeviceMetrics,
}

/// The other end of the thread.
pub(super) struct Owner {
    orders: Sender<Order>,
    wake: Arc<EventFd>,
    thread: JoinHandle<()>,
}

impl Owner {
    /// Makes a device, or takes one over. `ended` hears of its end, if that is not by order.
    pub(super) fn start(
        work: impl FnOnce() -> Result<Device, Error> + Send + 'static,
        ended: impl FnOnce(u32, Fate) + Send + 'static,
    ) -> Result<(Self, Made), Error> {
        let system = |what| move |errno| Error::System { what, errno };
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let wake = Arc::new(wake.map_err(system("make an eventfd"))?);
        let (orders, inbox) = mpsc::channel();
        let (made, news) = mpsc::channel();
        let woken = Arc::clone(&wake);
        let thread = thread::Builder::new().name("device".into()).spawn(move || {
            match work() {
                Ok(device) => {
                    let told = made.send(Ok(Made {
                        id: device.id(),
                        path: device.path(),
                        recoverable: device.is_recoverable(),
                        metrics: device.metrics(),
                    }));
                    // Nobody wants it any more: dropping it deletes it.
                    if told.is_ok() {
                        own(device, &inbox, &woken, ended);
                    }
                }
                Err(error) => {
                    // The device is gone; if nobody waits for the reason, it is not missed.
                    let _ = made.send(Err(error));
                }
            }
        });
        let thread = thread.map_err(|error| system("start the thread of a device")(errno_of_io(&error)))?;
        let made = news.recv().unwrap_or(Err(Error::System {
            what: "start the thread of a device",
            errno: Errno::EIO,
        }))?;
        Ok((Self { orders, wake, thread }, made))
    }

    fn tell<T>(&self, order: impl FnOnce(Sender<T>) -> Order) -> Option<T> {
        let (answer, answers) = mpsc::channel();
        self.orders.send(order(answer)).ok()?;
        // Fails if the counter is full, and then it is readable, which is the point.
        let _ = self.wake.write(1);
        answers.recv().ok()
    }

    /// Stops and deletes the device. After [`StopError::InUse`] everything is as before.
    pub(super) fn stop(&self, only_unused: bool) -> Result<(), StopError> {
        self.tell(|answer| Order::Stop { only_unused, answer })
            .unwrap_or(Err(StopError::Gone))
    }

    /// Leaves the device to another process.
    pub(super) fn release(&self) -> Result<(), Error> {
        self.tell(Order::Release).unwrap_or(Ok(()))
    }

    pub(super) fn resize(&self, size: Bytes) -> Result<(), Errno> {
        self.tell(|answer| Order::Resize(size, answer))
            .unwrap_or(Err(Errno::ENODEV))
    }

    /// Waits for the end of a thread that was told to stop or release its device.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the thread of a device panicked");
        }
    }
}

/// The life of the thread once the device can be used.
fn own(mut device: Device, inbox: &Receiver<Order>, wake: &EventFd, ended: impl FnOnce(u32, Fate)) {
    use std::os::fd::AsFd;
    let id = device.id();
    loop {
        match device.wait(wake.as_fd()) {
            Ok(Wake::Asked) => {
                // Only clears it; the orders are in the channel.
                let _ = wake.read();
                while let Ok(order) = inbox.try_recv() {
                    device = match carry_out(device, order) {
                        Some(device) => device,
                        None => return,
                    };
                }
            }
            Ok(Wake::QueueEnded) => {
                let recoverable = device.is_recoverable();
                let fate = match device.failure() {
                    Some(error) => Fate::Broken { error, recoverable },
                    None => Fate::Stopped,
                };
                if matches!(fate, Fate::Broken { recoverable: true, .. }) {
                    // Not dropped here, which would delete it: the process ends, and leaves it.
                    ended(id, fate);
                    std::mem::forget(device);
                    return;
                }
                if let Err(error) = device.stop() {
                    tracing::error!("{error}");
                }
                ended(id, fate);
                return;
            }
            Err(errno) => {
                let error = Error::System {
                    what: "wait for what to do with a device",
                    errno,
                };
                ended(
                    id,
                    Fate::Broken {
                        error,
                        recoverable: true,
                    },
                );
                std::mem::forget(device);
                return;
            }
        }
    }
}

/// Does what the order says; none: the device is no longer ours.
fn carry_out(mut device: Device, order: Order) -> Option<Device> {
    // Who gave an order waits for the answer, or is gone with the process.
    match order {
        Order::Stop { only_unused, answer } => {
            if only_unused && device.stop_if_unused() == Err(Errno::EBUSY) {
                let _ = answer.send(Err(StopError::InUse));
                return Some(device);
            }
            let _ = answer.send(device.stop().map_err(StopError::Broken));
            None
        }
        Order::Release(answer) => {
            let _ = answer.send(device.release());
            None
        }
        Order::Resize(size, answer) => {
            let _ = answer.send(device.resize(size));
            Some(device)
        }
    }
}
