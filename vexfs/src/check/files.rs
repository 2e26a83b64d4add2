// SPDX-License-Identifier: MIT OR Apache-2.0

//! The maps of all files: rows beside their inodes, and the blocks they name.
//!
//! How often each block is named is counted for a window of the pool at a time, so that memory stays bounded; the rows are
//! read once per window.

use super::Stage;
use super::blocks::{Counts, Window};
use super::issue::Issue;
use super::names::Names;
use super::records::Item;
use super::round::Round;
use super::text::RecordKind;
use super::verify::verify_row;
use crate::data::CHUNK_BLOCKS;
use crate::data::row::{INLINE_BYTES, Map, Ptr, Row};
use crate::error::Result;
use crate::fs::MAX_FILE_BLOCKS;
use crate::fs::record::{Inode, InodeKey, Kind, RowKey};
use crate::meta::encode_key;
use crate::units::{BLOCK_SIZE, Block, Ino, blocks_for};

/// What the rows of one file add up to.
#[derive(Default)]
struct Sum {
    rows: u64,
    blocks: u64,
    target: Option<u64>,
    /// A row is not what it was: sums say nothing.
    spoiled: bool,
    /// Chunks that have rows; only while some may be lost.
    chunks: Vec<u64>,
}

/// Rows of one file that are made for what is lost.
const MAX_LOST_ROWS: u64 = 1 << 16;

/// What a block of a row is, if it is not one a file can have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Outside,
    System,
}

impl Round<'_, '_> {
    /// Looks at maps, bitmap and references.
    pub(super) fn files(&mut self, names: &Names) -> Result<()> {
        let total = self.around.superblock.total_blocks;
        let mut window = Window::first(total, self.around.memory_bytes);
        let mut used = 0;
        let mut first = true;
        loop {
            let mut counts = Counts::new(window);
            self.maps(names, &mut counts, first)?;
            used += self.compare(&counts)?;
            first = false;
            match window.next() {
                Some(next) => window = next,
                None => break,
            }
        }
        let system: u64 = self.around.system.iter().map(|run| u64::from(run.count)).sum();
        let free = total.saturating_sub(used).saturating_sub(system);
        if self.promised > free {
            let promised = self.promised;
            self.issue(Issue::PromisesExceedFree { promised, free });
            self.promises_exceed = true;
        }
        Ok(())
    }

    fn maps(&mut self, names: &Names, counts: &mut Counts, first: bool) -> Result<()> {
        let mut inodes = self.records.all::<InodeKey, Inode>()?;
        let mut rows = self.records.all::<RowKey, Row>()?;
        while let Some(item) = inodes.next()? {
            self.step(Stage::Files)?;
            let (ino, inode) = match item {
                Item::Good(key, inode) => (key.ino, Some(inode)),
                Item::Bad(_, Some(key), _) => (key.ino, None),
                Item::Bad(_, None, _) => continue,
            };
            while let Some(row) = rows.next_if(|key| key.ino < ino)? {
                self.stray(names, &mut rows, row, counts, first)?;
            }
            let mut sum = Sum::default();
            while let Some(row) = rows.next_if(|key| key.ino == ino)? {
                self.row(ino, inode.as_ref(), row, &mut sum, counts, first)?;
            }
            if let (Some(inode), true) = (inode, first) {
                self.finish(ino, &inode, &sum)?;
            }
        }
        while let Some(row) = rows.next()? {
            self.stray(names, &mut rows, row, counts, first)?;
        }
        Ok(())
    }

    /// Rows of no file, from this one on.
    fn stray(
        &mut self,
        names: &Names,
        rows: &mut super::records::Typed<'_, RowKey, Row>,
        row: Item<RowKey, Row>,
        counts: &mut Counts,
        first: bool,
    ) -> Result<()> {
        let (Item::Good(RowKey { ino, .. }, _) | Item::Bad(_, Some(RowKey { ino, .. }), _)) = row else {
            if let (Item::Bad(bytes, _, what), true) = (row, first) {
                self.undecodable(RecordKind::Row, &bytes, what);
                self.drop_key(bytes);
            }
            return Ok(());
        };
        // A root that is missing is told as such.
        let told = names.get(ino).is_some();
        let mut count = 0;
        let mut next = Some(row);
        while let Some(row) = next {
            count += 1;
            match row {
                Item::Good(key, row) => {
                    self.drop_key(encode_key(&key));
                    if let Row::Map(map) = &row {
                        self.promised += if first { map.promised() } else { 0 };
                        self.count(map, counts);
                    }
                }
                Item::Bad(bytes, ..) => self.drop_key(bytes),
            }
            next = rows.next_if(|key| key.ino == ino)?;
        }
        if first && !told {
            self.issue(Issue::RowOfMissingInode { ino, rows: count });
        }
        Ok(())
    }

