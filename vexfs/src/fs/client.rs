// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the server behind the kernel module calls: sessions, operations that the module made, grants, windows, credits.
//!
//! A front end in user space says what it wants, and the engine makes the operation. The module makes operations itself;
//! nothing of them is trusted ([`Fs::submit`]). Each transaction carries a [`Mark`], which says what of the client's it
//! carries out: after any crash, whatever is there has its mark and whatever is not has none.
//!
//! Applying checks everything that concerns the state. What must be done before, because it moves bytes or takes many steps,
//! is done in transactions of its own that nobody sees: giving the bytes of a small file a block, taking a file apart, zeros
//! behind an end that moves.

use std::ops::Range;

use crate::error::{Errno, Error, Result};
use crate::units::{BLOCK_SIZE, FileBlock, Ino, blocks_for};

use super::directory::DirectoryEntry;
use super::engine::{Core, Fs, Mode, Patience};
use super::namespace::Attributes;
use super::op::{Op, rename};
use super::record::{Inode, Kind, Marks};
use super::session::{Session, Window};
use super::vectors::attribute;
use super::write::Author;

/// A client that begins.
#[derive(Debug, Clone, Copy)]
pub struct NewSession {
    /// Random, not 0.
    pub id: u64,
    /// What it called its request.
    pub hello: u64,
    /// Call slots.
    pub slots: u16,
    /// It will change nothing.
    pub read_only: bool,
}

/// What of a client's a transaction carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A call, or a step of a request about vectors.
    Answered {
        /// Its slot.
        slot: u16,
        /// Its number.
        seq: u64,
    },
    /// Posted operations before a position.
    Posted(u64),
}

impl Mark {
    pub(in crate::fs) const fn operation(self) -> Op<'static> {
        match self {
            Self::Answered { slot, seq } => Op::Answered { slot, seq },
            Self::Posted(position) => Op::Posted { position },
        }
    }
}

/// What a reply needs to know of the session, at one moment.
#[derive(Debug, Clone, Copy)]
pub struct SessionView {
    /// Its number; 0: there is none.
    pub id: u64,
    /// What the client called the request that began it.
    pub hello: u64,
    /// Nothing may be changed.
    pub read_only: bool,
    /// Posted operations before this position are applied.
    pub posted: u64,
    /// The newest call that changed something, of the slot asked for.
    pub answered: u64,
    /// First number of the newest grant.
    pub grant_from: Ino,
    /// Numbers of it.
    pub grant_count: u32,
}

/// A file as a client sees it.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// What is known about it.
    pub attributes: Attributes,
    /// Its longest window, and the base of that.
    pub window: Option<(u64, Window)>,
    /// A client of the past left bytes behind its end: [`Fs::settle_stale`] comes first.
    pub stale: bool,
}

/// An entry of a directory, and the file if it was asked for and can be shown.
#[derive(Debug, Clone)]
pub struct SeenEntry {
    /// The entry.
    pub entry: DirectoryEntry,
    /// The file.
    pub seen: Option<Seen>,
}

impl Core {
    /// That new files have numbers that were granted.
    fn check_numbers(&mut self, operations: &[Op<'_>]) -> Result<()> {
        for operation in operations {
            let ino = match *operation {
                Op::Create { ino, .. } => ino,
                Op::Rename { flags, whiteout, .. } if flags & rename::WHITEOUT != 0 => whiteout,
                _ => continue,
            };
            if !self.state.session.unused.contains(ino) {
                let exists = self.state.find_inode(ino)?.is_some();
                return Err(if exists { Errno::Exists } else { Errno::Invalid }.into());
            }
        }
        Ok(())
    }

    fn see(&mut self, ino: Ino, mut inode: Inode) -> Seen {
        // Vectors are listed as attributes; when in doubt, the client asks for them.
        let listed = inode.marks.0 & Marks::XATTRS.0 != 0;
        if !listed && self.state.has_vectors(ino).unwrap_or(true) {
            inode.marks = inode.marks.with(Marks::XATTRS);
        }
        Seen {
            attributes: Attributes { ino, inode },
            window: self.state.windows.newest(ino),
            stale: self.is_stale(&inode),
        }
    }
}

impl Fs {
    /// What a reply about a slot tells of the session.
    pub fn session_view(&self, slot: u16) -> SessionView {
        let core = self.core();
        let session = &core.state.session;
        SessionView {
            id: session.id,
            hello: session.hello,
            read_only: session.read_only || core.mode != Mode::Writable,
            posted: session.posted,
            answered: session.answered.get(usize::from(slot)).copied().unwrap_or(0),
            grant_from: session.grant_from,
            grant_count: session.grant_count,
        }
    }

