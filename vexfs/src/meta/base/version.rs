// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which tables make up the base at one time. Immutable once installed; readers share it.
//!
//! - Level 0 ("young"): runs as the checkpoints wrote them, newest first. They overlap each other. The oldest `batch` of
//!   them are being merged into level 1: of these, keys below `cursor` do not count any more, they are in level 1.
//! - Levels from 1 on: one run each, about ten times as large as the one before.
//!
//! What a run says of a key hides what later runs in this order say.

use std::collections::HashSet;
use std::sync::Arc;

use super::ManifestRef;
use super::fences::Fences;
use super::manifest::{Contents, TableInfo};
use super::table::{Found, Table};
use super::value::Value;
use super::{Env, bloom};
use crate::error::Result;
use crate::units::Run;

/// Tables in key order that do not overlap.
#[derive(Clone)]
pub(super) struct SortedRun(Arc<(Vec<Arc<Table>>, Fences)>);

impl SortedRun {
    /// From tables in key order.
    pub(super) fn new(tables: Vec<Arc<Table>>) -> Self {
        let fences = Fences::new(tables.iter().map(|table| &*table.info.first));
        Self(Arc::new((tables, fences)))
    }

    pub(super) fn tables(&self) -> &[Arc<Table>] {
        &self.0.0
    }

    /// The table that may hold the key.
    pub(super) fn find(&self, key: &[u8]) -> Option<&Arc<Table>> {
        let (tables, fences) = &*self.0;
        tables.get(fences.find(key)?).filter(|table| *key <= *table.info.last)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.tables().iter().map(|table| table.bytes()).sum()
    }
}

/// A level from 1 on.
#[derive(Clone)]
pub(super) struct Level {
    pub(super) run: SortedRun,
    /// Compaction goes on with the first table behind this key.
    pub(super) next: Box<[u8]>,
}

impl Level {
    pub(super) fn empty() -> Self {
        Self {
            run: SortedRun::new(Vec::new()),
            next: Box::default(),
        }
    }
}

/// The manifest that an installed version was read from or written to.
#[derive(Default)]
pub(super) struct Manifest {
    pub(super) reference: ManifestRef,
    pub(super) blocks: Vec<Run>,
}

#[derive(Clone)]
pub(super) struct Version {
    pub(super) young: Vec<SortedRun>,
    pub(super) batch: usize,
    pub(super) cursor: Box<[u8]>,
    pub(super) levels: Vec<Level>,
    pub(super) manifest: Arc<Manifest>,
}

impl Version {
    pub(super) fn empty() -> Self {
        Self {
            young: Vec::new(),
            batch: 0,
            cursor: Box::default(),
            levels: Vec::new(),
            manifest: Arc::default(),
        }
    }

    pub(super) fn from_manifest(contents: Contents, manifest: Manifest, env: &Arc<Env>) -> Self {
        let run = |tables: Vec<TableInfo>| {
            let table = |info| Arc::new(Table::new(info, Arc::clone(env)));
            SortedRun::new(tables.into_iter().map(table).collect())
        };
        let level = |(next, tables)| Level { run: run(tables), next };
        Self {
            young: contents.young.into_iter().map(run).collect(),
            batch: contents.batch,
            cursor: contents.cursor,
            levels: contents.levels.into_iter().map(level).collect(),
            manifest: Arc::new(manifest),
        }
    }

    /// Runs of level 0 with, for those of the batch, the key below which they do not count.
    fn young_runs(&self) -> impl Iterator<Item = (&SortedRun, &[u8])> {
        let fresh = self.young.len().saturating_sub(self.batch);
        let from = move |index| if index < fresh { &[][..] } else { &*self.cursor };
        self.young
            .iter()
            .enumerate()
            .map(move |(index, run)| (run, from(index)))
    }

    /// The runs of the batch, newest first.
    pub(super) fn batch_runs(&self) -> &[SortedRun] {
        self.young
            .get(self.young.len().saturating_sub(self.batch)..)
            .unwrap_or(&[])
    }

    /// Every run, newest first, with the key below which it does not count.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&SortedRun, &[u8])> {
        self.young_runs()
            .chain(self.levels.iter().map(|level| (&level.run, &[][..])))
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.runs().flat_map(|(run, _)| run.tables())
    }

    pub(super) fn table_ids(&self) -> HashSet<u64> {
        self.tables().map(|table| table.info.id).collect()
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        let hash = bloom::hash(key);
        for (run, from) in self.runs() {
            if key < from {
                continue;
            }
            if let Some(table) = run.find(key)
                && let Some(found) = table.get(key, hash)?
            {
                return Ok(match found {
                    Found::Value(value) => Some(value),
                    Found::Tombstone => None,
                });
            }
        }
        Ok(None)
    }

    /// Whether a level behind the `levels[index]` may hold the key.
    pub(super) fn deeper_may_hold(&self, index: usize, key: &[u8]) -> bool {
        let deeper = self.levels.iter().skip(index + 1);
        deeper.into_iter().any(|level| level.run.find(key).is_some())
    }
}
