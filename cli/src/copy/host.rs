// SPDX-License-Identifier: MIT OR Apache-2.0

//! Nodes from the machine's own files, and into them.
//!
//! Symbolic links are never followed, except by the path that a user wrote. What the machine refuses to keep (owners, where
//! the caller is not root; attributes that a filesystem does not have) is noted, and told at the end.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use rustix::fs::{SeekFrom, XattrFlags, lgetxattr, llistxattr, lsetxattr, seek};
use vexfs::fs::record::{Kind, Timestamp};

use super::{Attribute, Node, Notes, PIECE, SET_IDS};

/// Longest list of names, and longest value, that Linux gives.
const MOST_XATTR_BYTES: usize = 65_536;

/// Everything about a file; extended attributes and creation time only if `all` is wanted.
pub(crate) fn node(path: &Path, about: &Metadata, all: bool) -> Result<Node> {
    let kind = kind(about);
    let time = |seconds, nanos| Timestamp::new(seconds, u32::try_from(nanos).unwrap_or(0));
    let born = about.created().ok().filter(|_| all);
    let born = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let special = matches!(kind, Kind::Character | Kind::Block);
    Ok(Node {
        permissions: u16::try_from(about.mode() & 0o7777).unwrap_or(0),
        uid: about.uid(),
        gid: about.gid(),
        device: if special { about.rdev() } else { 0 },
        target: if kind == Kind::Symlink {
            fs::read_link(path)?.into_os_string().into_vec()
        } else {
            Vec::new()
        },
        size: if kind == Kind::File { about.len() } else { 0 },
        modified: time(about.mtime(), about.mtime_nsec()),
        accessed: Some(time(about.atime(), about.atime_nsec())),
        born: born.map(|born| {
            time(
                i64::try_from(born.as_secs()).unwrap_or(i64::MAX),
                born.subsec_nanos().into(),
            )
        }),
        attributes: if all { attributes(path)? } else { Vec::new() },
        ..Node::new(kind)
    })
}

fn kind(about: &Metadata) -> Kind {
    let kind = about.file_type();
    match () {
        () if kind.is_dir() => Kind::Directory,
        () if kind.is_symlink() => Kind::Symlink,
        () if kind.is_fifo() => Kind::Fifo,
        () if kind.is_socket() => Kind::Socket,
        () if kind.is_block_device() => Kind::Block,
        () if kind.is_char_device() => Kind::Character,
        () => Kind::File,
    }
}

fn attributes(path: &Path) -> Result<Vec<Attribute>> {
    let mut buffer = vec![0; MOST_XATTR_BYTES];
    let names = match llistxattr(path, &mut buffer[..]) {
        Ok(length) => buffer.get(..length).unwrap_or_default().to_vec(),
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(io::Error::from(error)).context("listing extended attributes"),
    };
    let mut found = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        match lgetxattr(path, OsStr::from_bytes(name), &mut buffer[..]) {
            Ok(length) => found.push((name.into(), buffer.get(..length).unwrap_or_default().to_vec())),
            // Removed since it was listed.
            Err(rustix::io::Errno::NODATA) => {}
            Err(error) => {
                let name = String::from_utf8_lossy(name).into_owned();
                return Err(io::Error::from(error)).with_context(|| format!("attribute {name}"));
            }
        }
    }
    Ok(found)
}

/// The ranges of a file that hold bytes, in order, as far as its filesystem tells.
pub(crate) fn stored(file: &File, size: u64) -> Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            // This filesystem does not tell.
            Err(rustix::io::Errno::INVAL) => at,
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let end = seek(file, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        if end <= start {
            break;
        }
        ranges.push(start..end);
        at = end;
    }
    Ok(ranges)
}

/// Calls `each` with the bytes of a range, piece by piece.
pub(crate) fn read(file: &File, range: &Range<u64>, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let mut piece = vec![0; PIECE.min(usize::try_from(range.end - range.start).unwrap_or(PIECE))];
    let mut at = range.start;
    while at < range.end {
        let room = usize::try_from(range.end - at).unwrap_or(PIECE).min(piece.len());
        let count = file.read_at(piece.get_mut(..room).unwrap_or_default(), at)?;
        if count == 0 {
            bail!("the file became shorter while it was read");
        }
        each(at, piece.get(..count).unwrap_or_default())?;
        at += count as u64;
    }
    Ok(())
}

/// Opens a file that was found to be a regular one, and nothing that was put in its place.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)
}

/// A copy to the machine's files.
pub(crate) struct Writer {
    /// Owner, access time and extended attributes too.
    all: bool,
    directories: Vec<(PathBuf, Node)>,
    /// What could not be kept.
    pub(crate) lost: Notes,
}

impl Writer {
    pub(crate) fn new(all: bool) -> Self {
        Self {
            all,
            directories: Vec::new(),
            lost: Notes::default(),
        }
    }

