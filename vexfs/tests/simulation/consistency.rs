// SPDX-License-Identifier: MIT OR Apache-2.0

//! What must hold of any open pool, besides what walking its tree shows: the one place to ask a checker.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

use vexfs::data::CHUNK_BLOCKS;
use vexfs::error::Error;
use vexfs::fs::vectors::Sought;
use vexfs::fs::vectors::space::Shape;
use vexfs::fs::{Called, Fs, Source};
use vexfs::units::{Block, FileBlock, Ino};

use crate::model::{Id, State};

/// Sequences stay below this: 64 MiB.
const MOST_BLOCKS: u64 = 16_384;

/// Counts of files and blocks agree with what the files name, and files know their names.
pub fn check(fs: &Fs, inos: &BTreeMap<Id, Ino>, state: &State) -> Result<(), String> {
    names(fs, inos, state)?;
    let told = fs.statistics();
    // Each space has a store.
    let files = state.nodes().count() as u64 + 1;
    if told.inodes != files {
        return Err(format!("there are {files} files, but {told:?}"));
    }
    let mut used: HashSet<Block> = HashSet::new();
    let mut promised = 0;
    for (id, node) in state.nodes().filter(|(_, node)| node.content().is_some()) {
        if node.size() > MOST_BLOCKS * 4096 {
            return Ok(());
        }
        let ino = inos.get(&id).copied().unwrap_or_default();
        let before = used.len();
        // Of blocks that are named twice, how often they count is left to the engine.
        let mut shared = false;
        let blocks = blocks_of(fs, ino, &mut promised, &mut shared).map_err(|error| format!("{ino}: {error}"))?;
        let named = blocks.len();
        for block in blocks {
            shared |= !used.insert(block);
        }
        let counted = fs.attributes(ino).map_err(|error| error.to_string())?.inode.blocks;
        if counted < (used.len() - before) as u64 || !shared && counted != named as u64 {
            return Err(format!("{ino} counts {counted} blocks but names {named}"));
        }
    }
    for space in fs.spaces().map_err(|error| error.to_string())? {
        let mut shared = false;
        let blocks = blocks_of(fs, space.id, &mut promised, &mut shared);
        used.extend(blocks.map_err(|error| format!("store {}: {error}", space.id))?);
        vectors(fs, space.id, space.space.shape).map_err(|error| format!("space {}: {error}", space.id))?;
    }
    let names = used.len() as u64;
    if told.file_blocks != names || told.promised_blocks != promised {
        return Err(format!(
            "files name {names} blocks and are promised {promised}, but {told:?}"
        ));
    }
    Ok(())
}

/// The index finds every vector there is, and no other.
fn vectors(fs: &Fs, space: Ino, shape: Shape) -> Result<(), String> {
    let mut wanted = BTreeSet::new();
    let scanned = fs.scan_vectors(space, &mut |found| {
        if fs.is_alive(space, &found)? {
            wanted.insert((found.vector, found.ino, found.ordinal));
        }
        Ok(ControlFlow::Continue(()))
    });
    scanned.map_err(|error| error.to_string())?;
    let sought = Sought {
        query: &vec![0; shape.vector_bytes()],
        count: wanted.len() + 10,
        effort: 100,
        below: f32::INFINITY,
        accept: None,
    };
    let found = fs.nearest_vectors(space, &sought).map_err(|error| error.to_string())?;
    let Some(found) = found else {
        return Ok(());
    };
    let neighbours = found.found.iter();
    let found: BTreeSet<_> = neighbours.map(|near| (near.vector, near.ino, near.ordinal)).collect();
    if found == wanted {
        return Ok(());
    }
    Err(format!("there are {wanted:?}, but the index finds {found:?}"))
}

/// Each file knows every name it has, and no other.
fn names(fs: &Fs, inos: &BTreeMap<Id, Ino>, state: &State) -> Result<(), String> {
    let ino = |id: Id| inos.get(&id).copied().unwrap_or_default();
    let mut wanted: BTreeMap<Ino, Vec<Called>> = state.nodes().map(|(id, _)| (ino(id), Vec::new())).collect();
    for (id, node) in state.nodes() {
        for (name, &child) in node.entries().into_iter().flatten() {
            let (directory, name) = (ino(id), name.as_slice().into());
            wanted.entry(ino(child)).or_default().push(Called { directory, name });
        }
    }
    for (ino, mut wanted) in wanted {
        let mut found = fs.names_of(ino, usize::MAX).map_err(|error| error.to_string())?;
        wanted.sort();
        found.sort();
        if found != wanted {
            return Err(format!("{ino} is called {wanted:?}, but knows {found:?}"));
        }
    }
    Ok(())
}

/// The blocks of the pool that a file names, each once per row; adds what it is promised, and notes units that are named in parts.
fn blocks_of(fs: &Fs, ino: Ino, promised: &mut u64, shared: &mut bool) -> Result<Vec<Block>, Error> {
    let mut blocks = Vec::new();
    let mut units: HashSet<(u64, Block)> = HashSet::new();
    for extent in fs.extents(ino, FileBlock(0), MOST_BLOCKS)? {
        match extent.source {
            Source::Promised => *promised += extent.count,
            Source::Blocks(run, _) => blocks.extend(run.blocks()),
            Source::Packed(unit, _) => {
                *shared |= extent.count != u64::from(unit.file_blocks);
                let first = unit.runs.first().map(|run| run.start).unwrap_or_default();
                for row in extent.at.0 / CHUNK_BLOCKS..(extent.at.0 + extent.count).div_ceil(CHUNK_BLOCKS) {
                    if units.insert((row, first)) {
                        blocks.extend(unit.runs.iter().flat_map(|run| run.blocks()));
                    } else {
                        *shared = true;
                    }
                }
            }
            Source::Hole | Source::Inline(_) | Source::Lost => {}
        }
    }
    Ok(blocks)
}
