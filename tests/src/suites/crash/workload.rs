// SPDX-License-Identifier: MIT OR Apache-2.0

//! A writer: chooses calls, does them, and keeps book of what was answered.
//!
//! Each writer has a directory of its own, so its book alone says what must be in it. The book is kept outside of the
//! filesystem under test: in memory for the comparison, and as a log file for whoever has to understand a failure.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{AT_FDCWD, FallocateFlags, OFlag, RenameFlags, copy_file_range, fallocate, renameat2};

use super::super::aligned::aligned;
use super::model::{ATTRIBUTE, How, Node, Op, Pending, State, pattern};

const BLOCK: u64 = 4096;
/// Names that a writer uses in each directory, and files open at once after they were unlinked.
const NAMES: u32 = 24;
const DIRECTORIES: u32 = 4;
const ORPHANS: usize = 4;
/// Files grow to about this.
const LARGEST: u64 = 2 << 20;

/// A writer's book.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) root: PathBuf,
    /// What was answered.
    pub(super) state: State,
    /// The call that was not answered, if there is one.
    pub(super) pending: Option<Pending>,
    /// The call that was done last, answered or not.
    pub(super) latest: Option<Op>,
    /// Calls that were answered.
    pub(super) answered: u64,
    random: fastrand::Rng,
    log: File,
    orphans: Vec<File>,
}

impl Writer {
    /// A writer that begins with an empty directory.
    pub(super) fn new(root: PathBuf, random: fastrand::Rng, log: &Path) -> io::Result<Self> {
        fs::create_dir(&root)?;
        Ok(Self {
            root,
            state: State::default(),
            pending: None,
            latest: None,
            answered: 0,
            random,
            log: File::create(log)?,
            orphans: Vec::new(),
        })
    }

    /// Does one call. An error leaves the call pending: nobody knows whether it was done.
    pub(super) fn step(&mut self) -> io::Result<()> {
        let op = choose(&self.state, &mut self.random);
        writeln!(self.log, "{} {op:?}", self.answered)?;
        if let Op::Unlink { path } = &op
            && self.random.u8(..4) == 0
            && self.state.file(path).is_some()
        {
            self.keep_open(path);
        }
        self.latest = Some(op.clone());
        self.pending = Some(Pending::new(op.clone()));
        let result = perform(&self.root, &op);
        match &result {
            Ok(count) if matches!(&op, Op::Write { length, .. } if count < length) => {
                writeln!(self.log, "  answered: {count}, and cut")?;
                self.pending = Some(Pending { op, answered: *count });
                return Err(io::Error::other("a write was cut short"));
            }
            Ok(count) => {
                self.state.apply(&op, *count);
                self.pending = None;
                self.answered += 1;
                writeln!(self.log, "  answered: {count}")?;
            }
            Err(error) => writeln!(self.log, "  {error}")?,
        }
        result.map(drop)
    }

    /// Keeps a file open that is about to lose its name, and writes to it: what it holds must not stay behind.
    fn keep_open(&mut self, path: &Path) {
        if self.orphans.len() == ORPHANS {
            self.orphans.remove(0);
        }
        if let Ok(file) = File::options().write(true).open(self.root.join(path)) {
            self.orphans.push(file);
        }
    }

    /// Forgets the files it holds open.
    pub(super) fn close(&mut self) {
        self.orphans.clear();
    }
}

/// A call that should succeed in this state.
pub(super) fn choose(state: &State, random: &mut fastrand::Rng) -> Op {
    loop {
        if let Some(op) = attempt(state, random) {
            return op;
        }
    }
}

