// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations on names: create, link, unlink, rename.

use crate::data::row::{Row, SYMLINK_BYTES};
use crate::error::{Damage, Errno, Error, Result};
use crate::units::Ino;

use super::super::op::{Op, rename as flag};
use super::super::record::{FileFlags, Inode, Kind, Marks, Orphan, Timestamp, Totals};
use super::super::state::{Located, State};
use super::super::{MAX_LINKS, name};

pub(super) fn create(state: &mut State, operation: &Op<'_>) -> Result<()> {
    let Op::Create {
        parent,
        ino,
        mode,
        uid,
        gid,
        device,
        flags,
        time,
        name,
        target,
    } = *operation
    else {
        return Err(Errno::Invalid.into());
    };
    let kind = Kind::of_mode(mode).ok_or(Error::Posix(Errno::Invalid))?;
    let is_symlink = kind == Kind::Symlink;
    if is_symlink == target.is_empty() || flags & !FileFlags::ALL.0 != 0 {
        return Err(Errno::Invalid.into());
    }
    if target.len() > SYMLINK_BYTES {
        return Err(Errno::NameTooLong.into());
    }
    let named = parent.0 != 0;
    let mut inode = Inode {
        size: target.len() as u64,
        blocks: 0,
        accessed: time,
        modified: time,
        changed: time,
        born: time,
        device: if matches!(kind, Kind::Block | Kind::Character) {
            device
        } else {
            0
        },
        parent: Ino(0),
        place: 0,
        uid,
        gid,
        links: u32::from(named),
        flags: FileFlags(flags),
        mode,
        marks: Marks::default(),
        hidden: 0,
        hidden_in: 0,
    };
    if kind == Kind::Directory {
        if !named {
            return Err(Errno::Invalid.into());
        }
        inode.links = 2;
    }
    claim_number(state, ino)?;
    if named {
        name::check(name)?;
        let directory = state.directory(parent)?;
        if state.lookup(parent, name)?.is_some() {
            return Err(Errno::Exists.into());
        }
        let cookie = state.add_entry(parent, name, ino, kind)?;
        state.enter(ino, &mut inode, parent, cookie);
        put_directory(state, parent, directory, time, 1, i32::from(kind == Kind::Directory))?;
    } else {
        state.put_orphan(ino, Some(Orphan { next_chunk: 0 }));
    }
    state.put_inode(ino, Some(inode));
    if is_symlink {
        state.put_row(ino, 0, Some(Row::Inline(target.into())));
    }
    Ok(())
}

/// Numbers are used once: a new one is the next, or a later one, or was granted to the client.
pub(in crate::fs) fn claim_number(state: &mut State, ino: Ino) -> Result<()> {
    if ino <= Ino::ROOT || ino.0 >= Totals::LAST_INO {
        return Err(Errno::Invalid.into());
    }
    if ino < state.totals.next_ino && !state.take_granted(ino) {
        let exists = state.find_inode(ino)?.is_some();
        return Err(if exists { Errno::Exists } else { Errno::Invalid }.into());
    }
    state.set_totals(Totals {
        next_ino: state.totals.next_ino.max(Ino(ino.0 + 1)),
        inodes: state.totals.inodes + 1,
        ..state.totals
    });
    Ok(())
}

/// Writes a directory back after its entries changed.
fn put_directory(
    state: &mut State,
    ino: Ino,
    mut directory: Inode,
    time: Timestamp,
    entries: i64,
    subdirectories: i32,
) -> Result<()> {
    let wrong = || Damage::new(ino, "counts fewer entries or subdirectories than it has");
    directory.size = directory.size.checked_add_signed(entries).ok_or_else(wrong)?;
    directory.links = directory.links.checked_add_signed(subdirectories).ok_or_else(wrong)?;
    directory.modified = time;
    directory.changed = time;
    state.put_inode(ino, Some(directory));
    Ok(())
}

pub(super) fn link(state: &mut State, ino: Ino, parent: Ino, new: &[u8], time: Timestamp) -> Result<()> {
    let inode = state.inode(ino)?;
    if inode.is_directory() {
        return Err(Errno::NotPermitted.into());
    }
    if inode.links == 0 {
        return Err(Errno::NoEntry.into());
    }
    add_link(state, ino, inode, parent, new, time)
}

pub(super) fn adopt(state: &mut State, ino: Ino, parent: Ino, new: &[u8], time: Timestamp) -> Result<()> {
    let inode = state.inode(ino)?;
    if inode.is_directory() || inode.links != 0 {
        return Err(Errno::NoEntry.into());
    }
    match state.orphan(ino)? {
        Some(Orphan { next_chunk: 0 }) => state.put_orphan(ino, None),
        _ => return Err(Errno::NoEntry.into()),
    }
    add_link(state, ino, inode, parent, new, time)
}

