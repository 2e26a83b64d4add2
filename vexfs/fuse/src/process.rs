// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making processes, and changing what a process is. The only place of the crate with system calls that the compiler
//! cannot check, besides `sandbox`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, Pid};

/// Which of the two one is after [`fork`].
pub(crate) enum Forked {
    /// The old process, with the number of the new one.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Makes a copy of this process, which must have one thread: of others nothing but their locks would be copied.
pub(crate) fn fork() -> io::Result<Forked> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!(
            "{threads} threads run where one must be alone"
        )));
    }
    // SAFETY: this process has one thread, as was just made sure; so the child may do whatever its parent might.
    Ok(match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Forked::Parent(child),
        ForkResult::Child => Forked::Child,
    })
}

/// Takes over a descriptor that the system has just made for this process.
pub(crate) fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: it came in a control message of the kernel a moment ago, so it is open and nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Closes every descriptor but the standard ones and one more.
pub(crate) fn close_all_but(keep: &OwnedFd) -> io::Result<()> {
    let keep = u32::try_from(keep.as_raw_fd()).map_err(io::Error::other)?;
    for (first, last) in [(3, keep.saturating_sub(1)), (keep + 1, u32::MAX)] {
        if first > last {
            continue;
        }
        // SAFETY: this is only called by a process that was just forked and goes on with nothing but `keep`; values of its
        // parent that own descriptors are never dropped in it.
        let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Keeps only these capabilities, by their numbers.
pub(crate) fn keep_capabilities(numbers: &[u32]) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        process: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let mut sets = [Sets::default(); 2];
    for number in numbers {
        if let Some(sets) = sets.get_mut((number / 32) as usize) {
            sets.effective |= 1 << (number % 32);
            sets.permitted |= 1 << (number % 32);
        }
    }
    let header = Header {
        version: VERSION_3,
        process: 0,
    };
    // SAFETY: version 3 of the call reads one header and two sets, which both live until it returns.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Marks this thread and those it starts as ones that others wait for when memory is written back: getting memory then
/// never waits for this very filesystem.
pub(crate) fn become_io_flusher() -> io::Result<()> {
    const PR_SET_IO_FLUSHER: i32 = 57;
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes this process pass over a signal.
pub(crate) fn ignore(what: Signal) -> io::Result<()> {
    // SAFETY: no handler of ours is installed or replaced that could run in a wrong place: the signal is passed over.
    unsafe { signal(what, SigHandler::SigIgn) }?;
    Ok(())
}
