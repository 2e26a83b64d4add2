// SPDX-License-Identifier: MIT OR Apache-2.0

//! The calls, made to the model and to the engine.

use vexfs::error::{Errno, Error};
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::fs::{Attributes, NewFile, Seek, SetAttributes};
use vexfs::units::Ino;

use super::{Session, Violation};
use crate::content::pattern;
use crate::history::Redo;
use crate::model::names::Slot;
use crate::model::{Id, Outcome};
use crate::workload::{Action, Among, Pick, Place, VECTORS, symlink_target, xattr_name};

/// What a call answers, of the engine and of the model.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Done,
    Bytes(Vec<u8>),
    Count(usize),
}

/// A call as it was made to both.
pub(super) struct Both {
    pub(super) wanted: Outcome<Answer>,
    pub(super) got: Result<Answer, Error>,
    /// Files whose attributes are compared afterwards.
    pub(super) involved: Vec<Id>,
    /// Files that came into being: where to find them.
    pub(super) made: Vec<(Id, Ino)>,
    pub(super) redo: Option<Redo>,
}

fn both<T>(wanted: Outcome<T>, got: Result<(), Error>, involved: &[Id]) -> Both {
    Both {
        wanted: wanted.map(|_| Answer::Done),
        got: got.map(|()| Answer::Done),
        involved: involved.to_vec(),
        made: Vec::new(),
        redo: None,
    }
}

impl Session {
    /// Makes the call; none if there is nothing to make it with.
    pub(super) fn call(&mut self, action: &Action, now: Timestamp) -> Result<Option<Both>, Violation> {
        Ok(match *action {
            Action::Create(place, kind, permissions, number) => self.create(place, kind, permissions, number, now),
            Action::CreateUnnamed(directory, permissions) => self.create_unnamed(directory, permissions, now),
            Action::Link(..)
            | Action::Unlink(_)
            | Action::RemoveDirectory(_)
            | Action::Rename(..)
            | Action::CloneTree(..)
            | Action::RemoveTree(_) => self.names(action, now)?,
            Action::Write(..)
            | Action::Append(..)
            | Action::Read(..)
            | Action::Truncate(..)
            | Action::Preallocate(..)
            | Action::CloneRange(..)
            | Action::Seek(..)
            | Action::FillUp => self.bytes(action, now)?,
            Action::Flush | Action::Checkpoint | Action::Seal | Action::Statistics => Some(self.whole(action)?),
            _ => self.attributes(action, now)?,
        })
    }

    fn whole(&self, action: &Action) -> Result<Both, Violation> {
        let got = match action {
            Action::Flush => self.fs.flush(),
            Action::Checkpoint => self.fs.checkpoint().and_then(|()| self.fs.trim()),
            Action::Seal => self.fs.seal_vectors().and_then(|_| self.fs.index_vectors()),
            _ => Ok(()),
        };
        let told = self.fs.statistics();
        // Each space has a store.
        let files = self.model.state.nodes().count() as u64 + 1;
        if told.inodes != files || told.available_blocks > told.free_blocks || told.free_blocks > told.total_blocks {
            return Err(format!("there are {files} files, but {told:?}"));
        }
        Ok(both(Ok(()), got, &[]))
    }

    fn create(&mut self, place: Place, kind: Kind, permissions: u16, number: u8, now: Timestamp) -> Option<Both> {
        let (directory, name) = self.place(place)?;
        let target = if kind == Kind::Symlink {
            symlink_target(number)
        } else {
            Vec::new()
        };
        let new = NewFile {
            kind,
            permissions,
            uid: u32::from(number % 3) * 1000,
            gid: u32::from(number % 5) * 100,
            device: u64::from(number) << 20,
            target: &target,
            now,
        };
        let slot = Slot { directory, name: &name };
        let wanted = self.model.create(slot, &new);
        let got = self.fs.create(self.ino(directory), &name, &new);
        Some(self.made(wanted, got, &[directory]))
    }

    fn create_unnamed(&mut self, directory: u8, permissions: u16, now: Timestamp) -> Option<Both> {
        let directory = self.pick(Pick(Among::Directories, directory))?;
        let new = NewFile {
            kind: Kind::File,
            permissions,
            uid: 7,
            gid: 8,
            device: 0,
            target: b"",
            now,
        };
        let wanted = self.model.create_unnamed(directory, &new);
        let got = self.fs.create_unnamed(self.ino(directory), &new);
        Some(self.made(wanted, got, &[directory]))
    }

