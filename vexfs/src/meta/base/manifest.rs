// SPDX-License-Identifier: MIT OR Apache-2.0

//! The manifest: the list of all tables, from which everything else of the base follows.
//!
//! It is one byte stream, cut into a chain of blocks that a [`ManifestRef`] (in the superblock) begins:
//!
//! | at | size | content of a block of the chain |
//! |---|---|---|
//! | 0 | 4 | CRC32C of bytes 4..4096 |
//! | 4 | 4 | "VXMF" |
//! | 8 | 4 | index of the block in the chain |
//! | 12 | 4 | bytes of payload |
//! | 16 | 8 | next block, 0 in the last |
//! | 24 | 4072 | payload |
//!
//! A block knows its index and the reference knows the number of blocks, so a chain cannot run in circles. The stream (all
//! numbers are varints unless a width is given, keys are counted bytes):
//!
//! | content |
//! |---|
//! | format (u16), 1 |
//! | identity for the next table |
//! | number of runs of level 0; how many of them, the oldest, are the batch being merged; its cursor (key) |
//! | each run, newest first: number of tables, tables |
//! | number of levels from 1 on; of each: where compaction goes on (key), number of tables, tables |
//!
//! A table: identity; data, blob, and guide pages; bytes of the guide, its checksum (u32); entries, tombstones among them;
//! first and last key; number of runs, and of each the first block and the number of blocks.

use std::collections::HashSet;

use super::page::PAYLOAD;
use super::version::{SortedRun, Version};
use super::{BlockSource, Env, MAX_KEY, MAX_LEVELS, ManifestRef, NewBlocks, TABLE_PAGES};
use crate::checksum::Crc;
use crate::codec::{DecodeError, Reader, Writer};
use crate::disk::Disk;
use crate::error::{Damage, Error, Result};
use crate::units::{BLOCK_SIZE, Block, Run};

const MAGIC: [u8; 4] = *b"VXMF";
const FORMAT: u16 = 1;
const HEADER: usize = 24;

/// What the manifest says of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableInfo {
    pub(super) id: u64,
    pub(super) data_pages: u32,
    pub(super) blob_pages: u32,
    pub(super) guide_pages: u32,
    pub(super) guide_bytes: u64,
    pub(super) guide_crc: Crc,
    pub(super) entries: u64,
    pub(super) tombstones: u64,
    pub(super) first: Box<[u8]>,
    pub(super) last: Box<[u8]>,
    pub(super) runs: Vec<Run>,
}

/// The most that the numbers of a table can take of the stream, beside its keys and runs.
pub(super) const TABLE_FIXED: u64 = 72;
/// The most that one run can take.
pub(super) const RUN_BYTES: u64 = 12;

impl TableInfo {
    pub(super) fn pages(&self) -> u64 {
        u64::from(self.data_pages) + u64::from(self.blob_pages) + u64::from(self.guide_pages)
    }

    fn encode(&self, into: &mut Vec<u8>) {
        into.put_varint(self.id);
        for pages in [self.data_pages, self.blob_pages, self.guide_pages] {
            into.put_varint(u64::from(pages));
        }
        into.put_varint(self.guide_bytes);
        into.put_u32(self.guide_crc.0);
        into.put_varint(self.entries);
        into.put_varint(self.tombstones);
        into.put_counted(&self.first);
        into.put_counted(&self.last);
        into.put_varint(self.runs.len() as u64);
        for run in &self.runs {
            into.put_varint(run.start.0);
            into.put_varint(u64::from(run.count));
        }
    }

    fn decode(reader: &mut Reader<'_>, pool_blocks: u64) -> std::result::Result<Self, DecodeError> {
        let mut table = Self {
            id: reader.varint("table")?,
            data_pages: reader.varint32("data pages")?,
            blob_pages: reader.varint32("blob pages")?,
            guide_pages: reader.varint32("guide pages")?,
            guide_bytes: reader.varint("guide size")?,
            guide_crc: Crc(reader.u32("guide checksum")?),
            entries: reader.varint("entries")?,
            tombstones: reader.varint("tombstones")?,
            first: key(reader)?,
            last: key(reader)?,
            runs: Vec::new(),
        };
        let mut blocks = 0;
        for _ in 0..reader.varint("runs of a table")? {
            let start = Block(reader.varint("run")?);
            let run = Run::new(start, reader.varint32("length of a run")?);
            if !run.fits(pool_blocks) {
                return Err(DecodeError::invalid("run", start.0));
            }
            blocks += u64::from(run.count);
            table.runs.push(run);
        }
        let guide_fits = table.guide_bytes.div_ceil(PAYLOAD as u64) == u64::from(table.guide_pages);
        if table.data_pages == 0 || !guide_fits || blocks != table.pages() || blocks > u64::from(TABLE_PAGES) {
            return Err(DecodeError::invalid("pages of a table", blocks));
        }
        if table.first > table.last || table.entries == 0 || table.tombstones > table.entries {
            return Err(DecodeError::invalid("entries of a table", table.entries));
        }
        Ok(table)
    }
}

