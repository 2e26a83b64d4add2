// SPDX-License-Identifier: MIT OR Apache-2.0

//! How a device and its server talk: what is asked for, what the driver offers, what the target can use.

use std::fmt;

use libublk::sys;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::features::Features;

/// How the data of requests reaches the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transfer {
    /// The driver copies it to or from memory of the server.
    Copy,
    /// The target copies it, to or from where it wants it.
    UserCopy,
    /// The driver registers the application's pages with the queue's ring, whose operations then use them.
    ZeroCopy,
    /// The same with a command for each request, for drivers that cannot do it by themselves (Linux 6.15), and for tests:
    /// it is what becomes of [`Transfer::ZeroCopy`] when the kernel is short of memory.
    ZeroCopyByHand,
}

impl Transfer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Copy, Self::UserCopy, Self::ZeroCopy, Self::ZeroCopyByHand];

    /// As the command line says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::UserCopy => "user-copy",
            Self::ZeroCopy => "zero-copy",
            Self::ZeroCopyByHand => "zero-copy-by-hand",
        }
    }

    /// What it asks of the driver.
    const fn flags(self) -> u32 {
        match self {
            Self::Copy => 0,
            Self::UserCopy => sys::UBLK_F_USER_COPY,
            // Also the second: it permits registering by hand what could not be registered automatically.
            Self::ZeroCopy => sys::UBLK_F_AUTO_BUF_REG | sys::UBLK_F_SUPPORT_ZERO_COPY,
            Self::ZeroCopyByHand => sys::UBLK_F_SUPPORT_ZERO_COPY,
        }
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many requests a completion or a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// One.
    Single,
    /// As many as there are.
    Batch,
}

/// What is asked for; what is left open is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wishes {
    /// How data is to be moved; otherwise the first way of the target's that the driver offers.
    pub transfer: Option<Transfer>,
    /// How requests are to be delivered; otherwise one by one.
    pub delivery: Option<Delivery>,
    /// Whether the device belongs to the user who makes it, who need not be root.
    pub unprivileged: bool,
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// How data is moved.
    pub transfer: Transfer,
    /// How requests are delivered.
    pub delivery: Delivery,
}

/// What cannot be agreed on.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ModeError {
    /// The target cannot use it.
    #[error("a {target} device does not do --transfer {transfer}: choose {}, or leave it out", Names(.offers))]
    Target {
        /// The name of the target.
        target: &'static str,
        /// What was asked for.
        transfer: Transfer,
        /// What it does.
        offers: &'static [Transfer],
    },
    /// The driver does not offer it.
    #[error(
        "the ublk driver of this kernel does not offer {0}: leave it out ('vexfs-ublk features' tells what there is)"
    )]
    Driver(&'static str),
    /// A server that is not trusted could show uninitialised memory of the kernel.
    #[error("an unprivileged device can only be served with --transfer copy")]
    Unprivileged,
    /// The driver takes no notice of the wish then.
    #[error(
        "the driver makes unprivileged devices for users only: leave out --unprivileged, or run without CAP_SYS_ADMIN"
    )]
    Privileged,
    /// In a batch, any thread of a queue could get any request.
    #[error("--batch goes with one thread per queue only")]
    Threads,
}

struct Names<'a>(&'a [Transfer]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|transfer| transfer.name()).collect();
        f.write_str(&names.join(" or "))
    }
}

impl Mode {
    /// Agrees on what is wished, offered by the driver, and useful to the target, whose preferences come first.
    pub(crate) fn choose(
        wishes: Wishes,
        threads: u16,
        (target, offers): (&'static str, &'static [Transfer]),
        driver: Features,
    ) -> Result<Self, ModeError> {
        let transfer = match wishes.transfer {
            Some(transfer) if wishes.unprivileged && transfer != Transfer::Copy => return Err(ModeError::Unprivileged),
            Some(transfer) if !offers.contains(&transfer) => {
                return Err(ModeError::Target {
                    target,
                    transfer,
                    offers,
                });
            }
            Some(transfer) if !driver.has(transfer.flags()) => return Err(ModeError::Driver(transfer.name())),
            Some(transfer) => transfer,
            None if wishes.unprivileged => Transfer::Copy,
            None => {
                let offered = offers.iter().copied().find(|transfer| driver.has(transfer.flags()));
                offered.unwrap_or(Transfer::Copy)
            }
        };
        let delivery = wishes.delivery.unwrap_or(Delivery::Single);
        if delivery == Delivery::Batch && !driver.has(sys::UBLK_F_BATCH_IO) {
            return Err(ModeError::Driver("batches of requests"));
        }
        if threads > 1 && delivery == Delivery::Batch {
            return Err(ModeError::Threads);
        }
        if threads > 1 && !driver.has(sys::UBLK_F_PER_IO_DAEMON) {
            return Err(ModeError::Driver("several threads per queue"));
        }
        if wishes.unprivileged && !driver.has(sys::UBLK_F_UNPRIVILEGED_DEV) {
            return Err(ModeError::Driver("unprivileged devices"));
        }
        Ok(Self { transfer, delivery })
    }

