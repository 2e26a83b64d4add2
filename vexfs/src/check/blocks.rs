// SPDX-License-Identifier: MIT OR Apache-2.0

//! How often blocks are named, against what bitmap and references say.

use rustc_hash::FxHashMap;

use super::Stage;
use super::issue::Issue;
use super::records::Item;
use super::round::Round;
use super::text::{Owners, RecordKind};
use crate::error::{Errno, Result};
use crate::fs::record::{BitmapRow, GroupKey, SharedKey};
use crate::meta::encode_key;
use crate::space::ROW_BYTES;
use crate::space::shared::References;
use crate::units::{Block, Run};

/// Blocks of a row of the bitmap.
const GROUP: u64 = GROUP_COUNTS as u64;
/// The same as a size in memory.
const GROUP_COUNTS: usize = ROW_BYTES * 8;
/// Blocks of a row of references.
const SHARED: u64 = 32;

/// A part of the pool, in groups.
#[derive(Clone, Copy)]
pub(super) struct Window {
    from: u64,
    to: u64,
    size: u64,
    end: u64,
}

impl Window {
    /// The first; so large that counting needs about as much memory as is allowed, if every block is named.
    pub(super) fn first(total_blocks: u64, memory_bytes: u64) -> Self {
        let end = total_blocks.div_ceil(GROUP);
        let size = (memory_bytes / GROUP).max(16);
        Self {
            from: 0,
            to: size.min(end),
            size,
            end,
        }
    }

    /// The one behind.
    pub(super) fn next(self) -> Option<Self> {
        (self.to < self.end).then(|| Self {
            from: self.to,
            to: (self.to + self.size).min(self.end),
            ..self
        })
    }

    fn is_last(&self) -> bool {
        self.to == self.end
    }
}

/// How often the blocks of a window are named: a byte each, where a group has any; more than a byte tells, apart.
pub(super) struct Counts {
    window: Window,
    groups: Vec<Option<Box<[u8; GROUP_COUNTS]>>>,
    many: FxHashMap<u64, u64>,
}

impl Counts {
    pub(super) fn new(window: Window) -> Self {
        let size = usize::try_from(window.to - window.from).unwrap_or(0);
        Self {
            window,
            groups: vec![None; size],
            many: FxHashMap::default(),
        }
    }

    /// A block is named once more.
    pub(super) fn add(&mut self, block: Block) {
        let group = block.0 / GROUP;
        let Some(slot) = group
            .checked_sub(self.window.from)
            .and_then(|at| usize::try_from(at).ok())
        else {
            return;
        };
        let Some(group) = self.groups.get_mut(slot) else { return };
        let group = group.get_or_insert_with(|| Box::new([0; GROUP_COUNTS]));
        let count = &mut group[(block.0 % GROUP) as usize];
        match count.checked_add(1) {
            Some(more) => *count = more,
            None => *self.many.entry(block.0).or_default() += 1,
        }
    }

    fn get(&self, block: Block) -> u64 {
        let count = self
            .group(block.0 / GROUP)
            .map_or(0, |group| group[(block.0 % GROUP) as usize]);
        let more = if count == u8::MAX {
            self.many.get(&block.0).copied().unwrap_or(0)
        } else {
            0
        };
        u64::from(count) + more
    }

    fn group(&self, group: u64) -> Option<&[u8; GROUP_COUNTS]> {
        let at = usize::try_from(group.checked_sub(self.window.from)?).ok()?;
        self.groups.get(at)?.as_deref()
    }

    /// The row that the bitmap should have, and how many bits are set in it.
    fn expected(&self, group: u64) -> (Option<BitmapRow>, u64) {
        let Some(counts) = self.group(group) else {
            return (None, 0);
        };
        let mut row = Box::new([0; ROW_BYTES]);
        let mut used = 0;
        for (byte, counts) in row.iter_mut().zip(counts.chunks_exact(8)) {
            for (bit, count) in counts.iter().enumerate() {
                *byte |= u8::from(*count > 0) << bit;
                used += u64::from(*count > 0);
            }
        }
        (Some(BitmapRow(row)), used)
    }
}

/// What is the matter with a block of the bitmap.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mismatch {
    NotAllocated,
    Leaked,
    System,
}

