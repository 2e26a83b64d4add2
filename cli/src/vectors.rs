// SPDX-License-Identifier: MIT OR Apache-2.0

//! Asking about vectors: of a pool that is not mounted, through the query file of a mount, or through a control socket.
//!
//! The requests are those of [`vexfs::query`] everywhere. Through the query file they are made as this user; on a pool file
//! and at a socket as somebody who may do everything, since who can open these can read every byte anyway.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use vexfs::fs::Fs;
use vexfs::query::{self, Caller};
use vexfs_control::handler::Call;

use crate::kernel_mount;
use crate::place::{self, Place};
use crate::served::{self, Served};

/// The query file, below a mount point.
const QUERY_FILE: &str = ".vexfs/query";

/// Somebody who answers.
pub(crate) enum Source {
    /// The engine, on a pool that nobody serves.
    Pool(Fs),
    /// The query file of a pool that is mounted: where.
    Mount(PathBuf),
    /// The server of a pool that the kernel module has mounted read-only, so that no request can be written there: where, and
    /// whom to ask.
    Module(PathBuf, Box<Served>),
    /// The server of a pool.
    Server(Box<Served>),
}

/// What a command's first argument names.
pub(crate) struct Target {
    pub(crate) source: Source,
    /// Absolute path inside the pool.
    pub(crate) path: String,
}

impl Target {
    /// POOL, POOL:/path, or a path at or below a mount point. `changes`: the pool must be writable.
    pub(crate) fn open(text: &OsStr, changes: bool) -> Result<Self> {
        if Place::split(text).is_none()
            && let Some(target) = mounted(Path::new(text))?
        {
            return Ok(target);
        }
        let place = Place::or_root(text);
        let path = String::from_utf8(place.path.clone());
        let path = path.with_context(|| format!("{}: requests take only names that are UTF-8", place.shown()))?;
        if let Some(served) = served::of_pool(&place.pool)? {
            let source = Source::Server(Box::new(served));
            return Ok(Self { source, path });
        }
        let fs = if changes {
            place::open_to_change(&place.pool)?
        } else {
            place::open_to_read(&place.pool)?
        };
        let source = Source::Pool(fs);
        Ok(Self { source, path })
    }

    /// The answer to a request; an error is one that the answer tells.
    pub(crate) fn ask(&self, request: &Value) -> Result<Value> {
        let answer: Value = match &self.source {
            Source::Pool(fs) => {
                let answered = query::answer(fs, &Caller::ADMINISTRATOR, request.to_string().as_bytes(), place::now());
                serde_json::from_slice(&answered.answer)?
            }
            Source::Server(served) | Source::Module(_, served) => served.call(&Call::Query(request.clone()))?,
            Source::Mount(root) => ask_file(&root.join(QUERY_FILE), request)?,
        };
        if let Some(message) = answer.pointer("/error/message").and_then(Value::as_str) {
            bail!("{message}");
        }
        Ok(answer)
    }

    /// Leaves the pool clean.
    pub(crate) fn close(self) -> Result<()> {
        match self.source {
            Source::Pool(fs) => Ok(fs.close()?),
            Source::Mount(_) | Source::Module(..) | Source::Server(_) => Ok(()),
        }
    }
}

fn ask_file(path: &Path, request: &Value) -> Result<Value> {
    let shown = || path.display().to_string();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .with_context(shown)?;
    file.write_all(request.to_string().as_bytes()).with_context(shown)?;
    let mut answer = Vec::new();
    file.read_to_end(&mut answer).with_context(shown)?;
    serde_json::from_slice(&answer).with_context(shown)
}

/// Whether a request can be written below a mount point. Any other error is for the one who does.
fn takes_requests(root: &Path) -> bool {
    let opened = OpenOptions::new().read(true).write(true).open(root.join(QUERY_FILE));
    !opened.is_err_and(|error| error.kind() == ErrorKind::ReadOnlyFilesystem)
}

/// The mount that a path is in, if it is in one of ours.
fn mounted(path: &Path) -> Result<Option<Target>> {
    let absolute = match std::fs::canonicalize(path) {
        Ok(absolute) => absolute,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let by_file = absolute.ancestors().find(|above| above.join(QUERY_FILE).exists());
    let source = if let Some(root) = by_file.filter(|root| takes_requests(root)) {
        Source::Mount(root.to_owned())
    } else if let Some((mount, pool)) = kernel_mount::around(&absolute)? {
        let server = served::of_pool(&pool)?;
        let server = server.with_context(|| format!("{}: its server does not answer", absolute.display()))?;
        Source::Module(mount.directory, Box::new(server))
    } else {
        return Ok(None);
    };
    let (Source::Mount(root) | Source::Module(root, _)) = &source else {
        return Ok(None);
    };
    let inside = absolute.strip_prefix(root)?.as_os_str().as_bytes();
    let path = String::from_utf8([b"/", inside].concat());
    let path = path.with_context(|| format!("{}: requests take only names that are UTF-8", absolute.display()))?;
    Ok(Some(Target { source, path }))
}
