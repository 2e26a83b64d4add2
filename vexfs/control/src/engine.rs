// SPDX-License-Identifier: MIT OR Apache-2.0

//! The answers, from an open pool.
//!
//! Labels, sizes and flushes concern nobody else. A copy makes a new name, which the kernel may believe does not exist, and
//! copies what reached the engine, while the kernel may hold written bytes back: [`FrontEnd`] is asked to see to both.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use vexfs::error::{Errno, Error};
use vexfs::fs::Fs;
use vexfs::fs::record::Timestamp;
use vexfs::metrics::{Kind, Metric, Snapshot, Value as Measured, text};
use vexfs::query::{self, Caller};
use vexfs::units::{BLOCK_SIZE, Ino};

use crate::handler::{Call, Copy, Handler, Refusal};
use crate::logging::LogControl;
use crate::status::{Facts, Status};
use crate::volumes;

/// What a front end does about changes it did not make.
pub trait FrontEnd: Send + Sync + 'static {
    /// Before a file or directory is copied, which is found under a path: what the kernel holds back of it and of everything
    /// below it is to be written.
    fn before_copy(&self, path: &str, source: Ino) -> io::Result<()> {
        let _ = (path, source);
        Ok(())
    }

    /// There is a new name in a directory.
    fn name_appeared(&self, directory: Ino, name: &[u8]) {
        let _ = (directory, name);
    }

    /// The attributes of a file changed.
    fn attributes_changed(&self, ino: Ino) {
        let _ = ino;
    }
}

/// For front ends behind which nobody keeps anything.
impl FrontEnd for () {}

/// Longest wait for the locks of the engine.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// The handler of a served pool.
pub struct Engine<F> {
    fs: Fs,
    facts: Facts,
    front_end: F,
    log: Option<LogControl>,
}

impl<F: FrontEnd> Engine<F> {
    /// Of an open pool.
    pub const fn new(fs: Fs, facts: Facts, front_end: F) -> Self {
        Self {
            fs,
            facts,
            front_end,
            log: None,
        }
    }

    /// What is logged can be changed.
    #[must_use]
    pub fn with_log(mut self, log: LogControl) -> Self {
        self.log = Some(log);
        self
    }

    fn measure(&self) -> Result<Snapshot, Refusal> {
        let measured = self.fs.measure(LOCK_PATIENCE);
        measured.ok_or_else(|| {
            let seconds = LOCK_PATIENCE.as_secs();
            Refusal::new(
                503,
                format!("the engine did not answer within {seconds} s: the device below may be stuck"),
            )
        })
    }

    /// Who serves, as a metric.
    fn info(&self) -> Metric {
        let labels = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("front_end", self.facts.front_end.clone()),
            ("path", self.facts.pool.clone()),
            ("mount_point", self.facts.mount_point.clone().unwrap_or_default()),
        ];
        let help = "Always 1; who serves the pool, and where, is in the labels";
        Metric::new("vexfs_server_info", Kind::Gauge, help).labelled(labels, Measured::Count(1))
    }

    fn copy(&self, copy: &Copy, only_directories: bool) -> Result<Value, Refusal> {
        let absolute = |path: &str| {
            if path.starts_with('/') {
                Ok(())
            } else {
                Err(Refusal::new(400, format!("{path:?} does not begin with /")))
            }
        };
        absolute(&copy.source)?;
        absolute(&copy.copy)?;
        let (directory, name) = split(&copy.copy)
            .ok_or_else(|| Refusal::new(400, format!("{:?} must end with a name for the copy", copy.copy)))?;
        let found = |path: &str| self.fs.resolve(path.as_bytes()).map_err(|error| refusal(path, &error));
        let source = found(&copy.source)?;
        if only_directories && !source.inode.is_directory() {
            return Err(Refusal::new(400, format!("{}: not a directory", copy.source)));
        }
        let parent = found(directory)?;
        if let Err(error) = self.front_end.before_copy(&copy.source, source.ino) {
            return Err(Refusal::new(
                500,
                format!("writing what the kernel holds back failed: {error}"),
            ));
        }
        let made = self.fs.clone_tree(source.ino, parent.ino, name.as_bytes(), now());
        let made = made.map_err(|error| refusal(&copy.copy, &error))?;
        self.front_end.name_appeared(parent.ino, name.as_bytes());
        Ok(json!({ "inode": made.ino.0 }))
    }

    /// What [`Handler::status`] says, for front ends to add to.
    pub fn document(&self) -> Result<Status, Refusal> {
        let filter = self.log.as_ref().map(LogControl::filter);
        Ok(Status::new(&self.measure()?, self.facts.clone(), filter))
    }

    fn size(&self) -> u64 {
        self.fs.statistics().total_blocks * BLOCK_SIZE as u64
    }

    fn grow(&self, bytes: u64) -> Result<Value, Refusal> {
        let before = self.size();
        if bytes < before {
            return Err(Refusal::new(
                400,
                format!("the pool has {before} bytes; it cannot become smaller"),
            ));
        }
        let grown = self.fs.grow(bytes);
        grown.map_err(|error| refusal("growing the pool", &error))?;
        Ok(json!({ "before": before, "size": self.size() }))
    }

    /// Who may ask at the socket may do everything.
    fn query(&self, request: &Value) -> Result<Value, Refusal> {
        let request = request.to_string();
        let answered = query::answer(&self.fs, &Caller::ADMINISTRATOR, request.as_bytes(), now());
        for changed in answered.changed {
            self.front_end.attributes_changed(changed);
        }
        serde_json::from_slice(&answered.answer).map_err(|error| Refusal::new(500, error.to_string()))
    }

    fn volumes(&self, request: &volumes::Request) -> Result<Value, Refusal> {
        let done = volumes::carry_out(&self.fs, request)?;
        if let Some((directory, name)) = done.appeared {
            self.front_end.name_appeared(directory, &name);
        }
        Ok(done.answer)
    }

    fn log(&self, filter: &str) -> Result<Value, Refusal> {
        let log = self.log.as_ref();
        let log = log.ok_or_else(|| Refusal::new(501, "what this server logs cannot be changed"))?;
        log.set(filter).map_err(|error| Refusal::new(400, error.to_string()))?;
        Ok(json!({ "filter": filter }))
    }
}

