// SPDX-License-Identifier: MIT OR Apache-2.0

//! An engine and a model side by side: every action goes to both, and both must answer the same.
//!
//! Where the engine may give up (no space left, a failing disk) its tree decides how far it came: it must be one of the
//! states the model passed through. `calls` makes the calls.

mod calls;

use std::collections::BTreeMap;
use std::sync::Arc;

use vexfs::error::{Errno, Error};
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::fs::{Fs, Preallocation};
use vexfs::units::Ino;

use crate::disk::Recorder;
use crate::history::{Call, History};
use crate::model::{Id, Model, ROOT, State};
use crate::tree::{
    Facts, Tree, facts_of_engine, facts_of_model, stat_of_engine, stat_of_model, tree_of_engine, tree_of_model,
};
use crate::workload::{Action, Among, Name, Pick, Place, known_name};
use calls::{Answer, Both};

/// What must not be.
pub type Violation = String;

/// See the module.
pub struct Session {
    pub fs: Fs,
    /// What `fs` is on.
    pub disk: Arc<Recorder>,
    model: Model,
    inos: BTreeMap<Id, Ino>,
    pub history: History,
    /// Errors of the disk are to be expected.
    pub faulty: bool,
    /// The pool failed: nothing more can be done with it.
    pub stopped: bool,
    /// When the next call happens.
    clock: i64,
}

impl Session {
    /// `files` are the engine's numbers of the files of the state, in the order of a walk.
    pub fn new(fs: Fs, disk: Arc<Recorder>, state: State, files: &[Ino], clock: i64) -> Self {
        let ids = tree_of_model(&state).files;
        Self {
            fs,
            disk,
            inos: ids.into_iter().zip(files.iter().copied()).collect(),
            history: History::new(state.clone()),
            model: Model::new(state),
            faulty: false,
            stopped: false,
            clock,
        }
    }

    fn ino(&self, id: Id) -> Ino {
        self.inos.get(&id).copied().unwrap_or_default()
    }

    fn pick(&self, Pick(among, place): Pick) -> Option<Id> {
        let fits = |id: Id, kind: Kind, holders: u32| match among {
            Among::Files => kind == Kind::File,
            Among::Directories => kind == Kind::Directory,
            Among::Symlinks => kind == Kind::Symlink,
            Among::Everything => id != ROOT,
            Among::Held => holders > 0,
        };
        let nodes = self.model.state.nodes();
        let ids: Vec<Id> = nodes
            .filter(|(id, node)| fits(*id, node.kind, node.holders))
            .map(|(id, _)| id)
            .collect();
        ids.get(usize::from(place) % ids.len().max(1)).copied()
    }

    fn place(&self, Place(directory, name): Place) -> Option<(Id, Vec<u8>)> {
        let directory = self.pick(Pick(Among::Directories, directory))?;
        let entries = self.model.state.node(directory).entries()?;
        let name = match name {
            Name::There(place) if !entries.is_empty() => {
                entries.keys().nth(usize::from(place) % entries.len())?.clone()
            }
            Name::There(number) | Name::Known(number) => known_name(number),
        };
        Some((directory, name))
    }

    /// Does one thing to both. What cannot be done to anything there is does nothing.
    pub fn perform(&mut self, action: &Action) -> Result<(), Violation> {
        if self.stopped {
            return Ok(());
        }
        if let Action::Squeeze(left) = *action {
            return self.squeeze(left);
        }
        self.disk.call_begins(self.history.calls());
        self.clock += 1_000_000_007;
        let now = Timestamp(self.clock);
        let before = self.model.state.clone();
        self.model.begin();
        let Some(both) = self.call(action, now)? else {
            return Ok(());
        };
        let Both {
            wanted,
            got,
            involved,
            made,
            redo,
        } = both;
        let succeeded = wanted.is_ok() && got.is_ok();
        let short = matches!((&wanted, &got), (Ok(Answer::Count(wanted)), Ok(Answer::Count(got))) if got < wanted);
        let complaint = || {
            format!(
                "{action:?}: the engine answers {}, the model {}",
                told(&got),
                told(&wanted)
            )
        };
        let call = Call { now, redo };
        if short && matches!(action, Action::Write(..) | Action::Append(..) | Action::FillUp) {
            return self
                .settle(before, call)
                .map_err(|wrong| format!("{}: {wrong}", complaint()));
        }
        match (&wanted, &got) {
            (Ok(wanted), Ok(got)) if wanted == got => {
                self.inos.extend(made);
                self.history.push(&mut self.model, call);
            }
            (Err(reasons), Err(Error::Posix(errno))) if reasons.contains(errno) => {
                self.model.state = before;
                self.history.push(&mut self.model, call);
            }
            (Ok(_), Err(Error::Posix(errno))) if self.model.tolerated.contains(errno) => {
                self.model.passed.clear();
                self.model.state = before;
                self.history.push(&mut self.model, call);
            }
            (_, Err(Error::Posix(Errno::NoSpace))) if may_need_space(action) => {
                return self
                    .settle(before, call)
                    .map_err(|wrong| format!("{}: {wrong}", complaint()));
            }
            (_, Err(Error::Io(_) | Error::Posix(Errno::Failed))) if self.faulty => {
                return self
                    .settle(before, call)
                    .map_err(|wrong| format!("{}: {wrong}", complaint()));
            }
            _ => return Err(complaint()),
        }
        if succeeded && matches!(action, Action::Flush | Action::Checkpoint) {
            self.history.all_flushed();
        }
        for id in involved {
            self.compare_stat(id)
                .map_err(|wrong| format!("after {action:?}: {wrong}"))?;
        }
        Ok(())
    }

