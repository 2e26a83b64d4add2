// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading the bytes of one row's blocks, and comparing them with their checksums.

use super::issue::Issue;
use super::round::Round;
use crate::checksum::Crc;
use crate::data::row::{Map, Ptr};
use crate::data::{CHUNK_BLOCKS, CHUNK_LEN};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::fs::read::unpack;
use crate::units::{BLOCK_SIZE, Block, Ino};

/// What is wrong with the bytes of one block, or of one compressed unit.
pub(super) enum Fault {
    /// They are not what was written.
    Damaged,
    /// The device says so.
    Unreadable(String),
    /// They are known to be lost.
    Lost,
}

/// Something wrong in a row.
pub(super) struct Finding {
    /// First block of the chunk.
    index: usize,
    /// Blocks of the file.
    count: u64,
    block: Block,
    fault: Fault,
}

impl Finding {
    /// As an issue of a file.
    pub(super) fn issue(self, ino: Ino, chunk: u64) -> Issue {
        let at = (chunk * CHUNK_BLOCKS + self.index as u64) * BLOCK_SIZE as u64;
        let (bytes, block) = (self.count * BLOCK_SIZE as u64, self.block);
        match self.fault {
            Fault::Damaged => Issue::DataDamaged { ino, at, bytes, block },
            Fault::Unreadable(what) => Issue::DataUnreadable {
                ino,
                at,
                bytes,
                block,
                what,
            },
            Fault::Lost => Issue::DataLost { ino, at, bytes },
        }
    }
}

/// Reads everything a row names; blocks that lie side by side with one read. Gives what is wrong, and how many blocks were
/// read.
pub(super) fn read_row(disk: &dyn Disk, map: &Map) -> Result<(Vec<Finding>, u64)> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut read = 0;
    let mut index = 0;
    let mut buffer = Vec::new();
    while index < CHUNK_LEN {
        let (count, found) = match map.get(index) {
            Ptr::Hole | Ptr::Promised => (1, Vec::new()),
            Ptr::Lost => (1, vec![(0, Block(0), Fault::Lost)]),
            Ptr::Data(block, _) | Ptr::Bare(block) => {
                let count = together(map, index, block);
                read += count as u64;
                (count, read_run(disk, map, index, block, count, &mut buffer))
            }
            Ptr::Packed { unit, .. } => {
                let same = |index: &usize| matches!(map.get(*index), Ptr::Packed { unit: other, .. } if other == unit);
                let count = (index..CHUNK_LEN).take_while(same).count();
                let Some(unit) = map.unit(unit) else {
                    index += count;
                    continue;
                };
                read += unit.runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
                let fault = match unpack(disk, unit) {
                    Ok(_) => None,
                    Err(Error::Damaged(_)) => Some(Fault::Damaged),
                    Err(Error::Io(failure)) => Some(Fault::Unreadable(failure.to_string())),
                    Err(error) => return Err(error),
                };
                if let Some(fault) = fault {
                    let block = unit.runs.first().map_or(Block(0), |run| run.start);
                    findings.push(Finding {
                        index,
                        count: count as u64,
                        block,
                        fault,
                    });
                }
                (count, Vec::new())
            }
        };
        for (offset, block, fault) in found {
            // Neighbours of the same fate are told together.
            if let Some(last) = findings.last_mut()
                && last.index + usize::try_from(last.count).unwrap_or(0) == index + offset
                && std::mem::discriminant(&last.fault) == std::mem::discriminant(&fault)
            {
                last.count += 1;
                continue;
            }
            findings.push(Finding {
                index: index + offset,
                count: 1,
                block,
                fault,
            });
        }
        index += count.max(1);
    }
    Ok((findings, read))
}

/// Blocks of the row from an index on that lie side by side in the pool.
fn together(map: &Map, index: usize, block: Block) -> usize {
    let follows = |(offset, index): &(u64, usize)| match map.get(*index) {
        Ptr::Data(next, _) | Ptr::Bare(next) => next.0 == block.0 + offset,
        _ => false,
    };
    (0..).zip(index..CHUNK_LEN).take_while(follows).count()
}

fn read_run(
    disk: &dyn Disk,
    map: &Map,
    index: usize,
    block: Block,
    count: usize,
    buffer: &mut Vec<u8>,
) -> Vec<(usize, Block, Fault)> {
    buffer.resize(count * BLOCK_SIZE, 0);
    let whole = disk.read(block.byte_at(), buffer).is_ok();
    let mut faults = Vec::new();
    for (offset, bytes) in buffer.chunks_exact_mut(BLOCK_SIZE).enumerate() {
        let here = block.plus(offset as u64);
        if !whole && let Err(error) = disk.read(here.byte_at(), bytes) {
            faults.push((offset, here, Fault::Unreadable(error.to_string())));
            continue;
        }
        if let Ptr::Data(_, crc) = map.get(index + offset)
            && Crc::of(bytes) != crc
        {
            faults.push((offset, here, Fault::Damaged));
        }
    }
    faults
}

/// The same as a part of a check.
pub(super) fn verify_row(round: &mut Round<'_, '_>, ino: Ino, chunk: u64, map: &Map) -> Result<()> {
    let (findings, _) = read_row(round.around.disk, map)?;
    for finding in findings {
        round.issue(finding.issue(ino, chunk));
    }
    Ok(())
}
