// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files of a pool that serve as disks: making, resizing, removing and listing them.
//!
//! # Contract
//!
//! - A plain name is a file in the directory [`DIRECTORY`], which is made with the first; a path that begins with a slash
//!   is any file. [`path_of`] says which.
//! - [`carry_out`] works on the files alone. Whether a volume is a block device at the moment is known to whoever serves
//!   it, who must ask before it lets one shrink or go.
//! - The bodies of `POST /volumes` are [`Request`]; the answers are JSON:
//!
//! | request | answer |
//! |---|---|
//! | `create` | `path`, `bytes`, `inode` |
//! | `resize` | `path`, `before`, `bytes` |
//! | `remove` | `path` |
//! | `list` | `volumes`; of each `path`, `bytes`, `stored`, `promised` |

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vexfs::error::{Errno, Error};
use vexfs::fs::record::{FileFlags, Kind};
use vexfs::fs::{Attributes, Fs, NewFile, Preallocation, SetAttributes};
use vexfs::units::{BLOCK_SIZE, Ino};

use crate::engine::{now, refusal};
use crate::handler::Refusal;

/// Where volumes with plain names are.
pub const DIRECTORY: &str = "/volumes";

/// What can be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Make one.
    Create(Create),
    /// Make one larger, or smaller.
    Resize(Resize),
    /// Remove one.
    Remove {
        /// Absolute path.
        path: String,
    },
    /// Tell which there are in [`DIRECTORY`].
    List {},
}

/// A new volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Absolute path; must not exist.
    pub path: String,
    /// Whole blocks of 4 KiB.
    pub bytes: u64,
    /// Whether all its space is promised to it now, so that writes never fail for lack of space.
    pub preallocate: bool,
    /// Whether no checksums are kept of its data.
    #[serde(default)]
    pub unchecked: bool,
}

/// Another size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Absolute path.
    pub path: String,
    /// Whole blocks of 4 KiB.
    pub bytes: u64,
    /// Whether what is behind a smaller size may be lost.
    pub force: bool,
}

/// What came of a request.
#[derive(Debug)]
pub struct Done {
    /// For who asked.
    pub answer: Value,
    /// A name that a kernel may believe does not exist.
    pub appeared: Option<(Ino, Vec<u8>)>,
}

/// The absolute path of what a user calls a volume.
pub fn path_of(name: &str) -> String {
    if name.starts_with('/') {
        name.to_owned()
    } else {
        format!("{DIRECTORY}/{name}")
    }
}

/// Does what is asked for.
pub fn carry_out(fs: &Fs, request: &Request) -> Result<Done, Refusal> {
    let quiet = |answer| Done { answer, appeared: None };
    match request {
        Request::Create(create) => self::create(fs, create),
        Request::Resize(resize) => self::resize(fs, resize).map(quiet),
        Request::Remove { path } => remove(fs, path).map(quiet),
        Request::List {} => list(fs).map(quiet),
    }
}

/// The regular file at an absolute path.
pub fn find(fs: &Fs, path: &str) -> Result<Attributes, Refusal> {
    if !path.starts_with('/') {
        return Err(Refusal::new(400, format!("{path:?} does not begin with /")));
    }
    let found = fs.resolve(path.as_bytes()).map_err(|error| refusal(path, &error))?;
    if found.inode.kind() == Kind::File {
        Ok(found)
    } else {
        Err(Refusal::new(400, format!("{path}: not a regular file")))
    }
}

fn whole_blocks(bytes: u64) -> Result<(), Refusal> {
    if bytes > 0 && bytes.is_multiple_of(BLOCK_SIZE as u64) {
        Ok(())
    } else {
        Err(Refusal::new(
            400,
            format!("{bytes} bytes: a volume has whole blocks of {BLOCK_SIZE} bytes, and at least one"),
        ))
    }
}

const fn new_file(kind: Kind, permissions: u16) -> NewFile<'static> {
    NewFile {
        kind,
        permissions,
        uid: 0,
        gid: 0,
        device: 0,
        target: b"",
        now: vexfs::fs::record::Timestamp(0),
    }
}