impl Round<'_, '_> {
    /// Compares; gives how many blocks are used.
    pub(super) fn compare(&mut self, counts: &Counts) -> Result<u64> {
        let used = self.compare_bitmap(counts)?;
        let crossed = self.compare_references(counts)?;
        self.tell_crossed(crossed)?;
        Ok(used)
    }

    fn compare_bitmap(&mut self, counts: &Counts) -> Result<u64> {
        let window = counts.window;
        let to = if window.is_last() { u64::MAX } else { window.to };
        let mut rows = self.records.all::<GroupKey, BitmapRow>()?;
        let mut used = 0;
        let mut next = rows.next()?;
        // Rows of earlier windows.
        while let Some(Item::Good(key, _) | Item::Bad(_, Some(key), _)) = &next
            && key.group < window.from
        {
            next = rows.next()?;
        }
        for group in window.from..window.to {
            let (expected, ones) = counts.expected(group);
            used += ones;
            let here = matches!(&next, Some(Item::Good(key, _) | Item::Bad(_, Some(key), _)) if key.group == group);
            if !here && expected.is_none() {
                continue;
            }
            self.step(Stage::Blocks)?;
            let key = GroupKey { group };
            let item = if here {
                std::mem::replace(&mut next, rows.next()?)
            } else {
                None
            };
            match item {
                Some(Item::Good(_, row)) => {
                    if expected.as_ref() != Some(&row) {
                        self.bitmap_row(group, Some(&row), expected.as_ref());
                        self.put(&key, expected.as_ref());
                    }
                }
                Some(Item::Bad(bytes, _, what)) => {
                    self.undecodable(RecordKind::Bitmap, &bytes, what);
                    self.put(&key, expected.as_ref());
                }
                None => {
                    self.bitmap_row(group, None, expected.as_ref());
                    self.put(&key, expected.as_ref());
                }
            }
        }
        while let Some(item) = next {
            match item {
                Item::Good(key, _) if key.group >= to => break,
                Item::Bad(_, Some(key), _) if key.group >= to => break,
                Item::Good(key, _) => {
                    self.issue(Issue::BitmapBeyondPool { group: key.group });
                    self.drop_key(encode_key(&key));
                }
                Item::Bad(bytes, _, what) => {
                    self.undecodable(RecordKind::Bitmap, &bytes, what);
                    self.drop_key(bytes);
                }
            }
            next = rows.next()?;
        }
        Ok(used)
    }

    /// Tells what differs, adjacent blocks of the same fate together.
    fn bitmap_row(&mut self, group: u64, found: Option<&BitmapRow>, expected: Option<&BitmapRow>) {
        let bit = |row: Option<&BitmapRow>, at: u64| {
            let byte = usize::try_from(at / 8).ok().and_then(|at| row?.0.get(at).copied());
            byte.is_some_and(|byte| byte >> (at % 8) & 1 == 1)
        };
        let total = self.around.superblock.total_blocks;
        let mut beyond = false;
        let mut stretch: Option<(Mismatch, Run)> = None;
        for at in 0..GROUP {
            let block = Block(group * GROUP + at);
            let set = bit(found, at);
            if block.0 >= total {
                beyond |= set;
                continue;
            }
            let mismatch = match (set, bit(expected, at)) {
                (true, false) if self.is_system(block) => Mismatch::System,
                (true, false) => Mismatch::Leaked,
                (false, true) => Mismatch::NotAllocated,
                _ => continue,
            };
            match &mut stretch {
                Some((kind, run)) if *kind == mismatch && run.end() == block => run.count += 1,
                _ => {
                    self.tell_stretch(stretch);
                    stretch = Some((mismatch, Run::new(block, 1)));
                }
            }
        }
        self.tell_stretch(stretch);
        if beyond {
            self.issue(Issue::BitmapBeyondPool { group });
        }
    }

    fn tell_stretch(&mut self, stretch: Option<(Mismatch, Run)>) {
        if let Some((kind, run)) = stretch {
            self.issue(match kind {
                Mismatch::NotAllocated => Issue::BlocksNotAllocated { run },
                Mismatch::Leaked => Issue::BlocksLeaked { run },
                Mismatch::System => Issue::SystemAllocated { run },
            });
        }
    }

    fn is_system(&self, block: Block) -> bool {
        let system = &self.around.system;
        let after = system.partition_point(|run| run.start <= block);
        let run = after.checked_sub(1).and_then(|at| system.get(at));
        run.is_some_and(|run| block < run.end())
    }

