// SPDX-License-Identifier: MIT OR Apache-2.0

//! What an operation on an open pool can fail with, and its one mapping to errno.
//!
//! Opening and formatting have errors of their own (`pool::OpenError`): they are read by a person. Errors here are read by
//! programs through errno first; the ones that a person must act on (damage, I/O) carry the place.

use std::fmt;
use std::io;

use crate::codec::DecodeError;

/// Result of an operation on an open pool.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on an open pool failed. After an error nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What POSIX says the caller did wrong or cannot have.
    #[error("{0}")]
    Posix(#[from] Errno),
    /// Bytes of the pool are not what they were.
    #[error(transparent)]
    Damaged(#[from] Box<Damage>),
    /// The device below failed.
    #[error(transparent)]
    Io(#[from] Box<IoFailure>),
}

/// The errors of POSIX that the engine itself decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Errno {
    /// ENOENT
    #[error("no such file or directory")]
    NoEntry,
    /// EEXIST
    #[error("file exists")]
    Exists,
    /// ENOTDIR
    #[error("not a directory")]
    NotDirectory,
    /// EISDIR
    #[error("is a directory")]
    IsDirectory,
    /// ENOTEMPTY
    #[error("directory not empty")]
    NotEmpty,
    /// ENAMETOOLONG
    #[error("name too long")]
    NameTooLong,
    /// ENOSPC
    #[error("no space left in the pool")]
    NoSpace,
    /// EROFS
    #[error("the pool is read-only")]
    ReadOnly,
    /// EMLINK
    #[error("too many links")]
    TooManyLinks,
    /// EFBIG
    #[error("file too large")]
    FileTooLarge,
    /// EINVAL
    #[error("invalid argument")]
    Invalid,
    /// EPERM
    #[error("operation not permitted")]
    NotPermitted,
    /// EACCES
    #[error("permission denied")]
    Denied,
    /// ENODATA
    #[error("no such attribute")]
    NoAttribute,
    /// E2BIG
    #[error("attribute too large")]
    AttributeTooLarge,
    /// EOPNOTSUPP
    #[error("operation not supported")]
    NotSupported,
    /// ENXIO
    #[error("no data or hole there")]
    NoSuchRange,
    /// ERANGE
    #[error("the answer does not fit")]
    Range,
    /// ELOOP
    #[error("too many levels")]
    TooDeep,
    /// ESTALE
    #[error("the file no longer exists")]
    Stale,
    /// EBUSY
    #[error("busy")]
    Busy,
    /// EAGAIN: who asked for it did not want to wait
    #[error("it would have to wait")]
    WouldWait,
    /// EINTR: who asked for it wanted it to end
    #[error("interrupted")]
    Interrupted,
    /// EIO: the pool failed earlier and nothing more can be promised
    #[error("the pool failed earlier")]
    Failed,
}

impl Errno {
    /// The number of the running system.
    pub const fn number(self) -> i32 {
        use nix::libc;
        match self {
            Self::NoEntry => libc::ENOENT,
            Self::Exists => libc::EEXIST,
            Self::NotDirectory => libc::ENOTDIR,
            Self::IsDirectory => libc::EISDIR,
            Self::NotEmpty => libc::ENOTEMPTY,
            Self::NameTooLong => libc::ENAMETOOLONG,
            Self::NoSpace => libc::ENOSPC,
            Self::ReadOnly => libc::EROFS,
            Self::TooManyLinks => libc::EMLINK,
            Self::FileTooLarge => libc::EFBIG,
            Self::Invalid => libc::EINVAL,
            Self::NotPermitted => libc::EPERM,
            Self::Denied => libc::EACCES,
            Self::NoAttribute => libc::ENODATA,
            Self::AttributeTooLarge => libc::E2BIG,
            Self::NotSupported => libc::EOPNOTSUPP,
            Self::NoSuchRange => libc::ENXIO,
            Self::Range => libc::ERANGE,
            Self::TooDeep => libc::ELOOP,
            Self::Stale => libc::ESTALE,
            Self::Busy => libc::EBUSY,
            Self::WouldWait => libc::EAGAIN,
            Self::Interrupted => libc::EINTR,
            Self::Failed => libc::EIO,
        }
    }
}

impl Error {
    /// The errno a caller gets.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Posix(errno) => errno.number(),
            Self::Damaged(_) => nix::libc::EIO,
            Self::Io(failure) => failure.source.raw_os_error().unwrap_or(nix::libc::EIO),
        }
    }

    /// Bytes at a place did not decode.
    pub fn undecodable(place: impl fmt::Display, error: DecodeError) -> Self {
        Damage::new(place, error)
    }
}

/// Bytes of the pool are not what they were, or contradict each other.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Damage {
    /// Where.
    pub place: String,
    /// In what way.
    pub what: String,
}

impl Damage {
    /// As an [`Error`].
    #[expect(clippy::new_ret_no_self, reason = "nobody wants the bare value")]
    pub fn new(place: impl fmt::Display, what: impl fmt::Display) -> Error {
        Error::Damaged(Box::new(Self {
            place: place.to_string(),
            what: what.to_string(),
        }))
    }
}

/// The device below the pool failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct IoFailure {
    /// What was tried, with its place.
    pub what: String,
    /// What the system said.
    pub source: io::Error,
}

impl IoFailure {
    /// As an [`Error`].
    #[expect(clippy::new_ret_no_self, reason = "nobody wants the bare value")]
    pub fn new(what: impl fmt::Display, source: io::Error) -> Error {
        Error::Io(Box::new(Self {
            what: what.to_string(),
            source,
        }))
    }
}
