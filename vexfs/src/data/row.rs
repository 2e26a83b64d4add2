// SPDX-License-Identifier: MIT OR Apache-2.0

//! One row of a file's map: what 32 consecutive blocks of a file consist of.
//!
//! Bytes (`v` = varint), by their first byte:
//!
//! ```text
//! 0 inline    the file's bytes themselves; only in chunk 0 of a file that is no longer than INLINE_BYTES, or of a symlink
//! 1 map       units v, then each: algorithm 1 · file blocks 1 · compressed bytes v · crc 4 · runs v · (start v · count v)…
//!             then stretches until all 32 blocks are told or only holes follow, each: tag 1 · count 1 · body
//!               tag 0 hole      –
//!               tag 1 promised  –
//!               tag 2 data      start v, crc 4 per block        (count blocks side by side in the pool)
//!               tag 3 bare      start v                          (the same, without checksums)
//!               tag 4 packed    unit 1, index of the first 1     (count blocks of one compressed unit)
//!               tag 5 lost      –                                (bytes that a check found lost)
//! ```

use crate::checksum::Crc;
use crate::codec::{DecodeError, Reader, Writer};
use crate::meta::Record;
use crate::units::{BLOCK_SIZE, Block, Run};

use super::CHUNK_BLOCKS;
use super::compress::Algorithm;

type Decoded<T> = std::result::Result<T, DecodeError>;

/// Longest file that is stored in its row.
pub const INLINE_BYTES: usize = 2048;
/// Longest target of a symbolic link, which is always stored in its row.
pub const SYMLINK_BYTES: usize = 4095;
const CHUNK: usize = super::CHUNK_LEN;

/// What one block of a file consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ptr {
    /// Zeros.
    #[default]
    Hole,
    /// Zeros, and the promise that writing will find space.
    Promised,
    /// A block of the pool whose bytes have this checksum.
    Data(Block, Crc),
    /// A block of the pool, not checksummed.
    Bare(Block),
    /// A block of a compressed unit of this row.
    Packed {
        /// Which unit.
        unit: u8,
        /// Which of its blocks.
        index: u8,
    },
    /// Bytes that were lost with what told where they are. Reading is an error until they are written again, so that
    /// nobody takes them for zeros. Made by checks only.
    Lost,
}

/// Several file blocks compressed together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// How.
    pub algorithm: Algorithm,
    /// File blocks it unpacks to: 2 to 32.
    pub file_blocks: u8,
    /// Length of the compressed bytes.
    pub bytes: u32,
    /// Of the compressed bytes.
    pub crc: Crc,
    /// Where they are; the last block is filled with zeros.
    pub runs: Vec<Run>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Row {
    /// The file's first bytes, zeros following up to the file's size.
    Inline(Box<[u8]>),
    /// Blocks.
    Map(Map),
}

/// The blocks of a row.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Map {
    /// At most 32; those missing are holes. The last is never a hole.
    ptrs: Vec<Ptr>,
    /// The compressed units; each is named by at least one pointer.
    units: Vec<Unit>,
}

impl Map {
    /// What a block consists of.
    pub fn get(&self, index: usize) -> Ptr {
        self.ptrs.get(index).copied().unwrap_or_default()
    }

