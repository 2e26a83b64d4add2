// SPDX-License-Identifier: MIT OR Apache-2.0

//! What operations on spaces and vectors do.
//!
//! Spaces count their vectors in one record each. An operation takes that record, changes it, and puts it back at its end.

use crate::error::{Damage, Errno, Error, Result};
use crate::fs::apply::content;
use crate::fs::op::{Op, vectors as flag};
use crate::fs::record::{Bytes, FileFlags, Inode, Kind, Marks, Orphan, Timestamp};
use crate::fs::state::State;
use crate::units::{BLOCK_SIZE, FileBlock, Ino};

use super::record::{
    Embedding, EmbeddingKey, GrowingKey, Place, Slab, SlabKey, Space, SpaceKey, SpaceName, SpaceNameKey, SpaceState,
    Vector, VectorKey,
};
use super::space::{Element, Field, Metric, Shape, is_name};
use super::{MAX_FIELDS, MAX_ORDINALS, MAX_SPACES, MAX_VECTOR, leaves, slab};

/// Does what an operation of this kind says.
pub(in crate::fs) fn apply(state: &mut State, operation: &Op<'_>) -> Result<()> {
    match *operation {
        Op::CreateSpace { .. } => create(state, operation),
        Op::AlterSpace {
            space,
            effort,
            name,
            ref fields,
            ..
        } => alter(state, space, effort, name, fields),
        Op::DropSpace { space, .. } => drop_space(state, space),
        Op::DrainSpace { space, until } => drain(state, space, until),
        Op::PutVectors {
            ino,
            space,
            flags,
            ordinal,
            of,
            time,
            bytes,
        } => {
            let whole = flags & flag::WHOLE != 0;
            if flags & !(flag::CREATE | flag::REPLACE | flag::WHOLE) != 0 || whole && ordinal != 0 {
                return Err(Errno::Invalid.into());
            }
            let put = Put {
                ino,
                space,
                flags,
                ordinal,
                of,
                bytes,
            };
            put_vectors(state, &put)?;
            note_change(state, ino, time)
        }
        Op::RemoveVectors {
            ino,
            space,
            from,
            count,
            time,
        } => {
            // Also of a space that is being dropped: its files may go meanwhile.
            let removed = remove_range(state, ino, space, from, from.saturating_add(count))?;
            if removed == 0 {
                return Err(Errno::NoAttribute.into());
            }
            note_change(state, ino, time)
        }
        Op::SealVectors { space, at, ref vectors } => seal(state, space, at, vectors),
        Op::DropSlab { space, at } => drop_slab(state, space, at),
        Op::SetIndex { .. } | Op::PutLeaves { .. } | Op::ForgetLeaves { .. } => leaves::apply(state, operation),
        _ => Err(Errno::Invalid.into()),
    }
}

fn note_change(state: &mut State, ino: Ino, time: Timestamp) -> Result<()> {
    let mut inode = state.inode(ino)?;
    inode.changed = time;
    state.put_inode(ino, Some(inode));
    Ok(())
}

/// A space that is in use.
fn active(state: &mut State, space: Ino) -> Result<Space> {
    let found = state.space(space)?.filter(|space| space.state == SpaceState::Active);
    found.cloned().ok_or(Error::Posix(Errno::NoEntry))
}

fn put_space(state: &mut State, space: Ino, record: Space) {
    state.note_space();
    state.set_space(SpaceKey { space }, Some(record));
}

fn fields_of(encoded: &[&[u8]]) -> Result<Vec<Field>> {
    let fields: Option<Vec<Field>> = encoded.iter().map(|bytes| Field::decode(bytes)).collect();
    let fields = fields.filter(|fields| fields.len() <= MAX_FIELDS);
    fields.ok_or(Error::Posix(Errno::Invalid))
}

fn claim_name(state: &mut State, space: Ino, name: &[u8]) -> Result<()> {
    if !is_name(name) {
        return Err(Errno::Invalid.into());
    }
    if state.space_named(name)?.is_some() {
        return Err(Errno::Exists.into());
    }
    let key = SpaceNameKey { name: name.into() };
    state.set_space_name(key, Some(SpaceName { space: space.0 }));
    Ok(())
}