impl<F: FrontEnd> Handler for Engine<F> {
    fn metrics(&self) -> Result<String, Refusal> {
        let snapshot = self.measure()?;
        let mut metrics = vec![self.info()];
        metrics.extend(snapshot.metrics());
        Ok(text::render(&metrics, &[("pool", &snapshot.pool.uuid.to_string())]))
    }

    fn status(&self) -> Result<String, Refusal> {
        self.document()?.text()
    }

    fn call(&self, call: &Call) -> Result<Value, Refusal> {
        match call {
            Call::Snapshot(copy) => self.copy(copy, true),
            Call::Clone(copy) => self.copy(copy, false),
            Call::Label(label) => {
                let set = self.fs.set_label(&label.label);
                set.map_err(|error| refusal("a label has at most 63 bytes and no control characters", &error))?;
                Ok(json!({ "label": label.label }))
            }
            Call::Grow(grow) => self.grow(grow.bytes),
            Call::Flush => {
                let flushed = self.fs.flush();
                flushed.map_err(|error| refusal("flushing", &error))?;
                Ok(json!({}))
            }
            Call::Query(request) => self.query(request),
            Call::Log(log) => self.log(&log.filter),
            Call::Volumes(request) => self.volumes(request),
            Call::Devices(_) => Err(Refusal::no_devices()),
        }
    }
}

/// The directory of a path, and the last name, if that is one.
fn split(path: &str) -> Option<(&str, &str)> {
    let (directory, name) = path.trim_end_matches('/').rsplit_once('/')?;
    (!matches!(name, "" | "." | "..")).then_some((if directory.is_empty() { "/" } else { directory }, name))
}

/// The status that says best what an error of the engine is.
pub(crate) fn refusal(what: &str, error: &Error) -> Refusal {
    let status = match error {
        Error::Posix(errno) => match errno {
            Errno::NoEntry | Errno::Stale => 404,
            Errno::Exists | Errno::Busy => 409,
            Errno::ReadOnly | Errno::NotPermitted | Errno::Denied => 403,
            Errno::NoSpace => 507,
            Errno::Failed => 500,
            _ => 400,
        },
        Error::Damaged(_) | Error::Io(_) => 500,
    };
    Refusal::new(status, format!("{what}: {error}"))
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

/// A path as [`Facts`] want it: absolute, if that can be found out.
pub fn shown(path: &Path) -> String {
    let absolute = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    absolute.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_of_a_path_is_split_off() {
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("/a/b/"), Some(("/a", "b")));
        for none in ["/", "//", "/a/..", "/."] {
            assert_eq!(split(none), None, "{none}");
        }
    }
}
