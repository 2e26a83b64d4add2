// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writing file bytes.
//!
//! 1. [`Fs::plan_write`] takes new blocks and computes checksums; nothing is overwritten in place.
//! 2. The caller writes the blocks, by system calls ([`Fs::write`]) or in its own way.
//! 3. [`Fs::commit_write`] puts them into the map and the journal. No earlier: a record of the journal must not name bytes
//!    that are not there (I2).
//!
//! The lock is held in steps 1 and 3 and never while bytes move. A write that covers a block only in part fills the rest
//! from what the file held; if that changed meanwhile, it begins again.
//!
//! Bytes of a block beyond the end of the file are zeros on disk: whoever makes a file longer need not care. Files that a
//! client writes are the exception: it stores bytes first and makes the file longer then. How far those reach is known
//! (`Inode::hidden`), and what a client of the past has left is cleared before anything else happens ([`Fs::settle`]).

use std::ops::Range;

use crate::checksum::Crc;
use crate::data::compress::Algorithm;
use crate::data::row::{INLINE_BYTES, Ptr, Row};
use crate::data::{CHUNK_BLOCKS, CHUNK_LEN, chunk_of};
use crate::disk::AlignedBytes;
use crate::error::{Errno, Error, Result};
use crate::units::{BLOCK_SIZE, Block, FileBlock, Ino, Run, blocks_for};

use super::MAX_FILE_BYTES;
use super::engine::{Ask, Core, Fs, Patience};
use super::file::{ATTEMPTS, Extent, Source};
use super::op::{Op, change};
use super::read::read_extent;
use super::record::{FileFlags, Inode, Timestamp};

/// A write is cut into pieces of at most this many bytes, each a transaction.
const PIECE: u64 = 1 << 20;
/// Permissions that a write takes away: set-user-ID, and set-group-ID where it means executing.
const SET_IDS: u16 = 0o6000;

/// In whose name bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// Somebody who writes now: the file becomes longer if need be, times and permissions follow.
    Writer(Timestamp),
    /// The client, which looks after all that itself.
    Client,
}

impl Fs {
    /// Writes bytes of a file. What was written before an error stays, and is told.
    pub fn write(&self, ino: Ino, at: u64, from: &[u8], now: Timestamp) -> Result<usize> {
        let end = at.checked_add(from.len() as u64).filter(|&end| end <= MAX_FILE_BYTES);
        if end.is_none() {
            return Err(Errno::FileTooLarge.into());
        }
        let mut written = 0;
        while written < from.len() {
            let here = at + written as u64;
            let rest = from.get(written..).unwrap_or_default();
            let piece = rest.get(..first_piece(here, rest.len())).unwrap_or_default();
            match self.write_piece(ino, here, piece, Author::Writer(now), &[]) {
                Ok(()) => {
                    self.shared.metrics.data.written_bytes.add(piece.len() as u64);
                    written += piece.len();
                }
                Err(error) if written == 0 => return Err(error),
                Err(_) => return Ok(written),
            }
        }
        Ok(written)
    }

    /// Writes what is at most one transaction. `then` becomes part of it: all is done or nothing.
    pub(super) fn write_piece(&self, ino: Ino, at: u64, from: &[u8], author: Author, then: &[Op<'_>]) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let mut core = self.shared.writable()?;
            match core.draft(ino, at, from.len(), author)? {
                Draft::Inline(inode) => {
                    let at = u32::try_from(at).map_err(|_| Error::Posix(Errno::Invalid))?;
                    let mut operations = Vec::with_capacity(1 + then.len());
                    if let Author::Writer(time) = author {
                        let bytes = from;
                        operations.push(Op::WriteInline { ino, at, time, bytes });
                        operations.extend(drop_set_ids(ino, &inode, time));
                    }
                    operations.extend_from_slice(then);
                    core.perform(&operations)?;
                    return self.shared.request_checkpoint(core);
                }
                Draft::Spill => {
                    drop(core);
                    self.spill(ino)?;
                }
                Draft::Settle => {
                    drop(core);
                    self.settle(ino)?;
                }
                Draft::Blocks(draft) => {
                    drop(core);
                    if self.write_blocks(ino, at, from, author, draft, then)? {
                        return Ok(());
                    }
                }
            }
        }
        Err(Errno::Busy.into())
    }