fn key(reader: &mut Reader<'_>) -> std::result::Result<Box<[u8]>, DecodeError> {
    let key = reader.counted("key")?;
    if key.len() > MAX_KEY {
        return Err(DecodeError::invalid("length of a key", key.len() as u64));
    }
    Ok(key.into())
}

fn tables(reader: &mut Reader<'_>, pool_blocks: u64) -> std::result::Result<Vec<TableInfo>, DecodeError> {
    let mut tables: Vec<TableInfo> = Vec::new();
    for _ in 0..reader.varint("number of tables")? {
        let table = TableInfo::decode(reader, pool_blocks)?;
        if tables.last().is_some_and(|before| before.last >= table.first) {
            return Err(DecodeError::invalid("order of tables", table.id));
        }
        tables.push(table);
    }
    Ok(tables)
}

/// The stream of a version.
pub(super) fn encode(version: &Version, next_table: u64) -> Vec<u8> {
    let mut into = Vec::new();
    let put_tables = |into: &mut Vec<u8>, run: &SortedRun| {
        into.put_varint(run.tables().len() as u64);
        for table in run.tables() {
            table.info.encode(into);
        }
    };
    into.put_u16(FORMAT);
    into.put_varint(next_table);
    into.put_varint(version.young.len() as u64);
    into.put_varint(version.batch as u64);
    into.put_counted(&version.cursor);
    for run in &version.young {
        put_tables(&mut into, run);
    }
    into.put_varint(version.levels.len() as u64);
    for level in &version.levels {
        into.put_counted(&level.next);
        put_tables(&mut into, &level.run);
    }
    into
}

/// A decoded stream.
pub(super) struct Contents {
    pub(super) next_table: u64,
    pub(super) batch: usize,
    pub(super) cursor: Box<[u8]>,
    pub(super) young: Vec<Vec<TableInfo>>,
    pub(super) levels: Vec<(Box<[u8]>, Vec<TableInfo>)>,
}

impl Contents {
    fn decode(bytes: &[u8], pool_blocks: u64) -> std::result::Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let format = reader.u16("format")?;
        if format != FORMAT {
            return Err(DecodeError::invalid("format", format));
        }
        let next_table = reader.varint("next table")?;
        // Half the range: identities can be counted up without looking.
        if next_table >= 1 << 63 {
            return Err(DecodeError::invalid("next table", next_table));
        }
        let runs = reader.varint("runs of level 0")?;
        let batch = reader.varint("runs of the batch")?;
        if batch > runs {
            return Err(DecodeError::invalid("runs of the batch", batch));
        }
        let mut contents = Self {
            next_table,
            batch: usize::try_from(batch).map_err(|_| DecodeError::invalid("runs of the batch", batch))?,
            cursor: key(&mut reader)?,
            young: Vec::new(),
            levels: Vec::new(),
        };
        for _ in 0..runs {
            contents.young.push(tables(&mut reader, pool_blocks)?);
        }
        let levels = reader.varint("levels")?;
        if levels > MAX_LEVELS as u64 {
            return Err(DecodeError::invalid("levels", levels));
        }
        for _ in 0..levels {
            contents
                .levels
                .push((key(&mut reader)?, tables(&mut reader, pool_blocks)?));
        }
        reader.end()?;
        Ok(contents)
    }

    fn all(&self) -> impl Iterator<Item = &TableInfo> {
        self.young
            .iter()
            .chain(self.levels.iter().map(|(_, tables)| tables))
            .flatten()
    }

    /// No table twice, no block twice.
    fn check_uniqueness(&self, chain: &[Run]) -> std::result::Result<(), String> {
        let mut ids = HashSet::new();
        if let Some(twice) = self
            .all()
            .find(|table| table.id >= self.next_table || !ids.insert(table.id))
        {
            return Err(format!("table {} has an identity that is not its own", twice.id));
        }
        let mut runs: Vec<Run> = self.all().flat_map(|table| &table.runs).chain(chain).copied().collect();
        runs.sort_unstable();
        match runs.windows(2).find(|pair| pair[0].end() > pair[1].start) {
            Some(pair) => Err(format!("{} and {} overlap", pair[0], pair[1])),
            None => Ok(()),
        }
    }
}

