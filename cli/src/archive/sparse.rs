// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the contents of a file with holes belong.
//!
//! Written is GNU tar's form 1.0: in front of the contents stands a map of decimal numbers, each on a line: how many
//! entries, then offset and length of each, filled up to a whole block. Read are also 0.0 (pairs of records), 0.1 (one
//! record) and the older entries inside the header.
//!
//! GNU tar begins each region at a whole block of the archive, bsdtar does not. They agree where all regions but the last
//! are whole blocks, as those of a pool are; where they do not, the length of the contents tells who wrote them.

use std::ops::Range;

use vexfs::fs::MAX_FILE_BYTES;

use super::pax::{Records, number};
use super::{ArchiveError, BLOCK_BYTES, MAX_REGIONS, padding};

/// Where the contents belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    /// Bytes of the file.
    pub(crate) size: u64,
    /// Ranges that hold bytes, in order, none empty.
    pub(crate) regions: Vec<Range<u64>>,
}

impl Map {
    /// A file without holes.
    pub(crate) fn whole(size: u64) -> Self {
        let regions = if size == 0 {
            Vec::new()
        } else {
            std::iter::once(0..size).collect()
        };
        Self { size, regions }
    }

    /// Of untrusted pairs of offset and length: in order, inside the file.
    pub(crate) fn new(size: u64, pairs: impl IntoIterator<Item = (u64, u64)>) -> Result<Self, ArchiveError> {
        // Sums of what follows then fit into 64 bits, however it is filled up.
        if size > MAX_FILE_BYTES {
            return Err(ArchiveError::Sparse("the file is larger than any can be"));
        }
        let mut regions = Vec::new();
        let mut last = 0;
        for (at, length) in pairs {
            let end = at.checked_add(length).filter(|&end| end <= size && at >= last);
            let end = end.ok_or(ArchiveError::Sparse("its entries overlap or leave the file"))?;
            last = end;
            if length > 0 {
                regions.push(at..end);
            }
        }
        Ok(Self { size, regions })
    }

    /// Bytes that are stored.
    pub(crate) fn stored(&self) -> u64 {
        self.regions.iter().map(|region| region.end - region.start).sum()
    }

    /// Whether regions begin at whole blocks of the archive, given how long the contents are.
    pub(crate) fn is_padded(&self, contents: u64) -> Result<bool, ArchiveError> {
        let padded: u64 = self
            .regions
            .iter()
            .map(|region| region.end - region.start)
            .map(|length| length + padding(length))
            .sum();
        if contents == self.stored() {
            Ok(false)
        } else if contents == padded || padding(contents) + contents == padded {
            Ok(true)
        } else {
            Err(ArchiveError::Sparse("it does not have the length of the contents"))
        }
    }

    /// The map as it stands before the contents, if there are holes. With too many regions the last ones become one: their
    /// holes are written as zeros.
    pub(crate) fn limited(&self) -> Self {
        let mut regions = self.regions.clone();
        if let (true, Some(last)) = (regions.len() >= MAX_REGIONS, self.regions.last()) {
            regions.truncate(MAX_REGIONS - 1);
            if let Some(kept) = regions.last_mut() {
                kept.end = last.end;
            }
        }
        Self {
            size: self.size,
            regions,
        }
    }

    /// Whether something is missing.
    pub(crate) fn has_holes(&self) -> bool {
        self.stored() < self.size
    }

    /// The bytes of form 1.0.
    pub(crate) fn encode(&self) -> Vec<u8> {
        use std::io::Write as _;
        let ends_in_hole = self.regions.last().is_none_or(|last| last.end < self.size);
        let mut pairs: Vec<(u64, u64)> = self
            .regions
            .iter()
            .map(|region| (region.start, region.end - region.start))
            .collect();
        if ends_in_hole {
            pairs.push((self.size, 0));
        }
        let mut text = format!("{}\n", pairs.len()).into_bytes();
        for (at, length) in pairs {
            // Writing into a vector cannot fail.
            let _ = writeln!(text, "{at}\n{length}");
        }
        let fill = padding(text.len() as u64);
        text.resize(text.len() + usize::try_from(fill).unwrap_or(0), 0);
        text
    }

    /// Forms 0.0 and 0.1, which are records.
    pub(crate) fn of_records(records: &Records) -> Result<Option<Self>, ArchiveError> {
        let Some(size) = records.number("GNU.sparse.size")? else {
            return Ok(None);
        };
        let wrong = || ArchiveError::Sparse("a number is missing");
        let mut numbers = Vec::new();
        if let Some(text) = records.get("GNU.sparse.map") {
            for text in text.split(|&byte| byte == b',').filter(|text| !text.is_empty()) {
                push(&mut numbers, number(text).ok_or_else(wrong)?)?;
            }
        } else {
            for (keyword, value) in records.iter() {
                if matches!(keyword, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                    push(&mut numbers, number(value).ok_or_else(wrong)?)?;
                }
            }
        }
        Self::of_numbers(size, &numbers).map(Some)
    }

    /// Of offsets and lengths in turn.
    pub(crate) fn of_numbers(size: u64, numbers: &[u64]) -> Result<Self, ArchiveError> {
        let pairs = numbers.chunks(2).map(|pair| match pair {
            [at, length] => Ok((*at, *length)),
            _ => Err(ArchiveError::Sparse("a number is missing")),
        });
        Self::new(size, pairs.collect::<Result<Vec<_>, _>>()?)
    }
}

/// Adds a number of a map, unless there are too many.
pub(crate) fn push(numbers: &mut Vec<u64>, number: u64) -> Result<(), ArchiveError> {
    if numbers.len() >= 2 * MAX_REGIONS {
        return Err(ArchiveError::Sparse("it has too many entries"));
    }
    numbers.push(number);
    Ok(())
}

/// Reads the map of form 1.0 block by block. `next` gives the next block of the contents; the result is the numbers and
/// how many blocks they took.
pub(crate) fn read_numbers(
    mut next: impl FnMut() -> anyhow::Result<[u8; BLOCK_BYTES]>,
) -> anyhow::Result<(Vec<u64>, u64)> {
    let (mut numbers, mut wanted, mut blocks) = (Vec::new(), None, 0);
    let mut digits = Vec::new();
    loop {
        let block = next()?;
        blocks += 1;
        for byte in block {
            if byte != b'\n' {
                if digits.len() > 20 {
                    return Err(ArchiveError::Sparse("a number is too long").into());
                }
                digits.push(byte);
                continue;
            }
            let value = number(&digits).ok_or(ArchiveError::Sparse("a number is missing"))?;
            digits.clear();
            if wanted.is_none() {
                let entries = usize::try_from(value).ok().filter(|&entries| entries <= MAX_REGIONS);
                wanted = Some(2 * entries.ok_or(ArchiveError::Sparse("it has too many entries"))?);
            } else {
                numbers.push(value);
            }
            if Some(numbers.len()) == wanted {
                return Ok((numbers, blocks));
            }
        }
    }
}
