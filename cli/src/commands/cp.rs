// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copying files into, out of and between pools.
//!
//! Always kept: contents with their holes, permissions, time of the last change, symbolic links, names that were of one
//! file. With `-a` everything that both sides can hold. What is not copied (sockets, devices and the like without `-a`) is
//! named at the end, and the command fails.
//!
//! Directories to do are kept in a list: depth is bounded by the heap, not by the stack.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use vexfs::fs::record::Kind;
use vexfs::fs::{Attributes, Fs};
use vexfs::units::Ino;

use crate::copy::{self, Node, Notes, host, pool};
use crate::failure::failed;
use crate::place::{self, Place};
use crate::show;

/// Copy files into, out of, inside or between pools.
///
/// A path in a pool is POOL:/path, any other one is outside. Contents, holes, permissions, modification times, symbolic
/// links and hard links among the copied files are kept. Inside one pool the copy shares its blocks, as clone does.
#[derive(Args)]
#[command(
    after_help = "Changes: the target. What is there already is overwritten, directories are merged.

Examples:
  vexfs-ublk cp notes.txt pool.img:/
  vexfs-ublk cp -r ./photos pool.img:/photos
  vexfs-ublk cp -a pool.img:/photos ./restored
  vexfs-ublk cp -a pool.img:/photos other.img:/"
)]
pub(crate) struct Arguments {
    /// What to copy
    source: OsString,
    /// Where to; into it, if it is a directory
    target: OsString,
    /// Directories with everything in them
    #[arg(short, long)]
    recursive: bool,
    /// Everything: -r, and owners, all times, extended attributes, access lists, devices, pipes and sockets
    #[arg(short, long)]
    archive: bool,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let (source, target) = (Place::split(&arguments.source), Place::split(&arguments.target));
    let mut copy = Copy {
        recursive: arguments.recursive || arguments.archive,
        all: arguments.archive,
        files: 0,
        bytes: 0,
        skipped: Notes::default(),
        lost: Notes::default(),
        bar: show::byte_bar("copying", None),
    };
    let result = match (source, target) {
        (None, Some(target)) => copy.put(Path::new(&arguments.source), &target),
        (Some(source), None) => copy.get(&source, Path::new(&arguments.target)),
        (Some(source), Some(target)) if place::same_file(&source.pool, &target.pool) => copy.inside(&source, &target),
        (Some(source), Some(target)) => copy.across(&source, &target),
        (None, None) => Err(failed("neither is in a pool", "write POOL:/path for the one that is")),
    };
    copy.bar.finish_and_clear();
    result?;
    if !copy.lost.is_empty() {
        return Err(failed(
            format!("copied, but not kept: {}", copy.lost),
            "run it as root, or copy to a filesystem that has these",
        ));
    }
    if !copy.skipped.is_empty() {
        return Err(failed(
            format!(
                "not copied, since only files, directories and symbolic links are: {}",
                copy.skipped
            ),
            "-a copies these too",
        ));
    }
    if json {
        show::document(json!({"files": copy.files, "bytes": copy.bytes}));
    }
    Ok(())
}

struct Copy {
    recursive: bool,
    all: bool,
    files: u64,
    bytes: u64,
    skipped: Notes,
    lost: Notes,
    bar: ProgressBar,
}

/// A file to copy, and its place: the directory there and the name.
struct Pending<S> {
    from: S,
    parent: Ino,
    name: Vec<u8>,
}

impl Copy {
    /// Whether a file of this kind is to be copied.
    fn accepts(&mut self, kind: Kind, shown: impl FnOnce() -> String) -> Result<bool> {
        if kind == Kind::Directory && !self.recursive {
            return Err(failed("a directory", "use -r to copy it with everything in it"));
        }
        if !self.all && !copy::is_ordinary(kind) {
            self.skipped.add(shown());
            return Ok(false);
        }
        Ok(true)
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.bar.inc(bytes as u64);
    }

    fn keep(&self) -> pool::Keep {
        pool::Keep {
            all: self.all,
            replace: self.all,
        }
    }

    /// From outside into a pool.
    fn put(&mut self, source: &Path, target: &Place) -> Result<()> {
        let about = fs::symlink_metadata(source).with_context(|| source.display().to_string())?;
        let own = || source.file_name().map(|name| name.as_bytes().to_vec());
        place::change(&target.pool, |fs| {
            let (parent, name) = target.parent_or_inside(fs, own)?;
            let mut writer = pool::Writer::new(fs, self.keep());
            let mut links = HashMap::new();
            let mut pending = vec![Pending {
                from: (source.to_owned(), about),
                parent,
                name,
            }];
            while let Some(next) = pending.pop() {
                let path = next.from.0.clone();
                self.put_one(&mut writer, next, &mut links, &mut pending)
                    .with_context(|| path.display().to_string())?;
            }
            writer.end()
        })
    }

