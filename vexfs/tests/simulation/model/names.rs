// SPDX-License-Identifier: MIT OR Apache-2.0

//! Calls about files and their names.

use std::collections::BTreeMap;
use std::sync::Arc;

use vexfs::error::Errno;
use vexfs::fs::op::{rename, xattr};
use vexfs::fs::record::{FileFlags, Kind, Timestamp};
use vexfs::fs::vectors::PREFIX;
use vexfs::fs::{NewFile, SetAttributes};

use super::{Body, Id, Model, Node, Outcome, ROOT, Reasons, State, without_set_ids};
use crate::content::Content;
use crate::workload::VECTORS;

/// An entry of a directory: where, and under what name.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    pub directory: Id,
    pub name: &'a [u8],
}

impl State {
    fn enter(&mut self, slot: Slot<'_>, id: Id, now: Timestamp) {
        let directory = self.change(slot.directory);
        if let Body::Directory { entries, .. } = &mut directory.body {
            entries.insert(slot.name.to_vec(), id);
        }
        directory.touch(now);
        let node = self.change(id);
        node.names += 1;
        node.changed = now;
        if let Body::Directory { parent, .. } = &mut node.body {
            *parent = slot.directory;
        }
    }

    fn leave(&mut self, slot: Slot<'_>, now: Timestamp) {
        let directory = self.change(slot.directory);
        let gone = match &mut directory.body {
            Body::Directory { entries, .. } => entries.remove(slot.name),
            _ => None,
        };
        directory.touch(now);
        if let Some(id) = gone {
            let node = self.change(id);
            node.names -= 1;
            node.changed = now;
        }
    }

    /// Whether a directory is another one, or above it.
    fn is_above(&self, above: Id, mut at: Id) -> bool {
        loop {
            if at == above {
                return true;
            }
            match self.nodes.get(&at).map(|node| &node.body) {
                Some(Body::Directory { parent, .. }) if at != ROOT => at = *parent,
                _ => return false,
            }
        }
    }

    /// A new file as a directory passes on its properties; without a name yet.
    fn make(&mut self, directory: Id, new: &NewFile<'_>) -> Id {
        let parent = self.node(directory);
        let groups = parent.permissions & 0o2000;
        let gid = if groups == 0 { new.gid } else { parent.gid };
        let inherits = matches!(new.kind, Kind::File | Kind::Directory);
        let flags = if inherits {
            parent.flags.0 & FileFlags::INHERITED.0
        } else {
            0
        };
        let permissions = new.permissions & 0o7777 | if new.kind == Kind::Directory { groups } else { 0 };
        let has_device = matches!(new.kind, Kind::Block | Kind::Character);
        self.add(Node {
            kind: new.kind,
            permissions,
            uid: new.uid,
            gid,
            device: if has_device { new.device } else { 0 },
            flags: FileFlags(flags),
            accessed: new.now,
            modified: new.now,
            changed: new.now,
            born: new.now,
            names: 0,
            holders: 0,
            xattrs: BTreeMap::new(),
            body: match new.kind {
                Kind::File => Body::File(Content::default()),
                Kind::Directory => Body::Directory {
                    entries: BTreeMap::new(),
                    parent: directory,
                },
                Kind::Symlink => Body::Symlink(new.target.to_vec()),
                _ => Body::Special,
            },
        })
    }

    /// Every file below a directory, and itself; other files stand alone.
    pub fn below(&self, top: Id) -> Vec<Id> {
        let mut all = vec![top];
        let mut next = 0;
        while let Some(&id) = all.get(next) {
            all.extend(self.node(id).entries().into_iter().flat_map(BTreeMap::values));
            next += 1;
        }
        all
    }
}

impl Model {
    pub fn create(&mut self, slot: Slot<'_>, new: &NewFile<'_>) -> Outcome<Id> {
        let mut reasons = Reasons::default();
        let is_directory = reasons.directory(self.state.node(slot.directory));
        reasons.name(slot.name);
        let exists = is_directory && self.state.find(slot.directory, slot.name).is_some();
        reasons.when(exists, Errno::Exists);
        reasons.when((new.kind == Kind::Symlink) == new.target.is_empty(), Errno::Invalid);
        reasons.when(new.target.len() > 4095, Errno::NameTooLong);
        reasons.decide()?;
        let id = self.state.make(slot.directory, new);
        self.state.enter(slot, id, new.now);
        Ok(id)
    }

    pub fn create_unnamed(&mut self, directory: Id, new: &NewFile<'_>) -> Outcome<Id> {
        let mut reasons = Reasons::default();
        let node = self.state.node(directory);
        reasons.when(!node.is_directory(), Errno::NotDirectory);
        reasons.when(node.is_directory() && node.names == 0, Errno::NoEntry);
        reasons.decide()?;
        let id = self.state.make(directory, new);
        self.state.change(id).holders = 1;
        Ok(id)
    }

