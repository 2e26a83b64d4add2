// SPDX-License-Identifier: MIT OR Apache-2.0

//! The signals that ask the server to stop, as a file descriptor.
//!
//! The signals are blocked and read from a signalfd. That is more than convenience: libublk takes an interrupted
//! `io_uring_enter` on the control ring for a failed command, so no signal may be delivered to the thread that adds,
//! starts and deletes devices.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGTERM, SIGINT and SIGHUP, blocked and waiting to be read.
#[derive(Debug)]
pub struct StopSignals(SignalFd);

impl StopSignals {
    /// Blocks the signals in this thread and in those it starts from now on. Call it before any thread exists: one that
    /// does not block them would take them, and the process with it.
    pub fn block() -> Result<Self, Errno> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self)
    }

    /// The signal that has arrived, if any.
    pub fn take(&self) -> Result<Option<Signal>, Errno> {
        match self.0.read_signal()? {
            Some(info) => i32::try_from(info.ssi_signo)
                .map_err(|_| Errno::EINVAL)
                .and_then(Signal::try_from)
                .map(Some),
            None => Ok(None),
        }
    }
}

impl AsFd for StopSignals {
    /// Readable when a signal has arrived.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn a_blocked_signal_is_read_instead_of_killing_the_process() {
        let signals = StopSignals::block().unwrap();
        assert_eq!(signals.take(), Ok(None));
        // To this thread, the only one of the test process that blocks the signal.
        raise(Signal::SIGTERM).unwrap();
        assert_eq!(signals.take(), Ok(Some(Signal::SIGTERM)));
        assert_eq!(signals.take(), Ok(None));
    }
}
