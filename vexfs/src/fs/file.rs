// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a file consists of: its map, as stretches. See `read` and `write` for its bytes.

use crate::checksum::Crc;
use crate::data::row::{Ptr, Row, Unit};
use crate::data::{CHUNK_BLOCKS, chunk_of};
use crate::error::{Damage, Errno, Result};
use crate::units::{FileBlock, Ino, Run};

use super::engine::{Core, Fs};
use super::record::{Inode, Kind};

/// How often reading or writing begins again when others change the same bytes.
pub(super) const ATTEMPTS: usize = 64;
/// With more blocks than this ahead, the end of a hole is looked for instead of walked to.
const FAR: u64 = 1024;

/// What a stretch of a file consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Zeros that nothing is stored for.
    Hole,
    /// Zeros that space is promised for.
    Promised,
    /// Bytes of the metadata, zeros following.
    Inline(Box<[u8]>),
    /// Blocks of the pool, with their checksums if the file has any.
    Blocks(Run, Option<Vec<Crc>>),
    /// Blocks of a compressed unit, from this one on.
    Packed(Unit, u8),
    /// Bytes that a check found lost.
    Lost,
}

/// A stretch of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// First block.
    pub at: FileBlock,
    /// Blocks.
    pub count: u64,
    /// What they consist of.
    pub source: Source,
}

impl Core {
    /// What a range of blocks consists of, in order, without gaps.
    pub(super) fn map(&mut self, ino: Ino, from: FileBlock, count: u64) -> Result<Vec<Extent>> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = from;
        let end = from.plus(count);
        while at < end {
            let (chunk, index) = chunk_of(at);
            let here = (CHUNK_BLOCKS - index as u64).min(end.0 - at.0);
            let indices = index..index + usize::try_from(here).unwrap_or(0);
            match self.state.row(ino, chunk)? {
                None if end.0 - at.0 > FAR => {
                    // Chunk by chunk, the hole of a sparse file of exabytes would take days.
                    let rows = self.state.rows(ino, chunk + 1, end.0.div_ceil(CHUNK_BLOCKS), 1)?;
                    let until = rows.first().map_or(end.0, |(next, _)| next * CHUNK_BLOCKS);
                    push(&mut extents, at, until - at.0, Source::Hole);
                    at = FileBlock(until);
                    continue;
                }
                None => push(&mut extents, at, here, Source::Hole),
                Some(Row::Inline(bytes)) => {
                    if index == 0 {
                        extents.push(Extent {
                            at,
                            count: 1,
                            source: Source::Inline(bytes.clone()),
                        });
                    }
                    let holes = here - u64::from(index == 0);
                    if holes > 0 {
                        push(&mut extents, FileBlock(at.0 + here - holes), holes, Source::Hole);
                    }
                }
                Some(Row::Map(map)) => {
                    for index in indices {
                        let at = FileBlock(chunk * CHUNK_BLOCKS + index as u64);
                        let source = match map.get(index) {
                            Ptr::Hole => Source::Hole,
                            Ptr::Promised => Source::Promised,
                            Ptr::Lost => Source::Lost,
                            Ptr::Data(block, crc) => {
                                // The common case grows the last extent in place.
                                if let Some(Extent {
                                    count,
                                    source: Source::Blocks(run, Some(crcs)),
                                    ..
                                }) = extents.last_mut()
                                    && run.end() == block
                                {
                                    *count += 1;
                                    run.count += 1;
                                    crcs.push(crc);
                                    continue;
                                }
                                Source::Blocks(Run::new(block, 1), Some(vec![crc]))
                            }
                            Ptr::Bare(block) => Source::Blocks(Run::new(block, 1), None),
                            Ptr::Packed { unit, index } => {
                                let unit = map.unit(unit).ok_or_else(|| Damage::new(ino, "names no such unit"))?;
                                Source::Packed(unit.clone(), index)
                            }
                        };
                        push(&mut extents, at, 1, source);
                    }
                }
            }
            at = at.plus(here);
        }
        Ok(extents)
    }

    /// Whether any block is named by others too.
    fn is_shared(&mut self, source: &Source) -> Result<bool> {
        let runs = match source {
            Source::Blocks(run, _) => std::slice::from_ref(run),
            Source::Packed(unit, _) => unit.runs.as_slice(),
            Source::Hole | Source::Promised | Source::Inline(_) | Source::Lost => &[],
        };
        for block in runs.iter().flat_map(|run| run.blocks()) {
            if self.state.is_shared(block)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a file's bytes are in the metadata.
    pub(super) fn is_inline(&mut self, ino: Ino) -> Result<bool> {
        Ok(matches!(self.state.row(ino, 0)?, Some(Row::Inline(_))))
    }

    pub(super) fn regular(&mut self, ino: Ino) -> Result<Inode> {
        let inode = self.state.inode(ino)?;
        match inode.kind() {
            Kind::File => Ok(inode),
            Kind::Directory => Err(Errno::IsDirectory.into()),
            _ => Err(Errno::Invalid.into()),
        }
    }
}

/// Adds a stretch, to the last one if it continues it.
fn push(extents: &mut Vec<Extent>, at: FileBlock, count: u64, source: Source) {
    if let Some(last) = extents.last_mut() {
        let continues = match (&mut last.source, &source) {
            (Source::Hole, Source::Hole) | (Source::Promised, Source::Promised) | (Source::Lost, Source::Lost) => true,
            (Source::Blocks(run, None), Source::Blocks(next, None)) if run.end() == next.start => {
                run.count += next.count;
                true
            }
            (Source::Packed(unit, first), Source::Packed(next, index)) => {
                unit == next && u64::from(*first) + last.count == u64::from(*index)
            }
            _ => false,
        };
        if continues {
            last.count += count;
            return;
        }
    }
    extents.push(Extent { at, count, source });
}

impl Fs {
    /// The same, at most `most` stretches, with whether others share each; also where that ends.
    pub fn shared_extents(
        &self,
        ino: Ino,
        from: FileBlock,
        count: u64,
        most: usize,
    ) -> Result<(Vec<(Extent, bool)>, FileBlock)> {
        let mut core = self.core();
        core.regular(ino)?;
        let mut found = Vec::new();
        let mut until = from;
        for extent in core.map(ino, from, count)? {
            if found.len() == most {
                break;
            }
            until = extent.at.plus(extent.count);
            let shared = core.is_shared(&extent.source)?;
            found.push((extent, shared));
        }
        Ok((found, until))
    }

    /// What a range of a file consists of, for `FIEMAP` and tests.
    pub fn extents(&self, ino: Ino, from: FileBlock, count: u64) -> Result<Vec<Extent>> {
        let mut core = self.core();
        core.regular(ino)?;
        core.map(ino, from, count)
    }
}
