// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finding damage of a pool, and mending it without inventing data.
//!
//! # Checking
//!
//! [`check`] works on an open [`Pool`] that is not mounted. It reads everything of the metadata, replays the journal in
//! memory as mounting would, and looks at all records in the order of their keys; file bytes are read only when asked for.
//! Damaged pages of tables are passed by, so that one bad block hides nothing else. It never writes unless it may repair.
//!
//! Memory: 48 bytes per file, 64 per directory, what the journal holds, and for counting blocks as much as
//! [`CheckOptions::memory_bytes`] says (less memory: more passes over the maps).
//!
//! # Repairing
//!
//! A look at the records gives issues and the records that mend them. These are put over the others, and the next look
//! finds what follows from them, until nothing is found ([`Report::consequences`]). Only then something is written: new
//! tables with all changes, one sync, and a superblock that names them (see [`mend`]). Until that superblock is durable the pool
//! is what it was. Afterwards everything is checked once more, from the disk.
//!
//! | what is wrong | becomes |
//! |---|---|
//! | numbers that follow from others: bitmap, references, counts, links, parents, totals, chains | what they follow from |
//! | entries of nothing, rows, attributes and vectors of nobody, undecodable records | removed, each told |
//! | files without names | `lost+found/#<number>` |
//! | blocks that cannot be the file's; undecodable rows, and those a damaged table page may have held | bytes that fail to read until written again |
//! | file bytes that do not match their checksum | nothing: they fail to read, and are told with their path |
//! | a damaged table | new tables from everything that can be read |
//! | a journal that cannot be applied further | its end; what is lost is told |
//!
//! | module | job |
//! |---|---|
//! | [`issue`], [`text`] | what can be wrong, and how it reads |
//! | `records` | all records in order, over tables and changes |
//! | `round` | one look |
//! | `names`, `entries`, `places` | inodes, names, directories; what files know of their names |
//! | `files`, `verify`, `blocks` | maps, bytes, bitmap and references |
//! | `vectors`, `indexes` | spaces, vectors of files, and their slabs; indexes |
//! | `mend` | writing what was mended |
//! | `paths` | which path an inode has |
//! | `scrub` | reading everything of a mounted pool |

mod blocks;
mod entries;
mod files;
mod indexes;
pub mod issue;
mod mend;
mod names;
mod paths;
mod places;
mod records;
mod round;
mod scrub;

#[cfg(test)]
mod tests;
pub mod text;
mod vectors;
mod verify;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use self::issue::{Issue, Severity};
use self::records::{Item, Records};
use self::round::{Found, Round, Surroundings};
use crate::disk::Disk;
use crate::error::{Damage, Error, Result};
use crate::fs::record::{Inode, InodeKey, Timestamp, Totals, TotalsKey};
use crate::fs::replay::{Changes, Replayed, replay};
use crate::meta::base::{self, Base, Settings};
use crate::pool::superblock::Condition;
use crate::pool::{Access, Pool, State, Superblock};
use crate::units::{Ino, Run};

pub use scrub::{Finding, Position, ScrubOptions, ScrubProgress, Scrubbed};

/// What a check is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// Reading the tables.
    Tables,
    /// Inodes and names.
    Names,
    /// Maps of files, and their bytes if these are verified.
    Files,
    /// Bitmap and references.
    Blocks,
    /// Attributes.
    Attributes,
    /// Spaces and vectors.
    Vectors,
    /// Writing.
    Mending,
}

/// How far a check is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What it is doing.
    pub stage: Stage,
    /// Pages or records looked at.
    pub done: u64,
}

/// What a check does.
pub struct CheckOptions<'a> {
    /// Read all file bytes and compare them with their checksums.
    pub verify_data: bool,
    /// Take the indexes of all spaces for wrong: with `repair` they are built again when the pool is next used.
    pub rebuild_vectors: bool,
    /// Mend what can be mended.
    pub repair: bool,
    /// Memory for counting blocks.
    pub memory_bytes: u64,
    /// Issues that are told one by one; others are only counted.
    pub max_issues: usize,
    /// Called now and then; may end the check ([`crate::error::Errno::Interrupted`]).
    pub progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// What was wrong.
    pub issues: Vec<Issue>,
    /// What became wrong by mending that, and was mended too.
    pub consequences: Vec<Issue>,
    /// Number of issues by name, consequences not included.
    pub counts: BTreeMap<&'static str, u64>,
    /// Records that were changed or removed by the repair.
    pub repaired: u64,
    /// Whether the pool is now without errors, as far as was looked. Warnings do not count.
    pub clean_after: bool,
    /// Paths of the files that issues are about, where they have one.
    pub paths: BTreeMap<Ino, String>,
}

