// SPDX-License-Identifier: MIT OR Apache-2.0

//! Spaces and embeddings, as front ends ask for them. Whether the caller may is theirs to decide (see [`crate::query`]).

use crate::error::{Errno, Error, Result};
use crate::fs::Mark;
use crate::fs::engine::{Core, Fs, Patience};
use crate::fs::op::{Op, vectors as flag};
use crate::fs::record::Timestamp;
use crate::units::Ino;

use super::record::{Space, SpaceState};
use super::space::{Field, Shape};

/// Vectors taken from a dropped space in one transaction.
const DRAIN_STEP: usize = 1024;
/// Bytes of vectors that share a transaction.
const GROUP_BYTES: usize = 64 << 10;

/// What a new space is to be.
#[derive(Debug, Clone)]
pub struct NewSpace<'a> {
    /// Its name: see [`super::space::is_name`].
    pub name: &'a [u8],
    /// What its vectors are.
    pub shape: Shape,
    /// How much searches do unless they say it; 0: what is built in.
    pub effort: u16,
    /// Attributes it declares.
    pub fields: &'a [Field],
    /// Now.
    pub now: Timestamp,
}

/// Changes of a space; `None` leaves one alone.
#[derive(Debug, Clone, Default)]
pub struct Alteration<'a> {
    /// Another name.
    pub name: Option<&'a [u8]>,
    /// Another effort.
    pub effort: Option<u16>,
    /// Other declared attributes.
    pub fields: Option<&'a [Field]>,
    /// Now.
    pub now: Timestamp,
}

/// What is known about a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceInfo {
    /// Its number, which is its store's.
    pub id: Ino,
    /// Its record.
    pub space: Space,
    /// Slabs.
    pub slabs: u64,
    /// Vectors in slabs that no file has any more.
    pub dead: u64,
    /// Blocks of the pool that the slabs take.
    pub blocks: u64,
}

/// Vectors for a file.
#[derive(Debug, Clone, Copy)]
pub struct Put<'a> {
    /// The file.
    pub ino: Ino,
    /// The space.
    pub space: Ino,
    /// Ordinal of the first vector.
    pub ordinal: u32,
    /// The file has no other vectors in the space afterwards; `ordinal` must be 0.
    pub whole: bool,
    /// When the contents were modified that they were made of; none: as they are now.
    pub of: Option<Timestamp>,
    /// One or more vectors back to back, at most [`crate::fs::MAX_XATTR_VALUE`] bytes.
    pub bytes: &'a [u8],
    /// Now.
    pub now: Timestamp,
}

/// Vectors that a file is to have no more: so many ordinals from one on.
#[derive(Debug, Clone, Copy)]
pub struct Removal {
    /// The file.
    pub ino: Ino,
    /// The space.
    pub space: Ino,
    /// The first.
    pub from: u32,
    /// How many.
    pub count: u32,
    /// Now.
    pub now: Timestamp,
}

/// A vector of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedded {
    /// Which of the file's.
    pub ordinal: u32,
    /// When the contents were modified that it was made of.
    pub of: Timestamp,
    /// Exactly the bytes that were put.
    pub bytes: Box<[u8]>,
}

/// Vectors of a file that one put gives it: their ordinals follow each other, and they are made of the same contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Ordinal of the first.
    pub ordinal: u32,
    /// When the contents were modified that they were made of.
    pub of: Timestamp,
    /// The vectors, back to back.
    pub bytes: Vec<u8>,
}

/// Vectors of a file, by ordinal, in as few runs as they can be put in.
pub fn runs(vectors: &[Embedded]) -> Vec<Run> {
    let (mut runs, mut rest) = (Vec::new(), vectors);
    while let Some(first) = rest.first() {
        let most = (crate::fs::MAX_XATTR_VALUE / first.bytes.len().max(1)).max(1);
        let follows = |(ordinal, next): &(u32, &Embedded)| next.ordinal == *ordinal && next.of == first.of;
        let count = (first.ordinal..).zip(rest).take(most).take_while(follows).count();
        let (run, later) = rest.split_at(count);
        runs.push(Run {
            ordinal: first.ordinal,
            of: first.of,
            bytes: run.iter().flat_map(|vector| vector.bytes.iter().copied()).collect(),
        });
        rest = later;
    }
    runs
}

