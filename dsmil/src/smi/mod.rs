// SPDX-License-Identifier: MIT OR Apache-2.0

//! SMI token operations: requests to the firmware through the mailbox of [`crate::layout`].
//!
//! - [`Request`], [`Token`], [`Timeout`]: what can be asked, and for how long.
//! - [`Engine`]: carries requests out one after the other, with deadlines, retries, abort and reset. No clock, no
//!   thread, no I/O of its own: whoever drives it tells it the time.
//! - [`Ticket`]: where the outcome arrives.

mod engine;
mod request;
mod ticket;

pub use engine::{ABORT_GRACE, Doorbell, Engine, Figures, QUEUE_LENGTH, RESET_GRACE, Retry};
pub use request::{RegionAddress, Request, Timeout, Token, TokenPosition};
pub use ticket::{Outcome, Ticket};