/// Writes a stream as a chain of new blocks. The blocks are the caller's only if everything succeeded.
pub(super) fn write<'s>(env: &Env, stream: &[u8], source: &'s dyn BlockSource) -> Result<(ManifestRef, NewBlocks<'s>)> {
    let count = stream.len().div_ceil(BLOCK_SIZE - HEADER);
    let taken = NewBlocks::take(source, count as u64)?;
    let mut places: Vec<Block> = taken.runs().iter().flat_map(|run| run.blocks()).collect();
    let first = places.first().copied();
    places.push(Block(0));
    let mut bytes = Vec::with_capacity(count * BLOCK_SIZE);
    for ((index, payload), next) in (0_u32..).zip(stream.chunks(BLOCK_SIZE - HEADER)).zip(&places[1..]) {
        let mut block = [0; BLOCK_SIZE];
        block[4..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&index.to_le_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "less than a block")]
        block[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        block[16..24].copy_from_slice(&next.0.to_le_bytes());
        block[HEADER..HEADER + payload.len()].copy_from_slice(payload);
        let crc = Crc::of(&block[4..]);
        block[..4].copy_from_slice(&crc.0.to_le_bytes());
        bytes.extend_from_slice(&block);
    }
    taken.write(&*env.disk, &bytes)?;
    let reference = ManifestRef {
        first,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a manifest of 16 TiB does not fit memory"
        )]
        blocks: count as u32,
        bytes: stream.len() as u64,
        crc: Crc::of(stream),
    };
    Ok((reference, taken))
}

/// Reads and checks a manifest; gives the blocks of the chain too.
pub(super) fn read(disk: &dyn Disk, pool_blocks: u64, reference: &ManifestRef) -> Result<(Contents, Vec<Run>)> {
    let (stream, chain) = read_stream(disk, pool_blocks, reference)?;
    let contents = Contents::decode(&stream, pool_blocks).map_err(|error| Error::undecodable("manifest", error))?;
    contents
        .check_uniqueness(&chain)
        .map_err(|what| Damage::new("manifest", what))?;
    Ok((contents, chain))
}

/// Reads and checks the chain of blocks; gives the stream, and the blocks.
pub(super) fn read_stream(disk: &dyn Disk, pool_blocks: u64, reference: &ManifestRef) -> Result<(Vec<u8>, Vec<Run>)> {
    let mut stream = Vec::new();
    let mut chain: Vec<Run> = Vec::new();
    let mut next = reference.first;
    for index in 0..reference.blocks {
        let Some(at) = next.filter(|at| at.0 < pool_blocks) else {
            return Err(Damage::new(
                "manifest",
                format_args!("block {index} of the chain is outside the pool"),
            ));
        };
        let mut block = [0; BLOCK_SIZE];
        disk.read(at.byte_at(), &mut block)?;
        let (payload, after) = check_block(&block, index)
            .map_err(|what| Damage::new(format_args!("manifest, block {index} of the chain ({at})"), what))?;
        stream.extend_from_slice(payload);
        match chain.last_mut() {
            Some(run) if run.end() == at && run.count < u32::MAX => run.count += 1,
            _ => chain.push(Run::new(at, 1)),
        }
        next = after;
    }
    let whole = next.is_none() && stream.len() as u64 == reference.bytes && Crc::of(&stream) == reference.crc;
    if !whole {
        return Err(Damage::new(
            "manifest",
            "the chain is not the one that the superblock means",
        ));
    }
    Ok((stream, chain))
}

fn check_block(block: &[u8; BLOCK_SIZE], index: u32) -> std::result::Result<(&[u8], Option<Block>), String> {
    let text = |error: DecodeError| error.to_string();
    let mut reader = Reader::new(block);
    let crc = reader.u32("checksum").map_err(text)?;
    if Crc(crc) != Crc::of(&block[4..]) {
        return Err("wrong checksum".to_owned());
    }
    let magic = reader.array("magic").map_err(text)?;
    if magic != MAGIC || reader.u32("index").map_err(text)? != index {
        return Err("not this block of a manifest".to_owned());
    }
    let bytes = reader.u32("size").map_err(text)?;
    let next = reader.u64("next block").map_err(text)?;
    let payload = reader.bytes(bytes as usize, "payload").map_err(text)?;
    Ok((payload, (next != 0).then_some(Block(next))))
}
