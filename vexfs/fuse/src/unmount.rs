// SPDX-License-Identifier: MIT OR Apache-2.0

//! Unmounting as a command does it: it returns when the pool is closed, or says who is in the way.
//!
//! The kernel is done with a mount before its server is. That the server has closed the pool is seen by its lock, which it
//! keeps until then; that it did so in order, by the superblock.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::unistd::geteuid;
use vexfs::disk::OpenDiskError;
use vexfs::pool::{Access, OpenError, OpenOptions, Pool};

use crate::daemon::place_of_mount;
use crate::mount_table::{self, Mount};
use crate::{fusermount, guardian};

/// How long a server may take to close its pool.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(10);

/// A process in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub process: u32,
    /// Its command.
    pub command: String,
    /// A file of the mount that it uses.
    pub path: PathBuf,
}

/// Why a mount is still there, or its pool not closed. Read by a person.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Nothing of ours is there.
    #[error("{} is not a mounted VexFS pool{what}", place.display())]
    NotMounted {
        /// Where.
        place: PathBuf,
        /// What is there instead.
        what: String,
    },
    /// Somebody uses it.
    #[error("{} is in use{}", directory.display(), list(users))]
    Busy {
        /// Where.
        directory: PathBuf,
        /// Who.
        users: Vec<User>,
    },
    /// The system refused.
    #[error("{} cannot be unmounted: {reason}", directory.display())]
    Refused {
        /// Where.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
    /// The server is still at it.
    #[error("{} is unmounted, but its server has not closed the pool after {} s", pool.display(), PATIENCE.as_secs())]
    NotClosed {
        /// Which.
        pool: PathBuf,
    },
    /// The system's tables cannot be read.
    #[error("the table of mounts cannot be read: {0}")]
    Table(#[from] io::Error),
}

fn list(users: &[User]) -> String {
    if users.is_empty() {
        return "; end what uses it, or unmount it with --lazy".into();
    }
    let users = users
        .iter()
        .map(|user| format!("process {} ({}): {}", user.process, user.command, user.path.display()));
    format!(
        " by {}; end that, or unmount it with --lazy",
        users.collect::<Vec<_>>().join(", ")
    )
}

/// How a pool was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Closed in order.
    Clean,
    /// The server was gone before, or ended otherwise: the next mount recovers it from its journal.
    Unclean,
    /// Still served to who has files open.
    InUse,
    /// Nobody can tell, since the pool cannot be opened from here.
    Unknown,
}

/// Unmounts what is mounted on a directory, or a pool from wherever it is mounted.
pub fn unmount(place: &Path, lazily: bool) -> Result<Left, UnmountError> {
    let mount = find(place)?;
    let directory = &mount.directory;
    let refused = |reason: String| UnmountError::Refused {
        directory: directory.clone(),
        reason,
    };
    if lazily {
        guardian::detach(directory).map_err(refused)?;
    } else if geteuid().is_root() {
        umount2(directory, MntFlags::UMOUNT_NOFOLLOW).map_err(|errno| match errno {
            Errno::EBUSY => UnmountError::Busy {
                directory: directory.clone(),
                users: users_of(directory),
            },
            errno => refused(errno.desc().into()),
        })?;
    } else {
        fusermount::unmount(directory, false).map_err(|reason| {
            if reason.to_lowercase().contains("busy") {
                UnmountError::Busy {
                    directory: directory.clone(),
                    users: users_of(directory),
                }
            } else {
                refused(reason)
            }
        })?;
    }
    closed(&mount, lazily)
}

fn find(place: &Path) -> Result<Mount, UnmountError> {
    let absolute = match place.canonicalize() {
        Ok(path) => path,
        // Its server is gone, or nothing is there at all.
        Err(_) => place_of_mount(place)?,
    };
    let mounts = mount_table::all()?;
    let seen = mounts.iter().rev().find(|mount| mount.directory == absolute);
    if let Some(mount) = seen.filter(|mount| mount.is_ours()) {
        return Ok(mount.clone());
    }
    let by_pool = mounts
        .iter()
        .rev()
        .find(|mount| mount.is_ours() && mount.source == absolute);
    by_pool.cloned().ok_or_else(|| UnmountError::NotMounted {
        place: place.to_owned(),
        what: seen.map_or_else(String::new, |other| format!(" but a mount of type {}", other.kind)),
    })
}

/// How a pool was left by a mount that may have been for reading only.
pub fn how_left(pool: &Path, read_only: bool) -> Left {
    match Pool::open_path(pool, &OpenOptions::new(Access::ReadOnly)) {
        Ok(pool) if pool.was_clean() || read_only => Left::Clean,
        Ok(_) => Left::Unclean,
        Err(OpenError::Disk(OpenDiskError::InUse { .. })) => Left::InUse,
        Err(_) => Left::Unknown,
    }
}

/// Waits until the pool is closed.
fn closed(mount: &Mount, lazily: bool) -> Result<Left, UnmountError> {
    let began = Instant::now();
    loop {
        match how_left(&mount.source, mount.read_only) {
            Left::InUse => {}
            left => return Ok(left),
        }
        // Somebody mounted it again, or it has another mount.
        let again = mount_table::all()?
            .iter()
            .any(|other| other.is_ours() && other.source == mount.source);
        if lazily || again {
            return Ok(Left::InUse);
        }
        if began.elapsed() > PATIENCE {
            return Err(UnmountError::NotClosed {
                pool: mount.source.clone(),
            });
        }
        thread::sleep(PAUSE);
    }
}

/// Who has a directory or file at or below a place, as far as this user may see.
pub fn users_of(directory: &Path) -> Vec<User> {
    let mut users = Vec::new();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return users;
    };
    for entry in processes.filter_map(Result::ok) {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let of = entry.path();
        let files = std::fs::read_dir(of.join("fd"))
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|file| file.path());
        let links = ["cwd", "root", "exe"].map(|name| of.join(name));
        // The links are read, not followed: following them would ask the server.
        let used = links
            .into_iter()
            .chain(files)
            .filter_map(|link| std::fs::read_link(link).ok())
            .find(|path| path.starts_with(directory));
        if let Some(path) = used {
            let command = std::fs::read_to_string(of.join("comm")).unwrap_or_default();
            users.push(User {
                process,
                command: command.trim_end().to_owned(),
                path,
            });
        }
    }
    users
}