    fn put_one(
        &mut self,
        writer: &mut pool::Writer<'_>,
        next: Pending<(PathBuf, Metadata)>,
        links: &mut HashMap<(u64, u64), Ino>,
        pending: &mut Vec<Pending<(PathBuf, Metadata)>>,
    ) -> Result<()> {
        let (path, about) = next.from;
        let several = about.nlink() > 1 && !about.is_dir();
        let identity = (about.dev(), about.ino());
        if let Some(&first) = links.get(&identity).filter(|_| several) {
            return writer.link(first, next.parent, &next.name);
        }
        let node = host::node(&path, &about, self.all)?;
        if !self.accepts(node.kind, || path.display().to_string())? {
            return Ok(());
        }
        let ino = writer.place(next.parent, &next.name, &node)?;
        if several {
            links.insert(identity, ino);
        }
        if node.kind == Kind::File {
            let file = host::open(&path)?;
            for range in host::stored(&file, node.size)? {
                host::read(&file, &range, |at, bytes| {
                    self.count(bytes.len());
                    writer.write(ino, at, bytes)
                })?;
            }
        }
        writer.finish(ino, &node)?;
        self.files += 1;
        if node.kind == Kind::Directory {
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                let path = entry.path();
                let about = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
                pending.push(Pending {
                    from: (path, about),
                    parent: ino,
                    name: entry.file_name().as_bytes().to_vec(),
                });
            }
        }
        Ok(())
    }

    /// From a pool to outside.
    fn get(&mut self, source: &Place, target: &Path) -> Result<()> {
        let fs = place::open_to_read(&source.pool)?;
        let found = source.find(&fs)?;
        let target = if target.is_dir() {
            target.join(host::last_name(&source.path).unwrap_or_default())
        } else {
            target.to_owned()
        };
        let mut writer = host::Writer::new(self.all);
        let mut links = HashMap::new();
        let mut pending: Vec<(Attributes, PathBuf)> = vec![(found, target)];
        while let Some((from, to)) = pending.pop() {
            let shown = to.clone();
            self.get_one(&fs, &mut writer, &from, to, &mut links, &mut pending)
                .with_context(|| shown.display().to_string())?;
        }
        writer.end()?;
        self.lost = writer.lost;
        Ok(())
    }

    fn get_one(
        &mut self,
        fs: &Fs,
        writer: &mut host::Writer,
        from: &Attributes,
        to: PathBuf,
        links: &mut HashMap<Ino, PathBuf>,
        pending: &mut Vec<(Attributes, PathBuf)>,
    ) -> Result<()> {
        let several = from.inode.links > 1 && !from.inode.is_directory();
        if let Some(first) = links.get(&from.ino).filter(|_| several) {
            return host::Writer::link(first, &to);
        }
        if !self.accepts(from.inode.kind(), || to.display().to_string())? {
            return Ok(());
        }
        let node = pool::node(fs, from, self.all)?;
        if let Some(file) = host::Writer::place(&to, &node)? {
            for range in pool::stored(fs, from.ino, node.size)? {
                pool::read(fs, from.ino, &range, |at, bytes| {
                    self.count(bytes.len());
                    Ok(file.write_all_at(bytes, at)?)
                })?;
            }
            file.set_len(node.size)?;
        }
        if several {
            links.insert(from.ino, to.clone());
        }
        if node.kind == Kind::Directory {
            for entry in fs.list_all(from.ino)? {
                pending.push((fs.attributes(entry.ino)?, to.join(OsStr::from_bytes(&entry.name))));
            }
        }
        self.files += 1;
        writer.finish(to, node)
    }

    /// From one pool into another.
    fn across(&mut self, source: &Place, target: &Place) -> Result<()> {
        let from = place::open_to_read(&source.pool)?;
        let found = source.find(&from)?;
        let own = || host::last_name(&source.path).map(|name| name.as_bytes().to_vec());
        place::change(&target.pool, |fs| {
            let (parent, name) = target.parent_or_inside(fs, own)?;
            let mut writer = pool::Writer::new(fs, self.keep());
            let mut links = HashMap::new();
            let mut pending = vec![Pending {
                from: found,
                parent,
                name,
            }];
            while let Some(next) = pending.pop() {
                let name = String::from_utf8_lossy(&next.name).into_owned();
                self.across_one(&from, &mut writer, &next, &mut links, &mut pending)
                    .with_context(|| name)?;
            }
            writer.end()
        })
    }

    fn across_one(
        &mut self,
        fs: &Fs,
        writer: &mut pool::Writer<'_>,
        next: &Pending<Attributes>,
        links: &mut HashMap<Ino, Ino>,
        pending: &mut Vec<Pending<Attributes>>,
    ) -> Result<()> {
        let from = &next.from;
        let several = from.inode.links > 1 && !from.inode.is_directory();
        if let Some(&first) = links.get(&from.ino).filter(|_| several) {
            return writer.link(first, next.parent, &next.name);
        }
        if !self.accepts(from.inode.kind(), || String::from_utf8_lossy(&next.name).into_owned())? {
            return Ok(());
        }
        let node: Node = pool::node(fs, from, self.all)?;
        let ino = writer.place(next.parent, &next.name, &node)?;
        if several {
            links.insert(from.ino, ino);
        }
        for range in pool::stored(fs, from.ino, node.size)? {
            pool::read(fs, from.ino, &range, |at, bytes| {
                self.count(bytes.len());
                writer.write(ino, at, bytes)
            })?;
        }
        writer.finish(ino, &node)?;
        self.files += 1;
        if node.kind == Kind::Directory {
            for entry in fs.list_all(from.ino)? {
                pending.push(Pending {
                    from: fs.attributes(entry.ino)?,
                    parent: ino,
                    name: entry.name.into_vec(),
                });
            }
        }
        Ok(())
    }

    /// Inside one pool, where blocks can be shared.
    fn inside(&mut self, source: &Place, target: &Place) -> Result<()> {
        place::change(&target.pool, |fs| {
            let found = source.find(fs)?;
            self.accepts(found.inode.kind(), || source.shown())
                .with_context(|| source.shown())?;
            let own = || host::last_name(&source.path).map(|name| name.as_bytes().to_vec());
            let (parent, name) = target.parent_or_inside(fs, own)?;
            fs.clone_tree(found.ino, parent, &name, place::now())
                .with_context(|| format!("copying {} to {}", source.shown(), target.shown()))?;
            self.files += 1;
            Ok(())
        })
    }
}