    /// Places the first piece of a write of whole blocks; [`WritePlan::length`] tells how much that is. What follows is
    /// writing the transfers, and then [`Self::commit_write`] or [`Self::abandon_write`]. Blocks of a plan that is dropped
    /// instead stay unused until the pool is opened again: nobody knows whether they are still being written.
    pub fn plan_write(
        &self,
        ino: Ino,
        at: u64,
        content: &[u8],
        author: Author,
        patience: Patience,
    ) -> Result<WritePlan> {
        let whole = at.is_multiple_of(BLOCK_SIZE as u64) && content.len().is_multiple_of(BLOCK_SIZE);
        if !whole || content.is_empty() {
            return Err(Errno::Invalid.into());
        }
        let piece = content.get(..first_piece(at, content.len())).unwrap_or_default();
        self.plan_whole_blocks(ino, at, Content::Bytes(piece), author, patience)
    }

    /// The same for content that the caller cannot look at, as it is in memory of somebody else: [`Errno::NotSupported`]
    /// for files whose bytes get checksums or are compressed. [`WritePlan::placements`] tells what to write.
    pub fn plan_write_unseen(
        &self,
        ino: Ino,
        at: u64,
        length: usize,
        now: Timestamp,
        patience: Patience,
    ) -> Result<WritePlan> {
        if !at.is_multiple_of(BLOCK_SIZE as u64) || !length.is_multiple_of(BLOCK_SIZE) || length == 0 {
            return Err(Errno::Invalid.into());
        }
        let piece = Content::Unseen(first_piece(at, length));
        self.plan_whole_blocks(ino, at, piece, Author::Writer(now), patience)
    }

    fn plan_whole_blocks(
        &self,
        ino: Ino,
        at: u64,
        piece: Content<'_>,
        author: Author,
        patience: Patience,
    ) -> Result<WritePlan> {
        let end = at.checked_add(piece.len() as u64).filter(|&end| end <= MAX_FILE_BYTES);
        let end = end.ok_or(Error::Posix(Errno::FileTooLarge))?;
        for _ in 0..ATTEMPTS {
            let draft = self
                .shared
                .writable_with(patience)?
                .draft(ino, at, piece.len(), author)?;
            match draft {
                Draft::Blocks(draft) => return self.place(ino, draft, piece, end, author, patience),
                Draft::Spill | Draft::Settle if patience == Patience::Refuse => return Err(Errno::WouldWait.into()),
                Draft::Spill => self.spill(ino)?,
                Draft::Settle => self.settle(ino)?,
                // Whole blocks are longer than what goes into the metadata.
                Draft::Inline(_) => return Err(Errno::Invalid.into()),
            }
        }
        Err(Errno::Busy.into())
    }

    /// Makes the blocks of a plan the file's, after all of them were written. False: it must be planned again, because what
    /// lies around the written bytes changed; that does not happen to writes of whole blocks. Refused for lack of patience,
    /// the plan can be committed later; after every other answer it is spent.
    pub fn commit_write(&self, plan: &mut WritePlan, patience: Patience) -> Result<bool> {
        let committed = self.commit(plan, &[], patience)?;
        if committed {
            self.shared.metrics.data.written_bytes.add(plan.length as u64);
        }
        Ok(committed)
    }

