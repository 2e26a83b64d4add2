// SPDX-License-Identifier: MIT OR Apache-2.0

//! A tar archive into a pool.
//!
//! An archive may come from anybody. Whatever it says, nothing outside the target directory is made, changed, or linked to:
//! names with `..` are refused, a leading `/` does not count, symbolic links are never followed, and a hard link's other
//! name is looked up below the target too. The rest of what a hostile archive may try is dealt with in
//! [`crate::archive::reader`].

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use vexfs::fs::Fs;
use vexfs::fs::record::Kind;
use vexfs::units::Ino;

use crate::archive::reader::{Member, Reader};
use crate::copy::pool::{Keep, Writer};
use crate::copy::{Node, Notes};
use crate::failure::failed;
use crate::place::{self, Place};
use crate::show;

/// What may stand behind the end mark of an archive: so much is read, so that whoever writes it can end in order.
const BEHIND: u64 = 1 << 20;

/// Unpack a tar archive into a directory of a pool.
///
/// Everything that export writes comes back, and what GNU tar, bsdtar and their like write. Owners are taken by their
/// numbers. When it stops halfway it says where; the files before are in the pool, and importing again replaces them.
#[derive(Args)]
#[command(
    allow_missing_positional = true,
    after_help = "Changes: the target directory, which is made if it is missing. Files of the same names are replaced.

Examples:
  vexfs-ublk import backup.tar pool.img
  vexfs-ublk import photos.tar pool.img:/photos
  gzip -dc photos.tar.gz | vexfs-ublk import - pool.img:/photos
  tar --create --acls --xattrs --sparse --format=posix ./photos | vexfs-ublk import pool.img"
)]
pub(crate) struct Arguments {
    /// The archive; - is the standard input
    #[arg(default_value = "-")]
    file: OsString,
    /// POOL or POOL:/path of the directory to unpack into
    place: OsString,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let place = Place::or_root(&arguments.place);
    let mut total = None;
    let input: Box<dyn Read> = if arguments.file == "-" {
        Box::new(io::stdin().lock())
    } else {
        let shown = || arguments.file.display().to_string();
        let file = File::open(&arguments.file).with_context(shown)?;
        let about = file.metadata().with_context(shown)?;
        total = about.is_file().then_some(about.len());
        Box::new(file)
    };
    let mut reader = Reader::new(BufReader::with_capacity(256 << 10, input));
    let mut import = Import {
        members: 0,
        bytes: 0,
        left_out: Notes::default(),
        bar: show::byte_bar("importing", total),
    };
    let result = place::change(&place.pool, |fs| {
        let target = Import::target(fs, &place)?;
        let keep = Keep {
            all: true,
            replace: true,
        };
        let mut writer = Writer::new(fs, keep);
        import.all(fs, &mut writer, target, &mut reader)?;
        writer.end()
    });
    import.bar.finish_and_clear();
    result?;
    reader.drain(BEHIND);
    if !import.left_out.is_empty() {
        return Err(failed(
            format!("imported, but without {}", import.left_out),
            "make these users here first, or set the lists again",
        ));
    }
    if json {
        show::document(json!({"members": import.members, "bytes": import.bytes}));
    }
    Ok(())
}

struct Import {
    members: u64,
    bytes: u64,
    left_out: Notes,
    bar: ProgressBar,
}

impl Import {
    /// The directory to unpack into.
    fn target(fs: &Fs, place: &Place) -> Result<Ino> {
        match fs.resolve(&place.path) {
            Ok(found) if found.inode.is_directory() => Ok(found.ino),
            Ok(_) => bail!("{}: not a directory", place.shown()),
            Err(_) => {
                let (parent, name) = place.parent(fs)?;
                let mut writer = Writer::new(
                    fs,
                    Keep {
                        all: false,
                        replace: false,
                    },
                );
                let ino = writer.place(parent, &name, &directory())?;
                Ok(ino)
            }
        }
    }