fn create(state: &mut State, operation: &Op<'_>) -> Result<()> {
    let Op::CreateSpace {
        space,
        dimensions,
        element,
        metric,
        effort,
        time,
        name,
        ref fields,
    } = *operation
    else {
        return Err(Errno::Invalid.into());
    };
    let (Some(element), Some(metric)) = (Element::of_number(element), Metric::of_number(metric)) else {
        return Err(Errno::Invalid.into());
    };
    let shape = Shape::new(dimensions, element, metric).map_err(|_| Error::Posix(Errno::Invalid))?;
    let fields = fields_of(fields)?;
    if state.spaces()?.len() >= MAX_SPACES {
        return Err(Errno::NoSpace.into());
    }
    crate::fs::apply::claim_number(state, space)?;
    claim_name(state, space, name)?;
    let store = Inode {
        size: 0,
        blocks: 0,
        accessed: time,
        modified: time,
        changed: time,
        born: time,
        device: 0,
        parent: Ino(0),
        place: 0,
        uid: 0,
        gid: 0,
        links: 0,
        flags: FileFlags::default(),
        mode: Kind::File.mode_bits() | 0o600,
        marks: Marks::default(),
        hidden: 0,
        hidden_in: 0,
    };
    state.put_inode(space, Some(store));
    let record = Space {
        state: SpaceState::Active,
        shape,
        effort,
        created: time,
        next: 1,
        vectors: 0,
        growing: 0,
        name: name.into(),
        fields,
    };
    put_space(state, space, record);
    Ok(())
}

fn alter(state: &mut State, space: Ino, effort: u16, name: &[u8], fields: &[&[u8]]) -> Result<()> {
    let mut record = active(state, space)?;
    record.fields = fields_of(fields)?;
    record.effort = effort;
    if *record.name != *name {
        claim_name(state, space, name)?;
        let old = std::mem::replace(&mut record.name, name.into());
        state.set_space_name(SpaceNameKey { name: old }, None);
    }
    put_space(state, space, record);
    Ok(())
}

fn drop_space(state: &mut State, space: Ino) -> Result<()> {
    let mut record = active(state, space)?;
    state.set_space_name(
        SpaceNameKey {
            name: record.name.clone(),
        },
        None,
    );
    record.state = SpaceState::Dropped;
    put_space(state, space, record);
    Ok(())
}

/// Takes a dropped space apart: the vectors below a number, or all that is left and the space itself.
fn drain(state: &mut State, space: Ino, until: u64) -> Result<()> {
    let dropped = state.space(space)?.filter(|space| space.state == SpaceState::Dropped);
    let Some(mut record) = dropped.cloned() else {
        return Err(Errno::Stale.into());
    };
    let mut from = 0;
    while from < until {
        let some = state.vectors_from(space, from, 256)?;
        let Some((last, _)) = some.last() else { break };
        from = last + 1;
        for (number, vector) in some.iter().take_while(|(number, _)| *number < until) {
            let key = EmbeddingKey {
                ino: vector.ino,
                space,
                ordinal: u64::from(vector.ordinal),
            };
            if state.embedding(key)? == Some(*number) {
                state.set_embedding(key, None);
            }
            forget(state, space, &mut record, *number)?;
        }
    }
    if until < u64::MAX {
        put_space(state, space, record);
        return Ok(());
    }
    for (at, _) in state.slabs_from(space, 0, usize::MAX)? {
        state.set_slab(SlabKey { space, at }, None);
    }
    leaves::drop_index(state, space)?;
    state.set_space(SpaceKey { space }, None);
    state.put_orphan(space, Some(Orphan { next_chunk: 0 }));
    Ok(())
}

/// Vectors for a file.
pub(in crate::fs) struct Put<'a> {
    pub(in crate::fs) ino: Ino,
    pub(in crate::fs) space: Ino,
    /// See [`flag`].
    pub(in crate::fs) flags: u8,
    /// Of the first.
    pub(in crate::fs) ordinal: u32,
    pub(in crate::fs) of: Timestamp,
    pub(in crate::fs) bytes: &'a [u8],
}

