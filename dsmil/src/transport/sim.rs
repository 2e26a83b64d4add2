// SPDX-License-Identifier: MIT OR Apache-2.0

//! A simulator on this machine: shared memory and two eventfds, received through its socket as QEMU would.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ivshmem::{PROTOCOL_VERSION, receive};
use super::{Interrupt, Transport};
use crate::error::{Error, Result};
use crate::layout::{CHUNK_SIZE, REGION_SIZE};
use crate::memory::{Mapping, Source};
use crate::smi::Doorbell;

/// The simulator's own number among the peers.
const FIRMWARE: i64 = 0;

/// See the module.
#[derive(Debug)]
pub struct Sim {
    path: PathBuf,
    socket: UnixStream,
    memory: Arc<File>,
    doorbell: File,
    interrupt: OwnedFd,
}

impl Sim {
    /// Connects to the simulator that listens at `path`.
    pub fn connect(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| Error::system("connecting to the simulator at", path, &error);
        let socket = UnixStream::connect(path).map_err(failed)?;
        // A simulator says all of this at once.
        socket.set_read_timeout(Some(Duration::from_secs(5))).map_err(failed)?;
        Self::shake_hands(socket, path).map_err(failed)
    }

    fn shake_hands(socket: UnixStream, path: &Path) -> io::Result<Self> {
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if receive(&socket)?.number != PROTOCOL_VERSION {
            return Err(broken("it speaks another version"));
        }
        let own = receive(&socket)?.number;
        let memory = receive(&socket)?
            .descriptor
            .ok_or_else(|| broken("it shares no memory"))?;
        let memory = File::from(memory);
        if memory.metadata()?.len() < REGION_SIZE as u64 {
            return Err(broken("its memory is too small"));
        }
        let (mut doorbell, mut interrupt) = (None, None);
        while doorbell.is_none() || interrupt.is_none() {
            let message = receive(&socket)?;
            if message.number == FIRMWARE {
                doorbell = message.descriptor;
            } else if message.number == own {
                interrupt = message.descriptor;
            }
        }
        let (Some(doorbell), Some(interrupt)) = (doorbell, interrupt) else {
            return Err(broken("it gives no eventfds"));
        };
        Ok(Self {
            path: path.to_owned(),
            socket,
            memory: Arc::new(memory),
            doorbell: File::from(doorbell),
            interrupt,
        })
    }
}

impl Doorbell for Sim {
    fn ring(&self) {
        // Fails only if the count is full, and then the simulator has been told already.
        let _told_already = (&self.doorbell).write(&1_u64.to_ne_bytes());
    }
}

impl Transport for Sim {
    fn source(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(Memory(Arc::clone(&self.memory))))
    }

    fn interrupt(&self) -> Option<Interrupt<'_>> {
        Some(Interrupt {
            fd: self.interrupt.as_fd(),
            width: 8,
        })
    }

    fn rearm(&self) -> Result<()> {
        Ok(())
    }

    fn is_gone(&self) -> bool {
        // The simulator says nothing more after the handshake: whatever there is to read is its end.
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let ended = PollFlags::POLLHUP | PollFlags::POLLERR;
        poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds
                .iter()
                .any(|fd| fd.revents().is_some_and(|seen| seen.intersects(ended)))
    }

    fn describe(&self) -> String {
        format!("simulator at {}", self.path.display())
    }
}

struct Memory(Arc<File>);

impl Source for Memory {
    fn map(&self, index: usize) -> io::Result<Mapping> {
        Mapping::of_file(self.0.as_fd(), index * CHUNK_SIZE, CHUNK_SIZE)
    }
}