    fn squeeze(&mut self, left: u16) -> Result<(), Violation> {
        self.perform(&Action::Create(Place(0, Name::Known(11)), Kind::File, 0o600, 0))?;
        let length = self.fs.statistics().available_blocks.saturating_sub(u64::from(left)) * 4096;
        let mode = Preallocation::Allocate { keep_size: true };
        self.perform(&Action::Preallocate(Pick(Among::Files, 0), mode, 0, length.max(1)))
    }

    /// Finds out how far a call came that did not do everything, or failed.
    fn settle(&mut self, before: State, call: Call) -> Result<(), Violation> {
        if self.fs.has_failed() {
            self.stopped = true;
            self.history.push(&mut self.model, call);
            return Ok(());
        }
        let last = std::mem::replace(&mut self.model.state, before.clone());
        let mut states = std::mem::take(&mut self.model.passed);
        states.insert(0, before);
        states.push(last);
        // The disk that fails one read may fail this one.
        let found = self.look().or_else(|_| self.look())?;
        let seen = |state: &State| (tree_of_model(state).print(), unnamed_of_model(state));
        let print = (found.0.print(), found.1);
        let Some(reached) = states.iter().position(|state| seen(state) == print) else {
            let differences = found.0.differences(&tree_of_model(&states[0]));
            return Err(format!(
                "what is left is no state on the way; compared with nothing done:{differences}"
            ));
        };
        self.model.state = states[reached].clone();
        self.model.passed = states[..reached].to_vec();
        self.history.push(&mut self.model, call);
        Ok(())
    }

    fn compare_stat(&self, id: Id) -> Result<(), Violation> {
        let Some((_, node)) = self.model.state.nodes().find(|(other, _)| *other == id) else {
            return match self.fs.attributes(self.ino(id)) {
                Err(Error::Posix(Errno::Stale)) => Ok(()),
                other => Err(format!("a file that is gone has attributes: {other:?}")),
            };
        };
        let wanted = stat_of_model(&self.model.state, node);
        match self.fs.attributes(self.ino(id)) {
            Ok(found) if stat_of_engine(&found) == wanted => Ok(()),
            Ok(found) => Err(format!("{found:?}\n  wanted {wanted:?}")),
            Err(_) if self.faulty => Ok(()),
            Err(error) => Err(format!("no attributes: {error}")),
        }
    }

    /// Everything there is of the engine: the tree, and the files without names.
    fn look(&self) -> Result<(Tree<Ino>, Vec<Facts>), Violation> {
        let tree = tree_of_engine(&self.fs)?;
        let unnamed = self.model.state.nodes().filter(|(_, node)| node.names == 0);
        let facts = unnamed.map(|(id, _)| {
            let found = self.fs.attributes(self.ino(id))?;
            facts_of_engine(&self.fs, &found)
        });
        let facts: Result<_, Error> = facts.collect();
        Ok((
            tree,
            facts.map_err(|error| format!("a held file without a name: {error}"))?,
        ))
    }

    /// Compares everything: the tree, and the files without names.
    pub fn compare_all(&self) -> Result<(), Violation> {
        let state = &self.model.state;
        let ((tree, unnamed), wanted) = (self.look()?, tree_of_model(state));
        if tree.print() != wanted.print() {
            return Err(format!("the trees differ:{}", tree.differences(&wanted)));
        }
        let wanted = unnamed_of_model(state);
        if unnamed != wanted {
            return Err(format!(
                "held files without names\n    found  {unnamed:?}\n    wanted {wanted:?}"
            ));
        }
        crate::consistency::check(&self.fs, &self.inos, state)
    }
}

fn unnamed_of_model(state: &State) -> Vec<Facts> {
    let unnamed = state.nodes().filter(|(_, node)| node.names == 0);
    unnamed.map(|(_, node)| facts_of_model(state, node)).collect()
}

/// Bytes are not told in full.
fn told<T: std::fmt::Debug>(answer: &T) -> String {
    format!("{answer:?}").chars().take(400).collect()
}

/// What takes away, or changes a number, works on a full pool too.
const fn may_need_space(action: &Action) -> bool {
    !matches!(
        action,
        Action::Unlink(_)
            | Action::RemoveDirectory(_)
            | Action::RemoveXattr(..)
            | Action::SetMode(..)
            | Action::SetOwner(..)
            | Action::SetTimes(..)
            | Action::SetFlags(..)
            | Action::TouchAccessed(_)
            | Action::RemoveTree(_)
            | Action::Release(_)
            | Action::Hold(_)
            | Action::Flush
            | Action::Checkpoint
            | Action::Seal
    )
}
