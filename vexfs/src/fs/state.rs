// SPDX-License-Identifier: MIT OR Apache-2.0

//! Everything an open pool knows, and the primitive changes of it.
//!
//! A transaction is applied by primitive changes, each of which is noted. [`State::commit`] forgets the notes,
//! [`State::rollback`] takes the changes back in reverse order: so an operation may find out halfway that it cannot be
//! done, and nothing has happened. `apply` (the sibling module) is the only user of the primitives.

use crate::acl::ACCESS;
use crate::data::row::{Map, Row};
use crate::error::{Damage, Errno, Error, Result};
use crate::meta::base::Base;
use crate::meta::{Previous, Table};
use crate::space::Space;
use crate::space::shared::{References, SharedGroups};
use crate::units::{Block, Ino, Run, Seq};

use super::changes::Changes;
use super::name;
use super::record::{
    AttributeKey, BitmapRow, Bytes, Entry, EntryKey, Further, GroupKey, Inode, InodeKey, Marks, Orphan, OrphanKey,
    PlaceKey, RowKey, SessionKey, SharedKey, Totals, TotalsKey,
};
use super::session::{Session, SessionRecord, Window, Windows};
use super::vectors::state::{VectorTables, VectorUndo};

/// See the module.
pub struct State {
    pub(super) base: Base,
    pub(super) space: Space,
    pub(super) totals: Totals,
    pub(super) session: Session,
    pub(super) windows: Windows,
    pub(super) name_key: [u8; 16],
    pub(super) tables: Tables,
    shared_groups: SharedGroups,
    pub(super) changes: Changes,
    undo: Vec<Undo>,
    /// The journal is being replayed: what was promised then was there then.
    pub(super) replaying: bool,
    /// Blocks that the transaction frees, gathered into runs.
    freed: Vec<Run>,
}

/// The maps, by kind of record.
pub struct Tables {
    pub(super) inodes: Table<InodeKey, Inode>,
    pub(super) entries: Table<EntryKey, Entry>,
    pub(super) rows: Table<RowKey, Row>,
    pub(super) attributes: Table<AttributeKey, Bytes>,
    pub(super) groups: Table<GroupKey, BitmapRow>,
    pub(super) shared: Table<SharedKey, References>,
    pub(super) orphans: Table<OrphanKey, Orphan>,
    pub(super) totals: Table<TotalsKey, Totals>,
    /// The session's own record is put here by a checkpoint; what counts meanwhile is `State::session`.
    pub(super) sessions: Table<SessionKey, SessionRecord>,
    pub(super) places: Table<PlaceKey, Further>,
    pub(super) vectors: VectorTables,
}

/// How many records of the base each map keeps in memory, about.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Inodes and directory entries, each.
    pub names: usize,
    /// Rows.
    pub rows: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            names: 256 << 10,
            rows: 64 << 10,
        }
    }
}

impl Tables {
    /// Empty layers over a base that knows no inode from `unknown_to_base` on.
    pub fn new(limits: CacheLimits, unknown_to_base: Ino) -> Self {
        Self {
            inodes: Table::new(limits.names, unknown_to_base),
            entries: Table::new(limits.names, unknown_to_base),
            rows: Table::new(limits.rows, unknown_to_base),
            attributes: Table::new(limits.rows / 4, unknown_to_base),
            groups: Table::new(1, unknown_to_base),
            shared: Table::new(limits.rows / 4, unknown_to_base),
            orphans: Table::new(limits.rows / 16, unknown_to_base),
            totals: Table::new(1, unknown_to_base),
            sessions: Table::new(1, unknown_to_base),
            places: Table::new(limits.rows / 16, unknown_to_base),
            vectors: VectorTables::new(limits, unknown_to_base),
        }
    }

    /// Changed keys since the last freeze.
    pub fn active(&self) -> u64 {
        let tables = [
            self.inodes.active_len(),
            self.entries.active_len(),
            self.rows.active_len(),
            self.attributes.active_len(),
            self.shared.active_len(),
            self.orphans.active_len(),
            self.places.active_len(),
            self.vectors.active_len(),
        ];
        tables.iter().sum::<usize>() as u64
    }