    /// Compares the extra references; gives blocks that are named more than once and not told to be.
    fn compare_references(&mut self, counts: &Counts) -> Result<Vec<(Block, u64)>> {
        let mut crossed = Vec::new();
        let mut rows = self.records.all::<SharedKey, References>()?;
        let mut next = rows.next()?;
        let per_group = GROUP / SHARED;
        let first = counts.window.from * per_group;
        while let Some(Item::Good(key, _) | Item::Bad(_, Some(key), _)) = &next
            && key.group < first
        {
            next = rows.next()?;
        }
        for group in counts.window.from..counts.window.to {
            let named = counts
                .group(group)
                .is_some_and(|counts| counts.iter().any(|count| *count > 1));
            for shared in group * per_group..(group + 1) * per_group {
                let here =
                    matches!(&next, Some(Item::Good(key, _) | Item::Bad(_, Some(key), _)) if key.group == shared);
                if !here && !named {
                    // Without a row and without shared blocks the rest of the group is passed by at once.
                    let later = |key: &SharedKey| key.group < (group + 1) * per_group;
                    match &next {
                        Some(Item::Good(key, _) | Item::Bad(_, Some(key), _)) if later(key) => continue,
                        _ => break,
                    }
                }
                self.step(Stage::Blocks)?;
                let item = if here {
                    std::mem::replace(&mut next, rows.next()?)
                } else {
                    None
                };
                self.shared_row(counts, shared, item, &mut crossed);
            }
        }
        while let Some(item) = next
            && counts.window.is_last()
        {
            let (bytes, what) = match item {
                Item::Good(key, _) => (encode_key(&key), "beyond the pool".to_owned()),
                Item::Bad(bytes, _, what) => (bytes, what),
            };
            self.undecodable(RecordKind::References, &bytes, what);
            self.drop_key(bytes);
            next = rows.next()?;
        }
        Ok(crossed)
    }

    fn shared_row(
        &mut self,
        counts: &Counts,
        shared: u64,
        item: Option<Item<SharedKey, References>>,
        crossed: &mut Vec<(Block, u64)>,
    ) {
        let (recorded, told) = match item {
            Some(Item::Good(_, references)) => (references, false),
            Some(Item::Bad(bytes, _, what)) => {
                self.undecodable(RecordKind::References, &bytes, what);
                (References::default(), true)
            }
            None => (References::default(), false),
        };
        let mut expected = References::default();
        for block in Run::new(Block(shared * SHARED), 32).blocks() {
            let found = counts.get(block);
            for _ in 1..found {
                // More than four thousand million cannot be told; the block then never becomes free.
                if expected.add(block) == Err(Errno::TooManyLinks) {
                    break;
                }
            }
            let extra = u64::from(recorded.extra(block));
            if told || extra == found.saturating_sub(1) {
                continue;
            }
            if extra == 0 {
                crossed.push((block, found));
                continue;
            }
            let counted = extra + 1;
            self.issue(if counted < found {
                Issue::ReferencesTooLow { block, counted, found }
            } else {
                Issue::ReferencesTooHigh { block, counted, found }
            });
        }
        if told || expected != recorded {
            let row = (!expected.is_empty()).then_some(expected);
            self.put(&SharedKey { group: shared }, row.as_ref());
        }
    }

    /// Finds out whose the blocks are.
    fn tell_crossed(&mut self, crossed: Vec<(Block, u64)>) -> Result<()> {
        use crate::data::row::Row;
        use crate::fs::record::RowKey;
        if crossed.is_empty() {
            return Ok(());
        }
        let mut owners: FxHashMap<u64, Owners> = FxHashMap::default();
        for (block, _) in crossed.iter().take(self.around.max_issues) {
            owners.insert(block.0, Owners::default());
        }
        let mut rows = self.records.all::<RowKey, Row>()?;
        while let Some(item) = rows.next()? {
            self.step(Stage::Blocks)?;
            if let Item::Good(key, Row::Map(map)) = item {
                for block in map.pool_blocks() {
                    if let Some(Owners(list)) = owners.get_mut(&block.0)
                        && list.len() < Owners::LIMIT
                        && list.last() != Some(&key.ino)
                    {
                        list.push(key.ino);
                    }
                }
            }
        }
        for (block, found) in crossed {
            let owners = owners.remove(&block.0).unwrap_or_default();
            self.issue(Issue::CrossLinked { block, found, owners });
        }
        Ok(())
    }
}
