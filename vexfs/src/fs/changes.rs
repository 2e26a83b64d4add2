// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which files changed, for what is remembered of files outside of the tables.
//!
//! # Contract
//!
//! - Before somebody watches nothing is noted, and a change costs nothing.
//! - Who knows a state learns which files changed since, or that more than files did: then it looks at everything again.
//! - More may be told than happened: what was taken back is noted too.

use std::collections::VecDeque;

use crate::units::Ino;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Changes {
    watched: bool,
    /// Number of the first of `files`. Who knows less than that does not learn what happened.
    first: u64,
    files: VecDeque<Ino>,
}

impl Changes {
    /// Noted at most: half a MiB. When nobody asks for so long, nobody is taken to watch.
    const MOST: usize = 65_536;

    pub(super) const fn is_watched(&self) -> bool {
        self.watched
    }

    /// The present state, which can be given to [`Self::since`] from now on.
    pub(super) fn watch(&mut self) -> u64 {
        self.watched = true;
        self.first + self.files.len() as u64
    }

    /// The files that changed since a state. None: everything may have.
    pub(super) fn since(&self, state: u64) -> Option<impl Iterator<Item = Ino>> {
        let known = usize::try_from(state.checked_sub(self.first)?).ok()?;
        Some(self.files.iter().skip(known).copied())
    }

    /// A file changes.
    pub(super) fn note(&mut self, ino: Ino) {
        if self.files.len() < Self::MOST {
            self.files.push_back(ino);
        } else {
            self.note_all();
        }
    }

    /// Something changes that many files depend on.
    pub(super) fn note_all(&mut self) {
        self.first += self.files.len() as u64 + 1;
        self.files.clear();
        self.watched = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_a_state_learns_what_changed_since_or_that_everything_may_have() {
        let mut changes = Changes::default();
        assert!(!changes.is_watched());
        let told = |changes: &Changes, state| changes.since(state).map(Iterator::collect::<Vec<_>>);
        let first = changes.watch();
        assert_eq!(told(&changes, first), Some(Vec::new()));
        changes.note(Ino(5));
        let second = changes.watch();
        changes.note(Ino(6));
        assert_eq!(told(&changes, first), Some(vec![Ino(5), Ino(6)]));
        assert_eq!(told(&changes, second), Some(vec![Ino(6)]));
        changes.note_all();
        assert!(!changes.is_watched());
        assert_eq!((told(&changes, first), told(&changes, second)), (None, None));
        let third = changes.watch();
        for _ in 0..Changes::MOST {
            changes.note(Ino(7));
        }
        assert_eq!(told(&changes, third).map(|files| files.len()), Some(Changes::MOST));
        changes.note(Ino(8));
        assert_eq!(told(&changes, third), None);
    }
}