fn create(fs: &Fs, create: &Create) -> Result<Done, Refusal> {
    let path = create.path.as_str();
    whole_blocks(create.bytes)?;
    let (directory, name) = split(path)?;
    let failed = |error: Error| refusal(path, &error);
    if directory == DIRECTORY && matches!(fs.resolve(DIRECTORY.as_bytes()), Err(Error::Posix(Errno::NoEntry))) {
        let made = NewFile {
            now: now(),
            ..new_file(Kind::Directory, 0o700)
        };
        let name = DIRECTORY.trim_start_matches('/');
        fs.create(Ino::ROOT, name.as_bytes(), &made).map_err(failed)?;
    }
    let parent = fs.resolve(directory.as_bytes()).map_err(failed)?;
    let made = NewFile {
        now: now(),
        ..new_file(Kind::File, 0o600)
    };
    let file = fs.create(parent.ino, name.as_bytes(), &made).map_err(failed)?;
    let mut sized = Ok(());
    if create.unchecked {
        // Before there is data: what was written with checksums keeps them.
        let bare = SetAttributes {
            flags: Some(FileFlags::NO_CHECKSUM),
            now: now(),
            ..SetAttributes::default()
        };
        sized = fs.set_attributes(file.ino, &bare).map(drop);
    }
    sized = sized.and_then(|()| fs.truncate(file.ino, create.bytes, now()));
    if create.preallocate {
        let promise = Preallocation::Allocate { keep_size: true };
        sized = sized.and_then(|()| fs.preallocate(file.ino, promise, 0, create.bytes, now()));
    }
    if let Err(error) = sized.and_then(|()| fs.flush()) {
        // What cannot have its size is not left behind.
        if let Err(left) = fs.unlink(parent.ino, name.as_bytes(), now()) {
            tracing::warn!("{path} stays behind: {left}");
        }
        return Err(failed(error));
    }
    Ok(Done {
        answer: json!({ "path": path, "bytes": create.bytes, "inode": file.ino.0 }),
        appeared: Some((parent.ino, name.as_bytes().to_vec())),
    })
}

fn resize(fs: &Fs, resize: &Resize) -> Result<Value, Refusal> {
    let path = resize.path.as_str();
    whole_blocks(resize.bytes)?;
    let found = find(fs, path)?;
    let before = found.inode.size;
    if resize.bytes < before && !resize.force {
        return Err(Refusal::new(
            409,
            format!(
                "{path} has {before} bytes, and what is behind a smaller size would be lost; add --force to mean it"
            ),
        ));
    }
    fs.truncate(found.ino, resize.bytes, now())
        .and_then(|()| fs.flush())
        .map_err(|error| refusal(path, &error))?;
    Ok(json!({ "path": path, "before": before, "bytes": resize.bytes }))
}

fn remove(fs: &Fs, path: &str) -> Result<Value, Refusal> {
    find(fs, path)?;
    let (directory, name) = split(path)?;
    let parent = fs.resolve(directory.as_bytes());
    parent
        .and_then(|parent| fs.unlink(parent.ino, name.as_bytes(), now()))
        .and_then(|()| fs.flush())
        .map_err(|error| refusal(path, &error))?;
    Ok(json!({ "path": path }))
}

fn list(fs: &Fs) -> Result<Value, Refusal> {
    let failed = |error: Error| refusal(DIRECTORY, &error);
    let directory = match fs.resolve(DIRECTORY.as_bytes()) {
        Err(Error::Posix(Errno::NoEntry)) => return Ok(json!({ "volumes": [] })),
        found => found.map_err(failed)?,
    };
    let mut volumes = Vec::new();
    for entry in fs.list_all(directory.ino).map_err(failed)? {
        if entry.kind != Kind::File {
            continue;
        }
        let found = match fs.attributes(entry.ino) {
            // It went meanwhile.
            Err(Error::Posix(Errno::Stale | Errno::NoEntry)) => continue,
            found => found.map_err(failed)?,
        };
        volumes.push((
            format!("{DIRECTORY}/{}", String::from_utf8_lossy(&entry.name)),
            found.inode.size,
            found.sectors() * 512,
            promised(fs, entry.ino).map_err(failed)?,
            !found.inode.flags.has(FileFlags::NO_CHECKSUM),
        ));
    }
    volumes.sort();
    let volumes: Vec<Value> = volumes
        .into_iter()
        .map(|(path, bytes, stored, promised, checksums)| {
            json!({ "path": path, "bytes": bytes, "stored": stored, "promised": promised, "checksums": checksums })
        })
        .collect();
    Ok(json!({ "volumes": volumes }))
}

