// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copying files into and out of a pool.
//!
//! Kept: contents with their holes, permissions, owners (where the caller may set them), times of change, symbolic links,
//! directories. What cannot be copied (sockets, devices and the like) is named at the end, and the command fails.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, Metadata, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::fs::{Attributes, Fs, NewFile, Seek, SetAttributes};
use vexfs::units::Ino;

use crate::place::{self, Place};
use crate::show;

/// Copy files into or out of a pool. One of both is POOL:/path, the other a path outside.
#[derive(Args)]
pub(crate) struct Arguments {
    /// What to copy
    source: OsString,
    /// Where to; into it, if it is a directory
    target: OsString,
    /// Directories with everything in them
    #[arg(short)]
    recursive: bool,
}

/// Bytes moved at once.
const PIECE: usize = 1 << 20;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (source, target) = (Place::split(&arguments.source), Place::split(&arguments.target));
    let mut copy = Copy {
        recursive: arguments.recursive,
        skipped: Vec::new(),
        bar: show::bar("bytes copied", None),
    };
    let result = match (source, target) {
        (None, Some(target)) => copy.put(Path::new(&arguments.source), &target),
        (Some(source), None) => copy.get(&source, Path::new(&arguments.target)),
        (Some(_), Some(_)) => {
            bail!("both are in pools; inside one pool use snapshot, between two copy through a directory")
        }
        (None, None) => bail!("neither is in a pool; write POOL:/path for the one that is"),
    };
    copy.bar.finish_and_clear();
    result?;
    if !copy.skipped.is_empty() {
        bail!(
            "not copied, since only files, directories and symbolic links can be: {}",
            copy.skipped.join(", ")
        );
    }
    Ok(())
}

/// Calls `each` with every piece of a file that is stored, and its offset. Holes are left out at the end of a file only.
pub(super) fn each_piece(fs: &Fs, ino: Ino, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let count = fs.read(ino, at, &mut piece)?;
        if count == 0 {
            return Ok(());
        }
        each(at, piece.get(..count).unwrap_or_default())?;
        at += count as u64;
    }
}

struct Copy {
    recursive: bool,
    skipped: Vec<String>,
    bar: ProgressBar,
}

impl Copy {
    fn put(&mut self, source: &Path, target: &Place) -> Result<()> {
        let about = fs::symlink_metadata(source).with_context(|| source.display().to_string())?;
        place::change(&target.pool, |pool| self.put_tree(pool, source, about, target))
    }

    fn put_tree(&mut self, pool: &Fs, source: &Path, about: Metadata, target: &Place) -> Result<()> {
        let (parent, name) = match pool.resolve(&target.path) {
            Ok(found) if found.inode.is_directory() => {
                let name = source
                    .file_name()
                    .context("the source has no name of its own; give the copy one")?;
                (found.ino, name.as_bytes().to_vec())
            }
            _ => target.parent(pool)?,
        };
        // Directories to do are kept in a list: depth is bounded by the heap, not by the stack.
        let mut pending = vec![(source.to_owned(), about, parent, name)];
        while let Some((from, about, parent, name)) = pending.pop() {
            let shown = || from.display().to_string();
            let made = self.put_one(pool, &from, &about, parent, &name).with_context(shown)?;
            if let Some(directory) = made {
                for entry in fs::read_dir(&from).with_context(shown)? {
                    let entry = entry.with_context(shown)?;
                    let about =
                        fs::symlink_metadata(entry.path()).with_context(|| entry.path().display().to_string())?;
                    pending.push((entry.path(), about, directory, entry.file_name().as_bytes().to_vec()));
                }
            }
        }
        Ok(())
    }

    /// Copies one file; a directory is returned, for what is in it.
    fn put_one(&mut self, pool: &Fs, from: &Path, about: &Metadata, parent: Ino, name: &[u8]) -> Result<Option<Ino>> {
        let kind = about.file_type();
        if kind.is_dir() && !self.recursive {
            bail!("a directory; use -r to copy it with everything in it");
        }
        if kind.is_socket() || kind.is_fifo() || kind.is_block_device() || kind.is_char_device() {
            self.skipped.push(from.display().to_string());
            return Ok(None);
        }
        let link = if kind.is_symlink() {
            fs::read_link(from)?.into_os_string()
        } else {
            OsString::new()
        };
        let new = NewFile {
            kind: match () {
                () if kind.is_dir() => Kind::Directory,
                () if kind.is_symlink() => Kind::Symlink,
                () => Kind::File,
            },
            permissions: permissions(about.mode()),
            uid: about.uid(),
            gid: about.gid(),
            device: 0,
            target: link.as_bytes(),
            now: place::now(),
        };
        let existing = pool.lookup(parent, name).ok();
        let ino = match existing {
            Some(found) if found.inode.kind() == new.kind && new.kind != Kind::Symlink => {
                if new.kind == Kind::File {
                    pool.truncate(found.ino, 0, new.now)?;
                }
                found.ino
            }
            _ => pool.create(parent, name, &new)?.ino,
        };
        if new.kind == Kind::File {
            let mut file = File::open(from)?;
            self.fill(pool, ino, &mut file, about.len())?;
        }
        if new.kind != Kind::Symlink {
            let set = SetAttributes {
                permissions: Some(new.permissions),
                modified: Some(Timestamp::new(
                    about.mtime(),
                    u32::try_from(about.mtime_nsec()).unwrap_or(0),
                )),
                now: new.now,
                ..SetAttributes::default()
            };
            pool.set_attributes(ino, &set)?;
        }
        Ok((new.kind == Kind::Directory).then_some(ino))
    }