    #[expect(clippy::unused_self, reason = "reads as part of a call")]
    fn made(&self, wanted: Outcome<Id>, got: Result<Attributes, Error>, involved: &[Id]) -> Both {
        let made = match (&wanted, &got) {
            (&Ok(id), Ok(found)) => vec![(id, found.ino)],
            _ => Vec::new(),
        };
        let mut involved = involved.to_vec();
        involved.extend(made.iter().map(|(id, _)| *id));
        Both {
            made,
            ..both(wanted, got.map(|_| ()), &involved)
        }
    }

    fn names(&mut self, action: &Action, now: Timestamp) -> Result<Option<Both>, Violation> {
        let (pick, place, other) = match *action {
            Action::Link(pick, place) | Action::CloneTree(pick, place) => (Some(pick), place, None),
            Action::Rename(from, to, _) => (None, to, Some(from)),
            Action::Unlink(place) | Action::RemoveDirectory(place) | Action::RemoveTree(place) => (None, place, None),
            _ => return Ok(None),
        };
        let Some((directory, name)) = self.place(place) else {
            return Ok(None);
        };
        let slot = Slot { directory, name: &name };
        let there = self.model.state.find(directory, &name);
        let parent = self.ino(directory);
        let mut involved = vec![directory];
        involved.extend(there);
        let id = pick.and_then(|pick| self.pick(pick));
        Ok(match *action {
            Action::Unlink(_) => {
                let wanted = self.model.unlink(slot, now);
                Some(both(wanted, self.fs.unlink(parent, &name, now), &involved))
            }
            Action::RemoveDirectory(_) => {
                let wanted = self.model.remove_directory(slot, now);
                Some(both(wanted, self.fs.remove_directory(parent, &name, now), &involved))
            }
            Action::Link(..) => {
                let Some(id) = id else { return Ok(None) };
                involved.push(id);
                let wanted = self.model.link(id, slot, now);
                let got = self.fs.link(self.ino(id), parent, &name, now);
                Some(both(wanted, got.map(|_| ()), &involved))
            }
            Action::Rename(_, _, flags) => {
                let Some((from, old_name)) = other.and_then(|other| self.place(other)) else {
                    return Ok(None);
                };
                involved.push(from);
                involved.extend(self.model.state.find(from, &old_name));
                let old = Slot {
                    directory: from,
                    name: &old_name,
                };
                let wanted = self.model.rename(old, slot, flags, now);
                let got = self.fs.rename(self.ino(from), &old_name, parent, &name, flags, now);
                let mut both = both(wanted, got, &involved);
                if both.wanted.is_ok() && both.got.is_ok() {
                    self.learn(from, &old_name, &mut both.made)?;
                }
                Some(both)
            }
            Action::RemoveTree(_) => self.remove_tree(slot, there, now),
            Action::CloneTree(..) => {
                let Some(id) = id else { return Ok(None) };
                let redo = Redo::Clone(self.model.state.path(directory));
                let wanted = self.model.clone_tree(id, slot, now);
                let got = self.fs.clone_tree(self.ino(id), parent, &name, now);
                let mut both = both(wanted, got.map(|_| ()), &involved);
                if both.wanted.is_ok() && both.got.is_ok() {
                    self.learn(directory, &name, &mut both.made)?;
                }
                both.redo = Some(redo);
                Some(both)
            }
            _ => None,
        })
    }

    fn remove_tree(&mut self, slot: Slot<'_>, there: Option<Id>, now: Timestamp) -> Option<Both> {
        // How far that would get depends on the order.
        let below = there.map(|there| self.model.state.below(there)).unwrap_or_default();
        if below.iter().any(|&id| self.model.state.node(id).is_protected()) {
            return None;
        }
        let redo = Redo::Remove(self.model.state.path(slot.directory), slot.name.to_vec());
        let wanted = self.model.remove_tree(slot, now);
        let got = self.fs.remove_tree(self.ino(slot.directory), slot.name, now);
        Some(Both {
            redo: Some(redo),
            ..both(wanted, got, &[slot.directory])
        })
    }

    /// Notes the engine's numbers of files that came into being under a name.
    fn learn(&self, directory: Id, name: &[u8], made: &mut Vec<(Id, Ino)>) -> Result<(), Violation> {
        let mut pending = Vec::new();
        let parent = self.ino(directory);
        pending.extend(
            self.model
                .state
                .find(directory, name)
                .map(|id| (parent, name.to_vec(), id)),
        );
        while let Some((parent, name, id)) = pending.pop() {
            let found = self.fs.lookup(parent, &name);
            let found = found.map_err(|error| format!("a new file is not found: {error}"))?;
            made.push((id, found.ino));
            for (name, &child) in self.model.state.node(id).entries().into_iter().flatten() {
                pending.push((found.ino, name.clone(), child));
            }
        }
        Ok(())
    }

