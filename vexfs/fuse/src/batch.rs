// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files of one directory of the mount that the guardian is to open and close, as one message; and how it does that.
//!
//! What for is told in [`crate::write_back`]. The guardian may more than whoever owns the directories, so it stays
//! inside the mount and follows no symbolic link on its way, whatever others put there meanwhile.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, fstat, major, minor};
use nix::unistd::close;

/// Bytes of the longest message that the server and the guardian exchange.
pub(crate) const MESSAGE: usize = 64 << 10;
/// Files in one message: the answer, two bytes for each, is one too.
const FILES: usize = 4096;
/// Bytes of a path that the system takes at once, with some to spare.
const PATH: usize = 4000;

/// The directory from the mount's root on, then names in it; a zero behind each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch(Vec<u8>);

impl Batch {
    /// As many of the files as fit, and how many those are. None: not even one, since the path is too long.
    pub(crate) fn of<'a>(directory: &[u8], names: impl Iterator<Item = &'a [u8]>) -> Option<(Self, usize)> {
        let mut bytes = [directory, b"\0"].concat();
        let mut count = 0;
        for name in names.take(FILES) {
            // One byte is the command's.
            if 1 + bytes.len() + name.len() + 1 > MESSAGE {
                break;
            }
            bytes.extend_from_slice(name);
            bytes.push(0);
            count += 1;
        }
        (count > 0).then_some((Self(bytes), count))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Opens and closes each; returns the positions of those that could not be opened. Fails if bytes of one were lost.
    ///
    /// `device` is the mount's, as the mount table writes it: nothing is done elsewhere.
    pub(crate) fn close_once(message: &[u8], root: &Path, device: Option<&str>) -> Result<Vec<u16>, String> {
        let mut words = message.strip_suffix(b"\0").unwrap_or(message).split(|&byte| byte == 0);
        let directory = words.next().unwrap_or_default();
        let opened = root_of(root, device).and_then(|root| reach(root, directory));
        let mut unreached = Vec::new();
        for (at, name) in (0..).zip(words) {
            let file = match &opened {
                Ok(directory) => enter(directory.as_fd(), name),
                Err(errno) => Err(*errno),
            };
            match file {
                Ok(file) => close(file.into_raw_fd()).map_err(|errno| {
                    let (directory, name) = (String::from_utf8_lossy(directory), String::from_utf8_lossy(name));
                    format!("/{directory}{name}: {errno}")
                })?,
                Err(_) => unreached.push(at),
            }
        }
        Ok(unreached)
    }
}

/// The positions as bytes of an answer, and back.
pub(crate) fn positions_to_bytes(positions: &[u16]) -> Vec<u8> {
    positions.iter().flat_map(|at| at.to_le_bytes()).collect()
}

pub(crate) fn positions_of_bytes(bytes: &[u8]) -> Vec<usize> {
    let (pairs, _) = bytes.as_chunks();
    pairs
        .iter()
        .map(|&pair| usize::from(u16::from_le_bytes(pair)))
        .collect()
}

fn root_of(directory: &Path, device: Option<&str>) -> nix::Result<OwnedFd> {
    let root = open(
        directory,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let found = fstat(&root)?.st_dev;
    if device == Some(format!("{}:{}", major(found), minor(found)).as_str()) {
        Ok(root)
    } else {
        Err(Errno::ESTALE)
    }
}

/// A directory below another, however long the way is.
fn reach(root: OwnedFd, path: &[u8]) -> nix::Result<OwnedFd> {
    let mut at = root;
    let mut rest = path;
    while !rest.is_empty() {
        let part = rest.get(..PATH).map_or(rest, |start| {
            let whole = start
                .iter()
                .rposition(|&byte| byte == b'/')
                .map_or(PATH, |slash| slash + 1);
            start.get(..whole).unwrap_or(start)
        });
        at = openat2(&at, part, how(OFlag::O_PATH | OFlag::O_DIRECTORY))?;
        rest = rest.get(part.len()..).unwrap_or_default();
    }
    Ok(at)
}

/// Opens a file in any way that is allowed: all that matters is that it is closed. What is no file meanwhile keeps nobody waiting.
fn enter(directory: BorrowedFd<'_>, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    match openat2(directory, name, how(flags | OFlag::O_RDONLY)) {
        Err(Errno::EACCES) => openat2(directory, name, how(flags | OFlag::O_WRONLY)),
        opened => opened,
    }
}