    fn commit(&self, plan: &mut WritePlan, then: &[Op<'_>], patience: Patience) -> Result<bool> {
        let core = match self.shared.writable_with(patience) {
            Err(Error::Posix(Errno::WouldWait)) => return Err(Errno::WouldWait.into()),
            core => core,
        };
        let result = core.and_then(|mut core| {
            let inode = core.state.inode(plan.ino)?;
            let mut operations: Vec<Op<'_>> = std::mem::take(&mut plan.operations);
            match plan.author {
                Author::Writer(now) if plan.moves_only => operations.push(keep_times(plan.ino, &inode, now)),
                Author::Writer(now) => operations.extend(drop_set_ids(plan.ino, &inode, now)),
                Author::Client => {}
            }
            operations.extend_from_slice(then);
            for edge in &plan.draft.edges {
                if core.map(plan.ino, edge.at, 1)?.first() != Some(edge) {
                    return Ok(false);
                }
            }
            if plan.draft.covered.is_some() || plan.author == Author::Client {
                core.perform_covered(&operations)?;
            } else {
                core.perform(&operations)?;
            }
            self.shared.request_checkpoint(core)?;
            Ok(true)
        });
        let runs = std::mem::take(&mut plan.runs);
        if !matches!(result, Ok(true)) {
            self.give_blocks_back(&runs);
        }
        result
    }

    /// Gives the blocks of a plan back: none of them is being written any more.
    pub fn abandon_write(&self, WritePlan { runs, .. }: WritePlan) {
        self.give_blocks_back(&runs);
    }

    /// Gives the bytes of a small file a block, if they are stored in the metadata. Nobody sees a difference.
    pub(super) fn spill(&self, ino: Ino) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let draft = {
                let mut core = self.core();
                let inode = core.regular(ino)?;
                let extent = core.map(ino, FileBlock(0), 1)?;
                if !matches!(
                    extent.as_slice(),
                    [Extent {
                        source: Source::Inline(_),
                        ..
                    }]
                ) {
                    return Ok(());
                }
                Blocks {
                    inode,
                    at: FileBlock(0),
                    count: 1,
                    edges: extent,
                    goal: None,
                    covered: None,
                }
            };
            if self.write_blocks(ino, 0, &[], Author::Writer(Timestamp(0)), draft, &[])? {
                return Ok(());
            }
        }
        Err(Errno::Busy.into())
    }

    /// Makes zeros of what a client of the past stored beyond the end of a file and did not reveal. Nobody sees a
    /// difference.
    pub(super) fn settle(&self, ino: Ino) -> Result<()> {
        let stale = {
            let mut core = self.core();
            let inode = core.state.inode(ino)?;
            core.is_stale(&inode)
        };
        if stale { self.clear_hidden(ino) } else { Ok(()) }
    }

    /// The same, whoever stored it.
    pub(super) fn clear_hidden(&self, ino: Ino) -> Result<()> {
        let inode = self.core().state.inode(ino)?;
        if inode.hidden == 0 {
            return Ok(());
        }
        let size = inode.size;
        let beyond = FileBlock(blocks_for(size));
        let keep = keep_times(ino, &inode, Timestamp(0));
        let last_step = self.punch_quietly(ino, beyond, &keep)?;
        let cut = [
            Op::Punch {
                ino,
                from: last_step,
                count: super::MAX_FILE_BLOCKS - last_step.0,
                time: Timestamp(0),
            },
            Op::Truncate {
                ino,
                size,
                time: Timestamp(0),
            },
            keep,
        ];
        let tail = size % BLOCK_SIZE as u64;
        if tail == 0 || !self.has_blocks(ino, FileBlock::of(size))? {
            let mut core = self.shared.writable()?;
            core.perform(&cut)?;
            return self.shared.request_checkpoint(core);
        }
        let zeros = [0; BLOCK_SIZE];
        let rest = zeros.get(usize::try_from(tail).unwrap_or(0)..).unwrap_or_default();
        self.write_piece(ino, size, rest, Author::Client, &cut)
    }

    /// Writes whole blocks elsewhere and puts them into the map. False: the edges changed meanwhile.
    fn write_blocks(
        &self,
        ino: Ino,
        at: u64,
        from: &[u8],
        author: Author,
        draft: Blocks,
        then: &[Op<'_>],
    ) -> Result<bool> {
        let merged;
        let content = if from.len() as u64 == draft.count * BLOCK_SIZE as u64 {
            from
        } else {
            merged = self.merge(at, from, &draft)?;
            &merged
        };
        let end = at + from.len() as u64;
        let mut plan = self.place(ino, draft, Content::Bytes(content), end, author, Patience::Wait)?;
        plan.moves_only = from.is_empty();
        let disk = &self.shared.disk;
        let written = plan
            .transfers(content)
            .try_for_each(|(at, bytes)| disk.write(at, bytes));
        if let Err(error) = written {
            self.abandon_write(plan);
            return Err(error);
        }
        self.commit(&mut plan, then, Patience::Wait)
    }

    /// The content of whole blocks: the new bytes, and around them what the file holds.
    fn merge(&self, at: u64, from: &[u8], draft: &Blocks) -> Result<Vec<u8>> {
        let count = usize::try_from(draft.count).unwrap_or(usize::MAX);
        let mut merged = vec![0; count * BLOCK_SIZE];
        for edge in &draft.edges {
            let offset = usize::try_from(edge.at.byte_at() - draft.at.byte_at()).unwrap_or(usize::MAX);
            if let Some(block) = merged.get_mut(offset..offset + BLOCK_SIZE) {
                read_extent(&*self.shared.disk, edge, block)?;
                if matches!(edge.source, Source::Packed(..)) {
                    self.shared.metrics.data.decompressions.increment();
                }
            }
        }
        let offset = usize::try_from(at - draft.at.byte_at()).unwrap_or(usize::MAX);
        if let Some(place) = merged.get_mut(offset..offset + from.len()) {
            place.copy_from_slice(from);
        }
        Ok(merged)
    }

    /// Takes blocks for whole blocks of content, and makes the operations that will make them the file's.
    fn place(
        &self,
        ino: Ino,
        draft: Blocks,
        content: Content<'_>,
        end: u64,
        author: Author,
        patience: Patience,
    ) -> Result<WritePlan> {
        let flags = draft.inode.flags;
        let is_bare = flags.has(FileFlags::NO_CHECKSUM) && !flags.has(FileFlags::COMPRESS);
        if matches!(content, Content::Unseen(_)) && !is_bare {
            return Err(Errno::NotSupported.into());
        }
        let mut plan = WritePlan {
            ino,
            draft,
            length: content.len(),
            end,
            author,
            moves_only: false,
            runs: Vec::new(),
            operations: Vec::new(),
            transfers: Vec::new(),
            packed: Vec::new(),
        };
        let result = match content {
            Content::Bytes(bytes) if flags.has(FileFlags::COMPRESS) => self.place_packed(&mut plan, bytes, patience),
            content => self.place_plain(&mut plan, 0, content, patience),
        };
        match result {
            Ok(()) => Ok(plan),
            Err(error) => {
                self.abandon_write(plan);
                Err(error)
            }
        }
    }

    /// Places blocks as they are; the first is so many bytes behind the first of the plan.
    fn place_plain(&self, plan: &mut WritePlan, offset: usize, content: Content<'_>, patience: Patience) -> Result<()> {
        let runs = self.place_blocks(plan, From::Content(offset), content.len(), patience)?;
        let checksums = match content {
            Content::Bytes(bytes) if !plan.draft.inode.flags.has(FileFlags::NO_CHECKSUM) => {
                bytes.chunks_exact(BLOCK_SIZE).map(Crc::of).collect()
            }
            Content::Bytes(_) | Content::Unseen(_) => Vec::new(),
        };
        let (ino, at) = (plan.ino, plan.draft.at.plus((offset / BLOCK_SIZE) as u64));
        plan.operations.push(match plan.author {
            Author::Writer(time) => Op::Write {
                ino,
                at,
                end: plan.end,
                time,
                runs,
                checksums,
            },
            Author::Client => Op::Store {
                ino,
                at,
                reach: reach_of(at, content),
                runs,
                checksums,
            },
        });
        Ok(())
    }

    fn place_packed(&self, plan: &mut WritePlan, content: &[u8], patience: Patience) -> Result<()> {
        let algorithm = if plan.draft.inode.flags.has(FileFlags::ZSTD) {
            Algorithm::Zstd
        } else {
            Algorithm::Lz4
        };
        let mut offset = 0;
        let mut rest = content;
        while !rest.is_empty() {
            let at = plan.draft.at.plus((offset / BLOCK_SIZE) as u64);
            let (_, index) = chunk_of(at);
            let room = (CHUNK_LEN - index) * BLOCK_SIZE;
            let (here, later) = rest.split_at(room.min(rest.len()));
            let count = here.len() / BLOCK_SIZE;
            let packed = if count >= 2 { algorithm.pack(here) } else { None };
            if let Some(packed) = packed {
                let bytes = packed.len();
                let checksum = Crc::of(&packed);
                let packed = AlignedBytes::padded(&packed);
                let from = From::Packed(plan.packed.len());
                let runs = self.place_blocks(plan, from, packed.bytes().len(), patience)?;
                plan.packed.push(packed);
                self.shared.metrics.data.compressions.increment();
                let ino = plan.ino;
                let (algorithm, count) = (algorithm as u8, u8::try_from(count).unwrap_or(u8::MAX));
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                plan.operations.push(match plan.author {
                    Author::Writer(time) => Op::WritePacked {
                        ino,
                        at,
                        count,
                        algorithm,
                        bytes,
                        checksum,
                        end: plan.end,
                        time,
                        runs,
                    },
                    Author::Client => Op::StorePacked {
                        ino,
                        at,
                        count,
                        algorithm,
                        bytes,
                        checksum,
                        reach: reach_of(at, Content::Bytes(here)),
                        runs,
                    },
                });
            } else {
                self.place_plain(plan, offset, Content::Bytes(here), patience)?;
            }
            offset += here.len();
            rest = later;
        }
        Ok(())
    }

    /// Takes blocks for so many bytes, and notes what goes where.
    fn place_blocks(&self, plan: &mut WritePlan, from: From, bytes: usize, patience: Patience) -> Result<Vec<Run>> {
        let runs = self.take_blocks(&Ask {
            count: (bytes / BLOCK_SIZE) as u64,
            goal: plan.draft.goal,
            covered: plan.draft.covered,
            credit: plan.author == Author::Client,
            patience,
        })?;
        plan.runs.extend(&runs);
        let mut done = 0;
        for run in &runs {
            let length = usize::try_from(run.bytes()).unwrap_or(usize::MAX).min(bytes - done);
            plan.transfers.push(Transfer {
                at: run.start.byte_at(),
                from,
                range: done..done + length,
            });
            done += length;
        }
        Ok(runs)
    }
}

