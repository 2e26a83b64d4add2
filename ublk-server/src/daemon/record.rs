// SPDX-License-Identifier: MIT OR Apache-2.0

//! Records of devices: what each is made of, so that any process can go on with it.
//!
//! # Contract
//!
//! - `devices/N.json` in the runtime directory (see [`vexfs_control::place`]) belongs to `/dev/ublkbN`. It is written before
//!   the device can be used, as a whole or not at all, and removed with the device.
//! - A record may be out of date: its device was deleted by somebody else, or the machine was started anew. Whether it is
//!   the device's that has its number now is for the driver to say, whose word for it must be [`Record::word`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::protocol::{Backing, Spec};
use crate::device::Survey;
use crate::identity::{self, Identity};

/// Of records.
const VERSION: u32 = 1;
/// In the runtime directory. Sockets of daemons without a pool are there too.
pub const DIRECTORY: &str = "devices";

/// What a device is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// The N of `/dev/ublkbN`.
    pub id: u32,
    /// What the driver keeps for it.
    pub word: u64,
    /// From what it is served.
    pub backing: Backing,
    /// How it was asked for.
    pub spec: Spec,
    /// Its server.
    pub pid: u32,
    /// Where that answers.
    pub socket: PathBuf,
}

impl Record {
    /// Of a device of this process.
    pub fn new(id: u32, identity: Option<Identity>, backing: Backing, spec: Spec, socket: PathBuf) -> Self {
        Self {
            version: VERSION,
            id,
            word: identity::to_word(identity),
            backing,
            spec: Spec { id: Some(id), ..spec },
            pid: std::process::id(),
            socket,
        }
    }

    /// Whether it tells of the device that the driver has now.
    pub fn is_of(&self, survey: &Survey) -> bool {
        survey.ours && self.id == survey.id && self.word == identity::to_word(survey.identity)
    }
}

/// The records of a runtime directory.
#[derive(Debug, Clone)]
pub struct Records {
    directory: PathBuf,
}