    fn attributes(&mut self, action: &Action, now: Timestamp) -> Result<Option<Both>, Violation> {
        let (Action::SetMode(pick, _)
        | Action::SetOwner(pick, ..)
        | Action::SetTimes(pick, ..)
        | Action::SetFlags(pick, _)
        | Action::TouchAccessed(pick)
        | Action::SetXattr(pick, ..)
        | Action::GetXattr(pick, _)
        | Action::RemoveXattr(pick, _)
        | Action::ReadLink(pick)
        | Action::Hold(pick)
        | Action::Release(pick)
        | Action::List(pick, _)) = *action
        else {
            return Ok(None);
        };
        let Some(id) = self.pick(pick) else {
            return Ok(None);
        };
        let ino = self.ino(id);
        let (fs, model) = (&self.fs, &mut self.model);
        let mut set = SetAttributes {
            now,
            ..SetAttributes::default()
        };
        Ok(Some(match *action {
            Action::TouchAccessed(_) => {
                model.touch_accessed(id, now);
                both(Ok(()), fs.touch_accessed(ino, now), &[id])
            }
            Action::SetXattr(_, name, length, flags) => {
                // Mostly whole vectors.
                let number = name;
                let name = xattr_name(number);
                let length = if name == VECTORS && !length.is_multiple_of(5) {
                    length & !3
                } else {
                    length
                };
                let value = pattern(number, 0, length as usize);
                let wanted = model.set_xattr(id, &name, &value, flags, now);
                both(wanted, fs.set_xattr(ino, &name, &value, flags, now), &[id])
            }
            Action::RemoveXattr(_, name) => {
                let name = xattr_name(name);
                let wanted = model.remove_xattr(id, &name, now);
                both(wanted, fs.remove_xattr(ino, &name, now), &[id])
            }
            Action::GetXattr(_, name) => {
                let name = xattr_name(name);
                Both {
                    wanted: model.get_xattr(id, &name).map(Answer::Bytes),
                    got: fs.get_xattr(ino, &name).map(Answer::Bytes),
                    ..both(Ok(()), Ok(()), &[])
                }
            }
            Action::ReadLink(_) => Both {
                wanted: model.read_link(id).map(Answer::Bytes),
                got: fs.read_link(ino).map(Answer::Bytes),
                ..both(Ok(()), Ok(()), &[])
            },
            Action::Hold(_) => {
                model.hold(id);
                both(Ok(()), fs.hold(ino), &[id])
            }
            Action::Release(_) => both(model.release(id), fs.release(ino), &[id]),
            Action::List(_, limit) => {
                return self.list(id, usize::from(limit % 5) + 1);
            }
            _ => {
                match *action {
                    Action::SetMode(_, mode) => set.permissions = Some(mode),
                    Action::SetOwner(_, number, mode) => {
                        set.uid = number.is_multiple_of(2).then_some(u32::from(number));
                        set.gid = (!number.is_multiple_of(4)).then_some(u32::from(number));
                        set.permissions = mode;
                    }
                    Action::SetTimes(_, accessed, modified) => {
                        set.accessed = accessed.map(Timestamp);
                        set.modified = modified.map(Timestamp);
                    }
                    Action::SetFlags(_, flags) => set.flags = Some(flags),
                    _ => return Ok(None),
                }
                let wanted = model.set_attributes(id, &set);
                both(wanted, fs.set_attributes(ino, &set).map(|_| ()), &[id])
            }
        }))
    }

