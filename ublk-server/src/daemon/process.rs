// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the process of a daemon is, beyond its threads.
//!
//! | what | why |
//! |---|---|
//! | a mount namespace of its own | nobody takes a mount away from below it, nor does it hold one of theirs; mounts made later reach it |
//! | writes out dirty memory (`PR_SET_IO_FLUSHER`) | its own allocations must not wait for memory whose way out leads through it |
//! | `oom_score_adj` −1000 | killing it frees little and stops all who wait for it |
//! | limits on descriptors and locked memory lifted as far as they may be | a queue is a ring, a volume some threads |
//! | umask 077, working directory `/` | what it makes is its own; no file system is held by accident |
//! | memory locked, if asked for | under memory pressure none of its pages must be read back first |
//!
//! What is not permitted is said in the log, and done without: the daemon works all the same.

use std::fs;
use std::io;

use libublk::ctrl::UblkCtrl;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, setsid};

/// Sets up this process, which has one thread; paths that are not absolute lead elsewhere afterwards.
pub(super) fn prepare(lock_memory: bool) {
    umask(Mode::from_bits_truncate(0o077));
    note("changing to /", chdir("/"));
    note("a mount namespace of its own", own_mounts());
    // The thread is this one, and all those it starts.
    UblkCtrl::init_queue_thread();
    note("oom_score_adj of -1000", fs::write("/proc/self/oom_score_adj", "-1000"));
    for resource in [Resource::RLIMIT_NOFILE, Resource::RLIMIT_MEMLOCK] {
        note("lifting a limit", lift(resource));
    }
    if lock_memory {
        // Pages that are not there yet are locked when they come: buffers are mostly never used.
        let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
        note("locking memory", mlockall(flags | MlockAllFlags::from_bits_retain(MCL_ONFAULT)));
    }
}

/// `MCL_ONFAULT` of mlockall(2).
const MCL_ONFAULT: i32 = 4;

/// Leaves the session of whoever started the process. Fails if it leads one, as under a service manager.
pub fn leave_session() {
    if let Err(errno) = setsid() {
        tracing::debug!("stays in its session: {errno}");
    }
}

fn own_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
}

fn lift(resource: Resource) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    setrlimit(resource, hard, hard)
}

fn note<E: Into<io::Error>>(what: &str, result: Result<(), E>) {
    if let Err(error) = result {
        let error: io::Error = error.into();
        tracing::warn!("done without {what}: {error}");
    }
}
