// SPDX-License-Identifier: MIT OR Apache-2.0

//! The simulator as a process sees it: one thread that owns the firmware, its memory, and everybody's eventfds.
//!
//! At its socket it speaks QEMU's ivshmem protocol, so a QEMU with `-device ivshmem-doorbell` and a
//! [`dsmil::transport::Sim`] connect alike, again and again. At the control socket it takes faults, one JSON document
//! a line, and answers each with a line.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dsmil::layout::REGION_SIZE;
use dsmil::memory::Mapping;
use dsmil::transport::{PROTOCOL_VERSION, send};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::time::TimeSpec;

use crate::fault::Fault;
use crate::firmware::{Character, Firmware};

/// Bytes of memory that are shared: the next power of two that holds the region, as a PCI BAR must be.
pub const MEMORY_SIZE: u64 = 512 << 20;
/// The firmware's number among the peers.
const FIRMWARE: i64 = 0;
/// A line on the control socket.
const LINE_LIMIT: usize = 4096;

/// Where and what.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where drivers and QEMU connect.
    pub socket: PathBuf,
    /// Where commands are taken; by default nowhere.
    pub control: Option<PathBuf>,
    /// A file to share instead of memory of its own, such as that behind an `ivshmem-plain` device.
    pub memory: Option<PathBuf>,
    /// How often to look at the mailbox without a doorbell; for devices that have none.
    pub poll: Option<Duration>,
    /// The firmware.
    pub character: Character,
}

impl Settings {
    /// A simulator at this socket, with its control socket beside it.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        let socket = socket.into();
        Self {
            control: Some(socket.with_extension("control")),
            socket,
            memory: None,
            poll: None,
            character: Character::default(),
        }
    }
}

/// A running simulator. It ends, and its clients see it end, when this is dropped.
#[derive(Debug)]
pub struct Simulator {
    settings: Settings,
    ending: Arc<AtomicBool>,
    doorbell: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Starts one; when this returns, drivers can connect.
    pub fn start(settings: Settings) -> Result<Self> {
        let doorbell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let ending = Arc::new(AtomicBool::new(false));
        let mut server = Server::new(&settings, Arc::clone(&doorbell))?;
        let thread = std::thread::Builder::new().name("firmware".into()).spawn({
            let ending = Arc::clone(&ending);
            move || {
                while !ending.load(Ordering::Acquire) {
                    if let Err(error) = server.turn() {
                        eprintln!("dsmil-sim: {error:#}");
                        return;
                    }
                }
            }
        })?;
        Ok(Self {
            settings,
            ending,
            doorbell,
            thread: Some(thread),
        })
    }

    /// Where drivers connect.
    pub fn socket(&self) -> &Path {
        &self.settings.socket
    }

    /// Makes the firmware do something wrong; returns once it has been told.
    pub fn inject(&self, fault: Fault) -> Result<()> {
        let control = self
            .settings
            .control
            .as_deref()
            .context("this simulator takes no commands")?;
        crate::control::inject(control, fault)
    }

    /// Waits for its end, which comes only if something fails.
    pub fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("dsmil-sim: the firmware panicked");
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        // A full count means that it has been woken already.
        let _woken_already = self.doorbell.write(1);
        self.join();
    }
}

struct Server {
    begun: Instant,
    poll: Option<Duration>,
    file: File,
    memory: Mapping,
    firmware: Firmware,
    doorbell: Arc<EventFd>,
    listener: UnixListener,
    control: Option<UnixListener>,
    peers: Vec<Peer>,
    commanders: Vec<Commander>,
    next_peer: i64,
    next: Duration,
}

struct Peer {
    socket: UnixStream,
    interrupt: EventFd,
}

struct Commander {
    socket: UnixStream,
    line: Vec<u8>,
}

impl Server {
    fn new(settings: &Settings, doorbell: Arc<EventFd>) -> Result<Self> {
        let file = if let Some(path) = &settings.memory {
            let file = File::options().read(true).write(true).open(path);
            file.with_context(|| format!("opening {}", path.display()))?
        } else {
            let file = File::from(memfd_create(c"dsmil", MFdFlags::MFD_CLOEXEC)?);
            file.set_len(MEMORY_SIZE)?;
            file
        };
        let memory = Mapping::of_file(&file, 0, REGION_SIZE).context("mapping the region")?;
        let firmware = Firmware::start(settings.character, &memory);
        Ok(Self {
            begun: Instant::now(),
            poll: settings.poll,
            file,
            memory,
            firmware,
            doorbell,
            listener: listen(&settings.socket)?,
            control: settings.control.as_deref().map(listen).transpose()?,
            peers: Vec::new(),
            commanders: Vec::new(),
            next_peer: FIRMWARE + 1,
            next: Duration::ZERO,
        })
    }