impl Report {
    /// Whether nothing worse than warnings was found.
    pub fn is_sound(&self) -> bool {
        self.worst() < Some(Severity::Error)
    }

    /// The worst that was found.
    pub fn worst(&self) -> Option<Severity> {
        self.issues.iter().map(Issue::severity).max()
    }

    /// An issue's sentence, with the path of the file it is about.
    pub fn describe(&self, issue: &Issue) -> String {
        match issue.ino().and_then(|ino| self.paths.get(&ino)) {
            Some(path) => format!("{}: {issue} [{path}]", issue.severity()),
            None => format!("{}: {issue}", issue.severity()),
        }
    }
}

/// Looks further at most so often for what follows from mending.
const ROUNDS: usize = 16;

/// Checks a pool. See the module. Without [`CheckOptions::repair`] the pool may be open for reading only.
pub fn check(pool: &mut Pool, options: &mut CheckOptions<'_>) -> Result<Report> {
    let mut report = examine(pool, options)?;
    if options.repair && pool.access() == Access::ReadWrite && report.repaired > 0 {
        let again = examine(
            pool,
            &mut CheckOptions {
                verify_data: false,
                rebuild_vectors: false,
                repair: false,
                progress: &mut *options.progress,
                ..*options
            },
        )?;
        let unmendable = report
            .issues
            .iter()
            .any(|issue| !issue.repairable() && issue.severity() >= Severity::Error);
        report.clean_after = again.is_sound() && !unmendable;
    }
    Ok(report)
}

/// A check that ends with a list of all that is wrong, warnings left out, if anything is: for tests that call it after
/// each recovery.
pub fn assert_sound(disk: Arc<dyn Disk>) -> Result<()> {
    let options = crate::pool::OpenOptions::new(Access::ReadOnly);
    let mut pool = Pool::open_disk(disk, &options).map_err(|error| Damage::new("pool", error))?;
    let report = check(
        &mut pool,
        &mut CheckOptions {
            verify_data: true,
            rebuild_vectors: false,
            repair: false,
            memory_bytes: DEFAULT_MEMORY,
            max_issues: 100,
            progress: &mut |_| ControlFlow::Continue(()),
        },
    )?;
    let wrong: Vec<String> = report
        .issues
        .iter()
        .filter(|issue| issue.severity() > Severity::Warning || matches!(issue, Issue::BlocksLeaked { .. }))
        .map(|issue| report.describe(issue))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Damage::new("check", wrong.join("; ")))
}

/// A good value for [`CheckOptions::memory_bytes`]: counts a full TiB in one pass.
pub const DEFAULT_MEMORY: u64 = 256 << 20;

fn examine(pool: &mut Pool, options: &mut CheckOptions<'_>) -> Result<Report> {
    let disk = Arc::clone(pool.disk());
    let superblock = pool.superblock().clone();
    let now = (pool.host().now)();
    let mut found = Found::default();
    let limit = options.max_issues;
    superblock_issues(pool, &mut found, limit);
    let settings = Settings {
        tolerant: true,
        ..Settings::for_pool(superblock.total_blocks)
    };
    let base = match Base::open(
        Arc::clone(&disk),
        superblock.total_blocks,
        &superblock.manifest,
        settings,
    ) {
        Ok(base) => base,
        Err(error @ (Error::Damaged(_) | Error::Io(_))) => {
            let what = error.to_string();
            found.add(Issue::ManifestDamaged { what }, limit);
            return Ok(Report {
                issues: found.issues,
                counts: found.counts,
                ..Report::default()
            });
        }
        Err(error) => return Err(error),
    };
    let tables = base_issues(&base, options)?;
    let rewrite = !tables.is_empty();
    let mut lost = Vec::new();
    for issue in tables {
        if let base::Issue::Page { keys: Some(keys), .. } = &issue {
            lost.push(keys.clone());
        }
        found.add(table_issue(issue), limit);
    }
    let mut system: Vec<Run> = superblock
        .fixed_runs()
        .into_iter()
        .chain(base.blocks_in_use())
        .collect();
    system.sort_unstable();
    let mut around = Surroundings {
        disk: &*disk,
        superblock: &superblock,
        system,
        lost,
        same_boot: pool.same_boot(),
        verify_data: options.verify_data,
        rebuild_vectors: options.rebuild_vectors,
        memory_bytes: options.memory_bytes,
        max_issues: limit,
        now: Timestamp::new(now.seconds, now.nanos),
        progress: &mut *options.progress,
    };
    let replayed = replay_journal(&mut around, &base, &mut found)?;
    let end = replayed.end;
    let mut records = Records {
        base,
        changes: replayed.changes,
    };
    let first = look(&mut around, &records, false)?;
    found.issues.extend(first.found.issues.iter().take(limit).cloned());
    for (name, count) in &first.found.counts {
        *found.counts.entry(name).or_default() += count;
    }
    let mut report = Report {
        paths: paths::of_issues(&records, &found.issues)?,
        issues: found.issues,
        counts: found.counts,
        ..Report::default()
    };
    report.clean_after = report.is_sound();
    let wanted = report.issues.iter().any(Issue::repairable);
    if !options.repair || !wanted || pool.access() == Access::ReadOnly {
        return Ok(report);
    }
    around.verify_data = false;
    report.repaired = mend_in_memory(&mut around, &mut records, first, &mut report.consequences)?;
    let progress = Progress {
        stage: Stage::Mending,
        done: report.repaired,
    };
    if (around.progress)(progress).is_break() {
        return Err(crate::error::Errno::Interrupted.into());
    }
    mend::write(pool, &records, end, rewrite)?;
    report.repaired += 1;
    Ok(report)
}

