// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the sockets are, and making one.
//!
//! | who serves | directory |
//! |---|---|
//! | anybody who sets `VEXFS_RUNTIME_DIR` | that |
//! | root | `/run/vexfs-ublk` |
//! | others | `$XDG_RUNTIME_DIR/vexfs-ublk` |
//!
//! A socket's name is the pool's UUID and `.sock`.
//!
//! # Making a socket
//!
//! It is bound under a name nobody looks for, gets its permissions, and is then renamed: nobody meets it with other
//! permissions, and a dead one that was left is replaced at the same moment. Two servers of one pool cannot compete for the
//! name, because a pool has one owner; who finds a living server there all the same gives up.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use uuid::Uuid;

/// Names another directory.
pub const DIRECTORY_VARIABLE: &str = "VEXFS_RUNTIME_DIR";
/// In `/run` or the user's own directory.
const DIRECTORY: &str = "vexfs-ublk";
const ENDING: &str = "sock";
/// What an address of a Unix socket can hold, without the zero at its end.
const LONGEST_PATH: usize = 107;

/// Why there is no place, or no socket.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// An ordinary user without a session.
    #[error(
        "there is no directory for control sockets: XDG_RUNTIME_DIR is not set; set it, or VEXFS_RUNTIME_DIR to a directory of yours"
    )]
    NoDirectory,
    /// The system refused a step.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried, as `making the directory`.
        what: &'static str,
        /// Of what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The path does not fit in the address of a socket.
    #[error("{}: the path of a socket may have {LONGEST_PATH} bytes; set VEXFS_RUNTIME_DIR to a shorter one", .0.display())]
    TooLong(PathBuf),
    /// Somebody answers there.
    #[error("{} is in use: the pool is being served already", .0.display())]
    InUse(PathBuf),
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PlaceError + 'a {
    move |source| PlaceError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Where the sockets of this user's servers are.
pub fn directory() -> Result<PathBuf, PlaceError> {
    let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    if let Some(directory) = variable(DIRECTORY_VARIABLE) {
        return Ok(directory.into());
    }
    if geteuid().is_root() {
        return Ok(Path::new("/run").join(DIRECTORY));
    }
    let own = variable("XDG_RUNTIME_DIR").ok_or(PlaceError::NoDirectory)?;
    Ok(Path::new(&own).join(DIRECTORY))
}

/// The name of a pool's socket.
pub fn socket_name(pool: Uuid) -> String {
    format!("{pool}.{ENDING}")
}

/// The sockets in a directory, in the order of their names; none where there is no directory.
pub fn sockets(directory: &Path) -> Result<Vec<PathBuf>, PlaceError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("reading", directory))?,
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == ENDING))
        .collect();
    found.sort();
    Ok(found)
}

/// Removes what servers of the same name left that were killed between binding and renaming.
fn remove_dead_drafts(directory: &Path, name: &str) -> Result<(), PlaceError> {
    for path in sockets(directory)? {
        let file_name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let is_draft = file_name.starts_with(b".") && file_name.ends_with(name.as_bytes());
        if !is_draft || UnixStream::connect(&path).is_ok() {
            continue;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("removing", &path)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// A socket of ours. Dropped, it is removed: through its directory's descriptor, since a server may be in a sandbox by then.
#[derive(Debug)]
pub struct Socket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    directory: File,
    name: String,
    /// Device and inode: what is there later may be somebody else's.
    identity: (u64, u64),
}

impl Socket {
    /// Makes the directory, if it must, and in it the socket.
    pub fn make(directory: &Path, name: &str, mode: u32) -> Result<Self, PlaceError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(failed("making the directory", directory))?;
        let path = directory.join(name);
        let draft = directory.join(format!(".{}", std::process::id()) + name);
        if draft.as_os_str().len() > LONGEST_PATH {
            return Err(PlaceError::TooLong(draft));
        }
        if UnixStream::connect(&path).is_ok() {
            return Err(PlaceError::InUse(path));
        }
        let opened = File::open(directory).map_err(failed("opening", directory))?;
        remove_dead_drafts(directory, name)?;
        let listener = UnixListener::bind(&draft).map_err(failed("making the socket", &draft))?;
        let identity = fs::set_permissions(&draft, Permissions::from_mode(mode))
            .and_then(|()| fs::symlink_metadata(&draft))
            .and_then(|found| fs::rename(&draft, &path).map(|()| (found.dev(), found.ino())));
        match identity {
            Ok(identity) => Ok(Self {
                listener,
                path,
                directory: opened,
                name: name.to_owned(),
                identity,
            }),
            Err(error) => {
                // The reason is what the caller must hear; a draft that stays hurts nobody.
                let _ = fs::remove_file(&draft);
                Err(failed("making the socket", &path)(error))
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let name = self.name.as_str();
        let found = fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let ours = found.is_ok_and(|found| (found.st_dev, found.st_ino) == self.identity);
        if ours && let Err(error) = unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir) {
            tracing::warn!(%error, path = %self.path.display(), "removing the control socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_socket_has_its_permissions_and_goes_with_its_server() {
        let above = TempDir::new().unwrap();
        let directory = above.path().join("made");
        let socket = Socket::make(&directory, "a.sock", 0o640).unwrap();
        assert_eq!(fs::metadata(socket.path()).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(sockets(&directory).unwrap(), [directory.join("a.sock")]);
        drop(socket);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        assert!(sockets(&above.path().join("nowhere")).unwrap().is_empty());
    }

    #[test]
    fn a_socket_that_a_dead_server_left_is_replaced() {
        let directory = TempDir::new().unwrap();
        let left = directory.path().join("a.sock");
        drop(UnixListener::bind(&left).unwrap());
        let socket = Socket::make(directory.path(), "a.sock", 0o600).unwrap();
        UnixStream::connect(socket.path()).unwrap();
    }

    #[test]
    fn the_drafts_of_servers_that_were_killed_are_removed() {
        let directory = TempDir::new().unwrap();
        let draft = |name: &str| UnixListener::bind(directory.path().join(name)).unwrap();
        drop(draft(".1a.sock"));
        let living = draft(".2a.sock");
        drop(draft(".3other.sock"));
        let socket = Socket::make(directory.path(), "a.sock", 0o600).unwrap();
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, [".2a.sock", ".3other.sock", "a.sock"]);
        drop((living, socket));
    }

    #[test]
    fn a_living_server_is_not_replaced() {
        let directory = TempDir::new().unwrap();
        let first = Socket::make(directory.path(), "a.sock", 0o600).unwrap();
        let second = Socket::make(directory.path(), "a.sock", 0o600);
        assert!(matches!(second, Err(PlaceError::InUse(_))), "{second:?}");
        UnixStream::connect(first.path()).unwrap();
    }

    #[test]
    fn a_socket_that_took_the_name_meanwhile_is_left_alone() {
        let directory = TempDir::new().unwrap();
        let first = Socket::make(directory.path(), "a.sock", 0o600).unwrap();
        fs::remove_file(first.path()).unwrap();
        let second = Socket::make(directory.path(), "a.sock", 0o600).unwrap();
        drop(first);
        UnixStream::connect(second.path()).unwrap();
    }

    #[test]
    fn a_path_that_is_too_long_is_refused_with_what_to_do() {
        let directory = TempDir::new().unwrap();
        let deep = directory.path().join("x".repeat(100));
        let error = Socket::make(&deep, "a.sock", 0o600).unwrap_err();
        assert!(error.to_string().contains("VEXFS_RUNTIME_DIR"), "{error}");
    }
}