    pub fn link(&mut self, id: Id, slot: Slot<'_>, now: Timestamp) -> Outcome<()> {
        let mut reasons = Reasons::default();
        let is_directory = reasons.directory(self.state.node(slot.directory));
        reasons.name(slot.name);
        let exists = is_directory && self.state.find(slot.directory, slot.name).is_some();
        reasons.when(exists, Errno::Exists);
        let node = self.state.node(id);
        reasons.when(node.is_directory(), Errno::NotPermitted);
        reasons.when(node.is_directory() && node.names == 0, Errno::NoEntry);
        reasons.when(node.is_protected(), Errno::NotPermitted);
        reasons.decide()?;
        self.state.enter(slot, id, now);
        Ok(())
    }

    fn check_removal(&self, slot: Slot<'_>, directory_wanted: bool) -> Outcome<Id> {
        let mut reasons = Reasons::default();
        let parent = self.state.node(slot.directory);
        let found = reasons
            .directory(parent)
            .then(|| self.state.find(slot.directory, slot.name))
            .flatten();
        reasons.when(parent.is_protected(), Errno::NotPermitted);
        reasons.name(slot.name);
        match found {
            None => reasons.when(true, Errno::NoEntry),
            Some(id) => {
                let node = self.state.node(id);
                reasons.when(node.is_protected(), Errno::NotPermitted);
                reasons.when(node.is_directory() && !directory_wanted, Errno::IsDirectory);
                reasons.when(!node.is_directory() && directory_wanted, Errno::NotDirectory);
                reasons.when(
                    directory_wanted && node.is_directory() && node.size() > 0,
                    Errno::NotEmpty,
                );
            }
        }
        reasons.decide()?;
        Ok(found.unwrap_or(0))
    }

    pub fn unlink(&mut self, slot: Slot<'_>, now: Timestamp) -> Outcome<()> {
        let id = self.check_removal(slot, false)?;
        self.state.leave(slot, now);
        self.state.bury(id);
        Ok(())
    }

    pub fn remove_directory(&mut self, slot: Slot<'_>, now: Timestamp) -> Outcome<()> {
        let id = self.check_removal(slot, true)?;
        self.state.leave(slot, now);
        self.state.bury(id);
        Ok(())
    }

    /// Refuses what has protected files in it: how far that would get depends on the order of removal.
    pub fn remove_tree(&mut self, slot: Slot<'_>, now: Timestamp) -> Outcome<()> {
        let top = self.state.find(slot.directory, slot.name).unwrap_or(0);
        let slots: Vec<(Id, Vec<u8>, Id)> = if top == 0 { Vec::new() } else { self.slots_below(top) };
        let is_directory = top != 0 && self.state.node(top).is_directory();
        if let Err(mut reasons) = self.check_removal(slot, is_directory) {
            reasons.retain(|errno| *errno != Errno::NotEmpty);
            if !reasons.is_empty() {
                return Err(reasons);
            }
        }
        for (directory, name, id) in slots.into_iter().rev() {
            let name = &name;
            self.state.leave(Slot { directory, name }, now);
            self.state.bury(id);
        }
        self.state.leave(slot, now);
        self.state.bury(top);
        Ok(())
    }

    /// Every entry below a directory, those of a directory after the one that names it.
    fn slots_below(&self, top: Id) -> Vec<(Id, Vec<u8>, Id)> {
        let mut slots = Vec::new();
        let mut directories = vec![top];
        while let Some(directory) = directories.pop() {
            for (name, &id) in self.state.node(directory).entries().into_iter().flatten() {
                slots.push((directory, name.clone(), id));
                if self.state.node(id).is_directory() {
                    directories.push(id);
                }
            }
        }
        slots
    }