/// The end of the last byte of whole blocks that is not zero, or may be another.
fn reach_of(at: FileBlock, content: Content<'_>) -> u64 {
    let length = match content {
        Content::Bytes(bytes) => bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1),
        Content::Unseen(length) => length,
    };
    at.byte_at() + length as u64
}

/// How much of so many bytes one transaction takes.
pub(super) fn first_piece(at: u64, length: usize) -> usize {
    let room = PIECE - at % PIECE;
    usize::try_from(room).unwrap_or(usize::MAX).min(length)
}

/// What is written, as far as the engine gets to see it.
#[derive(Debug, Clone, Copy)]
enum Content<'a> {
    Bytes(&'a [u8]),
    /// So many bytes.
    Unseen(usize),
}

impl Content<'_> {
    const fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Unseen(length) => *length,
        }
    }
}

/// A write whose blocks were taken and wait for their bytes. See [`Fs::plan_write`].
#[derive(Debug)]
pub struct WritePlan {
    ino: Ino,
    draft: Blocks,
    /// Bytes of content.
    length: usize,
    /// The byte after the last one written.
    end: u64,
    author: Author,
    /// The file gets a block for bytes it has already.
    moves_only: bool,
    runs: Vec<Run>,
    operations: Vec<Op<'static>>,
    transfers: Vec<Transfer>,
    /// Compressed content.
    packed: Vec<AlignedBytes>,
}

