// SPDX-License-Identifier: MIT OR Apache-2.0

//! Using a pool in every way there is, believing nothing it says. What fails must fail with a text; nothing may panic.

use std::collections::HashSet;
use std::sync::Arc;

use vexfs::disk::{Disk, MemDisk, SplitMix64};
use vexfs::error::Result;
use vexfs::fs::op::rename;
use vexfs::fs::record::Kind;
use vexfs::fs::{Fs, Preallocation, Seek};
use vexfs::pool::{Access, OpenError};
use vexfs::units::{BLOCK_SIZE, FileBlock, Ino, blocks_for};

use crate::images::{NOW, mount, new, noise, text};

/// Files that a walk looks at.
const FILES: usize = 150;
/// Bytes that a walk reads of a file.
const BYTES: usize = 600_000;

/// What a case came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The pool opened for writing.
    pub(crate) opened: bool,
    /// Files looked at.
    pub(crate) files: usize,
    /// Calls that failed.
    pub(crate) failures: usize,
}

/// Opens a pool for reading, walks it; opens it for writing, walks it, changes it, closes it; opens it again.
pub(crate) fn use_it(disk: MemDisk, seed: u64) -> Outcome {
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let mut outcome = Outcome::default();
    if let Some(fs) = opened(mount(&disk, Access::ReadOnly)) {
        Walk::new(&fs, &mut outcome).run();
        note(&mut outcome, fs.create(Ino::ROOT, b"read-only", &new(Kind::File)));
        note(&mut outcome, fs.close());
    }
    let Some(fs) = opened(mount(&disk, Access::ReadWrite)) else {
        return outcome;
    };
    outcome.opened = true;
    let found = Walk::new(&fs, &mut outcome).run();
    change(&fs, &found, seed, &mut outcome);
    // Every other case ends like a crash of the process.
    if seed.is_multiple_of(2) {
        note(&mut outcome, fs.close());
    } else {
        note(&mut outcome, fs.flush());
        drop(fs);
    }
    if let Some(fs) = opened(mount(&disk, Access::ReadWrite)) {
        Walk::new(&fs, &mut outcome).run();
        note(&mut outcome, fs.close());
    }
    outcome
}

fn opened(result: std::result::Result<Fs, OpenError>) -> Option<Fs> {
    result
        .map_err(|error| assert!(error.to_string().len() > 10, "{error:?} says nothing"))
        .ok()
}

/// A call may fail, with an errno and a text.
fn note<T>(outcome: &mut Outcome, result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(
                error.errno() > 0 && error.to_string().len() > 5,
                "{error:?} says nothing"
            );
            outcome.failures += 1;
            None
        }
    }
}

struct Walk<'a> {
    fs: &'a Fs,
    outcome: &'a mut Outcome,
    seen: HashSet<Ino>,
    /// Directory, name, file.
    found: Vec<(Ino, Box<[u8]>, Ino)>,
}

impl<'a> Walk<'a> {
    fn new(fs: &'a Fs, outcome: &'a mut Outcome) -> Self {
        Self {
            fs,
            outcome,
            seen: HashSet::new(),
            found: Vec::new(),
        }
    }

    fn run(mut self) -> Vec<(Ino, Box<[u8]>, Ino)> {
        let mut directories = vec![Ino::ROOT];
        while let Some(directory) = directories.pop() {
            self.look_at(directory);
            let mut from = 0;
            while let Some(listing) = note(self.outcome, self.fs.list(directory, from, 64)) {
                let Some(last) = listing.last() else { break };
                assert!(last.next > from, "a listing goes on where it was");
                from = last.next;
                for entry in listing {
                    if !self.seen.insert(entry.ino) {
                        continue;
                    }
                    note(self.outcome, self.fs.lookup(directory, &entry.name));
                    if entry.kind == Kind::Directory {
                        directories.push(entry.ino);
                    } else {
                        self.look_at(entry.ino);
                    }
                    self.found.push((directory, entry.name, entry.ino));
                }
                if self.found.len() > FILES {
                    break;
                }
            }
            if self.found.len() > FILES {
                break;
            }
        }
        self.outcome.files += self.found.len();
        let statistics = self.fs.statistics();
        assert!(statistics.available_blocks <= statistics.total_blocks);
        self.found
    }

    fn look_at(&mut self, ino: Ino) {
        let Some(attributes) = note(self.outcome, self.fs.attributes(ino)) else {
            return;
        };
        let (size, _) = (attributes.size(), attributes.sectors());
        if let Some(names) = note(self.outcome, self.fs.list_xattrs(ino)) {
            for name in names {
                note(self.outcome, self.fs.get_xattr(ino, &name));
            }
        }
        match attributes.inode.kind() {
            Kind::Symlink => {
                note(self.outcome, self.fs.read_link(ino));
            }
            Kind::File => self.read(ino, size),
            _ => {}
        }
    }