/// Gives a file vectors, without noting when.
pub(in crate::fs) fn put_vectors(state: &mut State, put: &Put<'_>) -> Result<()> {
    let &Put { ino, space, bytes, .. } = put;
    let mut record = active(state, space)?;
    let count = record.shape.count(bytes).map_err(|_| Error::Posix(Errno::Invalid))?;
    let end = u64::from(put.ordinal) + count as u64;
    if bytes.len() > crate::fs::MAX_XATTR_VALUE || end > u64::from(MAX_ORDINALS) {
        return Err(Errno::AttributeTooLarge.into());
    }
    let end = u32::try_from(end).unwrap_or(MAX_ORDINALS);
    match state.inode(ino)?.kind() {
        Kind::File | Kind::Directory if state.space(ino)?.is_none() => {}
        _ => return Err(Errno::NotPermitted.into()),
    }
    if put.flags & (flag::CREATE | flag::REPLACE) != 0 {
        let exists = !state.embeddings_in(ino, space, 1)?.is_empty();
        if exists && put.flags & flag::CREATE != 0 {
            return Err(Errno::Exists.into());
        }
        if !exists && put.flags & flag::REPLACE != 0 {
            return Err(Errno::NoAttribute.into());
        }
    }
    if record.next + count as u64 > MAX_VECTOR {
        return Err(Errno::NoSpace.into());
    }
    for (ordinal, vector) in (put.ordinal..end).zip(bytes.chunks_exact(record.shape.vector_bytes())) {
        let key = EmbeddingKey {
            ino,
            space,
            ordinal: u64::from(ordinal),
        };
        if let Some(old) = state.embedding(key)? {
            forget(state, space, &mut record, old)?;
        }
        let number = record.next;
        record.next += 1;
        record.vectors += 1;
        record.growing += 1;
        state.set_embedding(key, Some(Embedding { vector: number }));
        state.set_vector(
            VectorKey { space, vector: number },
            Some(Vector {
                ino,
                ordinal,
                of: put.of,
                place: Place::Growing,
                indexed: false,
            }),
        );
        state.set_growing(GrowingKey { space, vector: number }, Some(Bytes(vector.into())));
    }
    put_space(state, space, record);
    if put.flags & flag::WHOLE != 0 {
        remove_range(state, ino, space, end, MAX_ORDINALS)?;
    }
    Ok(())
}

/// Removes the embeddings of some ordinals; gives how many there were.
pub(in crate::fs) fn remove_range(state: &mut State, ino: Ino, space: Ino, from: u32, to: u32) -> Result<usize> {
    let key = |ordinal: u32| EmbeddingKey {
        ino,
        space,
        ordinal: u64::from(ordinal),
    };
    let found = state.scan_embeddings(&key(from), &key(to.max(from)), usize::MAX)?;
    remove_all(state, &found)?;
    Ok(found.len())
}

/// Removes all embeddings of a file.
pub(in crate::fs) fn remove_of_file(state: &mut State, ino: Ino) -> Result<()> {
    let found = state.embeddings(ino, usize::MAX)?;
    remove_all(state, &found)
}

fn remove_all(state: &mut State, embeddings: &[(EmbeddingKey, u64)]) -> Result<()> {
    for of_space in embeddings.chunk_by(|(one, _), (other, _)| one.space == other.space) {
        let Some((EmbeddingKey { space, .. }, _)) = of_space.first().copied() else {
            continue;
        };
        let record = state.space(space)?.cloned();
        let mut record = record.ok_or_else(|| Damage::new(space, "has vectors, but is no space"))?;
        for (key, vector) in of_space {
            state.set_embedding(*key, None);
            forget(state, space, &mut record, *vector)?;
        }
        put_space(state, space, record);
    }
    Ok(())
}