    fn row(
        &mut self,
        ino: Ino,
        inode: Option<&Inode>,
        item: Item<RowKey, Row>,
        sum: &mut Sum,
        counts: &mut Counts,
        first: bool,
    ) -> Result<()> {
        sum.rows += 1;
        if let (Item::Good(key, _) | Item::Bad(_, Some(key), _), false) = (&item, self.around.lost.is_empty()) {
            sum.chunks.push(key.chunk);
        }
        let (key, row) = match item {
            Item::Good(key, row) => (key, row),
            Item::Bad(bytes, key, what) => {
                sum.spoiled = true;
                if first {
                    self.undecodable(RecordKind::Row, &bytes, what);
                    match (key, inode) {
                        (Some(key), Some(inode)) => self.lose(key, inode),
                        _ => self.drop_key(bytes),
                    }
                }
                return Ok(());
            }
        };
        let map = match row {
            Row::Inline(content) => {
                let bytes = content.len() as u64;
                sum.target = Some(bytes);
                if let (Some(inode), true) = (inode, first) {
                    self.inline(key, inode, &content, sum);
                }
                return Ok(());
            }
            Row::Map(map) => map,
        };
        let single = map.pool_block_count();
        sum.blocks += single;
        if first {
            self.promised += map.promised();
        }
        self.count(&map, counts);
        let Some(inode) = inode.filter(|_| first) else {
            return Ok(());
        };
        if inode.kind() != Kind::File {
            return Ok(());
        }
        if key.chunk >= MAX_FILE_BLOCKS / CHUNK_BLOCKS {
            self.issue(Issue::RowBeyondLimit { ino, chunk: key.chunk });
            self.drop_key(encode_key(&key));
            return Ok(());
        }
        if self.pointers(key, &map) && self.around.verify_data {
            verify_row(self, ino, key.chunk, &map)?;
        }
        Ok(())
    }

    fn count(&self, map: &Map, counts: &mut Counts) {
        for block in map.pool_blocks() {
            if self.wrong(block).is_none() {
                counts.add(block);
            }
        }
    }

    fn wrong(&self, block: Block) -> Option<Wrong> {
        if block.0 >= self.around.superblock.total_blocks {
            return Some(Wrong::Outside);
        }
        let system = &self.around.system;
        let after = system.partition_point(|run| run.start <= block);
        let run = after.checked_sub(1).and_then(|at| system.get(at))?;
        (block < run.end()).then_some(Wrong::System)
    }

    /// Looks where the blocks are; whether all of them can be the file's.
    fn pointers(&mut self, key: RowKey, map: &Map) -> bool {
        let mut mended = map.clone();
        let mut told = Vec::new();
        for index in 0..32 {
            let blocks: Vec<Block> = match map.get(index) {
                Ptr::Data(block, _) | Ptr::Bare(block) => vec![block],
                Ptr::Packed { unit, .. } => {
                    let unit = map.unit(unit);
                    unit.map_or_else(Vec::new, |unit| unit.runs.iter().flat_map(|run| run.blocks()).collect())
                }
                Ptr::Promised if self.drop_promises => {
                    mended.set(index, Ptr::Hole);
                    continue;
                }
                Ptr::Hole | Ptr::Promised | Ptr::Lost => continue,
            };
            let Some((block, wrong)) = blocks.iter().find_map(|block| Some((*block, self.wrong(*block)?))) else {
                continue;
            };
            mended.set(index, Ptr::Lost);
            if told.contains(&block) {
                continue;
            }
            told.push(block);
            let at = (key.chunk * CHUNK_BLOCKS + index as u64) * BLOCK_SIZE as u64;
            let ino = key.ino;
            self.issue(match wrong {
                Wrong::Outside => Issue::BlockOutside { ino, at, block },
                Wrong::System => Issue::BlockInSystemArea { ino, at, block },
            });
        }
        if mended != *map {
            mended.sweep();
            let row = (!mended.is_empty()).then_some(Row::Map(mended));
            self.put(&key, row.as_ref());
        }
        told.is_empty()
    }

