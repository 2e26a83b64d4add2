// SPDX-License-Identifier: MIT OR Apache-2.0

//! A disk with a cache that is lost with the power.
//!
//! What a machine writes to a plain file is there when the machine is killed, flushed or not: the host has it. A disk is
//! not that kind. Here QEMU writes to this process, through the NBD protocol (fixed newstyle, simple replies), and each
//! write that no flush followed may be undone, in whole or from some sector on, when the power is lost
//! ([`VolatileDisk::lose_power`]). What is discarded is gone at once: nobody may rely on its staying.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Scratch;
use super::spec::{Disk, Medium};

const SECTOR: usize = 512;
/// A write cache of this size; what no longer fits in it is written for good.
const CACHE: usize = 64 << 20;
/// The largest request that QEMU may send.
const LARGEST: u32 = 32 << 20;
/// How long a killed QEMU may take to let go of its connection.
const PATIENCE: Duration = Duration::from_secs(10);

const HELLO: u64 = u64::from_be_bytes(*b"NBDMAGIC");
const OPTION: u64 = u64::from_be_bytes(*b"IHAVEOPT");
/// Fixed newstyle, and no zeros after the old way to choose an export.
const HANDSHAKE: u16 = 1 | 2;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const OPTION_ABORT: u32 = 2;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = (1 << 31) + 1;
/// Flags are sent; flush, trim and writing zeros are known.
const ABILITIES: u16 = 1 | 4 | 32 | 64;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const TRIM: u16 = 4;
const WRITE_ZEROES: u16 = 6;
const ERROR_INVALID: u32 = 22;

/// See the module's text. The file is like a [`Disk`]'s and stays.
#[derive(Debug)]
pub struct VolatileDisk {
    disk: Disk,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
    _sockets: Scratch,
}

#[derive(Debug)]
struct Shared {
    medium: Mutex<Cached>,
    changed: Condvar,
}

#[derive(Debug)]
struct Cached {
    file: File,
    size: u64,
    /// What was there before each write since the last flush, oldest first.
    before: Vec<(u64, Vec<u8>)>,
    held: usize,
    connected: bool,
    ending: bool,
}

/// What a loss of power did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Writes that no flush had followed.
    pub unflushed: usize,
    /// Those of them that were undone, at least in part.
    pub undone: usize,
}