/// Bytes of a file that have space to be written to.
fn promised(fs: &Fs, ino: Ino) -> Result<u64, Error> {
    let ranges = fs.promised_ranges(ino)?;
    Ok(ranges.iter().map(|range| range.end - range.start).sum())
}

/// The directory and the last name of an absolute path.
fn split(path: &str) -> Result<(&str, &str), Refusal> {
    let parts = path.strip_prefix('/').and_then(|_| path.rsplit_once('/'));
    match parts {
        Some((_, "" | "." | "..")) | None => Err(Refusal::new(
            400,
            format!("{path:?} must begin with / and end with a name"),
        )),
        Some(("", name)) => Ok(("/", name)),
        Some(parts) => Ok(parts),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vexfs::disk::MemDisk;
    use vexfs::fs::MountOptions;
    use vexfs::pool::format::{FormatOptions, Seeds, format_disk};
    use vexfs::pool::{Access, Host, OpenOptions, Pool};

    use super::*;

    fn pool() -> Fs {
        let disk = Arc::new(MemDisk::new(16 << 20));
        format_disk(
            disk.as_ref(),
            &FormatOptions::default(),
            &Seeds::from_number(1),
            &Host::this(),
        )
        .unwrap();
        let pool = Pool::open_disk(disk, &OpenOptions::new(Access::ReadWrite)).unwrap();
        Fs::mount(pool, &MountOptions::default()).unwrap()
    }

    fn made(fs: &Fs, name: &str, bytes: u64, preallocate: bool) -> Result<Value, Refusal> {
        let path = path_of(name);
        let create = Create {
            path,
            bytes,
            preallocate,
            unchecked: name == "bare",
        };
        carry_out(fs, &Request::Create(create)).map(|done| done.answer)
    }

    #[test]
    fn a_volume_is_made_listed_resized_and_removed() {
        let fs = pool();
        assert_eq!(
            carry_out(&fs, &Request::List {}).unwrap().answer,
            json!({ "volumes": [] })
        );
        assert_eq!(made(&fs, "a", 1 << 30, false).unwrap()["path"], "/volumes/a");
        made(&fs, "b", 1 << 20, true).unwrap();
        made(&fs, "/elsewhere", 4096, false).unwrap();
        made(&fs, "bare", 4096, false).unwrap();
        let list = carry_out(&fs, &Request::List {}).unwrap().answer;
        let names: Vec<_> = list["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (&one["path"], &one["promised"], &one["checksums"]))
            .collect();
        assert_eq!(
            names,
            [
                (&json!("/volumes/a"), &json!(0), &json!(true)),
                (&json!("/volumes/b"), &json!(1 << 20), &json!(true)),
                (&json!("/volumes/bare"), &json!(0), &json!(false))
            ]
        );

        let resize = |bytes, force| {
            let path = "/volumes/a".into();
            carry_out(&fs, &Request::Resize(Resize { path, bytes, force }))
        };
        assert_eq!(resize(4096, false).unwrap_err().status, 409);
        resize(2 << 30, false).unwrap();
        resize(4096, true).unwrap();
        assert_eq!(find(&fs, "/volumes/a").unwrap().inode.size, 4096);
        carry_out(
            &fs,
            &Request::Remove {
                path: "/volumes/a".into(),
            },
        )
        .unwrap();
        assert_eq!(find(&fs, "/volumes/a").unwrap_err().status, 404);
    }

    #[test]
    fn what_cannot_be_a_volume_is_refused_and_leaves_nothing() {
        let fs = pool();
        for (name, bytes) in [("a", 0), ("a", 4097), ("/", 4096), ("/..", 4096)] {
            assert_eq!(made(&fs, name, bytes, false).unwrap_err().status, 400, "{name} {bytes}");
        }
        assert_eq!(made(&fs, "/no/such", 4096, false).unwrap_err().status, 404);
        assert_eq!(made(&fs, "large", 1 << 30, true).unwrap_err().status, 507);
        assert_eq!(find(&fs, "/volumes/large").unwrap_err().status, 404);
        made(&fs, "a", 4096, false).unwrap();
        assert_eq!(made(&fs, "a", 4096, false).unwrap_err().status, 409);
        let remove = carry_out(
            &fs,
            &Request::Remove {
                path: "/volumes".into(),
            },
        );
        assert_eq!(remove.unwrap_err().status, 400);
    }
}