    /// All blocks that are not holes, with their places.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Ptr)> + '_ {
        self.ptrs
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, ptr)| *ptr != Ptr::Hole)
    }

    /// The unit a pointer names.
    pub fn unit(&self, unit: u8) -> Option<&Unit> {
        self.units.get(usize::from(unit))
    }

    /// All units.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// Whether everything is a hole.
    pub fn is_empty(&self) -> bool {
        self.ptrs.is_empty()
    }

    /// Changes a block; returns what it was. A unit that nothing names any more is left to [`Self::sweep`].
    pub fn set(&mut self, index: usize, ptr: Ptr) -> Ptr {
        debug_assert!(index < CHUNK, "a row has 32 blocks");
        if index >= self.ptrs.len() {
            if ptr == Ptr::Hole {
                return Ptr::Hole;
            }
            self.ptrs.resize(index + 1, Ptr::Hole);
        }
        let old = self
            .ptrs
            .get_mut(index)
            .map_or(Ptr::Hole, |place| std::mem::replace(place, ptr));
        while self.ptrs.last() == Some(&Ptr::Hole) {
            self.ptrs.pop();
        }
        old
    }

    /// Adds a unit and returns its number, to be named by pointers.
    pub fn add_unit(&mut self, unit: Unit) -> u8 {
        self.units.push(unit);
        u8::try_from(self.units.len() - 1).unwrap_or(u8::MAX)
    }

    /// Removes the units that no pointer names any more, and returns them.
    pub fn sweep(&mut self) -> Vec<Unit> {
        let mut gone = Vec::new();
        let mut unit = 0;
        while unit < self.units.len() {
            let named = self
                .ptrs
                .iter()
                .any(|ptr| matches!(ptr, Ptr::Packed { unit: named, .. } if usize::from(*named) == unit));
            if named {
                unit += 1;
                continue;
            }
            gone.push(self.units.remove(unit));
            for ptr in &mut self.ptrs {
                if let Ptr::Packed { unit: named, .. } = ptr
                    && usize::from(*named) > unit
                {
                    *named -= 1;
                }
            }
        }
        gone
    }

    /// Blocks of the pool that the row names, each as often as it names it.
    pub fn pool_blocks(&self) -> impl Iterator<Item = Block> + '_ {
        let single = self.ptrs.iter().filter_map(|ptr| match ptr {
            Ptr::Data(block, _) | Ptr::Bare(block) => Some(*block),
            Ptr::Hole | Ptr::Promised | Ptr::Packed { .. } | Ptr::Lost => None,
        });
        let packed = self
            .units
            .iter()
            .flat_map(|unit| &unit.runs)
            .flat_map(|run| run.blocks());
        single.chain(packed)
    }

    /// Number of [`Self::pool_blocks`].
    pub fn pool_block_count(&self) -> u64 {
        self.pool_blocks().count() as u64
    }

    /// Number of promised blocks.
    pub fn promised(&self) -> u64 {
        self.ptrs.iter().filter(|ptr| **ptr == Ptr::Promised).count() as u64
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.units.len() as u64);
        for unit in &self.units {
            out.put_u8(unit.algorithm as u8);
            out.put_u8(unit.file_blocks);
            out.put_varint(u64::from(unit.bytes));
            out.put_u32(unit.crc.0);
            out.put_varint(unit.runs.len() as u64);
            for run in &unit.runs {
                out.put_varint(run.start.0);
                out.put_varint(u64::from(run.count));
            }
        }
        let mut rest = self.ptrs.as_slice();
        while let Some(&first) = rest.first() {
            let count = 1 + rest.windows(2).take_while(|pair| continues(pair)).count();
            let (stretch, later) = rest.split_at(count);
            out.put_u8(tag(first));
            out.put_u8(u8::try_from(count).unwrap_or(u8::MAX));
            match first {
                Ptr::Hole | Ptr::Promised | Ptr::Lost => {}
                Ptr::Data(start, _) => {
                    out.put_varint(start.0);
                    for ptr in stretch {
                        if let Ptr::Data(_, crc) = ptr {
                            out.put_u32(crc.0);
                        }
                    }
                }
                Ptr::Bare(start) => out.put_varint(start.0),
                Ptr::Packed { unit, index } => {
                    out.put_u8(unit);
                    out.put_u8(index);
                }
            }
            rest = later;
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Decoded<Self> {
        let units = reader.varint("units")?;
        if units > CHUNK_BLOCKS {
            return Err(DecodeError::invalid("units", units));
        }
        let units = (0..units).map(|_| decode_unit(reader)).collect::<Decoded<Vec<_>>>()?;
        let mut ptrs = Vec::new();
        while reader.remaining() > 0 {
            let tag = reader.u8("tag")?;
            let count = reader.u8("count")?;
            if count == 0 || ptrs.len() + usize::from(count) > CHUNK {
                return Err(DecodeError::invalid("count", count));
            }
            match tag {
                0 => ptrs.extend((0..count).map(|_| Ptr::Hole)),
                1 => ptrs.extend((0..count).map(|_| Ptr::Promised)),
                2 => {
                    let run = decode_run(reader.varint("start")?, u32::from(count))?;
                    for block in run.blocks() {
                        ptrs.push(Ptr::Data(block, Crc(reader.u32("crc")?)));
                    }
                }
                3 => {
                    let run = decode_run(reader.varint("start")?, u32::from(count))?;
                    ptrs.extend(run.blocks().map(Ptr::Bare));
                }
                4 => {
                    let (unit, index) = (reader.u8("unit")?, reader.u8("index")?);
                    let blocks = units.get(usize::from(unit)).map_or(0, |unit: &Unit| unit.file_blocks);
                    if index.checked_add(count).is_none_or(|end| end > blocks) {
                        return Err(DecodeError::invalid("index", index));
                    }
                    ptrs.extend((index..index + count).map(|index| Ptr::Packed { unit, index }));
                }
                5 => ptrs.extend((0..count).map(|_| Ptr::Lost)),
                other => return Err(DecodeError::invalid("tag", other)),
            }
        }
        let mut map = Self { ptrs, units };
        if map.ptrs.last() == Some(&Ptr::Hole) {
            return Err(DecodeError::invalid("hole at the end", map.ptrs.len() as u64));
        }
        if !map.sweep().is_empty() {
            return Err(DecodeError::invalid("unit nobody names", map.units.len() as u64));
        }
        Ok(map)
    }
}

fn tag(ptr: Ptr) -> u8 {
    match ptr {
        Ptr::Hole => 0,
        Ptr::Promised => 1,
        Ptr::Data(..) => 2,
        Ptr::Bare(_) => 3,
        Ptr::Packed { .. } => 4,
        Ptr::Lost => 5,
    }
}

