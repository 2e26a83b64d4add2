// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pool, or a part of it, as a tar archive, or as a sealed image.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use vexfs::fs::record::Kind;
use vexfs::fs::{Attributes, Fs};
use vexfs::sealed::{self, write::Options};
use vexfs::units::{BLOCK_SIZE, Ino};

use crate::archive::sparse::Map;
use crate::archive::writer::Writer;
use crate::copy::embeddings::Embeddings;
use crate::copy::{Notes, host, pool};
use crate::failure::failed;
use crate::place::{self, Place};
use crate::show;

/// Write a directory of a pool, or one file, as a tar archive.
///
/// The archive holds types, permissions, numeric owners, times with nanoseconds, extended attributes, access lists, holes,
/// hard links and devices in forms that GNU tar and bsdtar read, and creation times, flags, promised space, sockets and vectors
/// in records that only import reads. Names in it begin with ./ and are sorted: the same files give the same archive.
///
/// With --image FILE becomes a sealed image instead, of a directory: a filesystem that is only read, with checksums, which
/// the kernel module mounts without a server (docs/FORMAT-SEALED.md). The same files give the same image.
#[derive(Args)]
#[command(
    after_help = "Changes: nothing in the pool. FILE appears when the archive is complete; one of that name is replaced.

Examples:
  vexfs-ublk export pool.img backup.tar
  vexfs-ublk export pool.img:/photos - | gzip > photos.tar.gz
  vexfs-ublk export pool.img | tar --extract --acls --xattrs --warning=no-unknown-keyword -C out
  vexfs-ublk export --portable pool.img:/photos photos.tar
  vexfs-ublk export --image pool.img:/photos photos.sealed; mount -t vexfs -o ro photos.sealed /mnt"
)]
pub(crate) struct Arguments {
    /// POOL or POOL:/path
    place: OsString,
    /// Where to; - is the standard output
    #[arg(default_value = "-")]
    file: OsString,
    /// Leave out what only import reads: no warnings from other programs; sockets, and vectors that are longer than an
    /// attribute can be, are left out too
    #[arg(long)]
    portable: bool,
    /// Write a sealed image; FILE may be a block device
    #[arg(long, conflicts_with = "portable")]
    image: bool,
    /// Label of the image, up to 64 bytes; that of the pool if it is not told
    #[arg(long, requires = "image")]
    label: Option<String>,
    /// Leave the checksums of file contents out of the image
    #[arg(long, requires = "image")]
    no_checksums: bool,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let place = Place::or_root(&arguments.place);
    let to_stdout = arguments.file == "-";
    if arguments.image {
        return image(arguments, &place, json);
    }
    if to_stdout && json {
        return Err(failed(
            "--json and the archive would both go to the standard output",
            "name a file",
        ));
    }
    if to_stdout && io::stdout().is_terminal() {
        return Err(failed(
            "an archive is not for terminals",
            "name a file, or send it on with | or >",
        ));
    }
    let fs = place::open_to_read(&place.pool)?;
    let found = place.find(&fs)?;
    let mut export = Export {
        fs: &fs,
        portable: arguments.portable,
        members: 0,
        skipped: Notes::default(),
        bar: show::byte_bar("exporting", whole_pool(&fs, &place)),
    };
    let result = if to_stdout {
        export.write(&place, &found, io::stdout().lock())
    } else {
        export.write_file(&place, &found, Path::new(&arguments.file))
    };
    export.bar.finish_and_clear();
    let bytes = result?;
    if !export.skipped.is_empty() {
        return Err(failed(
            format!("left out, since tar has no place for it: {}", export.skipped),
            "without --portable they are there for import",
        ));
    }
    if json {
        let file = arguments.file.to_string_lossy();
        show::document(json!({"file": file, "members": export.members, "bytes": bytes}));
    }
    Ok(())
}

/// Writes a sealed image.
fn image(arguments: &Arguments, place: &Place, json: bool) -> Result<()> {
    if arguments.file == "-" {
        return Err(failed(
            "an image is written to a file or device",
            "name one after the pool",
        ));
    }
    let fs = place::open_to_read(&place.pool)?;
    let found = place.find(&fs)?;
    let label = arguments.label.clone().unwrap_or_else(|| fs.superblock().label);
    let options = Options {
        label,
        checksums: !arguments.no_checksums,
    };
    let file = Path::new(&arguments.file);
    let bar = show::byte_bar("exporting", whole_pool(&fs, place));
    let written = sealed::write::write(&fs, found.ino, &options, file, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let written = written?;
    if written.left_out > 0 {
        return Err(failed(
            format!(
                "written, but without vectors that are longer than an attribute can be, of {} files",
                written.left_out
            ),
            "an archive, without --image, keeps them",
        ));
    }
    if json {
        show::document(json!({
            "file": arguments.file.to_string_lossy(),
            "inodes": written.inodes,
            "bytes": written.bytes,
            "uuid": uuid::Uuid::from_bytes(written.uuid).to_string(),
        }));
    }
    Ok(())
}

/// How much there will be, where that is known without looking at every file.
fn whole_pool(fs: &Fs, place: &Place) -> Option<u64> {
    let root = place.path.iter().all(|&byte| byte == b'/');
    root.then(|| fs.statistics().file_blocks * BLOCK_SIZE as u64)
}

struct Export<'a> {
    fs: &'a Fs,
    portable: bool,
    members: u64,
    skipped: Notes,
    bar: ProgressBar,
}