impl VolatileDisk {
    /// Makes or opens the disk's file as [`Disk::create`] does, and serves it.
    pub fn create(directory: &Path, name: &str, mebibytes: u64) -> Result<Self> {
        let Medium::File(path) = Disk::create(directory, name, mebibytes)?.medium else {
            bail!("a new disk is a file");
        };
        let file = File::options().read(true).write(true).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        let sockets = Scratch::create()?;
        let socket = sockets.path("disk");
        let listener = UnixListener::bind(&socket).with_context(|| format!("listening at {}", socket.display()))?;
        let shared = Arc::new(Shared {
            medium: Mutex::new(Cached {
                file,
                size: mebibytes << 20,
                before: Vec::new(),
                held: 0,
                connected: false,
                ending: false,
            }),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        let server = thread::Builder::new()
            .name(format!("disk {name}"))
            .spawn(move || serving.serve(&listener))?;
        Ok(Self {
            disk: Disk {
                name: name.to_owned(),
                medium: Medium::Served(socket),
            },
            shared,
            server: Some(server),
            _sockets: sockets,
        })
    }

    /// For a machine's specification.
    pub fn disk(&self) -> Disk {
        self.disk.clone()
    }

    /// After the machine was killed: undoes some of what was not flushed, by chance.
    pub fn lose_power(&self, random: &mut fastrand::Rng) -> Result<Lost> {
        let medium = self.shared.medium.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut medium, waited) = self
            .shared
            .changed
            .wait_timeout_while(medium, PATIENCE, |medium| medium.connected)
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(!waited.timed_out(), "the machine still uses disk {}", self.disk.name);
        let lost = medium.lose(random);
        lost.with_context(|| format!("undoing writes to disk {}", self.disk.name))
    }
}

impl Drop for VolatileDisk {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        if let Medium::Served(socket) = &self.disk.medium {
            // Wakes it.
            let _woken = UnixStream::connect(socket);
        }
        if let Some(server) = self.server.take() {
            let _ended = server.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Cached> {
        self.medium.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One machine after the other.
    fn serve(&self, listener: &UnixListener) {
        for stream in listener.incoming() {
            if self.lock().ending {
                return;
            }
            let Ok(mut stream) = stream else { continue };
            self.lock().connected = true;
            if let Err(error) = self.talk(&mut stream)
                && !matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                )
            {
                eprintln!("a disk with a cache: {error}");
            }
            self.lock().connected = false;
            self.changed.notify_all();
        }
    }

    fn talk(&self, stream: &mut UnixStream) -> io::Result<()> {
        stream.write_all(
            &[
                &HELLO.to_be_bytes()[..],
                &OPTION.to_be_bytes(),
                &HANDSHAKE.to_be_bytes(),
            ]
            .concat(),
        )?;
        let _flags: [u8; 4] = take(stream)?;
        if !self.agree(stream)? {
            return Ok(());
        }
        let mut bytes = Vec::new();
        loop {
            if u32::from_be_bytes(take(stream)?) != REQUEST {
                return Err(io::Error::other("what came is no request"));
            }
            let _flags: [u8; 2] = take(stream)?;
            let kind = u16::from_be_bytes(take(stream)?);
            let cookie: [u8; 8] = take(stream)?;
            let offset = u64::from_be_bytes(take(stream)?);
            let length = u32::from_be_bytes(take(stream)?);
            if kind == DISCONNECT {
                return Ok(());
            }
            bytes.clear();
            if matches!(kind, READ | WRITE) {
                if length > LARGEST {
                    return Err(io::Error::other("a request is too large"));
                }
                bytes.resize(length as usize, 0);
            }
            if kind == WRITE {
                stream.read_exact(&mut bytes)?;
            }
            let done = self.lock().request(kind, offset, length, &mut bytes)?;
            let error = if done { 0 } else { ERROR_INVALID };
            stream.write_all(&[&REPLY.to_be_bytes()[..], &error.to_be_bytes(), &cookie].concat())?;
            if kind == READ && done {
                stream.write_all(&bytes)?;
            }
        }
    }

    /// Answers options until the client begins with the one disk there is, or goes.
    fn agree(&self, stream: &mut UnixStream) -> io::Result<bool> {
        loop {
            if u64::from_be_bytes(take(stream)?) != OPTION {
                return Err(io::Error::other("what came is no option"));
            }
            let option = u32::from_be_bytes(take(stream)?);
            let length = u32::from_be_bytes(take(stream)?);
            io::copy(&mut stream.take(length.into()), &mut io::sink())?;
            let mut answer = |kind: u32, data: &[u8]| -> io::Result<()> {
                let length = u32::try_from(data.len()).unwrap_or(0);
                let head = [option, kind, length].map(u32::to_be_bytes).concat();
                stream.write_all(&[&OPTION_REPLY.to_be_bytes()[..], &head, data].concat())
            };
            match option {
                OPTION_GO => {
                    let size = self.lock().size;
                    // Information 0: the export.
                    let export = [&[0, 0][..], &size.to_be_bytes(), &ABILITIES.to_be_bytes()].concat();
                    answer(REPLY_INFO, &export)?;
                    answer(REPLY_ACK, &[])?;
                    return Ok(true);
                }
                OPTION_ABORT => {
                    answer(REPLY_ACK, &[])?;
                    return Ok(false);
                }
                _ => answer(REPLY_UNSUPPORTED, &[])?,
            }
        }
    }
}

impl Cached {
    /// Says whether the request is one that can be done.
    fn request(&mut self, kind: u16, offset: u64, length: u32, bytes: &mut Vec<u8>) -> io::Result<bool> {
        if offset.checked_add(length.into()).is_none_or(|end| end > self.size) {
            return Ok(false);
        }
        match kind {
            READ => self.file.read_exact_at(bytes, offset)?,
            WRITE => self.write(offset, bytes)?,
            FLUSH => {
                self.before.clear();
                self.held = 0;
            }
            TRIM => self.discard(offset, length)?,
            WRITE_ZEROES => {
                let mut left = length as usize;
                let mut at = offset;
                while left > 0 {
                    let part = left.min(CACHE / 8);
                    bytes.clear();
                    bytes.resize(part, 0);
                    self.write(at, bytes)?;
                    (at, left) = (at + part as u64, left - part);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut before = vec![0; bytes.len()];
        self.file.read_exact_at(&mut before, offset)?;
        self.file.write_all_at(bytes, offset)?;
        self.held += before.len();
        self.before.push((offset, before));
        if self.held > CACHE {
            let mut kept = 0;
            let from = self.before.iter().rposition(|(_, bytes)| {
                kept += bytes.len();
                kept > CACHE / 2
            });
            self.before.drain(..from.unwrap_or(0));
            self.held = self.before.iter().map(|(_, bytes)| bytes.len()).sum();
        }
        Ok(())
    }

    fn discard(&self, offset: u64, length: u32) -> io::Result<()> {
        use nix::fcntl::{FallocateFlags, fallocate};
        if length == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let offset = i64::try_from(offset).map_err(io::Error::other)?;
        Ok(fallocate(&self.file, flags, offset, length.into())?)
    }

    /// Newest first, so each sector ends as it was at some moment since the last flush.
    fn lose(&mut self, random: &mut fastrand::Rng) -> io::Result<Lost> {
        let mut lost = Lost {
            unflushed: self.before.len(),
            undone: 0,
        };
        for (offset, bytes) in self.before.drain(..).rev() {
            let from = match random.u8(..5) {
                0 | 1 => continue,
                2 | 3 => 0,
                _ => random.usize(..=bytes.len() / SECTOR) * SECTOR,
            };
            lost.undone += 1;
            let rest = bytes.get(from..).unwrap_or_default();
            self.file.write_all_at(rest, offset + from as u64)?;
        }
        self.held = 0;
        Ok(lost)
    }
}

fn take<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Client(UnixStream);

    impl Client {
        fn new(disk: &VolatileDisk) -> Self {
            let Medium::Served(socket) = disk.disk().medium else {
                panic!("it is served")
            };
            let mut stream = UnixStream::connect(socket).unwrap();
            let hello: [u8; 18] = take(&mut stream).unwrap();
            assert_eq!(hello[..16], *b"NBDMAGICIHAVEOPT");
            stream.write_all(&3u32.to_be_bytes()).unwrap();
            // One that is not known, then the one that begins.
            for (option, expected) in [(8u32, REPLY_UNSUPPORTED), (OPTION_GO, REPLY_INFO)] {
                stream
                    .write_all(&[&OPTION.to_be_bytes()[..], &option.to_be_bytes(), &[0; 4]].concat())
                    .unwrap();
                let head: [u8; 20] = take(&mut stream).unwrap();
                assert_eq!(head[12..16], expected.to_be_bytes());
            }
            let _export: [u8; 12] = take(&mut stream).unwrap();
            let _end: [u8; 20] = take(&mut stream).unwrap();
            Self(stream)
        }

        fn ask(&mut self, kind: u16, offset: u64, length: u32, data: &[u8]) -> u32 {
            let head = [&REQUEST.to_be_bytes()[..], &[0, 0], &kind.to_be_bytes(), &[7; 8]].concat();
            let rest = [&offset.to_be_bytes()[..], &length.to_be_bytes(), data].concat();
            self.0.write_all(&[head, rest].concat()).unwrap();
            let reply: [u8; 16] = take(&mut self.0).unwrap();
            assert_eq!(reply[8..], [7; 8]);
            u32::from_be_bytes([reply[4], reply[5], reply[6], reply[7]])
        }

        fn write(&mut self, offset: u64, byte: u8) {
            assert_eq!(self.ask(WRITE, offset, 4096, &[byte; 4096]), 0);
        }

        fn read(&mut self, offset: u64) -> [u8; 4096] {
            assert_eq!(self.ask(READ, offset, 4096, &[]), 0);
            take(&mut self.0).unwrap()
        }
    }

    #[test]
    fn what_was_flushed_stays_and_of_the_rest_each_sector_is_as_it_was_at_some_moment() {
        let directory = tempfile::tempdir().unwrap();
        let disk = VolatileDisk::create(directory.path(), "volatile", 1).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let (mut kept, mut undone, mut torn) = (0, 0, 0);
        for round in 0..50 {
            let (first, second, third) = (round * 3 + 1, round * 3 + 2, round * 3 + 3);
            let mut client = Client::new(&disk);
            client.write(0, first);
            client.write(8192, first);
            assert_eq!(client.ask(FLUSH, 0, 0, &[]), 0);
            client.write(8192, second);
            client.write(8192, third);
            assert_eq!(client.read(8192), [third; 4096], "it reads what it wrote");
            assert_eq!(client.ask(READ, 1 << 20, 4096, &[]), ERROR_INVALID);
            drop(client);
            let lost = disk.lose_power(&mut random).unwrap();
            assert_eq!(lost.unflushed, 2);
            let mut client = Client::new(&disk);
            assert_eq!(client.read(0), [first; 4096]);
            let found = client.read(8192);
            let mut sectors = found.chunks(SECTOR);
            assert!(sectors.all(|sector| {
                [first, second, third]
                    .iter()
                    .any(|&byte| sector.iter().all(|&is| is == byte))
            }));
            kept += u32::from(found == [third; 4096]);
            undone += u32::from(found == [first; 4096]);
            torn += u32::from(found[0] != found[4095]);
        }
        assert!(kept > 0 && undone > 0 && torn > 0, "{kept} {undone} {torn}");
    }

    #[test]
    fn zeros_are_written_and_discarded_bytes_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let disk = VolatileDisk::create(directory.path(), "volatile", 1).unwrap();
        let mut client = Client::new(&disk);
        client.write(4096, 1);
        client.write(8192, 1);
        assert_eq!(client.ask(TRIM, 4096, 4096, &[]), 0);
        assert_eq!(client.ask(WRITE_ZEROES, 8192, 4096, &[]), 0);
        assert_eq!((client.read(4096), client.read(8192)), ([0; 4096], [0; 4096]));
    }
}
