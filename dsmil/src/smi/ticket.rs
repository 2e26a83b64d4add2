// SPDX-License-Identifier: MIT OR Apache-2.0

//! The two ends of an operation that is under way.
//!
//! Who submitted it holds a [`Ticket`]: a future, and something to wait for without one. Who carries it out holds the
//! [`Completer`]. A completer that is dropped without a word says [`Error::Gone`], so nobody waits for ever.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};

/// What an operation yields: the word that was read, 0 for those that read none.
pub type Outcome = Result<u32>;

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

/// The end of who waits.
#[derive(Debug)]
#[must_use = "an operation whose outcome nobody asks for may have failed"]
pub struct Ticket {
    shared: Arc<Shared>,
}

/// The end of who carries it out.
#[derive(Debug)]
pub(super) struct Completer {
    shared: Option<Arc<Shared>>,
}

pub(super) fn pair() -> (Completer, Ticket) {
    let shared = Arc::new(Shared::default());
    let completer = Completer {
        shared: Some(Arc::clone(&shared)),
    };
    (completer, Ticket { shared })
}

impl Ticket {
    /// Waits for the outcome, at most for `bound`.
    pub fn wait(&self, bound: Duration) -> Option<Outcome> {
        let deadline = Instant::now() + bound;
        let mut state = self.shared.state.lock();
        while state.outcome.is_none() {
            if self.shared.done.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.outcome.clone()
    }

    /// The outcome, if there is one yet.
    pub fn peek(&self) -> Option<Outcome> {
        self.shared.state.lock().outcome.clone()
    }
}

impl Future for Ticket {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.shared.state.lock();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Completer {
    /// Says how it ended. Wakes whoever waits.
    pub(super) fn complete(mut self, outcome: Outcome) {
        if let Some(shared) = self.shared.take() {
            shared.complete(outcome);
        }
    }
}

impl Shared {
    fn complete(&self, outcome: Outcome) {
        let mut state = self.state.lock();
        state.outcome = Some(outcome);
        let waker = state.waker.take();
        drop(state);
        self.done.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.complete(Err(Error::Gone));
        }
    }
}