    /// A file.
    pub fn see(&self, ino: Ino) -> Result<Seen> {
        let mut core = self.core();
        let inode = core.state.inode(ino)?;
        Ok(core.see(ino, inode))
    }

    /// The file of a name.
    pub fn see_name(&self, directory: Ino, name: &[u8]) -> Result<Seen> {
        let found = self.lookup(directory, name)?;
        Ok(self.core().see(found.ino, found.inode))
    }

    /// Entries of a directory from a position on, at most `limit`, with the files if wanted.
    pub fn see_directory(&self, directory: Ino, from: u64, limit: usize, attributes: bool) -> Result<Vec<SeenEntry>> {
        let listing = self.list(directory, from, limit)?;
        let mut core = self.core();
        let mut seen = Vec::with_capacity(listing.len());
        for entry in listing {
            // What was removed meanwhile is shown without.
            let found = if attributes {
                core.state.find_inode(entry.ino)?
            } else {
                None
            };
            let found = found.map(|inode| core.see(entry.ino, inode)).filter(|seen| !seen.stale);
            seen.push(SeenEntry { entry, seen: found });
        }
        Ok(seen)
    }

    /// The session, as it is now.
    pub fn session(&self) -> Session {
        self.core().state.session.clone()
    }

    /// Begins a session; one that is under way ends.
    pub fn begin_session(&self, new: &NewSession) -> Result<()> {
        self.end_session()?;
        let mut core = self.shared.writable()?;
        core.perform_covered(&[Op::BeginSession {
            session: new.id,
            hello: new.hello,
            slots: new.slots,
            read_only: u8::from(new.read_only),
        }])?;
        self.shared.request_checkpoint(core)
    }

    /// Ends the session, if there is one; what only the client held goes.
    pub fn end_session(&self) -> Result<()> {
        {
            let mut core = self.core();
            let session = core.state.session.id;
            if session == 0 {
                return Ok(());
            }
            core.check_writable()?;
            let kept = std::mem::take(&mut core.client_reserve);
            core.state.space.unreserve(kept);
            core.perform_covered(&[Op::EndSession { session }])?;
            self.shared.request_checkpoint(core)?;
        }
        self.purge_orphans()
    }

    /// After opening: goes on with the session that is under way, or ends it; and takes apart what nobody holds.
    pub(super) fn take_up_session(&self, keep: bool) -> Result<()> {
        if keep || !self.session().is_live() {
            self.purge_orphans()
        } else {
            self.end_session()
        }
    }

