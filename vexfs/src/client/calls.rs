// SPDX-License-Identifier: MIT OR Apache-2.0

//! What each call does.
//!
//! A call that changes something carries a mark, journalled with the change. When its number is that of the newest such call
//! of its slot, it was carried out, by this server or one before: only the reply is made anew. A lower number is refused.

use std::hash::{BuildHasher, RandomState};

use zerocopy::IntoBytes;

use super::answer::{self, Answer};
use super::order::{Standing, standing};
use super::wire::{self, Opcode};
use super::{Header, Server, addresses, take};
use crate::codec::Reader;
use crate::error::{Errno, Error, Result};
use crate::fs::op::Op;
use crate::fs::record::Kind;
use crate::fs::{Mark, NewSession, Patience, Seek, SessionView};
use crate::units::{FileBlock, Ino, blocks_for};

/// Entries looked at for one listing, at most.
const ENTRIES: usize = 4096;
/// Blocks of a file looked at for one answer about its extents.
const EXTENT_BLOCKS: u64 = 1 << 18;
/// Inode numbers of one grant, at most.
const NUMBERS: u32 = 1 << 20;

/// Data blocks of one grant in a pool that is nearly full.
const FEW_BLOCKS: u64 = 64;

/// A call to be carried out.
pub(super) struct Call<'a> {
    pub(super) server: &'a Server,
    pub(super) session: SessionView,
    pub(super) header: Header,
    pub(super) patience: Patience,
}

