// SPDX-License-Identifier: MIT OR Apache-2.0

//! Everything that a pool holds, as text: one line per file that begins with its path, and numbers about the pool.

use std::fmt::Write as _;

use vexfs::checksum::Crc;
use vexfs::fs::record::Kind;
use vexfs::fs::{Fs, Source};
use vexfs::units::{FileBlock, Ino, blocks_for};

/// See the module.
pub(crate) fn all(fs: &Fs) -> String {
    let mut out = format!("inodes {}\n", fs.statistics().inodes);
    let mut files: Vec<(String, Ino)> = vec![("/".into(), Ino::ROOT)];
    let mut directories = files.clone();
    while let Some((path, directory)) = directories.pop() {
        for entry in fs.list_all(directory).unwrap() {
            let path = format!("{path}{}", String::from_utf8_lossy(&entry.name));
            files.push((path.clone(), entry.ino));
            if entry.kind == Kind::Directory {
                directories.push((format!("{path}/"), entry.ino));
            }
        }
    }
    files.sort();
    for (path, ino) in files {
        let inode = fs.attributes(ino).unwrap().inode;
        write!(
            out,
            "{path}: {ino}, mode {:o}, owner {}:{}, links {}, size {}, blocks {}, device {:x}, flags {:x}, parent {}, times {:?}",
            inode.mode,
            inode.uid,
            inode.gid,
            inode.links,
            inode.size,
            inode.blocks,
            inode.device,
            inode.flags.0,
            inode.parent.0,
            [inode.accessed.0, inode.modified.0, inode.changed.0, inode.born.0],
        )
        .unwrap();
        match inode.kind() {
            Kind::Symlink => write!(out, ", to {}", String::from_utf8_lossy(&fs.read_link(ino).unwrap())).unwrap(),
            Kind::File => write!(out, ", {}", content(fs, ino, inode.size)).unwrap(),
            _ => {}
        }
        for name in fs.list_xattrs(ino).unwrap() {
            let value = fs.get_xattr(ino, &name).unwrap();
            write!(
                out,
                ", {} = {} bytes {:08x}",
                String::from_utf8_lossy(&name),
                value.len(),
                Crc::of(&value).0
            )
            .unwrap();
        }
        out.push('\n');
    }
    out
}

/// What a file consists of, holes apart, with checksums of what is read there.
fn content(fs: &Fs, ino: Ino, size: u64) -> String {
    let mut out = String::from("content");
    for extent in fs.extents(ino, FileBlock(0), blocks_for(size)).unwrap() {
        let kind = match extent.source {
            Source::Hole => continue,
            Source::Promised => "promised",
            Source::Inline(_) => "inline",
            Source::Blocks(_, Some(_)) => "blocks",
            Source::Blocks(_, None) => "bare",
            Source::Packed(..) => "packed",
            Source::Lost => "lost",
        };
        let mut bytes = vec![0; usize::try_from(extent.count * 4096).unwrap()];
        let length = fs.read(ino, extent.at.byte_at(), &mut bytes).unwrap();
        write!(
            out,
            " {kind} {}+{} {:08x}",
            extent.at.0,
            extent.count,
            Crc::of(&bytes[..length]).0
        )
        .unwrap();
    }
    out
}
