// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making the next version: [`Change`] collects new tables, [`Prepared`] has its manifest in the pool.
//!
//! Both own what they wrote until [`Base::install`]: dropped before, they give the blocks back, and the base is as it was.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::blocks::NewBlocks;
use super::version::{Manifest, SortedRun, Version};
use super::writer::{NewTables, RunWriter};
use super::{Base, BlockSource, Env, ManifestRef, compact, manifest};
use crate::error::Result;

/// A change being made. See [`super`].
pub struct Change<'s> {
    source: &'s dyn BlockSource,
    version: Version,
    new: NewTables<'s>,
    turn: Turn,
}

/// A change whose tables and manifest are written, but not synced. See [`super`].
pub struct Prepared<'s> {
    version: Version,
    new: NewTables<'s>,
    chain: NewBlocks<'s>,
    turn: Turn,
}

/// The right to change the base.
pub(super) struct Turn(Base);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.changing.store(false, Ordering::Release);
    }
}

impl<'s> Change<'s> {
    /// For who has the right to change the base; it ends with the change.
    pub(super) fn new(base: &Base, source: &'s dyn BlockSource) -> Self {
        Self {
            source,
            version: Version::clone(&base.version()),
            new: NewTables::new(source),
            turn: Turn(base.clone()),
        }
    }

    fn env(&self) -> &Arc<Env> {
        &self.turn.0.0.env
    }

    /// Writes entries, in strictly ascending order of keys, as a new run that hides what was before. An entry without a
    /// value deletes its key. After an error the change is as it was before the call.
    pub fn write_run<K, V>(&mut self, entries: impl IntoIterator<Item = (K, Option<V>)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut writer = RunWriter::new(self.env(), self.source, self.env().settings.table_bytes);
        for (key, value) in entries {
            writer.add(key.as_ref(), value.as_ref().map(AsRef::as_ref))?;
        }
        let tables = writer.finish()?;
        if !tables.tables().is_empty() {
            self.version.young.insert(0, SortedRun::new(tables.tables().to_vec()));
            self.new.absorb(tables);
        }
        Ok(())
    }

    /// Forgets all tables: what is written from now on is everything there is.
    pub fn start_over(&mut self) {
        self.version = Version {
            manifest: Arc::clone(&self.version.manifest),
            ..Version::empty()
        };
        self.new.retain(|_| false);
    }

    /// Whether [`Self::compact_step`] would find something to do.
    pub fn wants_compaction(&self) -> bool {
        compact::due(&self.version, &self.env().settings).is_some()
    }

    /// Merges a little; false when nothing is due. After an error the change is as it was before the call. If blocks are
    /// short, the step gets smaller before it fails.
    pub fn compact_step(&mut self) -> Result<bool> {
        let Some(due) = compact::due(&self.version, &self.env().settings) else {
            return Ok(false);
        };
        let (version, tables) = compact::step(self.env(), self.source, &self.version, due)?;
        self.version = version;
        self.new.absorb(tables);
        // What an earlier step of this change wrote and this one replaced was never committed.
        let ids = self.version.table_ids();
        self.new.retain(|table| ids.contains(&table.info.id));
        Ok(true)
    }

    /// Writes the manifest. Nothing is synced yet.
    pub fn prepare(mut self) -> Result<Prepared<'s>> {
        let env = self.env();
        let stream = manifest::encode(&self.version, env.next_table.load(Ordering::Relaxed));
        let (reference, chain) = manifest::write(env, &stream, self.source)?;
        self.version.manifest = Arc::new(Manifest {
            reference,
            blocks: chain.runs().to_vec(),
        });
        Ok(Prepared {
            version: self.version,
            new: self.new,
            chain,
            turn: self.turn,
        })
    }
}

impl Prepared<'_> {
    /// What the superblock must refer to.
    pub fn manifest(&self) -> ManifestRef {
        self.version.manifest.reference
    }

    /// The version, whose blocks are owned by the base from now on, and the right to put it in place.
    pub(super) fn keep(self) -> (Version, Turn) {
        self.new.keep();
        self.chain.keep();
        (self.version, self.turn)
    }
}
