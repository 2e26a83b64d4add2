// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a writer's part of the tree holds, and how operations change it.
//!
//! A [`State`] is made from operations ([`State::apply`]) or read from a directory ([`State::read`]); two of them are
//! compared with [`State::differences`]. Paths are relative to the writer's directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

/// Name of the attributes that writers set.
pub(super) const ATTRIBUTE: &str = "user.suite";
/// A write past the page cache of up to so many bytes is one request to a server, done or not done. Longer ones may be cut
/// at pages. So may all that go through the page cache: FUSE sends the part up to the first page's end by itself. And so may
/// copies, which share whole blocks and then write the rest.
const INDIVISIBLE: usize = 64 << 10;
const PAGE: u64 = 4096;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    Create {
        path: PathBuf,
        mode: u32,
    },
    MakeDirectory {
        path: PathBuf,
    },
    RemoveDirectory {
        path: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Exchange {
        one: PathBuf,
        other: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Symlink {
        path: PathBuf,
        target: PathBuf,
    },
    Write {
        path: PathBuf,
        offset: u64,
        length: usize,
        seed: u64,
        how: How,
    },
    Truncate {
        path: PathBuf,
        length: u64,
    },
    Punch {
        path: PathBuf,
        offset: u64,
        length: u64,
    },
    Preallocate {
        path: PathBuf,
        offset: u64,
        length: u64,
    },
    Copy {
        from: PathBuf,
        to: PathBuf,
        length: usize,
    },
    SetAttribute {
        path: PathBuf,
        value: Vec<u8>,
    },
    RemoveAttribute {
        path: PathBuf,
    },
    SetMode {
        path: PathBuf,
        mode: u32,
    },
    SetTimes {
        path: PathBuf,
        modified: (i64, i64),
    },
    Sync {
        path: PathBuf,
        data_only: bool,
    },
    SyncDirectory,
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// `pwrite`.
    Plain,
    /// With `O_APPEND`; the offset is the file's end.
    Append,
    /// With `O_DIRECT`; offset and length are whole blocks.
    Direct,
    /// With `O_DSYNC`.
    Synchronous,
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) content: Arc<Vec<u8>>,
    pub(super) mode: u32,
    pub(super) attribute: Option<Vec<u8>>,
    /// Known only while it is the time that somebody set.
    pub(super) modified: Option<(i64, i64)>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    Symlink(PathBuf),
    File(u64),
}

/// A tree. Files have numbers, as several names may stand for one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) names: BTreeMap<PathBuf, Node>,
    pub(super) files: BTreeMap<u64, File>,
    next: u64,
}

impl State {
    /// The file that a name stands for.
    pub(super) fn file(&self, path: &Path) -> Option<&File> {
        match self.names.get(path)? {
            Node::File(number) => self.files.get(number),
            Node::Directory | Node::Symlink(_) => None,
        }
    }

    fn change(&mut self, path: &Path, change: impl FnOnce(&mut File)) {
        if let Some(Node::File(number)) = self.names.get(path)
            && let Some(file) = self.files.get_mut(number)
        {
            change(file);
        }
    }

    fn change_content(&mut self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        self.change(path, |file| {
            file.modified = None;
            change(Arc::make_mut(&mut file.content));
        });
    }

