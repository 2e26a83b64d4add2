// SPDX-License-Identifier: MIT OR Apache-2.0

//! The device: opened, driven from the event loop, lost, found again.
//!
//! Two tasks per device: one reads interrupts through `io_uring`, one polls the driver when time is due. Both end when the
//! device is gone; then it is looked for again once a second. Whoever asks meanwhile is told that it is gone.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dsmil::smi::{Request, Timeout};
use dsmil::transport::Address;
use dsmil::{Driver, Error};
use tokio::sync::Notify;

use crate::settings::Settings;

/// How often a device that is gone is looked for.
const SEARCH_PERIOD: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    address: Address,
    config: dsmil::Config,
    timeout: Timeout,
    driver: RefCell<Arc<Driver>>,
    /// Rung when something was submitted or changed: the time of the next poll may be nearer now.
    changed: Notify,
    /// Rung after every poll: there may be news.
    polled: Notify,
}

impl Link {
    pub(crate) fn open(settings: &Settings) -> Result<Self> {
        let driver = attach(&settings.device, settings.driver);
        let driver = driver.with_context(|| format!("taking over {}", settings.device))?;
        Ok(Self {
            address: settings.device.clone(),
            config: settings.driver,
            timeout: settings.timeout,
            driver: RefCell::new(Arc::new(driver)),
            changed: Notify::new(),
            polled: Notify::new(),
        })
    }

    /// The driver of the device that is there, or was last.
    pub(crate) fn driver(&self) -> Arc<Driver> {
        Arc::clone(&self.driver.borrow())
    }

    /// What the device is called.
    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }

    /// Carries out an operation.
    pub(crate) async fn operate(&self, request: Request) -> dsmil::Result<u32> {
        let ticket = self.driver().submit(request, self.timeout)?;
        self.changed.notify_one();
        ticket.await
    }

    /// Something was done to the driver that may have news.
    pub(crate) fn touch(&self) {
        self.changed.notify_one();
        self.polled.notify_waiters();
    }

    /// Waits for the next time that there may be news.
    pub(crate) async fn news(&self) {
        self.polled.notified().await;
    }

    /// Drives the device, and those that come after it, for ever.
    pub(crate) async fn drive(self: Rc<Self>) {
        loop {
            let driver = self.driver();
            let interrupts = Interrupts::of(&driver);
            match &interrupts {
                Ok(Some(interrupts)) => interrupts.spawn(Rc::clone(&self), Arc::clone(&driver)),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "interrupts cannot be read: the device is polled"),
            }
            self.poll_while_linked(&driver).await;
            if let Ok(Some(interrupts)) = interrupts {
                interrupts.end();
            }
            drop(driver);
            self.search().await;
        }
    }

    async fn poll_while_linked(&self, driver: &Driver) {
        while driver.is_linked() {
            let wait = driver.poll();
            self.polled.notify_waiters();
            // Either is fine: the time has come, or it is to be worked out anew.
            let _due_or_changed = tokio::time::timeout(wait, self.changed.notified()).await;
        }
        self.polled.notify_waiters();
    }

    async fn search(&self) {
        loop {
            match attach(&self.address, self.config) {
                Ok(driver) => {
                    tracing::info!(device = %self.address, "the device is back");
                    *self.driver.borrow_mut() = Arc::new(driver);
                    self.touch();
                    return;
                }
                Err(error) => tracing::debug!(%error, "the device is not back yet"),
            }
            tokio::time::sleep(SEARCH_PERIOD).await;
        }
    }
}

fn attach(address: &Address, config: dsmil::Config) -> dsmil::Result<Driver> {
    Driver::attach(address.open()?, config)
}

/// A device's interrupts.
struct Interrupts {
    fd: File,
    width: usize,
}

impl Interrupts {
    fn of(driver: &Driver) -> std::io::Result<Option<Self>> {
        let Some(interrupt) = driver.transport().interrupt() else {
            return Ok(None);
        };
        Ok(Some(Self {
            fd: File::from(interrupt.fd.try_clone_to_owned()?),
            width: interrupt.width,
        }))
    }

    /// Reads them until the device is gone.
    fn spawn(&self, link: Rc<Link>, driver: Arc<Driver>) {
        let (fd, width) = match self.fd.try_clone() {
            Ok(fd) => (fd, self.width),
            Err(error) => {
                tracing::error!(%error, "interrupts cannot be read: the device is polled");
                return;
            }
        };
        tokio_uring::spawn(async move {
            let file = tokio_uring::fs::File::from_std(fd);
            let mut buffer = vec![0_u8; width];
            while driver.is_linked() {
                let (result, returned) = file.read_at(buffer, 0).await;
                buffer = returned;
                let rearmed = match result {
                    Ok(_) => driver.transport().rearm(),
                    // A pulled device ends its reads with an error; the registers tell that it is gone.
                    Err(error) => Err(Error::system("reading interrupts of", "the device", &error)),
                };
                driver.poll();
                link.touch();
                if let Err(error) = rearmed {
                    tracing::debug!(%error, "an interrupt could not be taken");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
    }

    /// Ends a read that waits for an interrupt which will never come: an eventfd is everybody's to write.
    fn end(mut self) {
        if self.width == 8
            && let Err(error) = self.fd.write_all(&1_u64.to_ne_bytes())
        {
            tracing::warn!(%error, "a read of interrupts stays behind");
        }
    }
}