fn how(flags: OFlag) -> OpenHow {
    let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(inside)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn device_of(path: &Path) -> String {
        let found = nix::sys::stat::stat(path).unwrap().st_dev;
        format!("{}:{}", major(found), minor(found))
    }

    fn unreached(root: &Path, directory: &str, names: &[&str]) -> Vec<usize> {
        let (batch, count) = Batch::of(directory.as_bytes(), names.iter().map(|name| name.as_bytes())).unwrap();
        assert_eq!(count, names.len());
        let positions = Batch::close_once(batch.bytes(), root, Some(&device_of(root))).unwrap();
        positions_of_bytes(&positions_to_bytes(&positions))
    }

    #[test]
    fn files_are_reached_and_links_gaps_and_ways_out_are_not() {
        let scratch = TempDir::new().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        for name in ["outside", "root/top", "root/a/b/one", "root/a/b/two"] {
            fs::write(scratch.path().join(name), "x").unwrap();
        }
        symlink("one", root.join("a/b/link")).unwrap();
        symlink("a/b", root.join("short")).unwrap();
        assert_eq!(unreached(&root, "", &["top"]), [0; 0]);
        assert_eq!(
            unreached(&root, "a/b/", &["one", "link", "gone", "two", "../../../outside"]),
            [1, 2, 4]
        );
        assert_eq!(unreached(&root, "short/", &["one"]), [0]);
        assert_eq!(unreached(&root, "../root/", &["top"]), [0]);
        let elsewhere = Batch::of(b"", [&b"top"[..]].into_iter()).unwrap().0;
        assert_eq!(Batch::close_once(elsewhere.bytes(), &root, Some("0:0")), Ok(vec![0]));
    }

    #[test]
    fn a_pipe_in_place_of_a_file_keeps_nobody_waiting() {
        let root = TempDir::new().unwrap();
        nix::unistd::mkfifo(&root.path().join("pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(unreached(root.path(), "", &["pipe"]), [0; 0]);
    }

    #[test]
    fn a_way_longer_than_a_path_may_be_is_gone_in_parts() {
        let root = TempDir::new().unwrap();
        let mut at = open(root.path(), OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        let name = "d".repeat(200);
        for _ in 0..50 {
            nix::sys::stat::mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
            at = openat2(&at, name.as_str(), how(OFlag::O_PATH | OFlag::O_DIRECTORY)).unwrap();
        }
        drop(nix::fcntl::openat(&at, "file", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap());
        let directory = format!("{name}/").repeat(50);
        assert_eq!(unreached(root.path(), &directory, &["file", "no file"]), [1]);
    }

    #[test]
    fn many_files_take_several_messages_and_too_long_a_way_takes_none() {
        let names: Vec<Vec<u8>> = (0..10_000).map(|n| format!("{n:0>200}").into_bytes()).collect();
        let mut rest = &names[..];
        let mut messages = 0;
        while !rest.is_empty() {
            let (batch, count) = Batch::of(b"d/", rest.iter().map(Vec::as_slice)).unwrap();
            assert!(batch.bytes().len() < MESSAGE && count <= FILES);
            rest = &rest[count..];
            messages += 1;
        }
        assert_eq!(messages, 31);
        let short = Batch::of(b"", std::iter::repeat_n(&b"x"[..], 10_000)).unwrap();
        assert_eq!(short.1, FILES);
        assert_eq!(Batch::of(&vec![b'x'; MESSAGE], [&b"y"[..]].into_iter()), None);
    }
}