    /// Does what an answered call did. `count` is what it returned; only calls that move bytes may do less than asked.
    pub(super) fn apply(&mut self, op: &Op, count: usize) {
        match op {
            Op::Create { path, mode } => {
                let file = File {
                    content: Arc::default(),
                    mode: *mode,
                    attribute: None,
                    modified: None,
                };
                self.files.insert(self.next, file);
                self.names.insert(path.clone(), Node::File(self.next));
                self.next += 1;
            }
            Op::MakeDirectory { path } => {
                self.names.insert(path.clone(), Node::Directory);
            }
            Op::Symlink { path, target } => {
                self.names.insert(path.clone(), Node::Symlink(target.clone()));
            }
            Op::RemoveDirectory { path } | Op::Unlink { path } => {
                self.names.remove(path);
            }
            Op::Rename { from, to } => self.rename(from, to),
            Op::Exchange { one, other } => {
                if let (Some(first), Some(second)) = (self.names.get(one).cloned(), self.names.get(other).cloned()) {
                    self.names.insert(one.clone(), second);
                    self.names.insert(other.clone(), first);
                }
            }
            Op::Link { from, to } => {
                if let Some(node) = self.names.get(from).cloned() {
                    self.names.insert(to.clone(), node);
                }
            }
            Op::Write { path, offset, seed, .. } => {
                self.change_content(path, |content| put(content, *offset, &pattern(*seed, count)));
            }
            Op::Copy { from, to, .. } => {
                let source = self
                    .file(from)
                    .map(|file| Arc::clone(&file.content))
                    .unwrap_or_default();
                let bytes = source.get(..count.min(source.len())).unwrap_or_default();
                self.change_content(to, |content| put(content, 0, bytes));
            }
            Op::Truncate { path, length } => self.change_content(path, |content| content.resize(size(*length), 0)),
            Op::Punch { path, offset, length } => self.change_content(path, |content| {
                let end = size(offset + length).min(content.len());
                if let Some(hole) = content.get_mut(size(*offset)..end) {
                    hole.fill(0);
                }
            }),
            // Room that is set aside cannot be read; when the file was changed is up to the filesystem.
            Op::Preallocate { path, .. } => self.change(path, |file| file.modified = None),
            Op::SetAttribute { path, value } => self.change(path, |file| file.attribute = Some(value.clone())),
            Op::RemoveAttribute { path } => self.change(path, |file| file.attribute = None),
            Op::SetMode { path, mode } => self.change(path, |file| file.mode = *mode),
            Op::SetTimes { path, modified } => self.change(path, |file| file.modified = Some(*modified)),
            Op::Sync { .. } | Op::SyncDirectory => {}
        }
        let used: BTreeSet<u64> = self.names.values().filter_map(Node::number).collect();
        self.files.retain(|number, _| used.contains(number));
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        // Two names of one file: POSIX wants nothing to happen.
        if self.names.get(from) == self.names.get(to) && matches!(self.names.get(from), Some(Node::File(_))) {
            return;
        }
        let below: Vec<PathBuf> = self
            .names
            .keys()
            .filter(|path| path.starts_with(from))
            .cloned()
            .collect();
        for path in below {
            if let Some(node) = self.names.remove(&path)
                && let Ok(rest) = path.strip_prefix(from)
            {
                let moved = if rest.as_os_str().is_empty() {
                    to.to_owned()
                } else {
                    to.join(rest)
                };
                self.names.insert(moved, node);
            }
        }
    }

    /// The states that are allowed when this call was under way at the end: not done, done, and for a long one that
    /// moves bytes, a part from its beginning. What was answered of it is there in any case. A write past the page cache
    /// changes the bytes in their place before the file grows: it may have ended between the two. And the time of change is
    /// noted before the bytes change: where a call fails and its caller lives, the time may have changed alone. Likewise the
    /// parts of blocks at the ends of a hole become zeros before whole blocks go.
    pub(super) fn outcomes(&self, Pending { op, answered }: &Pending) -> Vec<State> {
        let mut counts = Vec::new();
        match op {
            Op::Write {
                length,
                how: How::Direct,
                ..
            } if *length <= INDIVISIBLE => {}
            Op::Write { offset, length, .. } => counts.extend(parts(*offset, *length)),
            Op::Copy { length, .. } => counts.extend(parts(0, *length)),
            _ => {}
        }
        counts.extend((*answered > 0).then_some(*answered));
        counts.push(op.length());
        let done = counts.into_iter().filter(|count| count >= answered).map(|count| {
            let mut state = self.clone();
            state.apply(op, count);
            state
        });
        let done: Vec<State> = done.collect();
        let before_growth = match op {
            Op::Write {
                path, how: How::Direct, ..
            } if *answered == 0 => self.file(path).map(|before| {
                let mut states = done.clone();
                for state in &mut states {
                    state.change_content(path, |content| content.truncate(before.content.len()));
                }
                states
            }),
            _ => None,
        };
        let mut ends_of_hole = Vec::new();
        if let Op::Punch { path, offset, length } = op {
            let end = offset + length;
            let head = (*offset, offset.next_multiple_of(PAGE).min(end));
            let tail = ((end - end % PAGE).max(head.1), end);
            let mut state = self.clone();
            for (from, until) in [head, tail] {
                let (offset, length) = (from, until - from);
                state.apply(
                    &Op::Punch {
                        path: path.clone(),
                        offset,
                        length,
                    },
                    0,
                );
                ends_of_hole.push(state.clone());
            }
        }
        let not_done = (*answered == 0).then(|| self.clone());
        let time_alone = match op {
            Op::Write { path, .. } | Op::Copy { to: path, .. } | Op::Punch { path, .. } if *answered == 0 => {
                let mut state = self.clone();
                state.change(path, |file| file.modified = None);
                Some(state)
            }
            _ => None,
        };
        not_done
            .into_iter()
            .chain(time_alone)
            .chain(done)
            .chain(before_growth.into_iter().flatten())
            .chain(ends_of_hole)
            .collect()
    }