fn add_link(state: &mut State, ino: Ino, mut inode: Inode, parent: Ino, new: &[u8], time: Timestamp) -> Result<()> {
    name::check(new)?;
    if inode.links >= MAX_LINKS {
        return Err(Errno::TooManyLinks.into());
    }
    let directory = state.directory(parent)?;
    if state.lookup(parent, new)?.is_some() {
        return Err(Errno::Exists.into());
    }
    let cookie = state.add_entry(parent, new, ino, inode.kind())?;
    state.enter(ino, &mut inode, parent, cookie);
    put_directory(state, parent, directory, time, 1, 0)?;
    inode.links += 1;
    inode.changed = time;
    state.put_inode(ino, Some(inode));
    Ok(())
}

fn existing(state: &mut State, directory: Ino, name: &[u8]) -> Result<(Located, Inode)> {
    name::check(name)?;
    let located = state.find_entry(directory, name)?.ok_or(Error::Posix(Errno::NoEntry))?;
    let inode = state.named_inode(located.entry.ino)?;
    Ok((located, inode))
}

pub(super) fn unlink(state: &mut State, parent: Ino, name: &[u8], time: Timestamp) -> Result<()> {
    let directory = state.directory(parent)?;
    let (located, inode) = existing(state, parent, name)?;
    if inode.is_directory() {
        return Err(Errno::IsDirectory.into());
    }
    state.remove_entry(parent, &located);
    put_directory(state, parent, directory, time, -1, 0)?;
    lose_link(state, parent, &located, inode, time)
}

fn lose_link(state: &mut State, parent: Ino, located: &Located, mut inode: Inode, time: Timestamp) -> Result<()> {
    let ino = located.entry.ino;
    state.leave(ino, &mut inode, parent, located.cookie)?;
    inode.links = inode
        .links
        .checked_sub(1)
        .ok_or_else(|| Damage::new(ino, "has a name but counts none"))?;
    inode.changed = time;
    if inode.links == 0 {
        state.put_orphan(ino, Some(Orphan { next_chunk: 0 }));
    }
    state.put_inode(ino, Some(inode));
    Ok(())
}

pub(super) fn remove_directory(state: &mut State, parent: Ino, name: &[u8], time: Timestamp) -> Result<()> {
    let directory = state.directory(parent)?;
    let (located, inode) = existing(state, parent, name)?;
    if !inode.is_directory() {
        return Err(Errno::NotDirectory.into());
    }
    if inode.size != 0 {
        return Err(Errno::NotEmpty.into());
    }
    state.remove_entry(parent, &located);
    put_directory(state, parent, directory, time, -1, -1)?;
    bury_directory(state, located.entry.ino, inode, time);
    Ok(())
}

fn bury_directory(state: &mut State, ino: Ino, mut inode: Inode, time: Timestamp) {
    inode.links = 0;
    inode.place = 0;
    inode.changed = time;
    state.put_orphan(ino, Some(Orphan { next_chunk: 0 }));
    state.put_inode(ino, Some(inode));
}

pub(super) struct Move<'a> {
    pub(super) from: Ino,
    pub(super) to: Ino,
    pub(super) flags: u8,
    pub(super) whiteout: Ino,
    pub(super) time: Timestamp,
    pub(super) name: &'a [u8],
    pub(super) new_name: &'a [u8],
}

pub(super) fn rename(state: &mut State, what: &Move<'_>) -> Result<()> {
    let exchange = what.flags & flag::EXCHANGE != 0;
    let known = flag::NO_REPLACE | flag::EXCHANGE | flag::WHITEOUT;
    if what.flags & !known != 0 || exchange && what.flags != flag::EXCHANGE {
        return Err(Errno::Invalid.into());
    }
    name::check(what.new_name)?;
    state.directory(what.from)?;
    state.directory(what.to)?;
    let (source, inode) = existing(state, what.from, what.name)?;
    let target = state.find_entry(what.to, what.new_name)?;
    if inode.is_directory() {
        forbid_descendant(state, source.entry.ino, what.to)?;
    }
    match target {
        None if exchange => Err(Errno::NoEntry.into()),
        Some(_) if what.flags & flag::NO_REPLACE != 0 => Err(Errno::Exists.into()),
        Some(target) if exchange => exchange_names(state, what, source, inode, target),
        // Two names of one file: POSIX wants nothing to happen.
        Some(target) if target.entry.ino == source.entry.ino => Ok(()),
        target => move_name(state, what, &source, inode, target.as_ref()),
    }
}

/// A walk from a directory to the root, parent by parent. In a damaged pool it can lead in a circle; what the pool says
/// about the number of its files does not bound it then. Brent's method: now and then a place is remembered, after twice
/// as many steps each time, and a circle leads there again.
pub(in crate::fs) struct Chain {
    from: Ino,
    remembered: Ino,
    steps: u64,
    next: u64,
}

impl Chain {
    pub(in crate::fs) const fn new(from: Ino) -> Self {
        Self {
            from,
            remembered: from,
            steps: 0,
            next: 1,
        }
    }