    fn fill(&self, pool: &Fs, ino: Ino, file: &mut File, length: u64) -> Result<()> {
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                break;
            }
            let mut bytes = piece.get(..count).unwrap_or_default();
            // Zeros are what a file holds where nothing was written.
            if bytes.iter().any(|&byte| byte != 0) {
                let mut to = at;
                while !bytes.is_empty() {
                    let written = pool.write(ino, to, bytes, place::now())?;
                    to += written as u64;
                    bytes = bytes.get(written..).unwrap_or_default();
                }
            }
            at += count as u64;
            self.bar.inc(count as u64);
        }
        if at.max(length) > 0 && pool.attributes(ino)?.size() < at {
            pool.truncate(ino, at, place::now())?;
        }
        Ok(())
    }

    fn get(&mut self, source: &Place, target: &Path) -> Result<()> {
        let pool = place::open_to_read(&source.pool)?;
        let found = source.find(&pool)?;
        let target = if target.is_dir() {
            let name = source.path.rsplit(|&byte| byte == b'/').find(|name| !name.is_empty());
            let name = name.context("the root of a pool has no name; give the copy one")?;
            target.join(OsStr::from_bytes(name))
        } else {
            target.to_owned()
        };
        let mut pending: Vec<(Attributes, PathBuf)> = vec![(found, target)];
        let mut directories = Vec::new();
        while let Some((from, to)) = pending.pop() {
            self.get_one(&pool, &from, &to)
                .with_context(|| to.display().to_string())?;
            if from.inode.is_directory() {
                for entry in pool.list_all(from.ino).with_context(|| to.display().to_string())? {
                    pending.push((pool.attributes(entry.ino)?, to.join(OsStr::from_bytes(&entry.name))));
                }
                directories.push((from, to));
            }
        }
        // Last, and the inner ones first: writing into a directory changes its times and needs its permissions.
        for (from, to) in directories.iter().rev() {
            fs::set_permissions(to, Permissions::from_mode(u32::from(from.inode.mode & 0o7777)))
                .and_then(|()| File::open(to)?.set_times(times(from)))
                .with_context(|| to.display().to_string())?;
        }
        Ok(())
    }

    fn get_one(&mut self, pool: &Fs, from: &Attributes, to: &Path) -> Result<()> {
        match from.inode.kind() {
            Kind::Directory if !self.recursive => bail!("a directory; use -r to copy it with everything in it"),
            Kind::Directory => match fs::create_dir(to) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && to.is_dir() => Ok(()),
                other => other.map_err(Into::into),
            },
            Kind::Symlink => {
                let target = pool.read_link(from.ino)?;
                symlink(OsStr::from_bytes(&target), to).map_err(Into::into)
            }
            Kind::File => {
                let file = File::create(to)?;
                self.extract(pool, from, &file)?;
                file.set_permissions(Permissions::from_mode(u32::from(from.inode.mode & 0o7777)))?;
                file.set_times(times(from)).map_err(Into::into)
            }
            Kind::Fifo | Kind::Character | Kind::Block | Kind::Socket => {
                self.skipped.push(to.display().to_string());
                Ok(())
            }
        }
    }

    /// Copies what is stored; where there are holes, holes stay.
    fn extract(&self, pool: &Fs, from: &Attributes, file: &File) -> Result<()> {
        let size = from.size();
        file.set_len(size)?;
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < size {
            let Ok(start) = pool.seek(from.ino, at, Seek::Data) else {
                break;
            };
            let end = pool.seek(from.ino, start, Seek::Hole)?;
            at = start;
            while at < end {
                let room = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                let count = pool.read(from.ino, at, piece.get_mut(..room).unwrap_or_default())?;
                if count == 0 {
                    break;
                }
                file.write_all_at(piece.get(..count).unwrap_or_default(), at)?;
                at += count as u64;
                self.bar.inc(count as u64);
            }
        }
        Ok(())
    }
}

fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or(0)
}

fn times(from: &Attributes) -> FileTimes {
    let time = |time: Timestamp| {
        let since = Duration::from_nanos(time.0.unsigned_abs());
        if time.0 >= 0 {
            UNIX_EPOCH + since
        } else {
            UNIX_EPOCH - since
        }
    };
    FileTimes::new()
        .set_modified(time(from.inode.modified))
        .set_accessed(time(from.inode.accessed))
}
