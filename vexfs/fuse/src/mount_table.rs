// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is mounted where: `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The type that our mounts have.
pub const TYPE: &str = "fuse.vexfs";

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor`, which no other mount of the running system has.
    pub device: String,
    /// Which directory of it: only with bind mounts another than `/`.
    pub root: PathBuf,
    /// Where.
    pub directory: PathBuf,
    /// Of what type.
    pub kind: String,
    /// Of what: our mounts name the pool.
    pub source: PathBuf,
    /// Nothing may be written.
    pub read_only: bool,
}

impl Mount {
    /// Whether it is a pool.
    pub fn is_ours(&self) -> bool {
        self.kind == TYPE
    }
}

/// All mounts; of two on one directory the later hides the earlier.
pub fn all() -> io::Result<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(parse).collect())
}

/// The mount that is seen on a directory.
pub fn at(directory: &Path) -> io::Result<Option<Mount>> {
    Ok(all()?.into_iter().rev().find(|mount| mount.directory == directory))
}

/// `<id> <parent> <device> <root> <directory> <options> <tags>… - <type> <source> <options>`
fn parse(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let dash = words.iter().position(|word| *word == b"-")?;
    let text = |at: usize| words.get(at).map(|word| String::from_utf8_lossy(word).into_owned());
    let path = |at: usize| words.get(at).map(|word| PathBuf::from(unescape(word)));
    Some(Mount {
        device: text(2)?,
        root: path(3)?,
        directory: path(4)?,
        kind: text(dash + 1)?,
        source: path(dash + 2)?,
        read_only: words.get(5)?.split(|&byte| byte == b',').any(|word| word == b"ro"),
    })
}

/// Spaces and the like are written as `\040`.
fn unescape(word: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, later)) = rest.split_first() {
        rest = later;
        let code = later.get(..3).filter(|_| first == b'\\');
        let number = code
            .and_then(|code| std::str::from_utf8(code).ok())
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        if let Some(byte) = number {
            out.push(byte);
            rest = later.get(3..).unwrap_or_default();
        } else {
            out.push(first);
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = br"36 35 0:50 / /mnt/a\040b ro,noatime shared:1 master:2 - fuse.vexfs /pool\134x rw,user_id=0";
        let mount = parse(line).unwrap();
        assert_eq!(mount.device, "0:50");
        assert_eq!(mount.root, Path::new("/"));
        assert_eq!(mount.directory, Path::new("/mnt/a b"));
        assert_eq!(mount.source, Path::new(r"/pool\x"));
        assert!(mount.is_ours() && mount.read_only);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 2 0:3 / /x rw - "), None);
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(at(Path::new("/")).unwrap().is_some());
    }
}
