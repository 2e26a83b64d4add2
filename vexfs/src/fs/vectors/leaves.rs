// SPDX-License-Identifier: MIT OR Apache-2.0

//! What operations on indexes do: records of leaves, whose blocks are in the space's store like slabs.
//!
//! Nothing of an index is needed to find a vector; it can go and be built again at any time.

use crate::error::{Errno, Error, Result};
use crate::fs::apply::content;
use crate::fs::op::Op;
use crate::fs::record::Bytes;
use crate::fs::state::State;
use crate::meta::Record;
use crate::units::{BLOCK_SIZE, FileBlock, Ino};
use crate::vector::codec::CodecConfig;
use crate::vector::codec::block::Layout;

use super::record::{
    CentreKey, IndexKey, IndexRecord, IndexState, LeafKey, LeafRow, SpaceState, VectorKey, decode_leaf,
};
use super::space::Shape;

/// How leaves of an index are laid out.
pub(crate) fn layout(shape: Shape, index: &IndexRecord) -> Layout {
    let config = CodecConfig {
        space: shape.space(),
        seed: index.seed,
        tier: index.tier,
        origin: Vec::new(),
    };
    config.leaf_layout()
}

/// Blocks of a leaf of so many items.
pub(crate) const fn blocks(layout: Layout, items: usize) -> u64 {
    let (codes, rows) = layout.sections(items);
    (codes + rows).div_ceil(BLOCK_SIZE) as u64
}

pub(super) fn apply(state: &mut State, operation: &Op<'_>) -> Result<()> {
    match *operation {
        Op::SetIndex { space, record } => set_index(state, space, record),
        Op::PutLeaves {
            space,
            ref leaves,
            ref dropped,
            ref placed,
        } => put(state, space, leaves, dropped, placed),
        Op::ForgetLeaves { space, until } => forget(state, space, until),
        _ => Err(Errno::Invalid.into()),
    }
}

/// The shape of a space that is in use.
fn shape_of(state: &mut State, space: Ino) -> Result<Shape> {
    let found = state.space(space)?.filter(|space| space.state == SpaceState::Active);
    Ok(found.ok_or(Error::Posix(Errno::NoEntry))?.shape)
}

fn set_index(state: &mut State, space: Ino, record: &[u8]) -> Result<()> {
    let shape = shape_of(state, space)?;
    let record = IndexRecord::decode(record).map_err(|_| Error::Posix(Errno::Invalid))?;
    if !record.origin.is_empty() && record.origin.len() != shape.dimensions as usize * 2 {
        return Err(Errno::Invalid.into());
    }
    state.set_index(IndexKey { space }, Some(record));
    Ok(())
}

fn put(state: &mut State, space: Ino, leaves: &[&[u8]], dropped: &[u64], placed: &[u64]) -> Result<()> {
    let shape = shape_of(state, space)?;
    let index = state.index(space)?.cloned().ok_or(Error::Posix(Errno::Stale))?;
    let layout = layout(shape, &index);
    let end = state.inode(space)?.size.div_ceil(BLOCK_SIZE as u64);
    for bytes in leaves {
        let (leaf, row, centre) = decode_leaf(bytes).map_err(|_| Error::Posix(Errno::Invalid))?;
        let leaf = u64::from(leaf);
        let old = state.leaf(space, leaf)?;
        let centre_fits = match old {
            Some(_) if centre.is_empty() => true,
            _ => centre.len() == shape.dimensions as usize * 2,
        };
        if !centre_fits || row.at + row.blocks > end || row.blocks != blocks(layout, row.items as usize) {
            return Err(Errno::Invalid.into());
        }
        if let Some(old) = old {
            free(state, space, old)?;
        }
        state.set_leaf(LeafKey { space, leaf }, Some(row));
        if !centre.is_empty() {
            state.set_centre(CentreKey { space, leaf }, Some(Bytes(centre.into())));
        }
    }
    for &leaf in dropped {
        let old = state.leaf(space, leaf)?.ok_or(Error::Posix(Errno::Stale))?;
        free(state, space, old)?;
        remove(state, space, leaf);
    }
    for &vector in placed {
        // It may have gone meanwhile.
        if let Some(mut record) = state.vector(space, vector)? {
            record.indexed = true;
            state.set_vector(VectorKey { space, vector }, Some(record));
        }
    }
    Ok(())
}

fn free(state: &mut State, space: Ino, row: LeafRow) -> Result<()> {
    let modified = state.inode(space)?.modified;
    content::punch(state, space, FileBlock(row.at), row.blocks, modified)
}

fn remove(state: &mut State, space: Ino, leaf: u64) {
    state.set_leaf(LeafKey { space, leaf }, None);
    state.set_centre(CentreKey { space, leaf }, None);
}

fn forget(state: &mut State, space: Ino, until: u64) -> Result<()> {
    shape_of(state, space)?;
    if state
        .index(space)?
        .is_some_and(|index| index.state == IndexState::InUse)
    {
        return Err(Errno::Busy.into());
    }
    forget_all(state, space, until)
}

fn forget_all(state: &mut State, space: Ino, until: u64) -> Result<()> {
    let leaves = state.leaves_in(space, 0..until, usize::MAX)?;
    let centres = state.centres_in(space, 0..until, usize::MAX)?;
    let numbers = leaves.iter().map(|(leaf, _)| *leaf);
    for leaf in numbers.chain(centres.iter().map(|(leaf, _)| *leaf)) {
        remove(state, space, leaf);
    }
    Ok(())
}

/// All records of the index of a space that goes.
pub(super) fn drop_index(state: &mut State, space: Ino) -> Result<()> {
    forget_all(state, space, u64::MAX)?;
    state.set_index(IndexKey { space }, None);
    Ok(())
}
