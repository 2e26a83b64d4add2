// SPDX-License-Identifier: MIT OR Apache-2.0

//! A device of a pool, spoken to as the kernel module does: with WRITE and READ of a call at once, past the page cache.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use io_uring::{IoUring, opcode, types};
use nix::libc;
use vexfs::client::wire::{self, Opcode};
use vexfs::fs::op::Op;
use vexfs::units::Ino;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::peer::{Ask, Reply, batch};

const BLOCK: usize = 4096;
/// A call is repeated for so long: takeovers are slow on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; BLOCK]);

/// Bytes where direct I/O takes them.
pub(crate) struct Pages(Vec<Page>);

impl Pages {
    pub(crate) fn zeroed(bytes: usize) -> Self {
        Self(vec![Page::new_zeroed(); bytes.div_ceil(BLOCK)])
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut pages = Self::zeroed(bytes.len());
        pages.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        pages
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }
}

/// An open device, and the session on it.
pub(crate) struct Device {
    file: File,
    ring: IoUring,
    shape: wire::Super,
    pub(crate) session: u64,
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    /// Replies that said AGAIN.
    pub(crate) agains: u64,
}

impl Device {
    pub(crate) fn open(path: &str) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)?;
        let mut block = Pages::zeroed(BLOCK);
        file.read_exact_at(block.bytes_mut(), 0)?;
        let shape = wire::Super::read_from_bytes(block.bytes()).map_err(|_| anyhow::anyhow!("a short super block"))?;
        ensure!(shape.magic.get() == wire::SUPER_MAGIC, "no super block");
        Ok(Self {
            file,
            ring: IoUring::new(8)?,
            shape,
            session: 0,
            seq: 0,
            epoch: 0,
            agains: 0,
        })
    }

    pub(crate) fn hello(&mut self, nonce: u64) -> Result<()> {
        self.session = 0;
        let reply = self.call(0, &Ask::hello(nonce))?;
        ensure!(reply.status() == 0, "HELLO: {}", reply.status());
        self.session = reply.take::<wire::Welcome>().0.session.get();
        Ok(())
    }

    /// A call that is repeated until it is answered.
    pub(crate) fn call(&mut self, slot: u16, ask: &Ask) -> Result<Reply> {
        self.seq += 1;
        let request = ask.encode(self.session, slot, self.seq);
        let start = Instant::now();
        loop {
            let reply = self.exchange(slot, &request)?;
            if !reply.has(wire::REPLY_AGAIN) && reply.fixed.seq.get() == self.seq {
                self.epoch = reply.fixed.epoch.get();
                return Ok(reply);
            }
            self.agains += 1;
            ensure!(start.elapsed() < PATIENCE, "no reply to {ask:?}");
        }
    }

    /// One WRITE and one READ of a slot, under way together.
    pub(crate) fn exchange(&mut self, slot: u16, request: &[u8]) -> Result<Reply> {
        let at = self.shape.calls.base.get() + u64::from(slot) * u64::from(self.shape.calls.stride.get());
        let (out, mut into) = (
            Pages::of(request),
            Pages::zeroed(self.shape.calls.stride.get() as usize),
        );
        let file = types::Fd(self.file.as_raw_fd());
        let write = opcode::Write::new(file, out.bytes().as_ptr(), u32::try_from(out.bytes().len())?).offset(at);
        let length = u32::try_from(into.bytes().len())?;
        let read = opcode::Read::new(file, into.bytes_mut().as_mut_ptr(), length).offset(at);
        {
            let mut queue = self.ring.submission();
            for entry in [write.build().user_data(0), read.build().user_data(1)] {
                // SAFETY: both buffers live until both operations have completed, below.
                unsafe { queue.push(&entry) }.ok().context("the ring is full")?;
            }
        }
        let mut done = Vec::new();
        while done.len() < 2 {
            // It may return early: whoever is interrupted waits again.
            if let Err(error) = self.ring.submit_and_wait(2 - done.len()) {
                assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "{error}");
            }
            let completions = self.ring.completion();
            done.extend(completions.map(|completion| (completion.user_data(), completion.result())));
        }
        for (which, result) in done {
            let expected = if which == 0 {
                out.bytes().len()
            } else {
                into.bytes().len()
            };
            ensure!(usize::try_from(result) == Ok(expected), "operation {which}: {result}");
        }
        Reply::of(into.bytes()).map_err(anyhow::Error::msg)
    }

    /// Numbers for new files.
    pub(crate) fn numbers(&mut self, count: u32) -> Result<std::ops::Range<u64>> {
        let reply = self.call(0, &Ask::grant(count, 0, 1 << 20, 0))?;
        ensure!(reply.status() == 0, "GRANT: {}", reply.status());
        let from = reply.fixed.ino_from.get();
        Ok(from..from + u64::from(reply.fixed.ino_count.get()))
    }

    pub(crate) fn apply(&mut self, slot: u16, operations: &[Op<'_>]) -> Result<()> {
        let reply = self.call(slot, &Ask::apply(operations, [0; 4]))?;
        ensure!(reply.status() == 0, "{operations:?}: {}", reply.status());
        Ok(())
    }

    pub(crate) fn attr(&mut self, ino: Ino) -> Result<wire::Attr> {
        let reply = self.call(0, &Ask::inode(Opcode::Getattr, ino.0))?;
        ensure!(reply.status() == 0, "attributes of {ino}: {}", reply.status());
        Ok(reply.take::<wire::Attr>().0)
    }

    /// Writes a batch to the piece its position says.
    pub(crate) fn post(&self, position: u64, operations: &[Op<'_>]) -> Result<()> {
        let bytes = Pages::of(&batch(self.session, position, operations));
        let log = &self.shape.log;
        let piece = position % u64::from(log.count.get());
        let at = log.base.get() + piece * u64::from(log.stride.get());
        Ok(self.file.write_all_at(bytes.bytes(), at)?)
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.file.write_all_at(Pages::of(bytes).bytes(), at)?)
    }

    pub(crate) fn read(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut pages = Pages::zeroed(length);
        self.file.read_exact_at(pages.bytes_mut(), at)?;
        Ok(pages.bytes()[..length].to_vec())
    }

    pub(crate) fn flush(&self) -> Result<()> {
        Ok(self.file.sync_data()?)
    }

    pub(crate) fn shape(&self) -> wire::Super {
        self.shape
    }
}