    pub fn rename(&mut self, from: Slot<'_>, to: Slot<'_>, flags: u8, now: Timestamp) -> Outcome<()> {
        let exchange = flags & rename::EXCHANGE != 0;
        let mut reasons = Reasons::default();
        reasons.when(flags & !7 != 0 || exchange && flags != rename::EXCHANGE, Errno::Invalid);
        let mut found = [None, None];
        for (found, slot) in found.iter_mut().zip([from, to]) {
            let directory = self.state.node(slot.directory);
            if reasons.directory(directory) {
                *found = self.state.find(slot.directory, slot.name);
            }
            reasons.name(slot.name);
        }
        reasons.when(self.state.node(from.directory).is_protected(), Errno::NotPermitted);
        // Adding a name to a directory that is only added to is right; Linux takes away what is replaced or exchanged there.
        let appends = self.state.node(to.directory).is_protected();
        reasons.when(appends && found[1].is_some(), Errno::NotPermitted);
        reasons.when(found[0].is_none(), Errno::NoEntry);
        reasons.when(exchange && found[1].is_none(), Errno::NoEntry);
        reasons.when(flags & rename::NO_REPLACE != 0 && found[1].is_some(), Errno::Exists);
        let same = found[0].is_some() && found[0] == found[1];
        for id in found.into_iter().flatten() {
            let protected = self.state.node(id).is_protected();
            // Nothing happens to two names of one file; whether that is noticed first is left open.
            reasons.when(protected && (!same || !reasons.0.is_empty()), Errno::NotPermitted);
            if protected && same {
                self.tolerated.push(Errno::NotPermitted);
            }
        }
        if let (Some(moved), false) = (found[0], same) {
            self.forbid_impossible_move(&mut reasons, moved, found[1], [from, to], exchange);
        }
        reasons.decide()?;
        let Some(moved) = found[0].filter(|_| !same) else {
            return Ok(());
        };
        let replaced = found[1];
        self.state.leave(from, now);
        if let Some(other) = replaced {
            self.state.leave(to, now);
            if exchange {
                self.state.enter(from, other, now);
            }
            self.state.bury(other);
        }
        self.state.enter(to, moved, now);
        if flags & rename::WHITEOUT != 0 {
            let owner = self.state.node(moved).clone();
            let whiteout = self.state.add(Node {
                kind: Kind::Character,
                permissions: 0,
                device: 0,
                flags: FileFlags::default(),
                accessed: now,
                modified: now,
                born: now,
                names: 0,
                holders: 0,
                xattrs: BTreeMap::new(),
                body: Body::Special,
                ..owner
            });
            self.state.enter(from, whiteout, now);
        }
        Ok(())
    }

    fn forbid_impossible_move(
        &self,
        reasons: &mut Reasons,
        moved: Id,
        replaced: Option<Id>,
        [from, to]: [Slot<'_>; 2],
        exchange: bool,
    ) {
        reasons.when(self.state.is_above(moved, to.directory), Errno::Invalid);
        let Some(replaced) = replaced else {
            return;
        };
        let (one, other) = (self.state.node(moved), self.state.node(replaced));
        if exchange {
            reasons.when(self.state.is_above(replaced, from.directory), Errno::Invalid);
            return;
        }
        reasons.when(one.is_directory() && !other.is_directory(), Errno::NotDirectory);
        reasons.when(!one.is_directory() && other.is_directory(), Errno::IsDirectory);
        let full = other.is_directory() && other.size() > 0;
        reasons.when(full, Errno::NotEmpty);
    }

    pub fn set_attributes(&mut self, id: Id, set: &SetAttributes) -> Outcome<()> {
        let node = self.state.node(id);
        let others = set.permissions.is_some() || set.uid.is_some() || set.gid.is_some();
        let times = set.accessed.is_some() || set.modified.is_some();
        let mut reasons = Reasons::default();
        reasons.when(node.is_immutable() && (others || times), Errno::NotPermitted);
        reasons.when(
            set.flags.is_some_and(|flags| flags.0 & !FileFlags::ALL.0 != 0),
            Errno::Invalid,
        );
        reasons.decide()?;
        let node = self.state.change(id);
        if (set.uid.is_some() || set.gid.is_some()) && node.kind == Kind::File {
            node.permissions = without_set_ids(node.permissions);
        }
        node.permissions = set.permissions.map_or(node.permissions, |bits| bits & 0o7777);
        node.uid = set.uid.unwrap_or(node.uid);
        node.gid = set.gid.unwrap_or(node.gid);
        node.accessed = set.accessed.unwrap_or(node.accessed);
        node.modified = set.modified.unwrap_or(node.modified);
        node.flags = set.flags.unwrap_or(node.flags);
        node.changed = set.now;
        Ok(())
    }

    /// What `relatime` says.
    pub fn touch_accessed(&mut self, id: Id, now: Timestamp) {
        let node = self.state.node(id);
        let a_day = now.seconds() - node.accessed.seconds() >= 24 * 60 * 60;
        let stale = node.accessed <= node.modified || node.accessed <= node.changed || a_day;
        if stale && !node.flags.has(FileFlags::NO_ATIME) {
            self.state.change(id).accessed = now;
        }
    }

    pub fn read_link(&self, id: Id) -> Outcome<Vec<u8>> {
        match &self.state.node(id).body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(vec![Errno::Invalid]),
        }
    }

    pub fn get_xattr(&self, id: Id, name: &[u8]) -> Outcome<Vec<u8>> {
        let mut reasons = Reasons::default();
        reasons.when(!has_namespace(name), Errno::NotSupported);
        let value = self.state.node(id).xattrs.get(name);
        reasons.when(has_namespace(name) && value.is_none(), Errno::NoAttribute);
        reasons.decide()?;
        Ok(value.map(|value| value.to_vec()).unwrap_or_default())
    }

