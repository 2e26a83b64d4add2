// SPDX-License-Identifier: MIT OR Apache-2.0

//! How a driver reaches a device.
//!
//! | transport | memory | doorbell | interrupt | gone when |
//! |---|---|---|---|---|
//! | [`Uio`] | map 0 of `/dev/uioN`, in chunks | a register in map 1 | reading `/dev/uioN` | the magic reads all ones |
//! | [`Sim`] | a file that the simulator shares | an eventfd | an eventfd | the simulator's socket is closed |
//!
//! A transport without interrupt is polled.

mod ivshmem;
mod sim;
mod uio;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use ivshmem::{Message, PROTOCOL_VERSION, receive, send};
pub use sim::Sim;
pub use uio::{PortRegion, Uio};

use crate::error::Result;
use crate::memory::Source;
use crate::smi::Doorbell;

/// See the module.
pub trait Transport: Doorbell + Send + Sync {
    /// What maps the region's chunks.
    fn source(&self) -> Result<Box<dyn Source>>;
    /// Where interrupts are read, if there are any.
    fn interrupt(&self) -> Option<Interrupt<'_>>;
    /// Lets the next interrupt through, after one was read.
    fn rearm(&self) -> Result<()>;
    /// Whether the device is known to be gone. That it is not proves nothing: the registers tell, too.
    fn is_gone(&self) -> bool;
    /// What it is, for people.
    fn describe(&self) -> String;
}

/// A descriptor that becomes readable with an interrupt, and stays so until `width` bytes were read from it.
#[derive(Debug, Clone, Copy)]
pub struct Interrupt<'a> {
    /// The descriptor.
    pub fd: BorrowedFd<'a>,
    /// Bytes per read: no more, no less.
    pub width: usize,
}

impl Interrupt<'_> {
    /// Waits for an interrupt, at most for `bound`, and takes it. Says whether there was one.
    pub fn wait(&self, bound: Duration) -> io::Result<bool> {
        // Rounded up: waking a moment early would make the caller go round without anything to do.
        let millis = u16::try_from(bound.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(self.fd, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0; 8];
        let bytes = bytes.get_mut(..self.width).ok_or(io::ErrorKind::InvalidInput)?;
        nix::unistd::read(self.fd.as_fd(), bytes)?;
        Ok(true)
    }
}

/// Names a device: `/dev/uioN`, or `sim:` and the path of a simulator's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A UIO device.
    Uio(std::path::PathBuf),
    /// A simulator.
    Sim(std::path::PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.strip_prefix("sim:") {
            Some(path) if !path.is_empty() => Ok(Self::Sim(path.into())),
            None if Path::new(text).is_absolute() => Ok(Self::Uio(text.into())),
            _ => Err(format!(
                "{text:?} names no device: write /dev/uioN, or sim: and the path of a simulator's socket"
            )),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uio(path) => path.display().fmt(f),
            Self::Sim(path) => write!(f, "sim:{}", path.display()),
        }
    }
}

impl Address {
    /// Opens the device.
    pub fn open(&self) -> Result<Box<dyn Transport>> {
        Ok(match self {
            Self::Uio(path) => Box::new(Uio::open(path)?),
            Self::Sim(path) => Box::new(Sim::connect(path)?),
        })
    }
}