    /// Waits for whatever comes first and handles it.
    fn turn(&mut self) -> Result<()> {
        let now = self.begun.elapsed();
        let mut wait = self.next.saturating_sub(now);
        if let Some(period) = self.poll {
            wait = wait.min(period);
        }
        let mut fds = vec![
            PollFd::new(self.doorbell.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(
            self.control
                .iter()
                .map(|control| PollFd::new(control.as_fd(), PollFlags::POLLIN)),
        );
        fds.extend(
            self.peers
                .iter()
                .map(|peer| PollFd::new(peer.socket.as_fd(), PollFlags::POLLIN)),
        );
        fds.extend(
            self.commanders
                .iter()
                .map(|one| PollFd::new(one.socket.as_fd(), PollFlags::POLLIN)),
        );
        match ppoll(&mut fds, Some(TimeSpec::from_duration(wait)), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting"),
        }
        drop(fds);
        // That there was a ring is all there is to know; none is there when something else woke us.
        let _rings = self.doorbell.read();
        self.run();
        self.accept()?;
        self.peers.retain(|peer| !has_ended(&peer.socket));
        self.obey();
        Ok(())
    }

    fn run(&mut self) {
        let due = self.firmware.run(self.begun.elapsed(), &self.memory);
        self.next = due.next;
        for peer in &self.peers {
            for _ in 0..due.interrupts {
                // One that has not read the last 2^64 of them needs no other.
                let _pending_already = peer.interrupt.write(1);
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        while let Some(socket) = accept(&self.listener)? {
            match self.welcome(socket) {
                Ok(peer) => self.peers.push(peer),
                Err(error) => eprintln!("dsmil-sim: a client left while it was welcomed: {error}"),
            }
        }
        if let Some(control) = &self.control {
            while let Some(socket) = accept(control)? {
                self.commanders.push(Commander {
                    socket,
                    line: Vec::new(),
                });
            }
        }
        Ok(())
    }

    fn welcome(&mut self, socket: UnixStream) -> io::Result<Peer> {
        let number = self.next_peer;
        // QEMU takes numbers of 16 bits.
        self.next_peer = number % 0xffff + 1;
        let interrupt = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
        send(&socket, PROTOCOL_VERSION, None)?;
        send(&socket, number, None)?;
        send(&socket, -1, Some(self.file.as_fd()))?;
        send(&socket, FIRMWARE, Some(self.doorbell.as_fd()))?;
        send(&socket, number, Some(interrupt.as_fd()))?;
        Ok(Peer { socket, interrupt })
    }

    fn obey(&mut self) {
        let mut commanders = std::mem::take(&mut self.commanders);
        commanders.retain_mut(|commander| {
            let mut bytes = [0; LINE_LIMIT];
            match commander.socket.read(&mut bytes) {
                Ok(0) => return false,
                Ok(length) => commander
                    .line
                    .extend_from_slice(bytes.get(..length).unwrap_or_default()),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
            while let Some(end) = commander.line.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = commander.line.drain(..=end).collect();
                let answer = match serde_json::from_slice::<Fault>(&line) {
                    Ok(fault) => {
                        self.firmware.inject(fault, self.begun.elapsed(), &self.memory);
                        self.run();
                        "ok\n".to_owned()
                    }
                    Err(error) => format!("error: {error}\n"),
                };
                if commander.socket.write_all(answer.as_bytes()).is_err() {
                    return false;
                }
            }
            commander.line.len() < LINE_LIMIT
        });
        self.commanders = commanders;
    }
}

/// Listens at a path; what a simulator that was killed left there is removed.
fn listen(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("clearing {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("listening at {}", path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(listener: &UnixListener) -> Result<Option<UnixStream>> {
    match listener.accept() {
        Ok((socket, _)) => {
            socket.set_nonblocking(true)?;
            Ok(Some(socket))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("accepting a connection"),
    }
}

/// Clients say nothing; what there is to read is their end.
fn has_ended(socket: &UnixStream) -> bool {
    let mut byte = [0];
    let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
    match nix::sys::socket::recv(socket.as_raw_fd(), &mut byte, flags) {
        Ok(length) => length == 0,
        Err(error) => error != nix::errno::Errno::EAGAIN,
    }
}