    /// Changed keys that are not in the base.
    pub fn changed(&self) -> u64 {
        let tables = [
            self.inodes.changed_len(),
            self.entries.changed_len(),
            self.rows.changed_len(),
            self.attributes.changed_len(),
            self.groups.changed_len(),
            self.shared.changed_len(),
            self.orphans.changed_len(),
            self.sessions.changed_len(),
            self.places.changed_len(),
            self.vectors.changed_len(),
        ];
        tables.iter().sum::<usize>() as u64
    }
}

enum Undo {
    Inode(InodeKey, Previous<Inode>),
    Entry(EntryKey, Previous<Entry>),
    Row(RowKey, Previous<Row>),
    Attribute(AttributeKey, Previous<Bytes>),
    Shared(SharedKey, Previous<References>),
    Orphan(OrphanKey, Previous<Orphan>),
    Place(PlaceKey, Previous<Further>),
    Vectors(VectorUndo),
    Totals(Totals),
    Session(Box<Session>),
    Answered(u16, u64),
    Posted(u64),
    Number(Ino),
    Window(u64, Option<Window>, Previous<SessionRecord>),
    Allocated(Run),
    Freed(Run, Seq),
    Promised(u64),
    Released(u64),
}

/// An entry and where it is.
pub struct Located {
    /// Its cookie.
    pub cookie: u64,
    /// The entry.
    pub entry: Entry,
}

impl State {
    /// A state whose maps are empty over the base.
    pub fn new(
        base: Base,
        space: Space,
        totals: Totals,
        name_key: [u8; 16],
        tables: Tables,
        shared_groups: SharedGroups,
    ) -> Self {
        Self {
            base,
            space,
            totals,
            session: Session::default(),
            windows: Windows::default(),
            name_key,
            tables,
            shared_groups,
            changes: Changes::default(),
            undo: Vec::new(),
            replaying: false,
            freed: Vec::new(),
        }
    }

    /// The changes since the last commit stay.
    pub fn commit(&mut self) {
        self.undo.clear();
    }