    /// Makes the file. A regular one is returned open, for its bytes.
    pub(crate) fn place(path: &Path, node: &Node) -> Result<Option<File>> {
        match fs::symlink_metadata(path) {
            Ok(there) if node.kind == Kind::Directory && there.is_dir() => return Ok(None),
            Ok(there) if node.kind == Kind::File && there.is_file() => {
                let file = OpenOptions::new()
                    .write(true)
                    .truncate(true)
                    .custom_flags(nix::libc::O_NOFOLLOW)
                    .open(path)?;
                return Ok(Some(file));
            }
            // A device or pipe gives way to its like alone: a mistyped path must not cost a machine its /dev/null.
            Ok(there) if there.is_symlink() || there.is_file() || !there.is_dir() && kind(&there) == node.kind => {
                fs::remove_file(path)?;
            }
            Ok(_) => bail!("something of another type is there; remove it first, or choose another place"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        match node.kind {
            // Nobody else looks in or writes before the copy has its own permissions.
            Kind::Directory => DirBuilder::new().mode(0o700).create(path)?,
            Kind::File => {
                let mut options = OpenOptions::new();
                return Ok(Some(options.write(true).create_new(true).mode(0o600).open(path)?));
            }
            Kind::Symlink => symlink(OsStr::from_bytes(&node.target), path)?,
            Kind::Fifo => special(path, SFlag::S_IFIFO, 0)?,
            Kind::Socket => special(path, SFlag::S_IFSOCK, 0)?,
            Kind::Character => special(path, SFlag::S_IFCHR, node.device)?,
            Kind::Block => special(path, SFlag::S_IFBLK, node.device)?,
        }
        Ok(None)
    }

    /// Makes another name of a file that was copied before.
    pub(crate) fn link(first: &Path, path: &Path) -> Result<()> {
        match fs::symlink_metadata(path) {
            Ok(there) if there.is_dir() => bail!("a directory is there; remove it first, or choose another place"),
            Ok(_) => fs::remove_file(path)?,
            Err(_) => {}
        }
        Ok(fs::hard_link(first, path)?)
    }

    /// Owner, extended attributes, permissions, times. Of directories at the end.
    pub(crate) fn finish(&mut self, path: PathBuf, node: Node) -> Result<()> {
        if node.kind == Kind::Directory {
            self.directories.push((path, node));
            return Ok(());
        }
        self.set(&path, &node)
    }

    /// What had to wait: making files in a directory changes its times and needs its permissions.
    pub(crate) fn end(&mut self) -> Result<()> {
        for (path, node) in std::mem::take(&mut self.directories).iter().rev() {
            self.set(path, node).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn set(&mut self, path: &Path, node: &Node) -> Result<()> {
        let mut permissions = node.permissions;
        if self.all {
            let (uid, gid) = (Some(node.uid), Some(node.gid));
            if let Err(error) = std::os::unix::fs::lchown(path, uid, gid) {
                permissions &= !SET_IDS;
                self.lose(path, "owner", &error);
            }
            for (name, value) in &node.attributes {
                let set = lsetxattr(path, OsStr::from_bytes(name), value, XattrFlags::empty());
                if let Err(error) = set {
                    let name = String::from_utf8_lossy(name);
                    self.lose(path, &format!("attribute {name}"), &error.into());
                }
            }
            for embeddings in &node.embeddings {
                let set = match embeddings.attribute() {
                    Some((name, value)) => lsetxattr(path, OsStr::from_bytes(&name), &value, XattrFlags::empty()),
                    None => Err(rustix::io::Errno::TOOBIG),
                };
                if let Err(error) = set {
                    self.lose(path, &embeddings.shown(), &error.into());
                }
            }
        } else {
            permissions &= !SET_IDS;
        }
        if node.kind != Kind::Symlink {
            fs::set_permissions(path, Permissions::from_mode(u32::from(permissions)))?;
        }
        let spec = |time: Timestamp| TimeSpec::new(time.seconds(), time.nanos().into());
        let accessed = node.accessed.filter(|_| self.all).map_or(TimeSpec::UTIME_OMIT, spec);
        utimensat(
            nix::fcntl::AT_FDCWD,
            path,
            &accessed,
            &spec(node.modified),
            UtimensatFlags::NoFollowSymlink,
        )?;
        Ok(())
    }

    fn lose(&mut self, path: &Path, what: &str, error: &io::Error) {
        self.lost.add(format!("{what} of {} ({error})", path.display()));
    }
}

fn special(path: &Path, kind: SFlag, device: u64) -> Result<()> {
    match mknod(path, kind, Mode::from_bits_truncate(0o600), device) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => bail!("only root can make devices; run it as root, or copy without -a"),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// The last name of a path.
pub(crate) fn last_name(path: &[u8]) -> Option<OsString> {
    let name = path.rsplit(|&byte| byte == b'/').find(|name| !name.is_empty())?;
    Some(OsStr::from_bytes(name).to_owned())
}
