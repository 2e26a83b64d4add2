// SPDX-License-Identifier: MIT OR Apache-2.0

//! A thread that drives a [`Driver`]: for programs without an event loop of their own.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Driver;

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Service {
    driver: Arc<Driver>,
    wake: Arc<EventFd>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts it.
    pub fn start(driver: Driver) -> io::Result<Self> {
        let driver = Arc::new(driver);
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let ending = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("dsmil".into()).spawn({
            let (driver, wake, ending) = (Arc::clone(&driver), Arc::clone(&wake), Arc::clone(&ending));
            move || serve(&driver, &wake, &ending)
        })?;
        Ok(Self {
            driver,
            wake,
            ending,
            thread: Some(thread),
        })
    }

    /// Submits a request, as [`Driver::submit`] does.
    pub fn submit(
        &self,
        request: crate::smi::Request,
        timeout: crate::smi::Timeout,
    ) -> crate::Result<crate::smi::Ticket> {
        let ticket = self.driver.submit(request, timeout)?;
        // The thread may be waiting for longer than this operation may take.
        self.nudge();
        Ok(ticket)
    }

    /// The driver.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    fn nudge(&self) {
        // Fails only when the count is full, and then the thread has been nudged already.
        let _nudged_already = self.wake.write(1);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        self.nudge();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that drove the device panicked");
        }
    }
}

fn serve(driver: &Driver, wake: &EventFd, ending: &AtomicBool) {
    while !ending.load(Ordering::Acquire) {
        let wait = driver.poll();
        if let Err(error) = wait_for(driver, wake, wait) {
            // An interrupt that cannot be read is a device that was pulled; `poll` finds out by the registers.
            tracing::debug!(%error, "waiting for an interrupt");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn wait_for(driver: &Driver, wake: &EventFd, wait: Duration) -> io::Result<()> {
    let millis = u16::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
    let interrupt = driver.transport().interrupt();
    let mut fds = vec![PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
    if let Some(interrupt) = &interrupt {
        fds.push(PollFd::new(interrupt.fd, PollFlags::POLLIN));
    }
    match poll(&mut fds, PollTimeout::from(millis)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let seen = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
    if seen(0) {
        // Only that there was something counts; an empty count means that somebody took it.
        let _count = wake.read();
    }
    if seen(1)
        && let Some(interrupt) = interrupt
    {
        interrupt.wait(Duration::ZERO)?;
        driver.transport().rearm().map_err(io::Error::other)?;
    }
    Ok(())
}