/// Bytes for blocks that lie side by side in the pool.
#[derive(Debug)]
struct Transfer {
    at: u64,
    from: From,
    /// Relative to what `from` says.
    range: Range<usize>,
}

/// Where bytes come from.
#[derive(Debug, Clone, Copy)]
enum From {
    /// The caller's content, from a byte on.
    Content(usize),
    /// Something compressed.
    Packed(usize),
}

impl WritePlan {
    /// How many bytes of the content it covers.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// What to write: byte offsets in the pool, and the bytes. The content is the one the plan was made of.
    pub fn transfers<'a>(&'a self, content: &'a [u8]) -> impl Iterator<Item = (u64, &'a [u8])> {
        self.transfers.iter().map(move |transfer| {
            let from = match transfer.from {
                From::Content(first) => content.get(first..),
                From::Packed(index) => self.packed.get(index).map(AlignedBytes::bytes),
            };
            let bytes = from.and_then(|from| from.get(transfer.range.clone()));
            (transfer.at, bytes.unwrap_or_default())
        })
    }
}

impl WritePlan {
    /// What to write of content that the plan has not seen: byte offsets in the pool, and which of its bytes.
    pub fn placements(&self) -> impl Iterator<Item = (u64, Range<usize>)> {
        self.transfers.iter().map(|transfer| {
            let first = match transfer.from {
                From::Content(first) => first,
                // Of seen content only.
                From::Packed(_) => 0,
            };
            (transfer.at, first + transfer.range.start..first + transfer.range.end)
        })
    }
}

/// What a write found.
enum Draft {
    /// The bytes go into the metadata.
    Inline(Inode),
    /// The file's bytes are in the metadata and must get a block first.
    Spill,
    /// A client of the past left bytes beyond the end.
    Settle,
    /// Whole blocks.
    Blocks(Blocks),
}

/// Whole blocks to write.
#[derive(Debug)]
struct Blocks {
    inode: Inode,
    at: FileBlock,
    count: u64,
    /// The first or last block, if only a part of it is written and it holds something.
    edges: Vec<Extent>,
    goal: Option<Block>,
    covered: Option<u64>,
}