fn attempt(state: &State, random: &mut fastrand::Rng) -> Option<Op> {
    let file = |random: &mut fastrand::Rng| {
        let files = state.names.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        random.choice(files.map(|(path, _)| path).collect::<Vec<_>>()).cloned()
    };
    let free = |random: &mut fastrand::Rng| {
        let directories = state.names.iter().filter(|(_, node)| **node == Node::Directory);
        let mut places: Vec<PathBuf> = directories.map(|(path, _)| path.clone()).collect();
        places.push(PathBuf::new());
        let path = random.choice(places)?.join(format!("f{}", random.u32(..NAMES)));
        (!state.names.contains_key(&path)).then_some(path)
    };
    Some(match random.u32(..100) {
        0..14 => Op::Create {
            path: free(random)?,
            mode: *random.choice([0o600, 0o644, 0o755].iter())?,
        },
        44..49 => Op::Truncate {
            path: file(random)?,
            length: length(random),
        },
        49..55 => Op::Unlink { path: file(random)? },
        55..62 => Op::Rename {
            from: file(random)?,
            to: if random.bool() { file(random)? } else { free(random)? },
        },
        62..64 => Op::Exchange {
            one: file(random)?,
            other: file(random)?,
        },
        64..68 => Op::Link {
            from: file(random)?,
            to: free(random)?,
        },
        68..70 => Op::Symlink {
            path: free(random)?,
            target: PathBuf::from(format!("nowhere-{}", random.u16(..))),
        },
        70..72 => {
            let path = PathBuf::from(format!("d{}", random.u32(..DIRECTORIES)));
            let exists = state.names.contains_key(&path);
            (!exists).then_some(Op::MakeDirectory { path })?
        }
        72..74 => directory(state, random)?,
        74..77 => Op::Punch {
            path: file(random)?,
            offset: length(random),
            length: length(random).max(1),
        },
        77..79 => Op::Preallocate {
            path: file(random)?,
            offset: length(random),
            length: length(random).max(1),
        },
        79..82 => {
            let from = file(random)?;
            let length = state.file(&from)?.content.len();
            let to = file(random)?;
            let same = state.names.get(&from) == state.names.get(&to);
            (length > 0 && !same).then_some(Op::Copy { from, to, length })?
        }
        82..86 => Op::SetAttribute {
            path: file(random)?,
            value: pattern(random.u64(..), random.usize(1..300)),
        },
        86..88 => {
            let path = file(random)?;
            state.file(&path)?.attribute.as_ref()?;
            Op::RemoveAttribute { path }
        }
        88..90 => Op::SetMode {
            path: file(random)?,
            mode: *random.choice([0o600, 0o640, 0o666, 0o700].iter())?,
        },
        90..92 => Op::SetTimes {
            path: file(random)?,
            modified: (random.i64(1..4_000_000_000), random.i64(0..1_000_000_000)),
        },
        92..95 => Op::Sync {
            path: file(random)?,
            data_only: random.bool(),
        },
        95 => Op::SyncDirectory,
        96..98 => {
            let links = state.names.iter().filter(|(_, node)| matches!(node, Node::Symlink(_)));
            let path = random.choice(links.map(|(path, _)| path).collect::<Vec<_>>())?.clone();
            Op::Unlink { path }
        }
        _ => write(state, file(random)?, random)?,
    })
}

/// Removes or renames a directory.
fn directory(state: &State, random: &mut fastrand::Rng) -> Option<Op> {
    let path = PathBuf::from(format!("d{}", random.u32(..DIRECTORIES)));
    if state.names.get(&path) != Some(&Node::Directory) {
        return None;
    }
    if !state
        .names
        .keys()
        .any(|other| other != &path && other.starts_with(&path))
    {
        return Some(Op::RemoveDirectory { path });
    }
    let to = PathBuf::from(format!("d{}", random.u32(..DIRECTORIES)));
    (!state.names.contains_key(&to)).then_some(Op::Rename { from: path, to })
}

fn write(state: &State, path: PathBuf, random: &mut fastrand::Rng) -> Option<Op> {
    let end = state.file(&path)?.content.len() as u64;
    let mut how = *random.choice([How::Plain, How::Plain, How::Append, How::Direct, How::Synchronous].iter())?;
    if how == How::Append && end > LARGEST {
        how = How::Plain;
    }
    let mut bytes = length(random).max(1);
    let mut offset = match how {
        How::Append => end,
        // Over the end of what is there, or into it.
        _ if random.bool() => random.u64(..=end.min(LARGEST)),
        _ => length(random),
    };
    if how == How::Direct {
        offset = offset / BLOCK * BLOCK;
        bytes = bytes.next_multiple_of(BLOCK);
    }
    Some(Op::Write {
        path,
        offset,
        length: usize::try_from(bytes).ok()?,
        seed: random.u64(..),
        how,
    })
}