impl Call<'_> {
    /// Carries it out.
    pub(super) fn answer(&self, payload: &[u8]) -> Result<Answer> {
        self.server.fs.with_room(self.patience, || self.attempt(payload))
    }

    fn attempt(&self, payload: &[u8]) -> Result<Answer> {
        let opcode = Opcode::of_number(self.header.opcode).ok_or(Error::Posix(Errno::NotSupported))?;
        if opcode == Opcode::Hello {
            return self.hello(payload);
        }
        if self.session.id == 0 || self.session.id != self.header.session {
            return Ok(Answer::no_session());
        }
        match opcode {
            Opcode::Resume => self.resume(payload),
            Opcode::Goodbye => self.goodbye(),
            Opcode::Lookup => self.lookup(payload),
            Opcode::Getattr => self.getattr(payload),
            Opcode::Readdir => self.readdir(payload),
            Opcode::Getxattr => self.getxattr(payload),
            Opcode::Listxattr => self.listxattr(payload),
            Opcode::Apply => self.apply(payload),
            Opcode::Statfs => Ok(self.statfs()),
            Opcode::Map => self.map(payload),
            Opcode::Grant => self.grant(payload),
            Opcode::Extents => self.extents(payload),
            Opcode::Seek => self.seek(payload),
            Opcode::Release => self.release(payload),
            Opcode::Parent => self.parent(payload),
            // Is not carried out here, for it may take long: see `queries`.
            Opcode::Hello | Opcode::Query => Err(Errno::Invalid.into()),
        }
    }

    /// What waits is done only with patience.
    fn needs_patience(&self) -> Result<()> {
        match self.patience {
            Patience::Wait => Ok(()),
            Patience::Refuse => Err(Errno::WouldWait.into()),
        }
    }

    /// Bytes a reply may carry.
    fn room(&self) -> usize {
        self.header.capacity.saturating_sub(size_of::<wire::Reply>())
    }

    // Sessions.

    fn hello(&self, payload: &[u8]) -> Result<Answer> {
        let (hello, _) = take::<wire::Hello>(payload)?;
        let read_only = hello.read_only.get() != 0;
        let super_block = self.server.fs.superblock();
        let features = super_block.features;
        let unknown = features.incompat & !hello.known_incompat.get();
        let unknown_to_writers = features.ro_compat & !hello.known_ro_compat.get();
        if hello.major.get() != wire::ABI_MAJOR || unknown != 0 || unknown_to_writers != 0 && !read_only {
            return Err(Errno::NotSupported.into());
        }
        self.needs_patience()?;
        let _alone = self.server.sessions.write();
        let nonce = hello.nonce.get();
        let session = self.server.fs.session_view(0);
        if nonce == 0 || session.id == 0 || session.hello != nonce {
            self.server.reset_slots(self.header.slot);
            self.server.fs.keep_for_client(0);
            self.server.fs.begin_session(&NewSession {
                id: RandomState::new().hash_one(self.header.seq).max(1),
                hello: nonce,
                slots: addresses::REMEMBERED_SLOTS,
                read_only,
            })?;
        }
        self.welcome()
    }

    /// There is one minor version so far: it is the lower one.
    fn welcome(&self) -> Result<Answer> {
        let session = self.server.fs.session_view(0);
        self.server.fs.settle_stale(Ino::ROOT, self.patience)?;
        let root = self.server.fs.see(Ino::ROOT)?;
        Ok(Answer::of(&wire::Welcome {
            session: session.id.into(),
            major: wire::ABI_MAJOR.into(),
            minor: wire::ABI_MINOR.into(),
            read_only: u32::from(session.read_only).into(),
            applied: session.posted.into(),
            root: answer::attr(&root),
            ..wire::Welcome::default()
        }))
    }

    fn resume(&self, payload: &[u8]) -> Result<Answer> {
        let (resume, _) = take::<wire::Resume>(payload)?;
        if resume.session.get() != self.session.id {
            return Ok(Answer::no_session());
        }
        let mut credits = self.server.credits.lock();
        if credits.totals().blocks < resume.credits.get() {
            let (granted, spent) = (resume.credits.get(), resume.spent.get());
            if granted.saturating_sub(spent.min(granted)) > self.server.fs.statistics().total_blocks {
                return Err(Errno::Invalid.into());
            }
            let owed = credits.resume(
                granted,
                spent.min(granted),
                resume.posted.get().max(self.session.posted),
            );
            // What the client claims is not to be believed: checkpoints need room too. Where less is kept, its writes wait for
            // what makes room.
            self.server.fs.keep_for_client(owed);
        }
        drop(credits);
        self.welcome()
    }

    fn goodbye(&self) -> Result<Answer> {
        self.needs_patience()?;
        let _alone = self.server.sessions.write();
        // Others may have ended it meanwhile, and begun another.
        if self.server.fs.session_view(0).id != self.session.id {
            return Ok(Answer::no_session());
        }
        self.server.end_session_but_for(self.header.slot)?;
        if let Some(bell) = &self.server.farewell {
            bell();
        }
        Ok(Answer::default())
    }

    // Looking.

    fn referenced(&self, payload: &[u8]) -> Result<Ino> {
        let (wanted, _) = take::<wire::InodeRef>(payload)?;
        let ino = Ino(wanted.ino.get());
        let generation = wanted.generation.get();
        if generation != 0 && self.server.fs.attributes(ino)?.generation() != generation {
            return Err(Errno::Stale.into());
        }
        Ok(ino)
    }

    fn attr(&self, ino: Ino) -> Result<wire::Attr> {
        let seen = self.server.fs.see(ino)?;
        if !seen.stale {
            return Ok(answer::attr(&seen));
        }
        self.server.fs.settle_stale(ino, self.patience)?;
        Ok(answer::attr(&self.server.fs.see(ino)?))
    }

    fn lookup(&self, payload: &[u8]) -> Result<Answer> {
        let (directory, name) = named(payload)?;
        let seen = self.server.fs.see_name(directory, name)?;
        if seen.stale {
            return Ok(Answer::of(&self.attr(seen.attributes.ino)?));
        }
        Ok(Answer::of(&answer::attr(&seen)))
    }

    fn getattr(&self, payload: &[u8]) -> Result<Answer> {
        let ino = self.referenced(payload)?;
        let attr = self.attr(ino)?;
        let mut found = Answer::of(&attr);
        if Kind::of_mode(attr.mode.get()) == Some(Kind::Symlink) {
            found.payload.extend_from_slice(&self.server.fs.read_link(ino)?);
        }
        Ok(found)
    }

    fn readdir(&self, payload: &[u8]) -> Result<Answer> {
        let (wanted, _) = take::<wire::Readdir>(payload)?;
        let attributes = wanted.attributes.get() != 0;
        let least = answer::entry_bytes(1, attributes);
        let limit = (self.room() / least).clamp(1, ENTRIES);
        // Positions 0 to 2 are before the first entry: the client has `.` and `..` itself.
        let from = wanted.cookie.get().max(2);
        let directory = Ino(wanted.ino.get());
        let entries = self.server.fs.see_directory(directory, from, limit, attributes)?;
        let mut found = Answer::of(&wire::Listing::default());
        let mut count = 0_u32;
        for entry in &entries {
            let bytes = answer::entry_bytes(entry.entry.name.len(), attributes);
            if found.payload.len() + bytes > self.room() {
                break;
            }
            answer::push_entry(&mut found, entry, attributes);
            count += 1;
        }
        if count == 0 && !entries.is_empty() {
            return Err(Errno::Range.into());
        }
        // A piece that has room left over may have stopped at damage: that is told by the next one.
        let fits = count as usize == entries.len();
        let end = fits
            && entries.last().is_none_or(|last| {
                let behind = self.server.fs.see_directory(directory, last.entry.next, 1, false);
                behind.is_ok_and(|more| more.is_empty())
            });
        found.flags = if end { 0 } else { wire::REPLY_PARTIAL };
        let listing = wire::Listing {
            count: count.into(),
            end: u32::from(end).into(),
        };
        if let Some(place) = found.payload.get_mut(..size_of::<wire::Listing>()) {
            place.copy_from_slice(listing.as_bytes());
        }
        Ok(found)
    }

    fn getxattr(&self, payload: &[u8]) -> Result<Answer> {
        let (ino, name) = named(payload)?;
        Ok(Answer {
            payload: self.server.fs.get_xattr(ino, name)?,
            ..Answer::default()
        })
    }

    fn listxattr(&self, payload: &[u8]) -> Result<Answer> {
        let ino = self.referenced(payload)?;
        let mut found = Answer::default();
        for name in self.server.fs.list_xattrs(ino)? {
            found.payload.extend_from_slice(&name);
            found.payload.push(0);
        }
        Ok(found)
    }

    fn statfs(&self) -> Answer {
        let numbers = self.server.fs.statistics();
        Answer::of(&wire::Statfs {
            blocks: numbers.total_blocks.into(),
            free: numbers.free_blocks.into(),
            available: numbers.free_blocks.into(),
            files: numbers.inodes.into(),
            // Every file needs some room for records.
            files_free: (numbers.free_blocks.saturating_mul(8)).into(),
            ..wire::Statfs::default()
        })
    }

    fn extents(&self, payload: &[u8]) -> Result<Answer> {
        let (range, _) = take::<wire::Range>(payload)?;
        let (ino, from) = (Ino(range.ino.get()), FileBlock::of(range.from.get()));
        let size = self.server.fs.attributes(ino)?.inode.size;
        let end = range.from.get().saturating_add(range.length.get()).min(size);
        let blocks = blocks_for(end).saturating_sub(from.0);
        let mut found = Answer::default();
        if blocks == 0 {
            return Ok(found);
        }
        let most = self.room() / size_of::<wire::Extent>();
        let looked = blocks.min(EXTENT_BLOCKS);
        let (extents, until) = self.server.fs.shared_extents(ino, from, looked, most)?;
        for (extent, shared) in &extents {
            if let Some(extent) = answer::extent(extent, *shared) {
                found.push(&extent);
            }
        }
        if until.0 < from.0 + blocks {
            found.flags = wire::REPLY_PARTIAL;
        }
        Ok(found)
    }

    fn seek(&self, payload: &[u8]) -> Result<Answer> {
        let (seek, _) = take::<wire::Seek>(payload)?;
        let what = match seek.what.get() {
            wire::SEEK_DATA => Seek::Data,
            wire::SEEK_HOLE => Seek::Hole,
            _ => return Err(Errno::Invalid.into()),
        };
        let position = self.server.fs.seek(Ino(seek.ino.get()), seek.from.get(), what)?;
        Ok(Answer::of(&wire::Position {
            position: position.into(),
        }))
    }

    fn parent(&self, payload: &[u8]) -> Result<Answer> {
        let ino = self.referenced(payload)?;
        let (parent, name) = self.server.fs.name_of_directory(ino)?;
        let mut found = Answer::of(&wire::Parent {
            attr: self.attr(parent)?,
            length: u16::try_from(name.len()).unwrap_or(0).into(),
            ..wire::Parent::default()
        });
        found.payload.extend_from_slice(&name);
        Ok(found)
    }

    // Changing.

    /// The mark of this call; none if it was carried out before.
    fn mark(&self) -> Result<Option<Mark>> {
        if self.session.read_only {
            return Err(Errno::ReadOnly.into());
        }
        let (slot, seq) = (self.header.slot, self.header.seq);
        match standing(seq, self.session.answered) {
            Standing::New => Ok(Some(Mark::Answered { slot, seq })),
            Standing::Done => Ok(None),
            Standing::Old => Err(Errno::Invalid.into()),
        }
    }

    fn apply(&self, payload: &[u8]) -> Result<Answer> {
        let (apply, rest) = take::<wire::Apply>(payload)?;
        let bytes = usize::try_from(apply.length.get())
            .ok()
            .and_then(|length| rest.get(..length));
        let bytes = bytes.ok_or(Error::Posix(Errno::Invalid))?;
        if let Some(mark) = self.mark()? {
            let mut reader = Reader::new(bytes);
            let mut operations = Vec::with_capacity(4);
            while reader.remaining() > 0 {
                operations.push(Op::decode(&mut reader).map_err(|_| Error::Posix(Errno::Invalid))?);
            }
            if operations.len() as u64 != u64::from(apply.count.get()) || operations.is_empty() {
                return Err(Errno::Invalid.into());
            }
            self.server.fs.submit(&operations, mark, self.patience)?;
        }
        let mut found = Answer::default();
        for ino in apply.want.map(|ino| Ino(ino.get())) {
            let attr = match ino.0 {
                0 => wire::Attr::default(),
                _ => match self.server.fs.see(ino) {
                    Ok(seen) => answer::attr(&seen),
                    // It went with the change.
                    Err(Error::Posix(Errno::Stale)) => wire::Attr::default(),
                    Err(error) => return Err(error),
                },
            };
            found.push(&attr);
        }
        Ok(found)
    }

    fn map(&self, payload: &[u8]) -> Result<Answer> {
        let (wanted, _) = take::<wire::Map>(payload)?;
        let (ino, bytes) = (Ino(wanted.ino.get()), wanted.bytes.get());
        let own = addresses::own_window(ino).filter(|_| bytes <= addresses::SPAN);
        let found = self.server.fs.window_of(ino).filter(|(_, window)| window.span >= bytes);
        let (base, span) = match (found, own, self.mark()?) {
            (Some((base, window)), ..) => (base, window.span),
            (None, Some(base), _) => (base, addresses::SPAN),
            // Whether it is as long as asked for is for the client to see.
            (None, None, None) => {
                let (base, window) = self.server.fs.window_of(ino).ok_or(Error::Posix(Errno::Stale))?;
                (base, window.span)
            }
            (None, None, Some(mark)) => {
                if bytes > addresses::MAX_FILE_BYTES {
                    return Err(Errno::FileTooLarge.into());
                }
                // Room to grow, so that windows need not follow each other.
                let bytes = bytes
                    .max(addresses::SPAN)
                    .saturating_mul(4)
                    .min(addresses::MAX_FILE_BYTES);
                let range = &addresses::MAPPED;
                let (base, window) = self.server.fs.map_window(ino, bytes, range, mark, self.patience)?;
                (base, window.span)
            }
        };
        Ok(Answer::of(&wire::Mapped {
            base: base.into(),
            span: span.into(),
        }))
    }

    fn grant(&self, payload: &[u8]) -> Result<Answer> {
        let (wanted, _) = take::<wire::Grant>(payload)?;
        let inodes = wanted.inodes.get().min(NUMBERS);
        if inodes > 0
            && let Some(mark) = self.mark()?
        {
            self.server.fs.grant_numbers(inodes, mark, self.patience)?;
        }
        let blocks = wanted.credits.get();
        let promised = self.server.fs.with_room(self.patience, || match self.promise(&wanted) {
            0 if blocks > 0 => Err(Errno::NoSpace.into()),
            _ => Ok(()),
        });
        match promised {
            // Nothing is granted then, which the client sees.
            Ok(()) | Err(Error::Posix(Errno::NoSpace)) => Ok(Answer::default()),
            Err(error) => Err(error),
        }
    }

    /// Promises what there is of what is wanted. How many blocks more.
    fn promise(&self, wanted: &wire::Grant) -> u64 {
        let mut credits = self.server.credits.lock();
        credits.note_spent(wanted.spent.get());
        // What is kept for pages to come is kept from all others: near the end, little at a time.
        let fair = (self.server.fs.statistics().available_blocks / 8).max(FEW_BLOCKS);
        let blocks = wanted.credits.get().min(fair);
        let operations = wanted.meta_credits.get();
        let applied = self.session.posted;
        let before = credits.totals().blocks;
        let kept = self
            .server
            .fs
            .keep_for_client(credits.wanted(blocks, operations, applied));
        credits.promise(blocks, operations, applied, kept);
        credits.totals().blocks - before
    }

    fn release(&self, payload: &[u8]) -> Result<Answer> {
        let (wanted, _) = take::<wire::InodeRef>(payload)?;
        if !self.session.read_only {
            self.server.fs.release_inode(Ino(wanted.ino.get()), self.patience)?;
        }
        Ok(Answer::default())
    }
}

fn named(payload: &[u8]) -> Result<(Ino, &[u8])> {
    let (named, rest) = take::<wire::Named>(payload)?;
    let name = rest.get(..usize::from(named.length.get()));
    Ok((Ino(named.ino.get()), name.ok_or(Error::Posix(Errno::Invalid))?))
}

impl Server {
    /// Ends the session.
    pub fn end_session(&self) -> Result<()> {
        let _alone = self.sessions.write();
        self.end_session_but_for(u16::MAX)
    }

    /// Ends this session; if there is another by now, that goes on.
    pub(super) fn end_this_session(&self, session: u64) -> Result<()> {
        let _alone = self.sessions.write();
        if self.fs.session_view(0).id == session {
            self.end_session_but_for(u16::MAX)?;
        }
        Ok(())
    }

    fn end_session_but_for(&self, slot: u16) -> Result<()> {
        self.reset_slots(slot);
        self.fs.end_session()
    }
}
