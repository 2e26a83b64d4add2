// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pools that somebody serves: finding their servers.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::statfs::{FsType, statfs};
use nix::sys::statvfs::statvfs;
use uuid::Uuid;
use vexfs_control::client::{Client, ClientError};
use vexfs_control::place as sockets;
use vexfs_control::status::Status;

use crate::failure::failed;
use crate::place::Place;

/// A server, and what it said.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) client: Client,
    pub(crate) status: Status,
}

/// Every pool that is served, and what is wrong with servers that do not answer: they must not hide the others.
pub(crate) fn all() -> Result<(Vec<Served>, Vec<ClientError>)> {
    let (mut served, mut silent) = (Vec::new(), Vec::new());
    for socket in sockets::sockets(&sockets::directory()?)? {
        let client = Client::new(socket);
        match client.status() {
            Ok(status) => served.push(Served { client, status }),
            // What a killed server left.
            Err(ClientError::NotServed(_)) => {}
            Err(error) => silent.push(error),
        }
    }
    Ok((served, silent))
}

/// The one that a socket, a pool, a UUID, a label, or a place below a mount point names.
pub(crate) fn find(which: &OsStr) -> Result<Served> {
    let path = Path::new(which);
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let client = Client::new(path);
        let status = client.status()?;
        return Ok(Served { client, status });
    }
    let (mut all, silent) = all()?;
    let found = all.iter().position(|served| is_pool(path, &served.status));
    let found = found
        .or_else(|| named(&all, which))
        .or_else(|| mounted(&all, &fs::canonicalize(path).ok()?))
        .or_else(|| mounted_by_the_kernel(&all, path));
    match found {
        Some(index) => Ok(all.swap_remove(index)),
        None if !silent.is_empty() => bail!("{}: {}", path.display(), join(&silent)),
        None => bail!(
            "{}: no served pool has this file, mount point, UUID or label; `vexfs-ublk status` lists those that are served",
            path.display()
        ),
    }
}

/// All of them in one line.
pub(crate) fn join(errors: &[ClientError]) -> String {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.join("; ")
}

/// The server of a pool, if it is served by somebody this user may ask.
pub(crate) fn of_pool(pool: &Path) -> Result<Option<Served>> {
    let Ok(directory) = sockets::directory() else {
        return Ok(None);
    };
    for socket in sockets::sockets(&directory)? {
        let client = Client::new(socket);
        // A server that does not answer has its pool locked, if it is this one: opening that says so.
        let Ok(status) = client.status() else { continue };
        if is_pool(pool, &status) {
            return Ok(Some(Served { client, status }));
        }
    }
    Ok(None)
}

/// Whether a path is the file or device that is served.
fn is_pool(path: &Path, status: &Status) -> bool {
    let identity = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        // Nodes of a device have its number in common, whatever their own.
        let device = found.file_type().is_block_device();
        Some(if device {
            (true, 0, found.rdev())
        } else {
            (false, found.dev(), found.ino())
        })
    };
    let wanted = identity(path);
    wanted.is_some() && wanted == identity(Path::new(&status.server.facts.pool))
}

fn named(all: &[Served], which: &OsStr) -> Option<usize> {
    let which = which.to_str().filter(|which| !which.is_empty())?;
    let by = |matches: &dyn Fn(&Status) -> bool| all.iter().position(|served| matches(&served.status));
    by(&|status| status.pool.uuid == which).or_else(|| by(&|status| status.pool.label == which))
}

/// What a path below a mount point is in its pool. The last name need not be there.
pub(crate) fn place(path: &Path) -> Result<Place> {
    let absolute = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if fs::symlink_metadata(path).is_err() => {
            let here = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            fs::canonicalize(here).map(|parent| parent.join(name))
        }
        _ => fs::canonicalize(path),
    };
    let absolute = absolute.with_context(|| path.display().to_string())?;
    let (all, _) = all()?;
    let found = mounted(&all, &absolute).and_then(|index| all.get(index));
    let found = found.and_then(|served| {
        let facts = &served.status.server.facts;
        let inside = absolute.strip_prefix(facts.mount_point.as_ref()?).ok()?;
        Some(Place {
            pool: PathBuf::from(&facts.pool),
            path: [b"/", inside.as_os_str().as_bytes()].concat(),
        })
    });
    found.ok_or_else(|| {
        failed(
            format!("{} is in no mounted pool", path.display()),
            "write POOL:/path, or a path below the mount point of a pool",
        )
    })
}

/// The innermost mount point that an absolute path is at or below.
fn mounted(all: &[Served], path: &Path) -> Option<usize> {
    let points = all.iter().enumerate().filter_map(|(index, served)| {
        let point = PathBuf::from(served.status.server.facts.mount_point.as_ref()?);
        let depth = point.components().count();
        path.starts_with(&point).then_some((depth, index))
    });
    points.max().map(|(_, index)| index)
}

/// The pool that the kernel module has mounted where the path is: it tells the pool's UUID, as a number.
fn mounted_by_the_kernel(all: &[Served], path: &Path) -> Option<usize> {
    const MAGIC: i64 = 0x5645_5846;
    let is_ours = statfs(path).is_ok_and(|found| found.filesystem_type() == FsType(MAGIC));
    let number = statvfs(path).ok().filter(|_| is_ours)?.filesystem_id();
    let by = |served: &Served| Uuid::parse_str(&served.status.pool.uuid).is_ok_and(|uuid| folded(uuid) == number);
    all.iter().position(by)
}

/// A UUID as statfs(2) has it.
fn folded(uuid: Uuid) -> u64 {
    let (first, second) = uuid.as_u64_pair();
    (first ^ second).swap_bytes()
}

impl Served {
    /// Has something done by the server.
    pub(crate) fn call(&self, call: &vexfs_control::handler::Call) -> Result<serde_json::Value> {
        let made = self.client.call(call);
        made.with_context(|| format!("the server of {} (process {})", self.name(), self.status.server.pid))
    }

    /// What people call the pool.
    pub(crate) fn name(&self) -> &str {
        name(&self.status)
    }
}

/// What people call a pool.
pub(crate) fn name(status: &Status) -> &str {
    if status.pool.label.is_empty() {
        &status.server.facts.pool
    } else {
        &status.pool.label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_folded_as_the_kernel_does() {
        let uuid = Uuid::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0x80]);
        assert_eq!(folded(uuid), 0x8807_0605_0403_0201);
    }
}