/// What one look gave.
struct Looked {
    found: Found,
    fixes: Changes,
    drop_promises: bool,
}

fn look(around: &mut Surroundings<'_>, records: &Records, drop_promises: bool) -> Result<Looked> {
    let round = Round::look(around, records, drop_promises)?;
    Ok(Looked {
        found: round.found,
        fixes: round.fixes,
        drop_promises: round.promises_exceed,
    })
}

/// Puts fixes over the records until nothing is left to fix. Gives the number of changed records.
fn mend_in_memory(
    around: &mut Surroundings<'_>,
    records: &mut Records,
    first: Looked,
    consequences: &mut Vec<Issue>,
) -> Result<u64> {
    let mut looked = first;
    let mut repaired = 0;
    for _ in 0..ROUNDS {
        if looked.fixes.is_empty() && !looked.drop_promises {
            return Ok(repaired);
        }
        repaired += looked.fixes.len() as u64;
        records.changes.extend(looked.fixes);
        looked = look(around, records, looked.drop_promises)?;
        let room = around.max_issues.saturating_sub(consequences.len());
        consequences.extend(looked.found.issues.drain(..).take(room));
    }
    Err(Damage::new(
        "repair",
        "mending one thing damages another without end; nothing was written",
    ))
}

fn superblock_issues(pool: &Pool, found: &mut Found, limit: usize) {
    for place in pool.survey().damaged() {
        let what = match &place.condition {
            Condition::Damaged(error) | Condition::Unsupported { error, .. } => error.to_string(),
            Condition::Misplaced => "it belongs elsewhere".to_owned(),
            Condition::Unreadable(error) => error.to_string(),
            Condition::Intact(_) => continue,
        };
        // What was rewritten since the pool was opened is not wrong any more.
        if place_is_damaged(pool, place.block) {
            let block = place.block;
            found.add(Issue::SuperblockCopy { block, what }, limit);
        }
    }
    if pool.superblock().needs_check {
        let errors = pool.superblock().error_count;
        found.add(Issue::NeedsCheck { errors }, limit);
    }
}

fn place_is_damaged(pool: &Pool, block: crate::units::Block) -> bool {
    let survey = crate::pool::Survey::of(pool.disk().as_ref());
    survey.damaged().any(|place| place.block == block)
}

/// Reads all tables.
fn base_issues(base: &Base, options: &mut CheckOptions<'_>) -> Result<Vec<base::Issue>> {
    let mut stopped = false;
    let issues = base.verify_all(|at| {
        let progress = Progress {
            stage: Stage::Tables,
            done: at.done,
        };
        let flow = (options.progress)(progress);
        stopped = flow.is_break();
        flow
    })?;
    if stopped {
        return Err(crate::error::Errno::Interrupted.into());
    }
    Ok(issues)
}

/// What the tables say of themselves, as an issue of the pool.
fn table_issue(issue: base::Issue) -> Issue {
    match issue {
        base::Issue::Manifest { what } => Issue::ManifestDamaged { what },
        base::Issue::Guide { table, what } => Issue::TableGuide { table, what },
        base::Issue::Page {
            table,
            page,
            keys,
            what,
        } => Issue::TablePage {
            table,
            page,
            records: text::records_text(keys.as_ref()),
            what,
        },
        base::Issue::Filter { table, page } => Issue::TableFilter { table, page },
        base::Issue::Count { table, expected, found } => Issue::TableCount {
            table,
            counted: expected.0,
            found: found.0,
        },
    }
}

