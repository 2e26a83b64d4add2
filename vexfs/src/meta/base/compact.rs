// SPDX-License-Identifier: MIT OR Apache-2.0

//! Compaction: moving entries down, one bounded step at a time.
//!
//! A step merges "upper" sources (the runs of the batch, or a few neighbouring tables of one level) with the run of the
//! level below, the "lower" one, from the upper sources' first key on:
//!
//! - A large table that no other source reaches into is adopted as it is: an upper one moves down by changing the list, a
//!   lower one stays. So what arrives in key order, as new inodes do, is written once.
//! - Otherwise entries are merged into new tables of the lower level. Tombstones end where no deeper level has a table over
//!   their key.
//! - After as many bytes as the step may write, it stops between two tables. What is left of a lower table begun is copied
//!   behind them; what is left of an upper table begun is copied within its level, and a batch notes its cursor. So each
//!   step leaves a complete version, whatever the shape of the data, and writes little more than its measure.

use std::collections::HashSet;
use std::sync::Arc;

use super::merge::{Cursor, Merge, Reading};
use super::table::Table;
use super::version::{Level, SortedRun, Version};
use super::writer::{NewTables, RunWriter};
use super::{BlockSource, Env, MAX_LEVELS, Settings};
use crate::error::{Errno, Error, Result};
use crate::units::BLOCK_SIZE;

/// What should be merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// The batch of level 0, which may have to be declared first, into level 1.
    Young,
    /// `levels[index]` into the one behind it.
    Level(usize),
}

/// What is most overdue, if anything.
pub(super) fn due(version: &Version, settings: &Settings) -> Option<Due> {
    // In thousandths of the size that makes a merge due.
    let mut worst = (0, None);
    let runs = version.young.len() as u64;
    let limit = settings.run_limit.max(1) as u64;
    if version.batch > 0 || runs >= limit {
        worst = (runs.saturating_mul(1000) / limit, Some(Due::Young));
    }
    let mut limit = settings.level_one_bytes.max(1);
    for (index, level) in version.levels.iter().enumerate().take(MAX_LEVELS - 1) {
        let bytes = level.run.bytes();
        let measure = bytes.saturating_mul(1000) / limit;
        if bytes > limit && measure > worst.0 {
            worst = (measure, Some(Due::Level(index)));
        }
        limit = limit.saturating_mul(settings.level_ratio.max(2));
    }
    worst.1
}

/// How much a step writes.
#[derive(Clone, Copy)]
struct Effort {
    bytes: u64,
    table_bytes: u64,
}

/// The most tables that one step uses as they are.
const MAX_ADOPTED: usize = 256;

/// Makes one step; gives the new version and the tables written for it.
pub(super) fn step<'s>(
    env: &Arc<Env>,
    source: &'s dyn BlockSource,
    version: &Version,
    due: Due,
) -> Result<(Version, NewTables<'s>)> {
    let table_bytes = env.settings.table_bytes;
    let effort = |bytes| Effort {
        bytes,
        table_bytes: table_bytes.min(bytes),
    };
    let full = effort(env.settings.step_bytes());
    let attempt = |effort| match due {
        Due::Young => young_step(env, source, version, effort),
        Due::Level(index) => level_step(env, source, version, index, effort),
    };
    let no_space = |error: &Error| matches!(error, Error::Posix(Errno::NoSpace));
    let mut result = attempt(full);
    for bytes in [table_bytes, (table_bytes / 8).max(BLOCK_SIZE as u64)] {
        if result.as_ref().is_err_and(no_space) {
            result = attempt(effort(bytes));
        }
    }
    result
}