    fn all(&mut self, fs: &Fs, writer: &mut Writer<'_>, target: Ino, reader: &mut Reader<impl Read>) -> Result<()> {
        loop {
            let at = reader.position();
            let shown = |import: &Self, name: &str| {
                let done = import.members;
                format!("stopped at byte {at} of the archive{name}, after {done} members that are in the pool")
            };
            let Some(member) = reader.next().with_context(|| shown(self, ""))? else {
                return Ok(());
            };
            self.one(fs, writer, target, reader, &member)
                .with_context(|| shown(self, &format!(" ({})", String::from_utf8_lossy(&member.name))))?;
            self.members += 1;
            self.bar.set_position(reader.position());
        }
    }

    fn one(
        &mut self,
        fs: &Fs,
        writer: &mut Writer<'_>,
        target: Ino,
        reader: &mut Reader<impl Read>,
        member: &Member,
    ) -> Result<()> {
        for what in &member.left_out {
            self.left_out
                .add(format!("{}: {what}", String::from_utf8_lossy(&member.name)));
        }
        let node = &member.node;
        let names = inside(&member.name)?;
        let Some((name, directories)) = names.split_last() else {
            if node.kind != Kind::Directory || member.link.is_some() {
                bail!("its name is empty");
            }
            // The target itself.
            writer.adopt(target, node)?;
            return writer.finish(target, node);
        };
        let parent = descend(fs, target, directories, |parent, name| {
            writer.place(parent, name, &directory())
        })?;
        if let Some(first) = &member.link {
            let first = existing(fs, target, first)?;
            return writer.link(first, parent, name);
        }
        let ino = writer.place(parent, name, node)?;
        if node.kind == Kind::File {
            reader.contents(|at, bytes| {
                self.bytes += bytes.len() as u64;
                self.bar.inc(bytes.len() as u64);
                writer.write(ino, at, bytes)
            })?;
        }
        writer.finish(ino, node)
    }
}

/// A directory that the archive does not tell about.
fn directory() -> Node {
    Node {
        permissions: 0o755,
        modified: place::now(),
        ..Node::new(Kind::Directory)
    }
}

/// The names of a path below the target; none for the target itself.
fn inside(path: &[u8]) -> Result<Vec<&[u8]>> {
    let names: Vec<_> = path
        .split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .collect();
    if names.contains(&b"..".as_slice()) {
        return Err(failed(
            format!("{} leads out of the target", String::from_utf8_lossy(path)),
            "do not trust this archive",
        ));
    }
    Ok(names)
}

/// Goes down directories; `missing` makes those that are not there.
fn descend(fs: &Fs, target: Ino, names: &[&[u8]], mut missing: impl FnMut(Ino, &[u8]) -> Result<Ino>) -> Result<Ino> {
    let mut at = target;
    for name in names {
        at = match fs.lookup(at, name) {
            Ok(found) if found.inode.is_directory() => found.ino,
            Ok(_) => {
                return Err(failed(
                    format!("{} on the way is no directory", String::from_utf8_lossy(name)),
                    "symbolic links are not followed; remove it first, or choose another target",
                ));
            }
            Err(error) if error.errno() == nix::errno::Errno::ENOENT as i32 => missing(at, name)?,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(at)
}

/// The file below the target that a hard link names.
fn existing(fs: &Fs, target: Ino, path: &[u8]) -> Result<Ino> {
    let shown = || format!("the other name of its file, {}", String::from_utf8_lossy(path));
    let names = inside(path)?;
    let Some((name, directories)) = names.split_last() else {
        bail!("{}: is the target itself", shown());
    };
    let missing = |_: Ino, _: &[u8]| bail!("is not in the archive before this one, nor in the target");
    let parent = descend(fs, target, directories, missing).with_context(shown)?;
    match fs.lookup(parent, name) {
        Ok(found) if found.inode.is_directory() => bail!("{}: is a directory", shown()),
        Ok(found) => Ok(found.ino),
        Err(error) => Err(error).with_context(shown),
    }
}