/// Replays the journal. Where it contradicts the tables, these are mended first, in memory, as far as they are accounts:
/// a wrong count must not cost transactions.
fn replay_journal(around: &mut Surroundings<'_>, base: &Base, found: &mut Found) -> Result<Replayed> {
    let limit = around.max_issues;
    let superblock = around.superblock;
    let mut seed = Changes::new();
    let mut totals = first_totals(base, superblock, found, limit)?;
    let mut replayed = replay(around.disk, base, superblock, around.same_boot, totals, &seed)?;
    if replayed.contradiction.is_some() {
        let mut records = Records {
            base: base.clone(),
            changes: Changes::new(),
        };
        if superblock.manifest.first.is_none() {
            records.changes = replay_nothing(around, base, totals)?;
        }
        let verify = std::mem::replace(&mut around.verify_data, false);
        let looked = look(around, &records, false);
        around.verify_data = verify;
        let looked = looked?;
        let accounts = looked
            .fixes
            .iter()
            .filter(|(key, value)| is_account(&records, key, value.as_ref()));
        seed.extend(accounts.map(|(key, value)| (key.clone(), value.clone())));
        if let Some(Some(bytes)) = looked.fixes.get(&crate::meta::encode_key(&TotalsKey {}))
            && let Ok(right) = <Totals as crate::meta::Record>::decode(bytes)
        {
            totals = Totals {
                inodes: right.inodes,
                ..right
            };
        }
        if !seed.is_empty() {
            let again = replay(around.disk, base, superblock, around.same_boot, totals, &seed)?;
            if again.end.seq > replayed.end.seq || again.contradiction.is_none() {
                replayed = again;
                // What the tables had wrong is not to be seen any more under what the journal made of it.
                for issue in looked.found.issues {
                    found.add(issue, limit);
                }
            }
        }
    }
    if let Some((seq, error)) = &replayed.contradiction {
        let (seq, what) = (*seq, error.to_string());
        found.add(Issue::JournalContradiction { seq, what }, limit);
    } else if replayed.end.seq < replayed.durable {
        let (applied, durable) = (replayed.end.seq, replayed.durable);
        found.add(Issue::JournalShort { applied, durable }, limit);
    }
    if superblock.state == State::Dirty {
        let transactions = replayed.transactions;
        found.add(Issue::NotClosed { transactions }, limit);
    }
    Ok(replayed)
}

/// Records of a pool that has no tables yet.
fn replay_nothing(around: &Surroundings<'_>, base: &Base, totals: Totals) -> Result<Changes> {
    let empty = Superblock {
        tail: crate::pool::Tail {
            // Nothing chains with this.
            seq: crate::units::Seq(u64::MAX >> 2),
            ..around.superblock.tail
        },
        ..around.superblock.clone()
    };
    Ok(replay(around.disk, base, &empty, around.same_boot, totals, &Changes::new())?.changes)
}

/// Whether a fix only sets numbers that follow from other records: nothing appears, and no file, name or byte goes.
fn is_account(records: &Records, key: &[u8], value: Option<&Vec<u8>>) -> bool {
    use crate::fs::record::{GroupKey, SharedKey};
    use crate::meta::Key;
    match key.first() {
        Some(&GroupKey::TAG | &SharedKey::TAG) => true,
        Some(&InodeKey::TAG) => value.is_some() && matches!(records.get(key), Ok(Some(_))),
        _ => false,
    }
}

/// The totals to begin the replay with. Missing ones are told here, since the replay makes new ones.
fn first_totals(base: &Base, superblock: &Superblock, found: &mut Found, limit: usize) -> Result<Totals> {
    let records = Records {
        base: base.clone(),
        changes: Changes::new(),
    };
    let mut totals = records.all::<TotalsKey, Totals>()?;
    match totals.next()? {
        Some(Item::Good(_, totals)) => return Ok(totals),
        Some(Item::Bad(key, _, what)) => {
            let kind = text::RecordKind::Totals;
            let key = text::Name::from(key.as_slice());
            found.add(Issue::UndecodableRecord { kind, key, what }, limit);
        }
        None if superblock.manifest.first.is_none() => {
            return Ok(Totals {
                next_ino: Ino(2),
                inodes: 1,
                promised: 0,
            });
        }
        None => found.add(Issue::TotalsMissing {}, limit),
    }
    let (mut inodes, mut highest, mut promised) = (0, Ino::ROOT, 0);
    let mut stream = records.all::<InodeKey, Inode>()?;
    while let Some(item) = stream.next()? {
        if let Item::Good(key, _) | Item::Bad(_, Some(key), _) = item
            && (1..Totals::LAST_INO).contains(&key.ino.0)
        {
            inodes += 1;
            highest = highest.max(key.ino);
        }
    }
    let mut rows = records.all::<crate::fs::record::RowKey, crate::data::row::Row>()?;
    while let Some(item) = rows.next()? {
        if let Item::Good(_, crate::data::row::Row::Map(map)) = item {
            promised += map.promised();
        }
    }
    Ok(Totals {
        next_ino: Ino(highest.0 + 1),
        inodes,
        promised,
    })
}