    /// Carries out operations of the client, all or none. Refused for lack of patience, nothing has happened.
    pub fn submit(&self, operations: &[Op<'_>], mark: Mark, patience: Patience) -> Result<()> {
        let outcome = self.carry_out(operations, mark, patience);
        for operation in operations {
            if let Err(error) = self.tend_vectors(operation, &outcome) {
                // The client's operations are done, or not, all the same.
                tracing::warn!(%error, "moving vectors");
            }
        }
        outcome
    }

    fn carry_out(&self, operations: &[Op<'_>], mark: Mark, patience: Patience) -> Result<()> {
        for operation in operations {
            check(operation)?;
        }
        let mut all = operations.to_vec();
        all.push(mark.operation());
        for operation in operations {
            self.prepare(operation, patience)?;
        }
        if let Some((ino, tail)) = self.end_inside_a_block(operations)? {
            if patience == Patience::Refuse {
                return Err(Errno::WouldWait.into());
            }
            let zeros = [0; BLOCK_SIZE];
            let count = BLOCK_SIZE - usize::try_from(tail % BLOCK_SIZE as u64).unwrap_or(0);
            let zeros = zeros.get(..count).unwrap_or_default();
            self.core().check_numbers(operations)?;
            return self.write_piece(ino, tail, zeros, Author::Client, &all);
        }
        let mut core = self.shared.writable_with(patience)?;
        core.check_numbers(operations)?;
        match mark {
            Mark::Answered { .. } => core.perform(&all)?,
            // The space was promised when the client was allowed to post.
            Mark::Posted(_) => core.perform_covered(&all)?,
        }
        self.shared.request_checkpoint(core)
    }

    /// Stores whole blocks of a file: what a plan of [`Author::Client`] does, with system calls.
    pub fn store(&self, ino: Ino, at: u64, from: &[u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            let length = super::write::first_piece(at + done as u64, rest.len());
            let piece = rest.get(..length).unwrap_or_default();
            self.write_piece(ino, at + done as u64, piece, Author::Client, &[])?;
            done += piece.len();
        }
        Ok(())
    }

    /// What must be done before an operation can be, and may be done without it.
    fn prepare(&self, operation: &Op<'_>, patience: Patience) -> Result<()> {
        match *operation {
            Op::Truncate { ino, size, .. } => {
                let inode = self.inode_if_there(ino)?;
                let grows = |found: &Attributes| size >= found.inode.size && found.inode.hidden > 0;
                if inode.as_ref().is_some_and(grows) {
                    self.waiting(patience, || self.clear_hidden(ino))?;
                } else if inode.is_some_and(|found| size < found.inode.size) {
                    self.take_apart(ino, FileBlock(blocks_for(size)), patience)?;
                }
                Ok(())
            }
            // What follows such a change may take its time: see `tend_vectors`.
            Op::SetXattr { name, .. } if attribute::space_of(name).is_some() => self.waiting(patience, || Ok(())),
            Op::Preallocate { ino, end, .. } => self.make_blocks(ino, end, patience),
            Op::Insert { ino, .. } | Op::Collapse { ino, .. } => self.make_blocks(ino, 0, patience),
            Op::Clone { from, to, end, .. } => {
                self.make_blocks(from, 0, patience)?;
                self.make_blocks(to, end, patience)
            }
            Op::Purge { ino, .. } => {
                let is_last = |step: &Op<'_>| matches!(step, Op::Purge { until: u64::MAX, .. });
                loop {
                    // A statement of its own: the lock is not held over what follows.
                    let step = self.core().next_purge(ino)?;
                    let Some(step) = step.filter(|step| !is_last(step)) else {
                        return Ok(());
                    };
                    self.waiting(patience, || {
                        let mut core = self.shared.writable()?;
                        core.perform(&[step])?;
                        self.shared.request_checkpoint(core)
                    })?;
                }
            }
            _ => Ok(()),
        }
    }

    /// Does what waits, if that is wanted.
    #[expect(clippy::unused_self, reason = "reads as part of what is done")]
    fn waiting(&self, patience: Patience, work: impl FnOnce() -> Result<()>) -> Result<()> {
        match patience {
            Patience::Wait => work(),
            Patience::Refuse => Err(Errno::WouldWait.into()),
        }
    }

    fn inode_if_there(&self, ino: Ino) -> Result<Option<Attributes>> {
        let found = self.core().state.find_inode(ino)?;
        Ok(found.map(|inode| Attributes { ino, inode }))
    }

    /// A regular file has blocks then, not bytes in the metadata; and nothing hidden if it may become longer.
    fn make_blocks(&self, ino: Ino, end: u64, patience: Patience) -> Result<()> {
        let Some(found) = self
            .inode_if_there(ino)?
            .filter(|found| found.inode.kind() == Kind::File)
        else {
            return Ok(());
        };
        if end > found.inode.size && found.inode.hidden > 0 {
            self.waiting(patience, || self.clear_hidden(ino))?;
        }
        if self.core().is_inline(ino)? {
            self.waiting(patience, || self.spill(ino))?;
        }
        Ok(())
    }

    /// Frees what lies behind an end that moves down, but for the last step.
    fn take_apart(&self, ino: Ino, from: FileBlock, patience: Patience) -> Result<()> {
        if self.is_one_step(ino, from)? {
            return Ok(());
        }
        let Some(found) = self.inode_if_there(ino)? else {
            return Ok(());
        };
        let keep = super::write::keep_times(ino, &found.inode, found.inode.changed);
        self.waiting(patience, || self.punch_quietly(ino, from, &keep).map(drop))
    }

    /// The file whose end an operation moves into the middle of a block that is stored, and where that is. The rest of the
    /// block must be zeros then. One in a transaction.
    fn end_inside_a_block(&self, operations: &[Op<'_>]) -> Result<Option<(Ino, u64)>> {
        let mut found = None;
        for operation in operations {
            let Op::Truncate { ino, size, .. } = *operation else {
                continue;
            };
            let Some(inode) = self.inode_if_there(ino)?.map(|found| found.inode) else {
                continue;
            };
            let inside = !size.is_multiple_of(BLOCK_SIZE as u64) && size < inode.size && inode.kind() == Kind::File;
            if inside && self.has_blocks(ino, FileBlock::of(size))? && found.replace((ino, size)).is_some() {
                return Err(Errno::Invalid.into());
            }
        }
        Ok(found)
    }

    /// Gives the client the next inode numbers.
    pub fn grant_numbers(&self, count: u32, mark: Mark, patience: Patience) -> Result<()> {
        self.mark_with(Some(Op::Grant { count }), mark, patience)
    }

    /// Notes that a call was carried out that changes nothing of the filesystem.
    fn mark_with(&self, operation: Option<Op<'_>>, mark: Mark, patience: Patience) -> Result<()> {
        let mut core = self.shared.writable_with(patience)?;
        let mut all: Vec<Op<'_>> = operation.into_iter().collect();
        all.push(mark.operation());
        core.perform(&all)?;
        self.shared.request_checkpoint(core)
    }

    /// A window of a file that is at least so long, in this range of addresses: the one it has, or a new one of a power of
    /// two. Also its base.
    pub fn map_window(
        &self,
        ino: Ino,
        bytes: u64,
        within: &Range<u64>,
        mark: Mark,
        patience: Patience,
    ) -> Result<(u64, Window)> {
        let span = bytes
            .checked_next_power_of_two()
            .ok_or(Error::Posix(Errno::FileTooLarge))?;
        if let Some(found) = self.window_of(ino).filter(|(_, window)| window.span >= bytes) {
            return Ok(found);
        }
        let base = self.core().state.windows.place(within, span);
        let base = base.ok_or(Error::Posix(Errno::FileTooLarge))?;
        self.mark_with(Some(Op::Map { ino, base, span }), mark, patience)?;
        Ok((base, Window { ino, span }))
    }

    /// The longest window of a file, and its base.
    pub fn window_of(&self, ino: Ino) -> Option<(u64, Window)> {
        self.core().state.windows.newest(ino)
    }

    /// The window that an address is in, and its base.
    pub fn window_at(&self, address: u64) -> Option<(u64, Window)> {
        self.core().state.windows.at(address)
    }

    /// The client knows the file no more: its windows go, and if it has no name, the file. May be called again.
    pub fn release_inode(&self, ino: Ino, patience: Patience) -> Result<()> {
        {
            let mut core = self.shared.writable_with(patience)?;
            if !core.state.windows.bases(ino).is_empty() {
                core.perform_covered(&[Op::Unmap { ino }])?;
            }
            if core.state.orphan(ino)?.is_none() {
                return self.shared.request_checkpoint(core);
            }
        }
        self.waiting(patience, || self.purge(ino))
    }

    /// Clears what a client of the past left behind the end of a file.
    pub fn settle_stale(&self, ino: Ino, patience: Patience) -> Result<()> {
        let stale = {
            let mut core = self.core();
            let found = core.state.find_inode(ino)?;
            core.mode == Mode::Writable && found.is_some_and(|inode| core.is_stale(&inode))
        };
        if stale {
            self.waiting(patience, || self.settle(ino))
        } else {
            Ok(())
        }
    }

    /// Keeps so many blocks free for what the client has promised to its callers, as far as there are that many; returns
    /// how many are kept now. Never fewer than before if `blocks` is not.
    pub fn keep_for_client(&self, blocks: u64) -> u64 {
        let mut core = self.core();
        let kept = core.client_reserve;
        if blocks <= kept {
            core.state.space.unreserve(kept - blocks);
            core.client_reserve = blocks;
        } else {
            // Changes of metadata need some too.
            let spare = core.state.space.available().saturating_sub(core.limits.slack);
            let more = (blocks - kept).min(spare);
            if core.state.space.reserve(more) {
                core.client_reserve = kept + more;
            }
        }
        core.client_reserve
    }
}

/// Whether a client may send an operation, as far as that can be seen without the state.
fn check(operation: &Op<'_>) -> Result<()> {
    let right = match *operation {
        Op::Create {
            parent, mode, uid, gid, ..
        } => {
            let unnamed_file = parent.0 != 0 || Kind::of_mode(mode) == Some(Kind::File);
            unnamed_file && uid != u32::MAX && gid != u32::MAX
        }
        Op::SetAttributes {
            fields, uid, gid, mode, ..
        } => {
            use super::op::change::{GID, MODE, UID};
            let id = |field, id| fields & field == 0 || id != u32::MAX;
            id(UID, uid) && id(GID, gid) && (fields & MODE == 0 || mode & !0o7777 == 0)
        }
        Op::SetXattr { name, .. } | Op::RemoveXattr { name, .. } => return super::xattr::check(name),
        Op::Punch { count, .. } => count <= super::MAX_FILE_BLOCKS,
        Op::Purge { until, .. } => until == u64::MAX,
        Op::Link { .. }
        | Op::Unlink { .. }
        | Op::RemoveDirectory { .. }
        | Op::Rename { .. }
        | Op::Adopt { .. }
        | Op::Truncate { .. }
        | Op::Extend { .. }
        | Op::WriteInline { .. }
        | Op::Preallocate { .. }
        | Op::Collapse { .. }
        | Op::Insert { .. }
        | Op::Clone { .. } => true,
        Op::Write { .. }
        | Op::WritePacked { .. }
        | Op::Store { .. }
        | Op::StorePacked { .. }
        | Op::BeginSession { .. }
        | Op::EndSession { .. }
        | Op::Answered { .. }
        | Op::Posted { .. }
        | Op::Grant { .. }
        | Op::Map { .. }
        | Op::Unmap { .. }
        | Op::CreateSpace { .. }
        | Op::AlterSpace { .. }
        | Op::DropSpace { .. }
        | Op::DrainSpace { .. }
        | Op::PutVectors { .. }
        | Op::RemoveVectors { .. }
        | Op::SealVectors { .. }
        | Op::DropSlab { .. }
        | Op::SetIndex { .. }
        | Op::PutLeaves { .. }
        | Op::ForgetLeaves { .. } => return Err(Errno::NotPermitted.into()),
    };
    if right { Ok(()) } else { Err(Errno::Invalid.into()) }
}