/// A vector that no embedding names any more.
fn forget(state: &mut State, space: Ino, record: &mut Space, number: u64) -> Result<()> {
    let missing = |what: &str| {
        Damage::new(
            format_args!("space {}", space.0),
            format_args!("vector {number} {what}"),
        )
    };
    let vector = state
        .vector(space, number)?
        .ok_or_else(|| missing("is named by a file, but does not exist"))?;
    match vector.place {
        Place::Growing => {
            state.set_growing(GrowingKey { space, vector: number }, None);
            record.growing = record.growing.checked_sub(1).ok_or_else(|| missing("is not counted"))?;
        }
        Place::Sealed(at) => lose_from_slab(state, space, record.shape, at)?,
    }
    state.set_vector(VectorKey { space, vector: number }, None);
    state.tables.vectors.gone.note(space, number);
    record.vectors = record.vectors.checked_sub(1).ok_or_else(|| missing("is not counted"))?;
    Ok(())
}

/// The slab that a byte of the store is in: the last that does not begin behind it.
pub(in crate::fs) fn slab_at(state: &mut State, space: Ino, shape: Shape, byte: u64) -> Result<(u64, Slab)> {
    let block = FileBlock::of(byte).0;
    let most = slab::blocks(slab::capacity(shape.vector_bytes()), shape.vector_bytes());
    let key = |at| SlabKey { space, at };
    let tables = &state.tables.vectors;
    let (first, last) = (key(block.saturating_sub(most)), key(block + 1));
    let near = tables.slabs.scan(&state.base, &first, &last, usize::MAX)?;
    match near.last() {
        Some((key, slab)) if block < key.at + slab.blocks => Ok((key.at, *slab)),
        _ => Err(Damage::new(
            format_args!("space {}", space.0),
            format_args!("has a vector at byte {byte} of its store, where no slab is"),
        )),
    }
}

fn lose_from_slab(state: &mut State, space: Ino, shape: Shape, byte: u64) -> Result<()> {
    let (at, mut slab) = slab_at(state, space, shape, byte)?;
    slab.alive = slab.alive.checked_sub(1).ok_or_else(|| {
        Damage::new(
            format_args!("slab {at} of space {}", space.0),
            "counts fewer vectors than are in it",
        )
    })?;
    state.set_slab(SlabKey { space, at }, Some(slab));
    Ok(())
}

/// Vectors are in a new slab, in the order given. Those that are gone meanwhile are dead in it from the start.
fn seal(state: &mut State, space: Ino, at: FileBlock, vectors: &[u64]) -> Result<()> {
    let found = state.space(space)?.cloned();
    let mut record = found.ok_or(Error::Posix(Errno::NoEntry))?;
    let bytes = record.shape.vector_bytes();
    let blocks = slab::blocks(vectors.len(), bytes);
    let fits = !vectors.is_empty() && vectors.len() <= slab::capacity(bytes);
    let size = state.inode(space)?.size;
    if !fits || state.slab(space, at.0)?.is_some() || at.0.saturating_add(blocks) > size.div_ceil(BLOCK_SIZE as u64) {
        return Err(Errno::Invalid.into());
    }
    let mut alive = 0;
    for (index, &number) in (0_u64..).zip(vectors) {
        let Some(mut vector) = state.vector(space, number)? else {
            continue;
        };
        match vector.place {
            Place::Growing => {
                state.set_growing(GrowingKey { space, vector: number }, None);
                record.growing = record.growing.saturating_sub(1);
            }
            Place::Sealed(at) => lose_from_slab(state, space, record.shape, at)?,
        }
        vector.place = Place::Sealed(at.byte_at() + index * slab::stride(bytes) as u64);
        state.set_vector(VectorKey { space, vector: number }, Some(vector));
        alive += 1;
    }
    let slab = Slab {
        blocks,
        vectors: vectors.len() as u64,
        alive,
    };
    state.set_slab(SlabKey { space, at: at.0 }, Some(slab));
    put_space(state, space, record);
    Ok(())
}

/// A slab in which nothing is alive goes.
fn drop_slab(state: &mut State, space: Ino, at: FileBlock) -> Result<()> {
    let slab = state.slab(space, at.0)?.ok_or(Error::Posix(Errno::Stale))?;
    if slab.alive != 0 {
        return Err(Errno::Busy.into());
    }
    let inode = state.inode(space)?;
    state.set_slab(SlabKey { space, at: at.0 }, None);
    content::punch(state, space, at, slab.blocks, inode.modified)
}
