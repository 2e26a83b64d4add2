// SPDX-License-Identifier: MIT OR Apache-2.0

//! The one place through which every operation of the mounted filesystem passes.
//!
//! [`Served::serve`] runs an operation in a span of its own, takes its time, turns its failure into an errno, and tells the log about failures
//! that a person must act on, at most one a second. Which operations there are is [`Operation`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nix::libc;
use vexfs::error::{self, Error};
use vexfs::metrics::Family;
use vexfs::units::Ino;
use vexfs_control::logging;

macro_rules! operations {
    ($($variant:ident $name:literal,)*) => {
        /// What the kernel may ask for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "named as the requests of the FUSE protocol are")]
        pub enum Operation {
            $($variant,)*
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name, for people and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

operations! {
    Lookup "lookup",
    Forget "forget",
    Getattr "getattr",
    Setattr "setattr",
    Readlink "readlink",
    Mknod "mknod",
    Mkdir "mkdir",
    Symlink "symlink",
    Create "create",
    Link "link",
    Unlink "unlink",
    Rmdir "rmdir",
    Rename "rename",
    Read "read",
    Write "write",
    Fallocate "fallocate",
    Lseek "lseek",
    CopyFileRange "copy_file_range",
    Fsync "fsync",
    Fsyncdir "fsyncdir",
    Readdir "readdir",
    Readdirplus "readdirplus",
    Statfs "statfs",
    Getxattr "getxattr",
    Setxattr "setxattr",
    Listxattr "listxattr",
    Removexattr "removexattr",
    Ioctl "ioctl",
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The engine says so.
    #[error(transparent)]
    Engine(#[from] Error),
    /// The rules of the system say so.
    #[error("errno {0}")]
    Errno(i32),
}

impl From<error::Errno> for Failure {
    fn from(errno: error::Errno) -> Self {
        Self::Engine(errno.into())
    }
}

impl Failure {
    pub(crate) fn errno(&self) -> i32 {
        match self {
            Self::Engine(error) => error.errno(),
            Self::Errno(errno) => *errno,
        }
    }

    /// Whether the file or name that was asked for is not, or no longer, there.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.errno(), libc::ENOENT | libc::ESTALE)
    }
}

pub(crate) type Outcome<T> = Result<T, Failure>;

/// See the module's text.
pub(crate) struct Served {
    times: Arc<Family>,
    began: Instant,
    /// Seconds after `began` at which a failure was last told, plus one; those kept back since.
    told: AtomicU64,
    kept_back: AtomicU64,
}

impl Served {
    pub(crate) fn new() -> Self {
        let names = Operation::ALL.iter().map(|operation| operation.name());
        Self {
            times: Arc::new(Family::new("fuse_operation_seconds", names)),
            began: Instant::now(),
            told: AtomicU64::new(0),
            kept_back: AtomicU64::new(0),
        }
    }

    /// How long operations take, and how often they fail.
    pub(crate) fn times(&self) -> Arc<Family> {
        Arc::clone(&self.times)
    }

    /// Runs one operation.
    pub(crate) fn serve<T>(
        &self,
        operation: Operation,
        ino: Ino,
        work: impl FnOnce() -> Outcome<T>,
    ) -> Result<T, fuser::Errno> {
        let started = Instant::now();
        let span = logging::operation(operation.name(), ino.0);
        let result = span.in_scope(work);
        self.times
            .record(operation as usize, started.elapsed(), result.is_err());
        if let Err(failure) = &result {
            span.in_scope(|| tracing::debug!(%failure, errno = failure.errno()));
            if failure.errno() == libc::EIO {
                self.complain(operation, ino, failure);
            }
        }
        result.map_err(|failure| fuser::Errno::from_i32(failure.errno()))
    }

    /// Tells the log, unless it was told something within this second.
    fn complain(&self, operation: Operation, ino: Ino, failure: &Failure) {
        let now = self.began.elapsed().as_secs() + 1;
        if self.told.swap(now, Ordering::Relaxed) == now {
            self.kept_back.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let kept_back = self.kept_back.swap(0, Ordering::Relaxed);
        tracing::error!(operation = operation.name(), %ino, %failure, kept_back, "answered with an I/O error");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Operation::ALL.iter().map(|operation| operation.name()).collect();
        assert_eq!(names.len(), Operation::ALL.len());
    }

    #[test]
    fn a_failure_becomes_its_errno() {
        let served = Served::new();
        let result = served.serve(Operation::Lookup, Ino::ROOT, || -> Outcome<()> {
            Err(error::Errno::NotEmpty.into())
        });
        assert_eq!(i32::from(result.unwrap_err()), libc::ENOTEMPTY);
    }
}
