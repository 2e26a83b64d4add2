// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which vectors of a space pass a filter, remembered from one search to the next.
//!
//! Where few pass, looking at files in the order in which an index comes to them is the slow way: all of them are looked
//! at once, and the next search with the same filter only looks at those that changed (see [`crate::fs::changes`]). What
//! is remembered decides what is compared, never what is told: whoever asks looks at the files that were found again.

use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashSet;

use crate::error::Result;
use crate::fs::engine::Fs;
use crate::units::Ino;
use crate::vector::filter::BitSet;

/// Filters that are remembered, of all spaces.
const FILTERS: usize = 32;
/// Records that are read at once.
const STEP: usize = 4096;

/// A filter of files.
#[derive(Clone, Copy)]
pub struct Accept<'a> {
    /// Filters with the same name let the same files pass.
    pub name: &'a [u8],
    /// Whether a file passes now.
    pub passes: &'a dyn Fn(Ino) -> Result<bool>,
}

/// The vectors that pass. Some may not exist any more.
#[derive(Debug, Clone, Default)]
pub(super) struct Passing {
    pub(super) vids: BitSet,
    pub(super) count: usize,
}

impl Passing {
    fn set(&mut self, vid: u32, passes: bool) {
        match (self.vids.contains(vid), passes) {
            (false, true) => {
                self.vids.insert(vid);
                self.count += 1;
            }
            (true, false) => {
                self.vids.remove(vid);
                self.count -= 1;
            }
            _ => {}
        }
    }
}

/// Vectors that passed in a state of the files.
struct Known {
    state: u64,
    passing: Arc<Passing>,
}

/// Held while it is found or brought up to date: who wants the same waits.
type Slot = Arc<Mutex<Option<Known>>>;

/// A filter that was used.
struct Used {
    space: Ino,
    name: Box<[u8]>,
    slot: Slot,
}

impl Used {
    fn is(&self, space: Ino, name: &[u8]) -> bool {
        self.space == space && *self.name == *name
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Matches {
    /// The one used last is last.
    used: Mutex<Vec<Used>>,
}

impl Matches {
    fn slot(&self, space: Ino, name: &[u8]) -> Slot {
        let mut all = self.used.lock();
        let filter = match all.iter().position(|filter| filter.is(space, name)) {
            Some(at) => all.remove(at),
            None => Used {
                space,
                name: name.into(),
                slot: Slot::default(),
            },
        };
        if all.len() >= FILTERS {
            all.remove(0);
        }
        let slot = Arc::clone(&filter.slot);
        all.push(filter);
        slot
    }

    /// Whether a filter was looked at before.
    pub(super) fn knows(&self, space: Ino, name: &[u8]) -> bool {
        self.used.lock().iter().any(|filter| filter.is(space, name))
    }
}

impl Fs {
    /// The vectors of a space that pass, as the files are now.
    pub(super) fn passing(&self, space: Ino, accept: &Accept<'_>) -> Result<Arc<Passing>> {
        let slot = self.shared.indexes.matches.slot(space, accept.name);
        let mut slot = slot.lock();
        let known = match slot.take() {
            Some(known) => self.brought_up_to_date(space, known, accept)?,
            None => None,
        };
        let known = match known {
            Some(known) => known,
            None => self.look_at_all(space, accept)?,
        };
        let passing = Arc::clone(&known.passing);
        *slot = Some(known);
        Ok(passing)
    }

    fn look_at_all(&self, space: Ino, accept: &Accept<'_>) -> Result<Known> {
        // Before anything is looked at: what changes meanwhile is looked at again.
        let state = self.core().state.changes.watch();
        let mut passing = Passing::default();
        let mut from = 0;
        let mut last: Option<(Ino, bool)> = None;
        loop {
            let some = self.core().state.vectors_from(space, from, STEP)?;
            for (vector, record) in &some {
                let passes = match last {
                    Some((ino, passes)) if ino == record.ino => passes,
                    _ => (accept.passes)(record.ino)?,
                };
                last = Some((record.ino, passes));
                if let Ok(vid) = u32::try_from(*vector) {
                    passing.set(vid, passes);
                }
            }
            match some.last() {
                Some((vector, _)) if some.len() == STEP => from = vector + 1,
                _ => break,
            }
        }
        let passing = Arc::new(passing);
        Ok(Known { state, passing })
    }

    /// None: too much changed.
    fn brought_up_to_date(&self, space: Ino, mut known: Known, accept: &Accept<'_>) -> Result<Option<Known>> {
        let changed: FxHashSet<Ino> = {
            let mut core = self.core();
            let changes = &mut core.state.changes;
            let Some(files) = changes.since(known.state) else {
                return Ok(None);
            };
            let files = files.collect();
            known.state = changes.watch();
            files
        };
        for ino in changed {
            let vectors = self.core().state.embeddings_in(ino, space, usize::MAX)?;
            if vectors.is_empty() {
                continue;
            }
            let passes = (accept.passes)(ino)?;
            let passing = Arc::make_mut(&mut known.passing);
            for (_, vector) in vectors {
                if let Ok(vid) = u32::try_from(vector) {
                    passing.set(vid, passes);
                }
            }
        }
        Ok(Some(known))
    }
}
