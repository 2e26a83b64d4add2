// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the server gives up before it serves anybody: whoever gets hold of it through a crafted pool or request finds
//! next to nothing there.
//!
//! In two steps, because threads inherit what the thread that starts them has:
//!
//! 1. [`enter`], while the process is as good as alone and has opened the pool: no core dumps, no new privileges by
//!    executing something, a mount namespace of its own with nothing in it but `/dev/fuse`, no capabilities.
//! 2. [`syscalls::restrict`], once everything is set up, for all threads at once: only the system calls that serving
//!    needs. Others fail with EPERM, and the kernel's audit log names them.
//!
//! Where the system refuses a step the server goes on without it and says so in the log: less protection is no reason not
//! to serve.

mod root;
pub(crate) mod syscalls;

use std::io;

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::geteuid;

use crate::process;

/// How much less likely than others the server is ended when memory runs out: everybody who uses its files waits for it.
const OOM_SCORE: &str = "-800";

/// Prepares for serving. Before any thread is started.
pub(crate) fn prepare() {
    note(
        "out-of-memory score",
        std::fs::write("/proc/self/oom_score_adj", OOM_SCORE),
    );
    note("I/O flusher", process::become_io_flusher());
}

/// See the module's text.
pub(crate) fn enter() {
    note("core dumps", setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(Into::into));
    note(
        "new privileges",
        nix::sys::prctl::set_no_new_privs().map_err(Into::into),
    );
    if geteuid().is_root() {
        note("mount namespace", root::leave_all_mounts());
        note("capabilities", process::keep_capabilities(&[]));
    }
}

/// Says what was not given up. Users cannot give up some of it, nor can root in a container, and there is nothing to be done
/// about that.
pub(crate) fn note(what: &str, result: io::Result<()>) {
    match result {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => tracing::info!(what, %error, "not given up"),
        Err(error) => tracing::warn!(what, %error, "not given up"),
    }
}