fn young_step<'s>(
    env: &Arc<Env>,
    source: &'s dyn BlockSource,
    version: &Version,
    effort: Effort,
) -> Result<(Version, NewTables<'s>)> {
    let mut next = version.clone();
    if next.batch == 0 {
        next.batch = next.young.len();
        next.cursor = Box::default();
    }
    let start = |run: &SortedRun| Cursor::start(run.tables(), &next.cursor, Reading::Once);
    let upper = next.batch_runs().iter().map(start).collect::<Result<Vec<_>>>()?;
    let merged = merge_down(env, source, &next, upper, 0, effort)?;
    merged.put_into(&mut next, 0);

    let fresh = next.young.len() - next.batch;
    let cursor = merged
        .upper
        .iter()
        .filter(|upper| upper.is_live())
        .map(Cursor::key)
        .min();
    let batch = next.young.split_off(fresh);
    match cursor {
        None => {
            next.batch = 0;
            next.cursor = Box::default();
        }
        Some(cursor) => {
            let keep = |run: &SortedRun| {
                let passed = run.tables().partition_point(|table| *table.info.last < *cursor);
                match run.tables().get(passed..) {
                    Some(tables) if passed > 0 => SortedRun::new(tables.to_vec()),
                    _ => run.clone(),
                }
            };
            next.young
                .extend(batch.iter().map(keep).filter(|run| !run.tables().is_empty()));
            next.batch = next.young.len() - fresh;
            next.cursor = cursor.into();
        }
    }
    Ok((next, merged.written))
}

fn level_step<'s>(
    env: &Arc<Env>,
    source: &'s dyn BlockSource,
    version: &Version,
    index: usize,
    effort: Effort,
) -> Result<(Version, NewTables<'s>)> {
    let mut next = version.clone();
    let Some(level) = version.levels.get(index) else {
        return Ok((next, NewTables::new(source)));
    };
    let picked = pick(level, effort.table_bytes);
    let upper = Cursor::start(picked, &[], Reading::Once)?;
    let mut merged = merge_down(env, source, version, vec![upper], index + 1, effort)?;
    merged.put_into(&mut next, index + 1);

    let mut gone = HashSet::new();
    let mut rest = Vec::new();
    if let Some(upper) = merged.upper.first_mut() {
        gone.extend(upper.passed().iter().map(|table| table.info.id));
        if let Some(table) = upper.table().cloned()
            && !upper.at_table_start()
        {
            gone.insert(table.info.id);
            let mut writer = RunWriter::new(env, source, env.settings.table_bytes);
            copy_table(upper, &mut writer)?;
            let tables = writer.finish()?;
            rest.extend_from_slice(tables.tables());
            merged.written.absorb(tables);
        }
    }
    if let Some(level) = next.levels.get_mut(index) {
        let begun = picked.iter().rev().find(|table| gone.contains(&table.info.id));
        // A table that was not finished is the next one again.
        level.next = match (begun, rest.is_empty()) {
            (Some(table), true) => table.info.last.clone(),
            (Some(table), false) => table.info.first.clone(),
            (None, _) => Box::default(),
        };
        level.run = replace(&level.run, &gone, &rest);
    }
    Ok((next, merged.written))
}

/// The tables of a level whose turn it is: neighbours, together not larger than one of full size, at least one.
fn pick(level: &Level, table_bytes: u64) -> &[Arc<Table>] {
    let tables = level.run.tables();
    let behind = tables.partition_point(|table| *table.info.last <= *level.next);
    let tables = match tables.get(behind..) {
        Some(rest) if !rest.is_empty() => rest,
        _ => tables,
    };
    let mut bytes = 0;
    let more = tables.iter().take_while(|table| {
        bytes += table.bytes();
        bytes <= table_bytes
    });
    let count = more.count().max(1);
    tables.get(..count).unwrap_or(tables)
}

/// What a merge did to the level it went into.
struct Merged<'s> {
    written: NewTables<'s>,
    moved: Vec<Arc<Table>>,
    replaced: HashSet<u64>,
    /// The upper sources, where they stand now.
    upper: Vec<Cursor>,
}

impl Merged<'_> {
    fn put_into(&self, version: &mut Version, target: usize) {
        while version.levels.len() <= target {
            version.levels.push(Level::empty());
        }
        if let Some(level) = version.levels.get_mut(target) {
            let new: Vec<_> = self.written.tables().iter().chain(&self.moved).cloned().collect();
            level.run = replace(&level.run, &self.replaced, &new);
        }
    }
}