    /// Reads what is stored, and a little of what is not.
    fn read(&mut self, ino: Ino, size: u64) {
        note(self.outcome, self.fs.extents(ino, FileBlock(0), blocks_for(size)));
        let mut buffer = vec![0; 128 << 10];
        let mut at = 0;
        let mut bytes = 0;
        while bytes < BYTES
            && let Some(data) = note(self.outcome, self.fs.seek(ino, at, Seek::Data))
        {
            assert!(data >= at, "data lies before where it was looked for");
            let hole = note(self.outcome, self.fs.seek(ino, data, Seek::Hole));
            let until = hole.unwrap_or(data + 1).max(data + 1);
            at = data;
            while at < until && bytes < BYTES {
                note(self.outcome, self.fs.read(ino, at, &mut buffer));
                at += buffer.len() as u64;
                bytes += buffer.len();
            }
            at = at.min(until);
        }
        for at in [0, size / 2, size.saturating_sub(100)] {
            let unaligned = &mut buffer[..5000];
            note(self.outcome, self.fs.read(ino, at, unaligned));
        }
    }
}

/// One of each change, on files that the walk found.
fn change(fs: &Fs, found: &[(Ino, Box<[u8]>, Ino)], seed: u64, outcome: &mut Outcome) {
    let mut random = SplitMix64::new(seed ^ 0x6368_616e_6765);
    let nobody: (Ino, Box<[u8]>, Ino) = (Ino::ROOT, b"nobody".as_slice().into(), Ino(77));
    if let Some(made) = note(outcome, fs.create(Ino::ROOT, b"made", &new(Kind::File))) {
        note(outcome, fs.write(made.ino, 3000, &text(50_000), NOW));
    }
    note(outcome, fs.create(Ino::ROOT, b"made directory", &new(Kind::Directory)));
    let mut buffer = vec![0; BLOCK_SIZE];
    for step in 0..24 {
        let mut any = || match random.below(found.len().max(1) as u64) {
            index if !found.is_empty() => &found[usize::try_from(index).unwrap()],
            _ => &nobody,
        };
        let ((parent, name, ino), (to, to_name, other)) = (any(), any());
        let size = fs.attributes(*ino).map_or(0, |found| found.size());
        let at = if size == 0 { 0 } else { random.below(size) } / 4096 * 4096;
        let allocate = Preallocation::Allocate { keep_size: false };
        match step {
            0 | 12 => drop(note(outcome, fs.write(*ino, at + 7, &noise(9000, seed), NOW))),
            1 | 13 => drop(note(outcome, fs.truncate(*ino, at + 100, NOW))),
            2 => drop(note(
                outcome,
                fs.preallocate(*ino, Preallocation::Punch, at, 70_000, NOW),
            )),
            3 => drop(note(
                outcome,
                fs.preallocate(*ino, Preallocation::Collapse, at, 8192, NOW),
            )),
            4 => drop(note(
                outcome,
                fs.preallocate(*ino, Preallocation::Insert, at, 4096, NOW),
            )),
            5 => drop(note(outcome, fs.preallocate(*ino, allocate, at, 100_000, NOW))),
            6 => drop(note(outcome, fs.clone_range(*ino, 0, *other, 0, 0, NOW))),
            7 => drop(note(outcome, fs.link(*ino, *to, b"another name", NOW))),
            8 | 14 => drop(note(outcome, fs.rename(*parent, name, *to, to_name, 0, NOW))),
            9 => drop(note(
                outcome,
                fs.rename(*parent, name, *to, to_name, rename::EXCHANGE, NOW),
            )),
            10 => drop(note(outcome, fs.set_xattr(*ino, b"user.new", &text(3000), 0, NOW))),
            11 | 15 | 16 | 17 => drop(note(outcome, fs.unlink(*parent, name, NOW))),
            18 => drop(note(outcome, fs.clone_tree(*ino, Ino::ROOT, b"copy", NOW))),
            19 => drop(note(outcome, fs.remove_tree(*parent, name, NOW))),
            20 => drop(note(outcome, fs.rename(*parent, name, *to, b"moved", 0, NOW))),
            21 => drop(note(outcome, fs.touch_accessed(*ino, NOW))),
            22 => drop(note(outcome, fs.read(*ino, at, &mut buffer))),
            _ => drop(note(outcome, fs.checkpoint())),
        }
    }
    note(outcome, fs.flush());
    note(outcome, fs.checkpoint());
}