/// Mostly small, sometimes large.
fn length(random: &mut fastrand::Rng) -> u64 {
    match random.u32(..20) {
        0..8 => random.u64(..2500),
        8..13 => random.u64(..40_000),
        13..16 => random.u64(..16) * BLOCK,
        16..19 => random.u64(..200_000),
        _ => random.u64(..LARGEST),
    }
}

/// Does a call. Returns the bytes it moved.
pub(super) fn perform(root: &Path, op: &Op) -> io::Result<usize> {
    let open = |path: &Path| File::options().read(true).write(true).open(root.join(path));
    match op {
        Op::Create { path, mode } => {
            let options = || OpenOptions::new().write(true).create_new(true).mode(*mode).to_owned();
            options().open(root.join(path))?;
        }
        Op::MakeDirectory { path } => fs::create_dir(root.join(path))?,
        Op::RemoveDirectory { path } => fs::remove_dir(root.join(path))?,
        Op::Unlink { path } => fs::remove_file(root.join(path))?,
        Op::Rename { from, to } => fs::rename(root.join(from), root.join(to))?,
        Op::Exchange { one, other } => {
            let (one, other) = (c_string(&root.join(one))?, c_string(&root.join(other))?);
            renameat2(
                AT_FDCWD,
                one.as_c_str(),
                AT_FDCWD,
                other.as_c_str(),
                RenameFlags::RENAME_EXCHANGE,
            )?;
        }
        Op::Link { from, to } => fs::hard_link(root.join(from), root.join(to))?,
        Op::Symlink { path, target } => symlink(target, root.join(path))?,
        Op::Write {
            path,
            offset,
            length,
            seed,
            how,
        } => return put(&root.join(path), *offset, &pattern(*seed, *length), *how),
        Op::Truncate { path, length } => open(path)?.set_len(*length)?,
        Op::Punch { path, offset, length } => {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(open(path)?, flags, signed(*offset)?, signed(*length)?)?;
        }
        Op::Preallocate { path, offset, length } => {
            let flags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(open(path)?, flags, signed(*offset)?, signed(*length)?)?;
        }
        Op::Copy { from, to, length } => {
            let (mut first, mut second) = (0, 0);
            return Ok(copy_file_range(
                open(from)?,
                Some(&mut first),
                open(to)?,
                Some(&mut second),
                *length,
            )?);
        }
        Op::SetAttribute { path, value } => xattr::set(root.join(path), ATTRIBUTE, value)?,
        Op::RemoveAttribute { path } => xattr::remove(root.join(path), ATTRIBUTE)?,
        Op::SetMode { path, mode } => fs::set_permissions(root.join(path), fs::Permissions::from_mode(*mode))?,
        Op::SetTimes { path, modified } => open(path)?.set_modified(time(*modified))?,
        Op::Sync { path, data_only: true } => open(path)?.sync_data()?,
        Op::Sync { path, data_only: false } => open(path)?.sync_all()?,
        Op::SyncDirectory => File::open(root)?.sync_all()?,
    }
    Ok(0)
}

fn put(path: &Path, offset: u64, bytes: &[u8], how: How) -> io::Result<usize> {
    let flags = match how {
        How::Plain => OFlag::empty(),
        How::Append => OFlag::O_APPEND,
        How::Direct => OFlag::O_DIRECT,
        How::Synchronous => OFlag::O_DSYNC,
    };
    let mut file = File::options().write(true).custom_flags(flags.bits()).open(path)?;
    match how {
        How::Append => file.write(bytes),
        How::Direct => aligned(bytes, |bytes| file.write_at(bytes, offset)),
        How::Plain | How::Synchronous => file.write_at(bytes, offset),
    }
}

fn time((seconds, nanoseconds): (i64, i64)) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs()) + Duration::from_nanos(nanoseconds.unsigned_abs())
}

fn c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn signed(bytes: u64) -> io::Result<i64> {
    i64::try_from(bytes).map_err(io::Error::other)
}