/// An operation, and the mark that goes with it.
fn marked(operation: Op<'_>, mark: Option<Mark>) -> Vec<Op<'_>> {
    [operation].into_iter().chain(mark.map(Mark::operation)).collect()
}

impl Fs {
    /// Makes a space; gives its number.
    pub fn create_space(&self, new: &NewSpace<'_>) -> Result<Ino> {
        self.create_space_marked(new, None)
    }

    /// The same for a client that must know whether it was done.
    pub fn create_space_marked(&self, new: &NewSpace<'_>, mark: Option<Mark>) -> Result<Ino> {
        let mut core = self.shared.writable()?;
        let space = core.state.totals.next_ino;
        let fields: Vec<Vec<u8>> = new.fields.iter().map(Field::encode).collect();
        let operation = Op::CreateSpace {
            space,
            dimensions: new.shape.dimensions,
            element: new.shape.element as u8,
            metric: new.shape.metric as u8,
            effort: new.effort,
            time: new.now,
            name: new.name,
            fields: fields.iter().map(Vec::as_slice).collect(),
        };
        core.perform(&marked(operation, mark))?;
        self.shared.request_checkpoint(core)?;
        Ok(space)
    }

    /// All spaces, by number.
    pub fn spaces(&self) -> Result<Vec<SpaceInfo>> {
        let mut core = self.core();
        let spaces = core.state.spaces()?;
        let active = spaces
            .into_iter()
            .filter(|(_, space)| space.state == SpaceState::Active);
        active.map(|(id, space)| core.space_info(id, space)).collect()
    }

    /// What a space is; none: there is no such space.
    pub fn space_record(&self, space: Ino) -> Result<Option<Space>> {
        let found = self.core().state.space(space)?.cloned();
        Ok(found.filter(|space| space.state == SpaceState::Active))
    }

    /// The space of a name.
    pub fn space(&self, name: &[u8]) -> Result<SpaceInfo> {
        let mut core = self.core();
        let id = core.state.space_named(name)?.ok_or(Error::Posix(Errno::NoEntry))?;
        let space = core.state.space(id)?.cloned();
        core.space_info(id, space.ok_or(Error::Posix(Errno::NoEntry))?)
    }

    /// Changes a space.
    pub fn alter_space(&self, name: &[u8], change: &Alteration<'_>, mark: Option<Mark>) -> Result<()> {
        let mut core = self.shared.writable()?;
        let space = core.state.space_named(name)?.ok_or(Error::Posix(Errno::NoEntry))?;
        let record = core.state.space(space)?.cloned();
        let record = record.ok_or(Error::Posix(Errno::NoEntry))?;
        let fields = change.fields.unwrap_or(&record.fields);
        let fields: Vec<Vec<u8>> = fields.iter().map(Field::encode).collect();
        let operation = Op::AlterSpace {
            space,
            effort: change.effort.unwrap_or(record.effort),
            time: change.now,
            name: change.name.unwrap_or(&record.name),
            fields: fields.iter().map(Vec::as_slice).collect(),
        };
        core.perform(&marked(operation, mark))?;
        self.shared.request_checkpoint(core)
    }

    /// Removes a space and all its vectors. They are gone when this returns, or at the latest when the pool is opened
    /// after a crash in between; the name is free at once.
    pub fn drop_space(&self, name: &[u8], now: Timestamp) -> Result<()> {
        self.drop_space_marked(name, now, None)
    }

    /// The same for a client that must know whether it was done.
    pub fn drop_space_marked(&self, name: &[u8], now: Timestamp, mark: Option<Mark>) -> Result<()> {
        let space = {
            let mut core = self.shared.writable()?;
            let space = core.state.space_named(name)?.ok_or(Error::Posix(Errno::NoEntry))?;
            core.perform(&marked(Op::DropSpace { space, time: now }, mark))?;
            self.shared.request_checkpoint(core)?;
            space
        };
        self.close_index(space);
        self.drain_space(space)
    }

    /// Takes a dropped space apart, in bounded steps.
    fn drain_space(&self, space: Ino) -> Result<()> {
        loop {
            let mut core = self.shared.writable()?;
            // Somebody else may have done it.
            if core.state.space(space)?.is_none() {
                break;
            }
            let some = core.state.vectors_from(space, 0, DRAIN_STEP + 1)?;
            let until = some.get(DRAIN_STEP).map_or(u64::MAX, |(number, _)| *number);
            core.perform_covered(&[Op::DrainSpace { space, until }])?;
            self.shared.request_checkpoint(core)?;
        }
        self.purge(space)
    }

    /// Goes on with what a crash interrupted.
    pub(in crate::fs) fn drain_dropped_spaces(&self) -> Result<()> {
        let spaces = self.core().state.spaces()?;
        let mut dropped = spaces
            .into_iter()
            .filter(|(_, space)| space.state == SpaceState::Dropped);
        dropped.try_for_each(|(space, _)| self.drain_space(space))
    }

    /// Gives a file vectors.
    pub fn put_vectors(&self, put: &Put<'_>) -> Result<()> {
        self.put_group(&[*put], None)?;
        self.seal_if_due(put.space)
    }

    /// Gives many files vectors, several in a transaction; what comes of each.
    pub fn put_many_vectors(&self, puts: &[Put<'_>]) -> Result<Vec<Result<()>>> {
        self.put_many_vectors_marked(puts, |_| None)
    }

    /// The same for a client that must know what was done: a transaction has the mark of the last that it puts.
    pub fn put_many_vectors_marked(
        &self,
        puts: &[Put<'_>],
        mark: impl Fn(usize) -> Option<Mark>,
    ) -> Result<Vec<Result<()>>> {
        let mut results = Vec::with_capacity(puts.len());
        let mut rest = puts;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|put| {
                bytes += put.bytes.len() + 64;
                bytes <= GROUP_BYTES
            });
            let (group, later) = rest.split_at(fits.count().max(1));
            let first = results.len();
            match self.put_group(group, mark(first + group.len() - 1)) {
                Ok(()) => results.extend(group.iter().map(|_| Ok(()))),
                // One of them is wrong: the others must not suffer.
                Err(Error::Posix(errno)) if group.len() > 1 && errno != Errno::Failed => {
                    let each = group.iter().enumerate();
                    results.extend(each.map(|(at, put)| self.put_group(std::slice::from_ref(put), mark(first + at))));
                }
                Err(error) => results.push(Err(error)),
            }
            for of_space in group.chunk_by(|one, other| one.space == other.space) {
                if let Some(put) = of_space.first() {
                    self.seal_if_due(put.space)?;
                }
            }
            rest = later;
        }
        Ok(results)
    }

    fn put_group(&self, puts: &[Put<'_>], mark: Option<Mark>) -> Result<()> {
        self.with_room(Patience::Wait, || self.try_to_put(puts, mark))
    }

    fn try_to_put(&self, puts: &[Put<'_>], mark: Option<Mark>) -> Result<()> {
        let mut core = self.shared.writable()?;
        let mut operations = Vec::with_capacity(puts.len() + 1);
        for put in puts {
            let inode = core.state.inode(put.ino)?;
            core.forbid_change(&inode)?;
            operations.push(Op::PutVectors {
                ino: put.ino,
                space: put.space,
                flags: if put.whole { flag::WHOLE } else { 0 },
                ordinal: put.ordinal,
                of: put.of.unwrap_or(inode.modified),
                time: put.now,
                bytes: put.bytes,
            });
        }
        operations.extend(mark.map(Mark::operation));
        core.perform(&operations)?;
        self.shared.request_checkpoint(core)
    }

    /// Removes vectors of a file: so many ordinals from one on.
    pub fn remove_vectors(&self, ino: Ino, space: Ino, from: u32, count: u32, now: Timestamp) -> Result<()> {
        self.remove_vectors_marked(
            &Removal {
                ino,
                space,
                from,
                count,
                now,
            },
            None,
        )
    }

    /// The same for a client that must know whether it was done.
    pub fn remove_vectors_marked(&self, removal: &Removal, mark: Option<Mark>) -> Result<()> {
        let Removal {
            ino,
            space,
            from,
            count,
            now,
        } = *removal;
        let operation = Op::RemoveVectors {
            ino,
            space,
            from,
            count,
            time: now,
        };
        self.transact_with(&marked(operation, mark), |core| {
            let inode = core.state.inode(ino)?;
            core.forbid_change(&inode)
        })
    }

    /// Numbers of the spaces that a file has vectors in.
    pub fn spaces_of(&self, ino: Ino) -> Result<Vec<Ino>> {
        let spaces = self.core().state.spaces_of(ino)?;
        let active = spaces
            .into_iter()
            .filter(|(_, space)| space.state == SpaceState::Active);
        Ok(active.map(|(space, _)| space).collect())
    }

    /// When the contents were modified that a file's vectors in a space were made of: the earliest of them. None: it has
    /// no vectors there.
    pub fn vectors_made_of(&self, ino: Ino, space: Ino) -> Result<Option<Timestamp>> {
        let mut core = self.core();
        let found = core.state.embeddings_in(ino, space, usize::MAX)?;
        let mut earliest = None;
        for (_, number) in found {
            if let Some(vector) = core.state.vector(space, number)? {
                earliest = Some(earliest.map_or(vector.of, |of: Timestamp| of.min(vector.of)));
            }
        }
        Ok(earliest)
    }
}

impl Core {
    fn space_info(&mut self, id: Ino, space: Space) -> Result<SpaceInfo> {
        let slabs = self.state.slabs_from(id, 0, usize::MAX)?;
        Ok(SpaceInfo {
            id,
            space,
            slabs: slabs.len() as u64,
            dead: slabs
                .iter()
                .map(|(_, slab)| slab.vectors - slab.alive.min(slab.vectors))
                .sum(),
            blocks: self.state.inode(id)?.blocks,
        })
    }
}
