// SPDX-License-Identifier: MIT OR Apache-2.0

//! A full pool, and files that are just going.
//!
//! A file's space comes back when the kernel forgets it. The kernel does not wait for that: whoever removes a file and then
//! writes can be faster. So who finds the pool full looks whether something is being forgotten, or is about to be, and tries
//! again if so. Then the engine is asked to make room of what it has freed but not yet made usable again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::libc;
use vexfs::fs::{Fs, Tried};

use crate::serve::{Failure, Outcome};

/// How long the kernel may take from letting a file go to telling so, and how long waiting for what goes may take.
const GRACE: Duration = Duration::from_millis(2);
const ROUNDS: u32 = 2000;

#[derive(Default)]
pub(super) struct Room {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Room {
    /// Runs what may give space back.
    pub(super) fn making<T>(&self, work: impl FnOnce() -> T) -> T {
        self.begun.fetch_add(1, Ordering::AcqRel);
        let done = work();
        self.ended.fetch_add(1, Ordering::AcqRel);
        done
    }

    /// Runs what may need space.
    pub(super) fn needing<T>(&self, fs: &Fs, mut work: impl FnMut() -> Outcome<T>) -> Outcome<T> {
        let result = self.waiting(&mut work);
        if !is_full(&result) {
            return result;
        }
        let mut tried = Tried::default();
        loop {
            match fs.make_room(&mut tried) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::debug!(%error, "no room is made");
                    break;
                }
            }
            let again = work();
            if !is_full(&again) {
                return again;
            }
        }
        result
    }

    /// Tries again as long as something goes.
    fn waiting<T>(&self, work: &mut impl FnMut() -> Outcome<T>) -> Outcome<T> {
        let mut seen = self.ended.load(Ordering::Acquire);
        for _ in 0..ROUNDS {
            let result = work();
            if !is_full(&result) {
                return result;
            }
            if self.ended.load(Ordering::Acquire) == seen {
                thread::sleep(GRACE);
            }
            // Read in this order: one that begins in between is then seen as under way.
            let ended = self.ended.load(Ordering::Acquire);
            let begun = self.begun.load(Ordering::Acquire);
            if begun == ended && ended == seen {
                return result;
            }
            seen = ended;
        }
        work()
    }
}

fn is_full<T>(result: &Outcome<T>) -> bool {
    result
        .as_ref()
        .is_err_and(|failure: &Failure| failure.errno() == libc::ENOSPC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pool_is_told_at_once_if_nothing_goes() {
        let mut tries = 0;
        let result: Outcome<()> = Room::default().waiting(&mut || {
            tries += 1;
            Err(Failure::Errno(libc::ENOSPC))
        });
        assert_eq!(result.unwrap_err().errno(), libc::ENOSPC);
        assert_eq!(tries, 1);
    }

    #[test]
    fn what_goes_is_waited_for() {
        let room = Room::default();
        let free = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                room.making(|| {
                    thread::sleep(Duration::from_millis(30));
                    free.store(1, Ordering::Release);
                });
            });
            while room.begun.load(Ordering::Acquire) == 0 {}
            let result = room.waiting(&mut || {
                if free.load(Ordering::Acquire) == 1 {
                    Ok(())
                } else {
                    Err(Failure::Errno(libc::ENOSPC))
                }
            });
            assert!(result.is_ok());
        });
    }
}