fn continues(pair: &[Ptr]) -> bool {
    match pair {
        [Ptr::Hole, Ptr::Hole] | [Ptr::Promised, Ptr::Promised] | [Ptr::Lost, Ptr::Lost] => true,
        [Ptr::Data(a, _), Ptr::Data(b, _)] | [Ptr::Bare(a), Ptr::Bare(b)] => a.0 + 1 == b.0,
        [Ptr::Packed { unit: a, index: i }, Ptr::Packed { unit: b, index: j }] => a == b && i + 1 == *j,
        _ => false,
    }
}

fn decode_run(start: u64, count: u32) -> Decoded<Run> {
    let run = Run::new(Block(start), count);
    if run.fits(Block::LIMIT) {
        Ok(run)
    } else {
        Err(DecodeError::invalid("run", start))
    }
}

fn decode_unit(reader: &mut Reader<'_>) -> Decoded<Unit> {
    let algorithm = reader.u8("algorithm")?;
    let algorithm = Algorithm::of_number(algorithm).ok_or(DecodeError::invalid("algorithm", algorithm))?;
    let file_blocks = reader.u8("file blocks")?;
    if !(2..=32).contains(&file_blocks) {
        return Err(DecodeError::invalid("file blocks", file_blocks));
    }
    let bytes = reader.varint32("compressed bytes")?;
    let crc = Crc(reader.u32("crc")?);
    let count = reader.varint("runs")?;
    if count > u64::from(file_blocks) {
        return Err(DecodeError::invalid("runs", count));
    }
    let runs = (0..count)
        .map(|_| decode_run(reader.varint("start")?, reader.varint32("count")?))
        .collect::<Decoded<Vec<_>>>()?;
    let capacity: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
    if bytes == 0 || capacity >= u64::from(file_blocks) || u64::from(bytes).div_ceil(BLOCK_SIZE as u64) != capacity {
        return Err(DecodeError::invalid("compressed bytes", bytes));
    }
    Ok(Unit {
        algorithm,
        file_blocks,
        bytes,
        crc,
        runs,
    })
}

impl Record for Row {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Inline(bytes) => {
                out.put_u8(0);
                out.put(bytes);
            }
            Self::Map(map) => {
                out.put_u8(1);
                map.encode(out);
            }
        }
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        match reader.u8("row kind")? {
            0 => {
                let bytes = reader.bytes(reader.remaining(), "inline")?;
                if bytes.len() > SYMLINK_BYTES {
                    return Err(DecodeError::invalid("inline length", bytes.len() as u64));
                }
                Ok(Self::Inline(bytes.into()))
            }
            1 => Map::decode(&mut reader).map(Self::Map),
            other => Err(DecodeError::invalid("row kind", other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ptr() -> impl Strategy<Value = Ptr> {
        prop_oneof![
            Just(Ptr::Hole),
            Just(Ptr::Promised),
            Just(Ptr::Lost),
            (0_u64..80, any::<u32>()).prop_map(|(block, crc)| Ptr::Data(Block(block), Crc(crc))),
            (0_u64..80).prop_map(|block| Ptr::Bare(Block(block))),
        ]
    }

    fn row() -> impl Strategy<Value = Map> {
        (
            prop::collection::vec(ptr(), 0..=32),
            prop::option::of((2_u8..=8, 0_usize..24)),
        )
            .prop_map(|(ptrs, unit)| {
                let mut map = Map::default();
                for (index, ptr) in ptrs.into_iter().enumerate() {
                    map.set(index, ptr);
                }
                if let Some((file_blocks, at)) = unit {
                    let unit = map.add_unit(Unit {
                        algorithm: Algorithm::Lz4,
                        file_blocks,
                        bytes: 4000,
                        crc: Crc(7),
                        runs: vec![Run::new(Block(900), 1)],
                    });
                    for index in 0..file_blocks {
                        map.set(at + usize::from(index), Ptr::Packed { unit, index });
                    }
                }
                map
            })
    }

    proptest! {
        #[test]
        fn a_row_decodes_to_what_was_encoded(map in row()) {
            let mut bytes = Vec::new();
            let row = Row::Map(map);
            row.encode(&mut bytes);
            prop_assert_eq!(Row::decode(&bytes), Ok(row));
        }

        #[test]
        fn damaged_rows_decode_or_fail(map in row(), at: prop::sample::Index, value: u8) {
            let mut bytes = Vec::new();
            Row::Map(map).encode(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let Ok(Row::Map(map)) = Row::decode(&bytes) {
                prop_assert!(map.ptrs.len() <= CHUNK);
                prop_assert!(map.pool_blocks().all(|block| block.0 < Block::LIMIT));
            }
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes: Vec<u8>) {
            let _ = Row::decode(&bytes);
        }
    }
}
