// SPDX-License-Identifier: MIT OR Apache-2.0

//! `POOL:/path`: a file of a pool that is not mounted.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use ublk_server::device::State;
use vexfs::fs::record::Timestamp;
use vexfs::fs::{Attributes, Fs, MountOptions};
use vexfs::units::Ino;

use crate::failure::failed;
use crate::ublk;

/// A place in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file or device.
    pub(crate) pool: PathBuf,
    /// Absolute path inside.
    pub(crate) path: Vec<u8>,
}

impl Place {
    /// Splits at the first `:/`; a text without one is no place in a pool.
    pub(crate) fn split(text: &OsStr) -> Option<Self> {
        let bytes = text.as_bytes();
        let at = bytes.windows(2).position(|pair| pair == b":/")?;
        let (pool, path) = bytes.split_at(at);
        Some(Self {
            pool: PathBuf::from(OsStr::from_bytes(pool)),
            path: path.get(1..).unwrap_or_default().to_vec(),
        })
    }

    /// The same; the pool alone means its root.
    pub(crate) fn or_root(text: &OsStr) -> Self {
        Self::split(text).unwrap_or_else(|| Self {
            pool: text.into(),
            path: b"/".to_vec(),
        })
    }

    /// The same, where it must be one.
    pub(crate) fn required(text: &OsStr) -> Result<Self> {
        Self::split(text).ok_or_else(|| {
            failed(
                format!("{} names no file of a pool", text.display()),
                "write POOL:/path",
            )
        })
    }

    /// The path, for messages.
    pub(crate) fn shown(&self) -> String {
        format!("{}:{}", self.pool.display(), String::from_utf8_lossy(&self.path))
    }

    /// The file there.
    pub(crate) fn find(&self, fs: &Fs) -> Result<Attributes> {
        fs.resolve(&self.path).with_context(|| self.shown())
    }

    /// Where a copy goes: into the directory that is there, under the name the original has, or to this path itself.
    pub(crate) fn parent_or_inside(&self, fs: &Fs, own: impl FnOnce() -> Option<Vec<u8>>) -> Result<(Ino, Vec<u8>)> {
        match fs.resolve(&self.path) {
            Ok(found) if found.inode.is_directory() => {
                let name = own().ok_or_else(|| failed("the source has no name of its own", "give the copy one"))?;
                Ok((found.ino, name))
            }
            _ => self.parent(fs),
        }
    }

    /// The directory that the last name is in, and that name.
    pub(crate) fn parent(&self, fs: &Fs) -> Result<(Ino, Vec<u8>)> {
        let trimmed = self.path.strip_suffix(b"/").unwrap_or(&self.path);
        let at = trimmed.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let (directory, name) = (
            trimmed.get(..at).unwrap_or_default(),
            trimmed.get(at + 1..).unwrap_or_default(),
        );
        if name.is_empty() || name == b"." || name == b".." {
            bail!("{}: a name is needed at the end of the path", self.shown());
        }
        let found = fs.resolve(directory);
        let directory = found.with_context(|| format!("the directory of {}", self.shown()))?;
        if !directory.inode.is_directory() {
            bail!("the directory of {}: not a directory", self.shown());
        }
        Ok((directory.ino, name.to_vec()))
    }
}

/// Whether two paths lead to one file or device.
pub(crate) fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|about| (about.dev(), about.ino())).ok();
    one == other || identity(one).is_some_and(|one| Some(one) == identity(other))
}

/// Opens a pool to look at it.
pub(crate) fn open_to_read(pool: &Path) -> Result<Fs> {
    open(pool, true)
}

/// Opens a pool to change it; the caller closes it.
pub(crate) fn open_to_change(pool: &Path) -> Result<Fs> {
    open(pool, false)
}

/// Opens a pool, changes it, and leaves it clean, whether the change succeeded or not.
pub(crate) fn change<T>(pool: &Path, change: impl FnOnce(&Fs) -> Result<T>) -> Result<T> {
    let fs = open(pool, false)?;
    let changed = change(&fs);
    let closed = fs.close().with_context(|| format!("closing {}", pool.display()));
    changed.and_then(|value| closed.map(|()| value))
}

fn open(pool: &Path, read_only: bool) -> Result<Fs> {
    if !read_only && let Some(known) = ublk::of_filesystem(pool)?.filter(|known| known.state() != State::Live) {
        return Err(failed(
            format!(
                "{} is {}, which has no server: a change now would cut off its mount",
                pool.display(),
                known.path()
            ),
            format!(
                "vexfs-ublk recover gives it one, vexfs-ublk del --force {} removes it",
                known.survey.id
            ),
        ));
    }
    let options = MountOptions {
        read_only,
        ..MountOptions::default()
    };
    Fs::open(pool, &options).with_context(|| format!("opening {}", pool.display()))
}

/// The time, as the pool notes it.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_split_at_the_first_colon_before_a_slash() {
        let place = |text: &str| Place::split(OsStr::new(text));
        let expected = |pool: &str, path: &str| {
            Some(Place {
                pool: pool.into(),
                path: path.into(),
            })
        };
        assert_eq!(place("pool.img:/a/b"), expected("pool.img", "/a/b"));
        assert_eq!(place("/dev/disk:1:/a:/b"), expected("/dev/disk:1", "/a:/b"));
        assert_eq!(place("pool.img:a"), None);
        assert_eq!(place("./file"), None);
        assert_eq!(Place::or_root(OsStr::new("pool.img")).path, b"/");
    }
}