    /// Lists a directory in parts.
    fn list(&self, id: Id, limit: usize) -> Result<Option<Both>, Violation> {
        let ino = self.ino(id);
        let node = self.model.state.node(id);
        let Some(entries) = node.entries() else {
            let got = self.fs.list(ino, 0, limit).map(|_| ());
            return Ok(Some(both::<()>(Err(vec![Errno::NotDirectory]), got, &[])));
        };
        let mut found = Vec::new();
        let mut from = 0;
        loop {
            match self.fs.list(ino, from, limit) {
                Err(error) => return Ok(Some(both(Ok(()), Err(error), &[]))),
                Ok(some) if some.len() > limit => return Err(format!("{} entries, {limit} wanted", some.len())),
                Ok(some) if some.is_empty() => break,
                Ok(some) => {
                    from = some.last().map_or(u64::MAX, |entry| entry.next);
                    found.extend(some);
                }
            }
        }
        let dots: Vec<_> = found.drain(..2.min(found.len())).map(|entry| entry.name).collect();
        if dots != [Box::from(*b"."), Box::from(&b".."[..])] {
            return Err(format!("a listing begins with {dots:?}"));
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        let found: Vec<_> = found
            .into_iter()
            .map(|entry| (entry.name.to_vec(), entry.ino, entry.kind))
            .collect();
        let kind = |id: Id| self.model.state.node(id).kind;
        let wanted: Vec<_> = entries
            .iter()
            .map(|(name, &id)| (name.clone(), self.ino(id), kind(id)))
            .collect();
        if found != wanted {
            return Err(format!("a listing is {found:?}\n  wanted {wanted:?}"));
        }
        Ok(Some(both(Ok(()), Ok(()), &[])))
    }

    fn bytes(&mut self, action: &Action, now: Timestamp) -> Result<Option<Both>, Violation> {
        let available = self.fs.statistics().available_blocks;
        let pick = match *action {
            Action::Write(pick, ..)
            | Action::Append(pick, ..)
            | Action::Read(pick, ..)
            | Action::Truncate(pick, _)
            | Action::Preallocate(pick, ..)
            | Action::CloneRange(pick, ..)
            | Action::Seek(pick, ..) => pick,
            _ if available < 1500 => Pick(Among::Files, 0),
            _ => return Ok(None),
        };
        let Some(id) = self.pick(pick) else {
            return Ok(None);
        };
        let ino = self.ino(id);
        let size = self.model.state.node(id).size();
        let (fs, model) = (&self.fs, &mut self.model);
        let mut write = |at: u64, length: usize, fill: u8| {
            let bytes = pattern(fill, at, length);
            Some(Both {
                wanted: model.write(id, at, &bytes, now).map(Answer::Count),
                got: fs.write(ino, at, &bytes, now).map(Answer::Count),
                ..both(Ok(()), Ok(()), &[id])
            })
        };
        Ok(match *action {
            // Whether writing nothing tells what is wrong with the file is left open.
            Action::Write(_, _, 0, _) | Action::Append(_, 0, _) => None,
            Action::Write(_, at, length, fill) => write(at, length as usize, fill),
            Action::Append(_, length, fill) => write(size, length as usize, fill),
            Action::FillUp => write(size, available as usize * 4096, 2),
            Action::Read(_, at, length) => {
                let mut buffer = vec![0xa5; length as usize];
                let got = fs.read(ino, at, &mut buffer).map(|count| {
                    buffer.truncate(count);
                    Answer::Bytes(buffer)
                });
                Some(Both {
                    wanted: model.read(id, at, length as usize).map(Answer::Bytes),
                    got,
                    ..both(Ok(()), Ok(()), &[])
                })
            }
            Action::Truncate(_, size) => {
                let wanted = model.truncate(id, size, now);
                Some(both(wanted, fs.truncate(ino, size, now), &[id]))
            }
            Action::Preallocate(_, mode, at, length) => {
                let wanted = model.preallocate(id, mode, at, length, now);
                Some(both(wanted, fs.preallocate(ino, mode, at, length, now), &[id]))
            }
            Action::Seek(_, at, what) => return self.seek(id, at, what),
            Action::CloneRange(_, at, to, to_at, length) => {
                let Some(target) = self.pick(to) else {
                    return Ok(None);
                };
                let wanted = self.model.clone_range(id, at, target, to_at, length, now);
                let got = self.fs.clone_range(ino, at, self.ino(target), to_at, length, now);
                Some(both(wanted, got, &[id, target]))
            }
            _ => None,
        })
    }

    fn seek(&self, id: Id, at: u64, what: Seek) -> Result<Option<Both>, Violation> {
        let found = match self.fs.seek(self.ino(id), at, what) {
            Ok(place) => Ok(place),
            Err(Error::Posix(errno)) => Err(errno),
            Err(error) => return Ok(Some(both(Ok(()), Err(error), &[]))),
        };
        if self.model.seek_is_right(id, at, what, found) {
            return Ok(Some(both(Ok(()), Ok(()), &[])));
        }
        let size = self.model.state.node(id).size();
        Err(format!("seek for {what:?} from {at} of {size} finds {found:?}"))
    }
}