impl Export<'_> {
    /// Writes a file that has its name only when it is complete. What is no regular file is written to as it is.
    fn write_file(&mut self, place: &Place, found: &Attributes, path: &Path) -> Result<u64> {
        let shown = || path.display().to_string();
        let special = fs::metadata(path).is_ok_and(|there| !there.is_file());
        let draft = if special { path.to_owned() } else { draft_of(path) };
        let result = File::create(&draft).with_context(shown).and_then(|file| {
            let bytes = self.write(place, found, &file)?;
            if !special {
                file.sync_all().with_context(shown)?;
                fs::rename(&draft, path).with_context(shown)?;
            }
            Ok(bytes)
        });
        if result.is_err() && !special {
            // The reason is what the caller must hear.
            let _ = fs::remove_file(&draft);
        }
        result
    }

    fn write(&mut self, place: &Place, found: &Attributes, out: impl Write) -> Result<u64> {
        let mut writer = Writer::new(BufWriter::with_capacity(256 << 10, out), self.portable);
        let mut first_names = HashMap::new();
        let name = if found.inode.is_directory() {
            b"./".to_vec()
        } else {
            let name = host::last_name(&place.path).unwrap_or_default();
            name.into_encoded_bytes()
        };
        let mut pending = vec![(found.ino, name)];
        while let Some((ino, name)) = pending.pop() {
            let shown = || String::from_utf8_lossy(&name).into_owned();
            self.member(&mut writer, ino, &name, &mut first_names)
                .with_context(shown)?;
            if name.ends_with(b"/") {
                let mut entries = self.fs.list_all(ino).with_context(shown)?;
                entries.sort_unstable_by(|one, other| other.name.cmp(&one.name));
                for entry in entries {
                    let end: &[u8] = if entry.kind == Kind::Directory { b"/" } else { b"" };
                    pending.push((entry.ino, [&*name, &*entry.name, end].concat()));
                }
            }
        }
        let bytes = writer.written();
        writer.end().context("writing the archive")?;
        Ok(bytes)
    }

    fn member(
        &mut self,
        writer: &mut Writer<impl Write>,
        ino: Ino,
        name: &[u8],
        first_names: &mut HashMap<Ino, Vec<u8>>,
    ) -> Result<()> {
        let found = self.fs.attributes(ino)?;
        let mut node = pool::node(self.fs, &found, true)?;
        let shown = String::from_utf8_lossy(name);
        if node.kind == Kind::Socket && self.portable {
            self.skipped.add(format!("the socket {shown}"));
            return Ok(());
        }
        if self.portable {
            let too_long = node.embeddings.iter().filter(|each| each.attribute().is_none());
            for embeddings in too_long {
                self.skipped.add(format!("{} of {shown}", embeddings.shown()));
            }
        }
        if ino == Ino::ROOT {
            let spaces = Embeddings::spaces(self.fs)?;
            let told = |space: &Embeddings| node.embeddings.iter().any(|own| own.space == space.space);
            let others: Vec<_> = spaces.into_iter().filter(|space| !told(space)).collect();
            node.embeddings.extend(others);
        }
        self.members += 1;
        if found.inode.links > 1 && node.kind != Kind::Directory {
            if let Some(first) = first_names.get(&ino) {
                return writer.link(name, &node, first);
            }
            first_names.insert(ino, name.to_vec());
        }
        let regions = pool::stored(self.fs, ino, node.size)?;
        let map = Map {
            size: node.size,
            regions,
        }
        .limited();
        writer.file(name, &node, &map)?;
        for region in &map.regions {
            pool::read(self.fs, ino, region, |_, bytes| {
                self.bar.inc(bytes.len() as u64);
                writer.contents(bytes).context("writing the archive")
            })?;
        }
        writer.fill().context("writing the archive")
    }
}

/// Where an archive grows that will be called `path`.
fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or(OsStr::new("archive"));
    let mut draft = OsString::from(".");
    draft.push(name);
    draft.push(format!(".{}.part", std::process::id()));
    path.with_file_name(draft)
}