    /// Reads the tree below a directory.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut state = Self::default();
        let mut open = vec![PathBuf::new()];
        while let Some(directory) = open.pop() {
            let place = root.join(&directory);
            for entry in fs::read_dir(&place).with_context(|| format!("listing {}", place.display()))? {
                let entry = entry.with_context(|| format!("listing {}", place.display()))?;
                let path = directory.join(entry.file_name());
                let node = state
                    .read_node(&entry.path())
                    .with_context(|| format!("reading {}", entry.path().display()))?;
                if node == Node::Directory {
                    open.push(path.clone());
                }
                state.names.insert(path, node);
            }
        }
        state.next = state.files.keys().max().map_or(0, |last| last + 1);
        Ok(state)
    }

    fn read_node(&mut self, place: &Path) -> Result<Node> {
        let meta = fs::symlink_metadata(place)?;
        if meta.is_dir() {
            return Ok(Node::Directory);
        }
        if meta.is_symlink() {
            return Ok(Node::Symlink(fs::read_link(place)?));
        }
        // Of a file with several names each is read: they may not tell the same.
        let file = File {
            content: Arc::new(fs::read(place)?),
            mode: meta.mode() & 0o7777,
            attribute: xattr::get(place, ATTRIBUTE)?,
            modified: Some((meta.mtime(), meta.mtime_nsec())),
        };
        if let Some(other) = self.files.insert(meta.ino(), file.clone()) {
            ensure!(other == file, "another name of the same file tells something else");
        }
        Ok(Node::File(meta.ino()))
    }

    /// How `found` differs from this, one line for each name.
    pub(super) fn differences(&self, found: &State) -> Vec<String> {
        let mut lines = Vec::new();
        // Numbers are each state's own: the first name tells which stand for the same file.
        let mut same: BTreeMap<u64, u64> = BTreeMap::new();
        let mut taken: BTreeMap<u64, u64> = BTreeMap::new();
        for (path, node) in &self.names {
            let name = path.display();
            match (node, found.names.get(path)) {
                (_, None) => lines.push(format!("{name}: missing")),
                (Node::File(wanted), Some(Node::File(other))) => {
                    let known = *same.entry(*wanted).or_insert(*other);
                    let owner = *taken.entry(*other).or_insert(*wanted);
                    if known != *other || owner != *wanted {
                        lines.push(format!("{name}: names other files than before share one"));
                    }
                    if let (Some(wanted), Some(other)) = (self.files.get(wanted), found.files.get(other))
                        && let Some(text) = wanted.difference(other)
                    {
                        lines.push(format!("{name}: {text}"));
                    }
                }
                (wanted, Some(other)) if wanted != other => lines.push(format!("{name}: {wanted:?} became {other:?}")),
                _ => {}
            }
        }
        let unexpected = found.names.keys().filter(|path| !self.names.contains_key(*path));
        lines.extend(unexpected.map(|path| format!("{}: must not be there", path.display())));
        lines
    }
}

impl Node {
    fn number(&self) -> Option<u64> {
        match self {
            Self::File(number) => Some(*number),
            Self::Directory | Self::Symlink(_) => None,
        }
    }
}

impl File {
    fn difference(&self, found: &Self) -> Option<String> {
        if self.content != found.content {
            let at = self
                .content
                .iter()
                .zip(found.content.iter())
                .position(|(one, other)| one != other);
            let at = at.unwrap_or(self.content.len().min(found.content.len()));
            return Some(format!(
                "{} bytes became {}, first difference at {at}",
                self.content.len(),
                found.content.len()
            ));
        }
        if self.mode != found.mode {
            return Some(format!("mode {:o} became {:o}", self.mode, found.mode));
        }
        if self.attribute != found.attribute {
            return Some(format!("{ATTRIBUTE} {:?} became {:?}", self.attribute, found.attribute));
        }
        if self.modified.is_some() && self.modified != found.modified {
            return Some(format!("time {:?} became {:?}", self.modified, found.modified));
        }
        None
    }
}

/// A call that was not answered, or not in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) op: Op,
    /// Bytes that were answered: of a write that is several requests, the end of the server may cut the last ones off, and
    /// whether they were done nobody knows.
    pub(super) answered: usize,
}

impl Pending {
    /// Of which nothing was answered.
    pub(super) const fn new(op: Op) -> Self {
        Self { op, answered: 0 }
    }
}

impl Op {
    /// How many bytes the call is asked to move.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Write { length, .. } | Self::Copy { length, .. } => *length,
            _ => 0,
        }
    }
}

/// The bytes of a write.
pub(super) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = size(offset);
    let end = start + bytes.len();
    if !bytes.is_empty() && content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(start..end) {
        place.copy_from_slice(bytes);
    }
}

/// Where a call may have been cut: at every page.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = usize> {
    let end = offset + length as u64;
    let first = (offset / PAGE + 1) * PAGE;
    (first..end).step_by(4096).map(move |cut| size(cut - offset))
}

/// Files of this suite are small.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