    pub fn set_xattr(&mut self, id: Id, name: &[u8], value: &[u8], flags: u8, now: Timestamp) -> Outcome<()> {
        let mut reasons = Reasons::default();
        let node = self.state.node(id);
        let exists = node.xattrs.contains_key(name);
        reasons.when(!has_namespace(name), Errno::NotSupported);
        reasons.when(node.is_protected(), Errno::NotPermitted);
        reasons.when(flags & !3 != 0, Errno::Invalid);
        reasons.when(exists && flags & xattr::CREATE != 0, Errno::Exists);
        reasons.when(!exists && flags & xattr::REPLACE != 0, Errno::NoAttribute);
        reasons.when(name.len() > 255, Errno::NameTooLong);
        reasons.when(value.len() > 65_536, Errno::AttributeTooLarge);
        if name.starts_with(PREFIX) {
            let has_vectors = matches!(node.kind, Kind::File | Kind::Directory);
            let whole = !value.is_empty() && value.len().is_multiple_of(4);
            reasons.when(name != VECTORS, Errno::NotSupported);
            reasons.when(!has_vectors, Errno::NotPermitted);
            reasons.when(!whole, Errno::Invalid);
        }
        reasons.decide()?;
        let node = self.state.change(id);
        node.xattrs.insert(name.to_vec(), Arc::from(value));
        node.changed = now;
        Ok(())
    }

    pub fn remove_xattr(&mut self, id: Id, name: &[u8], now: Timestamp) -> Outcome<()> {
        let mut reasons = Reasons::default();
        let node = self.state.node(id);
        reasons.when(!has_namespace(name), Errno::NotSupported);
        reasons.when(node.is_protected(), Errno::NotPermitted);
        reasons.when(!node.xattrs.contains_key(name), Errno::NoAttribute);
        reasons.decide()?;
        let node = self.state.change(id);
        node.xattrs.remove(name);
        node.changed = now;
        Ok(())
    }

    pub fn hold(&mut self, id: Id) {
        self.state.change(id).holders += 1;
    }

    pub fn release(&mut self, id: Id) -> Outcome<()> {
        let held = self.state.node(id).holders;
        if held == 0 {
            return Err(vec![Errno::Invalid]);
        }
        self.state.change(id).holders = held - 1;
        self.state.bury(id);
        Ok(())
    }

    /// The copy keeps everything but numbers, the time of creation and protection; it is complete when its name appears.
    pub fn clone_tree(&mut self, source: Id, slot: Slot<'_>, now: Timestamp) -> Outcome<Id> {
        let mut reasons = Reasons::default();
        let is_directory = reasons.directory(self.state.node(slot.directory));
        // The rename to the final name removes the draft's.
        reasons.when(self.state.node(slot.directory).is_protected(), Errno::NotPermitted);
        reasons.name(slot.name);
        reasons.when(
            is_directory && self.state.find(slot.directory, slot.name).is_some(),
            Errno::Exists,
        );
        reasons.when(self.state.is_above(source, slot.directory), Errno::Invalid);
        // On the way up from a directory without a name.
        reasons.when(is_directory && self.state.node(slot.directory).names == 0, Errno::Stale);
        reasons.decide()?;
        self.state.change(slot.directory).touch(now);
        self.pass();
        let mut copies = BTreeMap::new();
        let copy = self.copy(source, slot, now, &mut copies);
        self.state.change(slot.directory).touch(now);
        Ok(copy)
    }

    fn copy(&mut self, source: Id, slot: Slot<'_>, now: Timestamp, copies: &mut BTreeMap<Id, Id>) -> Id {
        if let Some(&copy) = copies.get(&source) {
            self.state.enter(slot, copy, now);
            return copy;
        }
        let original = self.state.node(source).clone();
        let protection = FileFlags::IMMUTABLE.0 | FileFlags::APPEND.0;
        let entries = original.entries().cloned();
        let mut node = Node {
            flags: FileFlags(original.flags.0 & !protection),
            changed: now,
            born: now,
            names: 0,
            holders: 0,
            ..original
        };
        if let Body::Directory { entries, .. } = &mut node.body {
            entries.clear();
        }
        let modified = node.modified;
        let copy = self.state.add(node);
        copies.insert(source, copy);
        for (name, child) in entries.into_iter().flatten() {
            let inside = Slot {
                directory: copy,
                name: &name,
            };
            self.copy(child, inside, now, copies);
        }
        self.state.change(copy).modified = modified;
        self.state.enter(slot, copy, now);
        copy
    }
}

fn has_namespace(name: &[u8]) -> bool {
    let spaces: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system.posix_acl_"];
    spaces
        .iter()
        .any(|space| name.starts_with(space) && name.len() > space.len())
}