    /// The walk arrived at a parent.
    pub(in crate::fs) fn goes_on(&mut self, at: Ino) -> Result<()> {
        if at == self.remembered {
            return Err(Damage::new(self.from, "its chain of parent directories is a loop"));
        }
        self.steps += 1;
        if self.steps == self.next {
            self.remembered = at;
            self.next *= 2;
            self.steps = 0;
        }
        Ok(())
    }
}

/// A directory must not become its own ancestor.
fn forbid_descendant(state: &mut State, moved: Ino, to: Ino) -> Result<()> {
    let mut at = to;
    let mut chain = Chain::new(to);
    while at != Ino::ROOT {
        if at == moved {
            return Err(Errno::Invalid.into());
        }
        at = state.named_inode(at)?.parent;
        chain.goes_on(at)?;
    }
    if moved == Ino::ROOT {
        Err(Errno::Invalid.into())
    } else {
        Ok(())
    }
}

fn move_name(
    state: &mut State,
    what: &Move<'_>,
    source: &Located,
    inode: Inode,
    target: Option<&Located>,
) -> Result<()> {
    let moved = source.entry.ino;
    let is_directory = inode.is_directory();
    let subdirectory = i32::from(is_directory);
    if let Some(target) = target {
        let replaced = state.named_inode(target.entry.ino)?;
        if is_directory && !replaced.is_directory() {
            return Err(Errno::NotDirectory.into());
        }
        if !is_directory && replaced.is_directory() {
            return Err(Errno::IsDirectory.into());
        }
        if replaced.is_directory() {
            if replaced.size != 0 {
                return Err(Errno::NotEmpty.into());
            }
            bury_directory(state, target.entry.ino, replaced, what.time);
        } else {
            lose_link(state, what.to, target, replaced, what.time)?;
        }
    }
    let replaced_subdirectory = if target.is_some() { subdirectory } else { 0 };
    let gained_entry = i64::from(target.is_none());
    let mut inode = inode;
    state.leave(moved, &mut inode, what.from, source.cookie)?;
    if what.flags & flag::WHITEOUT == 0 {
        state.remove_entry(what.from, source);
        let from = state.directory(what.from)?;
        put_directory(state, what.from, from, what.time, -1, -subdirectory)?;
    } else {
        claim_number(state, what.whiteout)?;
        let whiteout = Inode {
            size: 0,
            blocks: 0,
            accessed: what.time,
            modified: what.time,
            changed: what.time,
            born: what.time,
            device: 0,
            parent: what.from,
            place: source.cookie,
            links: 1,
            flags: FileFlags::default(),
            mode: Kind::Character.mode_bits(),
            marks: Marks::default(),
            hidden: 0,
            hidden_in: 0,
            ..inode
        };
        state.put_inode(what.whiteout, Some(whiteout));
        let source = Located {
            cookie: source.cookie,
            entry: source.entry.clone(),
        };
        state.replace_entry(what.from, source, what.whiteout, Kind::Character);
        let from = state.directory(what.from)?;
        put_directory(state, what.from, from, what.time, 0, -subdirectory)?;
    }
    // The target's place may have changed: removing the source can leave a mark in the same chain.
    let cookie = match state.find_entry(what.to, what.new_name)? {
        Some(target) => {
            let cookie = target.cookie;
            state.replace_entry(what.to, target, moved, inode.kind());
            cookie
        }
        None => state.add_entry(what.to, what.new_name, moved, inode.kind())?,
    };
    state.enter(moved, &mut inode, what.to, cookie);
    let to = state.directory(what.to)?;
    let gained = subdirectory - replaced_subdirectory;
    put_directory(state, what.to, to, what.time, gained_entry, gained)?;
    inode.changed = what.time;
    state.put_inode(moved, Some(inode));
    Ok(())
}

fn exchange_names(state: &mut State, what: &Move<'_>, source: Located, mut one: Inode, target: Located) -> Result<()> {
    let (first, second) = (source.entry.ino, target.entry.ino);
    if first == second {
        return Ok(());
    }
    let mut other = state.named_inode(second)?;
    if other.is_directory() {
        forbid_descendant(state, second, what.from)?;
    }
    let (here, there) = (source.cookie, target.cookie);
    state.leave(first, &mut one, what.from, here)?;
    state.leave(second, &mut other, what.to, there)?;
    state.enter(first, &mut one, what.to, there);
    state.enter(second, &mut other, what.from, here);
    state.replace_entry(what.from, source, second, other.kind());
    state.replace_entry(what.to, target, first, one.kind());
    let (mine, theirs) = (i32::from(one.is_directory()), i32::from(other.is_directory()));
    let from = state.directory(what.from)?;
    put_directory(state, what.from, from, what.time, 0, theirs - mine)?;
    let to = state.directory(what.to)?;
    put_directory(state, what.to, to, what.time, 0, mine - theirs)?;
    one.changed = what.time;
    other.changed = what.time;
    state.put_inode(first, Some(one));
    state.put_inode(second, Some(other));
    Ok(())
}
