// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can go wrong, and the errno each of it is where C or the kernel asks for one. The mapping is total and in this
//! file only.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use crate::registry::{Change, DeviceId, State};

/// A result of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Group and position name no device of this mode.
    #[error("there is no device {group}:{position}: groups are 0 to {}, positions 0 to 11", groups - 1)]
    NoSuchDevice {
        /// The group asked for.
        group: u8,
        /// The position asked for.
        position: u8,
        /// Groups of this mode.
        groups: u8,
    },
    /// A token position is none of the four.
    #[error("there is no token position {0}: 0 power, 1 memory, 2 storage, 3 sensors")]
    NoSuchToken(u8),
    /// A timeout outside its range.
    #[error("a timeout of {} ms is outside 50 to 200 ms", .0.as_millis())]
    BadTimeout(Duration),
    /// An address outside the region.
    #[error("address {0:#x} is not in the device's region")]
    BadAddress(u64),
    /// An access outside a chunk, or not aligned.
    #[error("an access of {length} bytes at {offset:#x} does not fit a chunk")]
    OutOfBounds {
        /// Byte offset in the chunk.
        offset: usize,
        /// Bytes.
        length: usize,
    },
    /// A chunk that does not exist.
    #[error("there is no chunk {0}: the region has 90")]
    NoSuchChunk(usize),
    /// The cap on mapped memory is reached and every mapped chunk is in use.
    #[error("all {0} chunks that may be mapped at once are in use")]
    MapCap(usize),
    /// Thresholds that contradict each other.
    #[error("thermal thresholds: {0}")]
    BadThresholds(&'static str),
    /// The device's state does not allow it.
    #[error("device {device} is {state:?}, which does not allow {change:?}")]
    BadTransition {
        /// The device.
        device: DeviceId,
        /// Its state.
        state: State,
        /// What was asked for.
        change: Change,
    },
    /// SMI was not enabled when the library was initialised.
    #[error("SMI operations are switched off")]
    SmiDisabled,
    /// Too many operations wait.
    #[error("{0} operations are waiting already")]
    QueueFull(usize),
    /// The firmware did not answer in time, and was made to drop the operation.
    #[error("no answer within the timeout, {attempts} times")]
    TimedOut {
        /// How often it was tried.
        attempts: u32,
    },
    /// Every answer was damaged.
    #[error("{attempts} answers in a row were damaged")]
    Corrupt {
        /// How often it was tried.
        attempts: u32,
    },
    /// The firmware says that the request names nothing there is.
    #[error("the firmware does not know what was asked for")]
    Invalid,
    /// The token's region is locked.
    #[error("the token's region is locked: unlock it first")]
    Locked,
    /// The firmware tried and failed.
    #[error("the firmware reports a fault")]
    Fault,
    /// The firmware does not react to abort and reset.
    #[error("the firmware hangs and cannot be reset")]
    FirmwareHung,
    /// The emergency stop is in force.
    #[error("the emergency stop is in force")]
    Stopped,
    /// Too hot for SMI.
    #[error("too hot ({} °C): SMI is blocked until it cools down", .0 / 1000)]
    Hot(i32),
    /// It may be too hot for SMI: not all sensors can be believed.
    #[error("a temperature sensor takes no samples that make sense: SMI is blocked until it does")]
    HeatUnknown,
    /// Suspended.
    #[error("the device is suspended")]
    Suspended,
    /// A power hook refused.
    #[error("{hook} refuses to be suspended: {reason}")]
    PowerRefused {
        /// The hook's name.
        hook: String,
        /// Its reason.
        reason: String,
    },
    /// The device was pulled, or the simulator ended.
    #[error("the device is gone")]
    Gone,
    /// What is there is no such device, or speaks another version.
    #[error("{0}")]
    NotOurs(String),
    /// The operating system refuses.
    #[error("{what} {}: {}", path.display(), errno.desc())]
    System {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
}

impl Error {
    /// An error of the operating system, with what was tried and with what.
    pub fn system(what: &'static str, path: impl Into<PathBuf>, error: &io::Error) -> Self {
        Self::System {
            what,
            path: path.into(),
            errno: error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
        }
    }

    /// The same as a positive errno.
    pub fn errno(&self) -> Errno {
        match self {
            Self::NoSuchDevice { .. }
            | Self::NoSuchToken(_)
            | Self::BadTimeout(_)
            | Self::BadAddress(_)
            | Self::OutOfBounds { .. }
            | Self::NoSuchChunk(_)
            | Self::BadThresholds(_)
            | Self::Invalid => Errno::EINVAL,
            Self::MapCap(_) => Errno::ENOMEM,
            Self::BadTransition { .. } | Self::PowerRefused { .. } => Errno::EBUSY,
            Self::QueueFull(_) => Errno::EAGAIN,
            Self::SmiDisabled => Errno::EOPNOTSUPP,
            Self::TimedOut { .. } => Errno::ETIMEDOUT,
            Self::Corrupt { .. } => Errno::EBADMSG,
            Self::Locked => Errno::EACCES,
            Self::Fault => Errno::EIO,
            Self::FirmwareHung => Errno::EHOSTDOWN,
            Self::Stopped => Errno::ECANCELED,
            Self::Hot(_) | Self::HeatUnknown => Errno::EHWPOISON,
            Self::Suspended => Errno::ESHUTDOWN,
            Self::Gone => Errno::ENODEV,
            Self::NotOurs(_) => Errno::ENXIO,
            Self::System { errno, .. } => *errno,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(kind: io::ErrorKind) -> Error {
        Error::system("opening", "/dev/uio0", &kind.into())
    }

    #[test]
    fn every_error_has_the_errno_that_c_programs_are_told() {
        let device = crate::registry::Mode::Full.device(1, 2).unwrap();
        let (state, change) = (State::Offline, Change::Activate);
        for (error, errno) in [
            (crate::registry::Mode::Full.device(7, 0).unwrap_err(), Errno::EINVAL),
            (Error::NoSuchToken(4), Errno::EINVAL),
            (Error::BadTimeout(Duration::ZERO), Errno::EINVAL),
            (Error::BadAddress(0), Errno::EINVAL),
            (Error::NoSuchChunk(90), Errno::EINVAL),
            (Error::Invalid, Errno::EINVAL),
            (Error::BadThresholds("they fall"), Errno::EINVAL),
            (Error::MapCap(1), Errno::ENOMEM),
            (Error::BadTransition { device, state, change }, Errno::EBUSY),
            (Error::QueueFull(256), Errno::EAGAIN),
            (Error::SmiDisabled, Errno::EOPNOTSUPP),
            (Error::TimedOut { attempts: 3 }, Errno::ETIMEDOUT),
            (Error::Corrupt { attempts: 3 }, Errno::EBADMSG),
            (Error::Locked, Errno::EACCES),
            (Error::Fault, Errno::EIO),
            (Error::FirmwareHung, Errno::EHOSTDOWN),
            (Error::Stopped, Errno::ECANCELED),
            (Error::Hot(91_000), Errno::EHWPOISON),
            (Error::HeatUnknown, Errno::EHWPOISON),
            (Error::Suspended, Errno::ESHUTDOWN),
            (Error::Gone, Errno::ENODEV),
            (Error::NotOurs("a printer".into()), Errno::ENXIO),
        ] {
            assert_eq!(error.errno(), errno, "{error}");
        }
    }

    #[test]
    fn an_error_of_the_system_keeps_its_errno_and_says_what_was_tried() {
        let error = Error::system("opening", "/dev/uio0", &io::Error::from_raw_os_error(13));
        assert_eq!(
            (error.errno(), error.to_string().as_str()),
            (Errno::EACCES, "opening /dev/uio0: Permission denied")
        );
        assert_eq!(system(io::ErrorKind::UnexpectedEof).errno(), Errno::EIO);
    }
}