impl Core {
    fn draft(&mut self, ino: Ino, at: u64, length: usize, author: Author) -> Result<Draft> {
        let inode = self.regular(ino)?;
        if author != Author::Client {
            if inode.flags.has(FileFlags::IMMUTABLE) || inode.flags.has(FileFlags::APPEND) && at < inode.size {
                return Err(Errno::NotPermitted.into());
            }
            if self.is_stale(&inode) {
                return Ok(Draft::Settle);
            }
        }
        let end = at + length as u64;
        let (first, last) = (FileBlock::of(at), FileBlock(blocks_for(end) - 1));
        if first.0 < CHUNK_BLOCKS {
            let row = self.state.row(ino, 0)?;
            if end.max(inode.size) <= INLINE_BYTES as u64 && !matches!(row, Some(Row::Map(_))) {
                return Ok(Draft::Inline(inode));
            }
            if matches!(row, Some(Row::Inline(_))) && first.0 > 0 {
                return Ok(Draft::Spill);
            }
        }
        let count = last.0 - first.0 + 1;
        let mut edges = Vec::new();
        let starts_inside = !at.is_multiple_of(BLOCK_SIZE as u64);
        // A last block that is written up to the end of the file is zeros beyond.
        let ends_inside = !end.is_multiple_of(BLOCK_SIZE as u64) && end < inode.reach();
        for (wanted, block) in [
            (starts_inside || count == 1 && ends_inside, first),
            (count > 1 && ends_inside, last),
        ] {
            if wanted {
                edges.extend(self.map(ino, block, 1)?);
            }
        }
        let goal = match first.0.checked_sub(1) {
            Some(before) => self.last_pool_block(ino, FileBlock(before))?.map(|block| block.plus(1)),
            None => None,
        };
        let covered = self.covered(ino, first, count)?;
        Ok(Draft::Blocks(Blocks {
            inode,
            at: first,
            count,
            edges,
            goal,
            covered,
        }))
    }

    /// Whether something is hidden behind a file's end that nobody will reveal.
    pub(super) fn is_stale(&self, inode: &Inode) -> bool {
        let session = &self.state.session;
        inode.hidden > 0 && !(session.is_live() && inode.hidden_in == session.ordinal)
    }

    /// The pool's block of a file block.
    fn last_pool_block(&mut self, ino: Ino, at: FileBlock) -> Result<Option<Block>> {
        let (chunk, index) = chunk_of(at);
        Ok(match self.state.row(ino, chunk)? {
            Some(Row::Map(map)) => match map.get(index) {
                Ptr::Data(block, _) | Ptr::Bare(block) => Some(block),
                Ptr::Packed { unit, .. } => {
                    let last = map.unit(unit).and_then(|unit| unit.runs.last());
                    last.map(|run| Block(run.end().0 - 1))
                }
                Ptr::Hole | Ptr::Promised | Ptr::Lost => None,
            },
            _ => None,
        })
    }

    /// If each block replaces one or was promised: how many were promised.
    fn covered(&mut self, ino: Ino, from: FileBlock, count: u64) -> Result<Option<u64>> {
        let mut promised = 0;
        for (chunk, index, here) in super::apply::per_chunk(from, count) {
            let Some(Row::Map(map)) = self.state.row(ino, chunk)? else {
                return Ok(None);
            };
            for index in index..index + here {
                match map.get(index) {
                    Ptr::Hole | Ptr::Lost => return Ok(None),
                    Ptr::Promised => promised += 1,
                    Ptr::Data(..) | Ptr::Bare(_) | Ptr::Packed { .. } => {}
                }
            }
        }
        Ok(Some(promised))
    }
}

/// After bytes only moved from the metadata to a block: nothing was modified.
pub(super) fn keep_times(ino: Ino, inode: &Inode, now: Timestamp) -> Op<'static> {
    Op::SetAttributes {
        ino,
        fields: change::MODIFIED | change::CHANGED,
        mode: 0,
        uid: 0,
        gid: 0,
        flags: 0,
        accessed: now,
        modified: inode.modified,
        changed: inode.changed,
    }
}

/// A write by anybody takes away the permission to act as the owner.
pub(super) fn drop_set_ids(ino: Ino, inode: &Inode, now: Timestamp) -> Option<Op<'static>> {
    let executes_as_group = inode.mode & 0o2010 == 0o2010;
    if inode.mode & 0o4000 == 0 && !executes_as_group {
        return None;
    }
    let drop = if executes_as_group { SET_IDS } else { 0o4000 };
    Some(Op::SetAttributes {
        ino,
        fields: change::MODE | change::CHANGED,
        mode: inode.mode & 0o7777 & !drop,
        uid: 0,
        gid: 0,
        flags: 0,
        accessed: now,
        modified: now,
        changed: now,
    })
}