impl Records {
    /// Of a runtime directory, which need not exist.
    pub fn of(runtime: &Path) -> Self {
        Self {
            directory: runtime.join(DIRECTORY),
        }
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the directory.
    pub fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o755).create(&self.directory)
    }

    fn path(&self, id: u32) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    /// Writes or replaces one. Whoever reads it meanwhile sees the old or the new one.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        self.remove_dead_drafts(record.id);
        let draft = self.directory.join(format!(".{}.{}", record.id, std::process::id()));
        let text = serde_json::to_vec_pretty(record)?;
        let written = create(&draft).and_then(|mut file| file.write_all(&text));
        let renamed = written.and_then(|()| fs::rename(&draft, self.path(record.id)));
        if renamed.is_err() {
            // The reason is what the caller must hear.
            let _ = fs::remove_file(&draft);
        }
        renamed
    }

    /// The record of a device; none if there is none, or none that can be read: the log says why.
    pub fn find(&self, id: u32) -> Option<Record> {
        let path = self.path(id);
        match fs::read(&path) {
            Ok(text) => match serde_json::from_slice::<Record>(&text) {
                Ok(record) if record.version == VERSION && record.id == id => Some(record),
                Ok(record) => {
                    tracing::warn!(
                        "{}: of version {} and device {}",
                        path.display(),
                        record.version,
                        record.id
                    );
                    None
                }
                Err(error) => {
                    tracing::warn!("{}: {error}", path.display());
                    None
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!("{}: {error}", path.display());
                None
            }
        }
    }

    /// All of them, by their numbers.
    pub fn all(&self) -> io::Result<Vec<Record>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut ids: Vec<u32> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
            .collect();
        ids.sort_unstable();
        Ok(ids.into_iter().filter_map(|id| self.find(id)).collect())
    }

    /// Removes drafts of a record whose writers were killed before they could rename them.
    fn remove_dead_drafts(&self, id: u32) {
        let prefix = format!(".{id}.");
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let writer = name.to_str().and_then(|name| name.strip_prefix(&prefix));
            let has_ended = |writer: &str| !Path::new("/proc").join(writer).exists();
            if writer.is_some_and(has_ended)
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!("{} stays: {error}", entry.path().display());
            }
        }
    }

    /// Removes one, if it is there.
    pub fn remove(&self, id: u32) {
        self.remove_dead_drafts(id);
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("the record of device {id} stays: {error}");
            }
            _ => {}
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::daemon::protocol::TargetSpec;
    use crate::device::State;
    use crate::transfer::Wishes;
    use crate::units::Bytes;

    fn record(id: u32) -> Record {
        let spec = Spec {
            target: TargetSpec::Volume {
                path: "/volumes/a".into(),
            },
            id: None,
            queues: 1,
            depth: 1,
            threads: 1,
            io_size: 4096,
            read_only: false,
            wishes: Wishes::default(),
            until_unmounted: false,
        };
        let backing = Backing::Pool {
            path: "/srv/pool".into(),
        };
        Record::new(
            id,
            Some(Identity::of("volume", &[b"a"])),
            backing,
            spec,
            "/run/a.sock".into(),
        )
    }

    #[test]
    fn records_are_found_replaced_and_removed_and_leave_nothing_else() {
        let runtime = TempDir::new().unwrap();
        let records = Records::of(runtime.path());
        assert!(records.all().unwrap().is_empty(), "before there is a directory");
        records.prepare().unwrap();
        for id in [10, 2] {
            records.write(&record(id)).unwrap();
        }
        let changed = Record { pid: 7, ..record(2) };
        records.write(&changed).unwrap();
        assert_eq!(records.all().unwrap(), [changed, record(10)]);
        records.remove(2);
        records.remove(2);
        assert_eq!(records.find(2), None);
        records.remove(10);
        assert_eq!(fs::read_dir(records.directory()).unwrap().count(), 0);
    }

    #[test]
    fn drafts_of_writers_that_were_killed_are_removed() {
        let runtime = TempDir::new().unwrap();
        let records = Records::of(runtime.path());
        records.prepare().unwrap();
        let left = |name: &str| fs::write(records.directory().join(name), "{").unwrap();
        let living = std::process::id();
        let names = || {
            let mut names: Vec<String> = fs::read_dir(records.directory())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        // No process has such a number.
        for name in [".6.4194305", ".66.4194305", &format!(".6.{living}")] {
            left(name);
        }
        records.remove(6);
        assert_eq!(names(), [format!(".6.{living}"), ".66.4194305".to_owned()]);
        records.write(&record(66)).unwrap();
        assert_eq!(names(), [format!(".6.{living}"), "66.json".to_owned()]);
    }

    #[test]
    fn what_is_no_record_is_passed_over() {
        let runtime = TempDir::new().unwrap();
        let records = Records::of(runtime.path());
        records.prepare().unwrap();
        let mut text = serde_json::to_value(record(1)).unwrap();
        text["version"] = 2.into();
        for (name, text) in [
            ("1.json", text.to_string()),
            ("2.json", serde_json::to_string(&record(3)).unwrap()),
            ("4.json", "{".to_owned()),
            ("5.json", String::new()),
            ("x.json", "{}".to_owned()),
            (".6.77", "{}".to_owned()),
        ] {
            fs::write(records.directory().join(name), text).unwrap();
        }
        assert_eq!(records.all().unwrap(), []);
    }

    #[test]
    fn a_record_is_of_the_device_that_has_its_word_and_of_no_other() {
        let survey = |identity| Survey {
            id: 4,
            state: State::Orphaned,
            ours: true,
            identity,
            pid: 1,
            queues: 1,
            depth: 1,
            size: Bytes::new(512),
        };
        let own = survey(Some(Identity::of("volume", &[b"a"])));
        assert!(record(4).is_of(&own));
        assert!(!record(5).is_of(&own), "another number");
        assert!(!record(4).is_of(&survey(Some(Identity::of("volume", &[b"b"])))));
        assert!(!record(4).is_of(&survey(None)));
        assert!(!record(4).is_of(&Survey { ours: false, ..own }));
    }
}