    fn inline(&mut self, key: RowKey, inode: &Inode, content: &[u8], sum: &mut Sum) {
        let bytes = content.len() as u64;
        let RowKey { ino, chunk } = key;
        let wrong = chunk != 0 || inode.kind() == Kind::File && (bytes > inode.size || content.len() > INLINE_BYTES);
        if !wrong || !matches!(inode.kind(), Kind::File | Kind::Symlink) {
            return;
        }
        sum.spoiled = inode.kind() == Kind::Symlink;
        let size = inode.size;
        self.issue(Issue::InlineWrong {
            ino,
            chunk,
            bytes,
            size,
        });
        if chunk != 0 {
            if inode.kind() == Kind::File {
                self.lose(key, inode);
            } else {
                self.put::<_, Row>(&key, None);
            }
            return;
        }
        // What lies behind the end of the file was never to be read.
        let kept = usize::try_from(size).unwrap_or(usize::MAX).min(INLINE_BYTES);
        let kept = content.get(..kept).unwrap_or(content);
        let row = (!kept.is_empty()).then(|| Row::Inline(kept.into()));
        self.put(&key, row.as_ref());
    }

    /// Everything the file has in a chunk is lost.
    fn lose(&mut self, key: RowKey, inode: &Inode) {
        let end = blocks_for(inode.size).saturating_sub(key.chunk.saturating_mul(CHUNK_BLOCKS));
        let count = if inode.kind() == Kind::File {
            end.min(CHUNK_BLOCKS)
        } else {
            0
        };
        let mut map = Map::default();
        for index in 0..usize::try_from(count).unwrap_or(0) {
            map.set(index, Ptr::Lost);
        }
        let row = (count > 0).then_some(Row::Map(map));
        self.put(&key, row.as_ref());
    }

    fn finish(&mut self, ino: Ino, inode: &Inode, sum: &Sum) -> Result<()> {
        let kind = inode.kind();
        let has_rows = matches!(kind, Kind::File | Kind::Symlink);
        if !has_rows && sum.rows > 0 {
            let rows = sum.rows;
            self.issue(Issue::RowOfNonFile { ino, kind, rows });
            self.drop_rows(ino)?;
            return Ok(());
        }
        if kind == Kind::Symlink && !sum.spoiled {
            if sum.rows > 1 || sum.blocks > 0 {
                let rows = sum.rows;
                self.issue(Issue::RowOfNonFile { ino, kind, rows });
                self.drop_rows(ino)?;
                return Ok(());
            }
            let recorded = inode.size;
            match sum.target {
                Some(found) if found == recorded && found > 0 => {}
                Some(found) if found > 0 => {
                    self.issue(Issue::SymlinkLength { ino, recorded, found });
                    self.edit(ino, |inode| inode.size = found)?;
                }
                _ => {
                    self.issue(Issue::SymlinkWithoutTarget { ino });
                    self.put::<_, Inode>(&InodeKey { ino }, None);
                    self.drop_rows(ino)?;
                    return Ok(());
                }
            }
        }
        let (counted, found) = (inode.blocks, sum.blocks);
        if kind == Kind::File && !self.around.lost.is_empty() && (counted > found || inode.size <= INLINE_BYTES as u64)
        {
            self.lose_missing(ino, inode, sum);
        }
        if counted != found && !sum.spoiled {
            self.issue(Issue::BlocksWrong { ino, counted, found });
            self.edit(ino, |inode| inode.blocks = found)?;
        }
        Ok(())
    }

    /// Chunks without a row whose row may have been lost with a page of a table must not read as holes: rather a hole is
    /// taken for lost bytes. Done for files of which something is missing, or may be: small ones have no blocks to count.
    fn lose_missing(&mut self, ino: Ino, inode: &Inode, sum: &Sum) {
        let end = blocks_for(inode.size).div_ceil(CHUNK_BLOCKS).min(MAX_LOST_ROWS);
        for chunk in 0..end {
            let key = RowKey { ino, chunk };
            if sum.chunks.binary_search(&chunk).is_err() && self.around.may_be_lost(&key) {
                self.lose(key, inode);
            }
        }
    }

    fn drop_rows(&mut self, ino: Ino) -> Result<()> {
        let bound = |ino| encode_key(&RowKey { ino, chunk: 0 });
        let mut rows = self.records.scan(&bound(ino), &bound(Ino(ino.0 + 1)))?;
        while let Some((key, _)) = rows.next()? {
            self.drop_key(key);
        }
        Ok(())
    }
}