fn replace(run: &SortedRun, gone: &HashSet<u64>, new: &[Arc<Table>]) -> SortedRun {
    let kept = run.tables().iter().filter(|table| !gone.contains(&table.info.id));
    let mut tables: Vec<_> = kept.chain(new).cloned().collect();
    tables.sort_by(|one, other| one.info.first.cmp(&other.info.first));
    SortedRun::new(tables)
}

/// Merges upper sources, newest first, into `levels[target]`.
fn merge_down<'s>(
    env: &Arc<Env>,
    source: &'s dyn BlockSource,
    version: &Version,
    upper: Vec<Cursor>,
    target: usize,
    effort: Effort,
) -> Result<Merged<'s>> {
    let uppers = upper.len();
    let mut writer = RunWriter::new(env, source, effort.table_bytes);
    let mut moved = Vec::new();
    let mut kept = HashSet::new();

    let lower = version.levels.get(target).map_or(&[][..], |level| level.run.tables());
    let first = upper.iter().filter(|upper| upper.is_live()).map(Cursor::key).min();
    let first = first.map(<[u8]>::to_vec);
    let begin = first.as_deref().map_or(lower.len(), |key| {
        lower.partition_point(|table| *table.info.last < *key)
    });
    let lower = Cursor::start(lower.get(begin..).unwrap_or(&[]), &[], Reading::Once)?;

    let mut merge = Merge::new(upper.into_iter().chain([lower]).collect());
    while merge.first_key_before(uppers).is_some() {
        let Some((number, top)) = merge.top() else { break };
        if writer.is_full() {
            writer.cut()?;
        }
        let enough = writer.written() >= effort.bytes || moved.len() + kept.len() >= MAX_ADOPTED;
        if enough && writer.is_cut() && merge.first_key_before(uppers) > first.as_deref() {
            break;
        }
        if let Some(table) = adoptable(&merge, number, top, uppers, effort.table_bytes) {
            writer.cut()?;
            if number < uppers {
                moved.push(table);
            } else {
                kept.insert(table.info.id);
            }
            merge.skip_table()?;
            continue;
        }
        if !top.is_tombstone() || version.deeper_may_hold(target, top.key()) {
            add(top, &mut writer)?;
        }
        merge.advance()?;
    }

    let mut upper = merge.into_sources();
    let mut replaced = HashSet::new();
    if let Some(mut lower) = upper.pop() {
        let passed = lower.passed().iter().map(|table| table.info.id);
        replaced.extend(passed.filter(|id| !kept.contains(id)));
        if let Some(table) = lower.table().cloned()
            && !lower.at_table_start()
        {
            replaced.insert(table.info.id);
            copy_table(&mut lower, &mut writer)?;
        }
    }
    Ok(Merged {
        written: writer.finish()?,
        moved,
        replaced,
        upper,
    })
}

/// The table that the current entry begins, if it can be used as it is.
fn adoptable(merge: &Merge, number: usize, top: &Cursor, uppers: usize, table_bytes: u64) -> Option<Arc<Table>> {
    if !top.at_table_start() {
        return None;
    }
    let table = top.table()?;
    let alone = merge.second_key().is_none_or(|key| *key > *table.info.last);
    // Small tables are joined with their neighbours, and tombstones brought to their end.
    let good = 2 * table.bytes() >= table_bytes && (number >= uppers || table.info.tombstones == 0);
    (alone && good).then(|| Arc::clone(table))
}

/// Copies what is left of the table a cursor stands in.
fn copy_table(from: &mut Cursor, writer: &mut RunWriter<'_>) -> Result<()> {
    let tables = from.passed().len();
    while from.is_live() && from.passed().len() == tables {
        add(from, writer)?;
        from.advance()?;
    }
    Ok(())
}

fn add(entry: &Cursor, writer: &mut RunWriter<'_>) -> Result<()> {
    if let Some(value) = entry.inline() {
        return writer.add(entry.key(), Some(value));
    }
    writer.add(entry.key(), entry.value()?.as_deref())
}