    /// What it asks of the driver.
    pub(crate) const fn flags(self) -> u32 {
        let batch = match self.delivery {
            Delivery::Single => 0,
            Delivery::Batch => sys::UBLK_F_BATCH_IO,
        };
        self.transfer.flags() | batch
    }

    /// What a device was made with.
    pub(crate) fn of(flags: u64) -> Self {
        let has = |flag: u32| flags & u64::from(flag) != 0;
        Self {
            transfer: if has(sys::UBLK_F_AUTO_BUF_REG) {
                Transfer::ZeroCopy
            } else if has(sys::UBLK_F_SUPPORT_ZERO_COPY) {
                Transfer::ZeroCopyByHand
            } else if has(sys::UBLK_F_USER_COPY) {
                Transfer::UserCopy
            } else {
                Transfer::Copy
            },
            delivery: if has(sys::UBLK_F_BATCH_IO) {
                Delivery::Batch
            } else {
                Delivery::Single
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: &[Transfer] = &[Transfer::ZeroCopy, Transfer::Copy];

    fn choose(wishes: Wishes, threads: u16, driver: u32) -> Result<Mode, ModeError> {
        Mode::choose(wishes, threads, ("loop", OFFERS), Features::of(driver.into()))
    }

    #[test]
    fn what_a_device_was_made_with_is_known_from_its_flags() {
        for transfer in Transfer::ALL {
            for delivery in [Delivery::Single, Delivery::Batch] {
                let mode = Mode { transfer, delivery };
                assert_eq!(Mode::of(mode.flags().into()), mode);
            }
        }
    }

    #[test]
    fn the_first_way_that_both_sides_have_is_taken() {
        let automatic = |driver| choose(Wishes::default(), 1, driver).unwrap().transfer;
        assert_eq!(automatic(0), Transfer::Copy);
        assert_eq!(
            automatic(sys::UBLK_F_USER_COPY | sys::UBLK_F_SUPPORT_ZERO_COPY),
            Transfer::Copy
        );
        let all = sys::UBLK_F_AUTO_BUF_REG | sys::UBLK_F_SUPPORT_ZERO_COPY;
        assert_eq!(automatic(all), Transfer::ZeroCopy);
    }

    #[test]
    fn what_cannot_be_had_is_refused_and_not_replaced() {
        let wish = |transfer| Wishes {
            transfer: Some(transfer),
            ..Wishes::default()
        };
        let all = u32::MAX;
        assert!(matches!(
            choose(wish(Transfer::UserCopy), 1, all),
            Err(ModeError::Target { .. })
        ));
        assert_eq!(
            choose(wish(Transfer::ZeroCopy), 1, 0),
            Err(ModeError::Driver("zero-copy"))
        );
        let batch = Wishes {
            delivery: Some(Delivery::Batch),
            ..Wishes::default()
        };
        assert_eq!(choose(batch, 1, 0), Err(ModeError::Driver("batches of requests")));
        assert_eq!(choose(batch, 2, all), Err(ModeError::Threads));
        assert_eq!(
            choose(Wishes::default(), 2, 0),
            Err(ModeError::Driver("several threads per queue"))
        );
        let user = Wishes {
            unprivileged: true,
            ..wish(Transfer::ZeroCopy)
        };
        assert_eq!(choose(user, 1, all), Err(ModeError::Unprivileged));
    }

    #[test]
    fn a_device_of_a_user_is_copied_whatever_the_driver_offers() {
        let user = Wishes {
            unprivileged: true,
            ..Wishes::default()
        };
        assert_eq!(choose(user, 1, u32::MAX).unwrap().transfer, Transfer::Copy);
        assert_eq!(choose(user, 1, 0), Err(ModeError::Driver("unprivileged devices")));
    }
}