    /// The changes since the last commit never happened.
    pub fn rollback(&mut self) {
        self.freed.clear();
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Inode(key, previous) => self.tables.inodes.restore(&key, previous),
                Undo::Entry(key, previous) => self.tables.entries.restore(&key, previous),
                Undo::Row(key, previous) => self.tables.rows.restore(&key, previous),
                Undo::Attribute(key, previous) => self.tables.attributes.restore(&key, previous),
                Undo::Shared(key, previous) => self.tables.shared.restore(&key, previous),
                Undo::Orphan(key, previous) => self.tables.orphans.restore(&key, previous),
                Undo::Place(key, previous) => self.tables.places.restore(&key, previous),
                Undo::Vectors(undo) => undo.take_back(&mut self.tables.vectors),
                Undo::Totals(totals) => self.totals = totals,
                Undo::Session(session) => self.session = *session,
                Undo::Answered(slot, seq) => {
                    if let Some(place) = self.session.answered.get_mut(usize::from(slot)) {
                        *place = seq;
                    }
                }
                Undo::Posted(position) => self.session.posted = position,
                Undo::Number(ino) => self.session.unused.add(ino, 1),
                Undo::Window(base, window, previous) => {
                    self.tables.sessions.restore(&SessionKey { part: base }, previous);
                    self.windows.remove(base);
                    if let Some(window) = window {
                        self.windows.insert(base, window);
                    }
                }
                Undo::Allocated(run) => self.space.undo_commit_alloc(run),
                Undo::Freed(run, seq) => self.space.undo_commit_free(run, seq),
                Undo::Promised(blocks) => self.space.unreserve(blocks),
                Undo::Released(blocks) => self.space.reserve_again(blocks),
            }
        }
    }

    pub(super) fn note(&mut self, undo: VectorUndo) {
        self.undo.push(Undo::Vectors(undo));
    }

    // Inodes.

    /// An inode, if it exists.
    pub fn find_inode(&mut self, ino: Ino) -> Result<Option<Inode>> {
        Ok(self.tables.inodes.get(&self.base, &InodeKey { ino })?.copied())
    }

    /// An inode that the caller got a number of from outside.
    pub fn inode(&mut self, ino: Ino) -> Result<Inode> {
        self.find_inode(ino)?.ok_or(Error::Posix(Errno::Stale))
    }

    /// An inode that a name stands for.
    pub fn named_inode(&mut self, ino: Ino) -> Result<Inode> {
        self.find_inode(ino)?
            .ok_or_else(|| Damage::new(ino, "a directory entry names it, but it does not exist"))
    }

    /// A directory that still has a name.
    pub fn directory(&mut self, ino: Ino) -> Result<Inode> {
        let inode = self.inode(ino)?;
        if !inode.is_directory() {
            return Err(Errno::NotDirectory.into());
        }
        if inode.links == 0 {
            return Err(Errno::NoEntry.into());
        }
        Ok(inode)
    }

    pub(super) fn put_inode(&mut self, ino: Ino, inode: Option<Inode>) {
        if self.changes.is_watched() {
            self.note_inode(ino, inode.as_ref());
        }
        let key = InodeKey { ino };
        let previous = self.tables.inodes.set(&key, inode);
        self.undo.push(Undo::Inode(key, previous));
    }

    fn note_inode(&mut self, ino: Ino, new: Option<&Inode>) {
        let way = |inode: &Inode| (inode.parent, inode.place, inode.mode, inode.uid, inode.gid);
        // Who may walk where is a matter of everything below a directory; what is below one that goes has gone.
        let many = match (self.find_inode(ino), new) {
            (Ok(Some(old)), Some(new)) => old.is_directory() && new.links > 0 && way(&old) != way(new),
            (Ok(_), _) => false,
            (Err(_), _) => true,
        };
        if many {
            self.changes.note_all();
        } else {
            self.changes.note(ino);
        }
    }

    // Directory entries.

    /// The entry of a name.
    pub fn find_entry(&mut self, directory: Ino, name: &[u8]) -> Result<Option<Located>> {
        self.with_entry(directory, name, |cookie, entry| Located {
            cookie,
            entry: entry.clone(),
        })
    }

    /// What a name stands for: the same without a copy of the name.
    pub fn lookup(&mut self, directory: Ino, name: &[u8]) -> Result<Option<Ino>> {
        self.with_entry(directory, name, |_, entry| entry.ino)
    }

    fn with_entry<T>(
        &mut self,
        directory: Ino,
        name: &[u8],
        found: impl FnOnce(u64, &Entry) -> T,
    ) -> Result<Option<T>> {
        let first = name::cookie(&self.name_key, name);
        for cookie in first..first + name::CHAIN {
            let key = EntryKey { directory, cookie };
            match self.tables.entries.get(&self.base, &key)? {
                Some(entry) if *entry.name == *name && entry.ino.0 != 0 => return Ok(Some(found(cookie, entry))),
                Some(entry) if entry.chained => {}
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Adds a name that does not exist; gives its cookie.
    pub(super) fn add_entry(
        &mut self,
        directory: Ino,
        name: &[u8],
        ino: Ino,
        kind: super::record::Kind,
    ) -> Result<u64> {
        let first = name::cookie(&self.name_key, name);
        let mut entry = Entry {
            ino,
            kind,
            chained: false,
            name: name.into(),
        };
        for cookie in first..first + name::CHAIN {
            let key = EntryKey { directory, cookie };
            let occupant = self.tables.entries.get(&self.base, &key)?;
            match occupant {
                None => {
                    self.put_entry(key, Some(entry));
                    return Ok(cookie);
                }
                Some(mark) if mark.ino.0 == 0 => {
                    entry.chained = true;
                    self.put_entry(key, Some(entry));
                    return Ok(cookie);
                }
                Some(other) if !other.chained => {
                    let mut other = other.clone();
                    other.chained = true;
                    self.put_entry(key, Some(other));
                }
                Some(_) => {}
            }
        }
        // 256 names with the same 55 bits of a keyed hash.
        Err(Errno::NoSpace.into())
    }

    pub(super) fn remove_entry(&mut self, directory: Ino, located: &Located) {
        let key = EntryKey {
            directory,
            cookie: located.cookie,
        };
        let mark = located.entry.chained.then(|| Entry {
            ino: Ino(0),
            name: Box::default(),
            ..located.entry.clone()
        });
        self.put_entry(key, mark);
    }

    pub(super) fn replace_entry(&mut self, directory: Ino, located: Located, ino: Ino, kind: super::record::Kind) {
        let key = EntryKey {
            directory,
            cookie: located.cookie,
        };
        let entry = Entry {
            ino,
            kind,
            ..located.entry
        };
        self.put_entry(key, Some(entry));
    }

    fn put_entry(&mut self, key: EntryKey, entry: Option<Entry>) {
        let previous = self.tables.entries.set(&key, entry);
        self.undo.push(Undo::Entry(key, previous));
    }

    // Places: where the names of a file are.

    /// A file has a new name: its first, or a further one.
    pub(super) fn enter(&mut self, ino: Ino, inode: &mut Inode, directory: Ino, cookie: u64) {
        if inode.place == 0 {
            (inode.parent, inode.place) = (directory, cookie);
        } else {
            self.put_place(PlaceKey { ino, directory, cookie }, Some(Further));
        }
    }

    /// A file loses a name. If that is its first, a further one becomes that.
    pub(super) fn leave(&mut self, ino: Ino, inode: &mut Inode, directory: Ino, cookie: u64) -> Result<()> {
        if (inode.parent, inode.place) != (directory, cookie) {
            self.put_place(PlaceKey { ino, directory, cookie }, None);
            return Ok(());
        }
        (inode.parent, inode.place) = (Ino(0), 0);
        if inode.links > 1
            && !inode.is_directory()
            && let Some(key) = self.further_names(ino, 1)?.first().copied()
        {
            self.put_place(key, None);
            (inode.parent, inode.place) = (key.directory, key.cookie);
        }
        Ok(())
    }

    /// Names of a file besides its first.
    pub(super) fn further_names(&self, ino: Ino, limit: usize) -> Result<Vec<PlaceKey>> {
        let bound = |ino| PlaceKey {
            ino,
            directory: Ino(0),
            cookie: 0,
        };
        let end = bound(Ino(ino.0.saturating_add(1)));
        let found = self.tables.places.scan(&self.base, &bound(ino), &end, limit)?;
        Ok(found.into_iter().map(|(key, _)| key).collect())
    }

    fn put_place(&mut self, key: PlaceKey, further: Option<Further>) {
        let previous = self.tables.places.set(&key, further);
        self.undo.push(Undo::Place(key, previous));
    }

    // Attributes.

    /// An extended attribute.
    pub fn attribute(&mut self, ino: Ino, name: &[u8]) -> Result<Option<&Bytes>> {
        let key = AttributeKey { ino, name: name.into() };
        self.tables.attributes.get(&self.base, &key)
    }

    pub(super) fn put_attribute(&mut self, ino: Ino, name: &[u8], value: Option<&[u8]>) {
        if self.changes.is_watched() {
            let far = name == ACCESS && !matches!(self.find_inode(ino), Ok(Some(inode)) if !inode.is_directory());
            if far {
                self.changes.note_all();
            } else {
                self.changes.note(ino);
            }
        }
        let key = AttributeKey { ino, name: name.into() };
        let previous = self.tables.attributes.set(&key, value.map(|value| Bytes(value.into())));
        self.undo.push(Undo::Attribute(key, previous));
    }

    /// All attributes of a file.
    pub fn attributes(&self, ino: Ino) -> Result<Vec<(AttributeKey, Bytes)>> {
        let bound = |ino| AttributeKey {
            ino,
            name: Box::default(),
        };
        self.tables.attributes.scan(
            &self.base,
            &bound(ino),
            &bound(Ino(ino.0.saturating_add(1))),
            usize::MAX,
        )
    }

    // Orphans and totals.

    /// The orphan record of an inode.
    pub fn orphan(&mut self, ino: Ino) -> Result<Option<Orphan>> {
        Ok(self.tables.orphans.get(&self.base, &OrphanKey { ino })?.copied())
    }

    pub(super) fn put_orphan(&mut self, ino: Ino, orphan: Option<Orphan>) {
        let key = OrphanKey { ino };
        let previous = self.tables.orphans.set(&key, orphan);
        self.undo.push(Undo::Orphan(key, previous));
    }

    pub(super) fn set_totals(&mut self, totals: Totals) {
        self.undo.push(Undo::Totals(self.totals));
        self.totals = totals;
    }

    // The session.

    /// Takes over what the tables tell of it.
    pub(super) fn load_session(&mut self, key: SessionKey, record: &SessionRecord) -> Result<()> {
        match record {
            SessionRecord::Session(session) if key.part == 0 => self.session = (**session).clone(),
            SessionRecord::Window(window) if key.part > 0 && self.windows.is_free(key.part, window.span) => {
                self.windows.insert(key.part, *window);
            }
            _ => {
                return Err(Damage::new(
                    format_args!("session part {:#x}", key.part),
                    "contradicts the others",
                ));
            }
        }
        Ok(())
    }

    /// Puts the session where a checkpoint finds it; there is no record of one before the first.
    pub(super) fn put_session(&mut self) {
        if self.session.ordinal > 0 {
            let session = SessionRecord::Session(Box::new(self.session.clone()));
            self.tables.sessions.set(&SessionKey { part: 0 }, Some(session));
        }
    }

    pub(super) fn set_session(&mut self, session: Session) {
        let before = std::mem::replace(&mut self.session, session);
        self.undo.push(Undo::Session(Box::new(before)));
    }

    pub(super) fn note_answered(&mut self, slot: u16, seq: u64) -> Result<()> {
        let place = self.session.answered.get_mut(usize::from(slot));
        let place = place
            .filter(|newest| **newest < seq)
            .ok_or(Error::Posix(Errno::Invalid))?;
        self.undo.push(Undo::Answered(slot, std::mem::replace(place, seq)));
        Ok(())
    }

    pub(super) fn note_posted(&mut self, position: u64) {
        let before = std::mem::replace(&mut self.session.posted, position);
        self.undo.push(Undo::Posted(before));
    }

    /// Uses a number that was granted. Whether it was.
    pub(super) fn take_granted(&mut self, ino: Ino) -> bool {
        if !self.session.unused.contains(ino) {
            return false;
        }
        if self.session.unused.is_full() {
            self.undo.push(Undo::Session(Box::new(self.session.clone())));
        } else {
            self.undo.push(Undo::Number(ino));
        }
        self.session.unused.take(ino)
    }

    pub(super) fn put_window(&mut self, base: u64, window: Option<Window>) {
        let before = self.windows.at(base).map(|(_, window)| window);
        self.windows.remove(base);
        if let Some(window) = window {
            self.windows.insert(base, window);
        }
        let key = SessionKey { part: base };
        let previous = self.tables.sessions.set(&key, window.map(SessionRecord::Window));
        self.undo.push(Undo::Window(base, before, previous));
    }

    /// What follows from the attributes a file has.
    pub(super) fn marks_of(&self, ino: Ino) -> Result<Marks> {
        let attributes = self.attributes(ino)?;
        let marks = attributes.iter().map(|(key, _)| Marks::of_name(&key.name));
        Ok(marks.fold(Marks::default(), Marks::with))
    }

    // Rows.

    /// A row of a file's map.
    pub fn row(&mut self, ino: Ino, chunk: u64) -> Result<Option<&Row>> {
        self.tables.rows.get(&self.base, &RowKey { ino, chunk })
    }

    /// A row as blocks, to be changed; a row that is not there is all holes. A row of bytes is `None`.
    pub(super) fn map_to_change(&mut self, ino: Ino, chunk: u64) -> Result<Option<Map>> {
        Ok(match self.row(ino, chunk)? {
            None => Some(Map::default()),
            Some(Row::Map(map)) => Some(map.clone()),
            Some(Row::Inline(_)) => None,
        })
    }

    /// Puts a row; one that is all holes is removed.
    pub(super) fn put_row(&mut self, ino: Ino, chunk: u64, row: Option<Row>) {
        let key = RowKey { ino, chunk };
        let row = row.filter(|row| !matches!(row, Row::Map(map) if map.is_empty()));
        let previous = self.tables.rows.set(&key, row);
        self.undo.push(Undo::Row(key, previous));
    }

    /// The rows of chunks `from..to`, at most `limit`.
    pub fn rows(&self, ino: Ino, from: u64, to: u64, limit: usize) -> Result<Vec<(u64, Row)>> {
        let rows = self.tables.rows.scan(
            &self.base,
            &RowKey { ino, chunk: from },
            &RowKey { ino, chunk: to },
            limit,
        )?;
        Ok(rows.into_iter().map(|(key, row)| (key.chunk, row)).collect())
    }

    // Blocks.

    /// Blocks in flight become the file's.
    pub(super) fn own(&mut self, run: Run) -> Result<()> {
        self.space.commit_alloc(run).map_err(|error| Damage::new(run, error))?;
        self.undo.push(Undo::Allocated(run));
        Ok(())
    }

    /// A file no longer refers to a block. Takes effect with [`Self::free_gathered`].
    pub(super) fn drop_block(&mut self, block: Block) -> Result<()> {
        if self.shared_groups.may_contain(block) {
            let key = SharedKey {
                group: References::group_of(block),
            };
            if let Some(references) = self.tables.shared.get(&self.base, &key)?
                && references.extra(block) > 0
            {
                let mut references = references.clone();
                references.remove(block);
                let references = (!references.is_empty()).then_some(references);
                let previous = self.tables.shared.set(&key, references);
                self.undo.push(Undo::Shared(key, previous));
                return Ok(());
            }
        }
        match self.freed.last_mut() {
            Some(last) if last.end() == block && last.count < u32::MAX => last.count += 1,
            _ => self.freed.push(Run::new(block, 1)),
        }
        Ok(())
    }

    /// Frees what [`Self::drop_block`] gathered.
    pub(super) fn free_gathered(&mut self, seq: Seq) -> Result<()> {
        for run in std::mem::take(&mut self.freed) {
            self.space
                .commit_free(run, seq)
                .map_err(|error| Damage::new(run, error))?;
            self.undo.push(Undo::Freed(run, seq));
        }
        Ok(())
    }

    /// Whether several places refer to a block.
    pub(super) fn is_shared(&mut self, block: Block) -> Result<bool> {
        if !self.shared_groups.may_contain(block) {
            return Ok(false);
        }
        let key = SharedKey {
            group: References::group_of(block),
        };
        let references = self.tables.shared.get(&self.base, &key)?;
        Ok(references.is_some_and(|references| references.extra(block) > 0))
    }

    /// One more place refers to a block that is in use.
    pub(super) fn share_block(&mut self, block: Block) -> Result<()> {
        if !self.space.is_committed(block) {
            return Err(Damage::new(block, "a file names it, but it is not in use"));
        }
        let key = SharedKey {
            group: References::group_of(block),
        };
        let mut references = self.tables.shared.get(&self.base, &key)?.cloned().unwrap_or_default();
        references.add(block).map_err(Error::Posix)?;
        self.shared_groups.insert(block);
        let previous = self.tables.shared.set(&key, Some(references));
        self.undo.push(Undo::Shared(key, previous));
        Ok(())
    }

    /// Promises blocks to a file.
    pub(super) fn promise(&mut self, blocks: u64) -> Result<()> {
        if blocks == 0 {
            return Ok(());
        }
        if self.replaying {
            self.space.reserve_again(blocks);
        } else if !self.space.reserve(blocks) {
            return Err(Errno::NoSpace.into());
        }
        self.undo.push(Undo::Promised(blocks));
        self.set_totals(Totals {
            promised: self.totals.promised + blocks,
            ..self.totals
        });
        Ok(())
    }

    /// Takes promises back: they were kept, or are no longer wanted.
    pub(super) fn release_promise(&mut self, blocks: u64) -> Result<()> {
        if blocks == 0 {
            return Ok(());
        }
        let promised = self
            .totals
            .promised
            .checked_sub(blocks)
            .ok_or_else(|| Damage::new("totals", "more promised blocks released than were promised"))?;
        self.space.unreserve(blocks);
        self.undo.push(Undo::Released(blocks));
        self.set_totals(Totals {
            promised,
            ..self.totals
        });
        Ok(())
    }
}
