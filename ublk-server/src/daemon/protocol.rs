// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is said at the control socket about block devices, and kept in [records](super::record).
//!
//! `GET /devices` answers an [`Overview`]: who serves, which versions of the protocol it speaks, and its devices. `POST
//! /devices` carries a [`Message`]. Who asks speaks the newest version that both sides know; a version the server does not
//! know, and a field it does not know, are refused with a sentence.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vexfs_control::handler::Refusal;

use crate::options::Options;
use crate::target::WriteCache;
use crate::transfer::Wishes;
use crate::units::{BlockSize, Bytes};

/// The newest version.
pub const VERSION: u32 = 1;
/// The oldest version that is still understood.
pub const OLDEST: u32 = 1;

/// What a daemon serves from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Backing {
    /// A pool: it, or files of it, are the devices.
    Pool {
        /// File or device, absolute.
        path: PathBuf,
    },
    /// One file or device.
    File {
        /// Absolute.
        path: PathBuf,
    },
    /// Nothing that outlives the daemon.
    Memory {},
}

/// A device as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What stands behind it.
    pub target: TargetSpec,
    /// See [`Options::id`].
    pub id: Option<u32>,
    /// See [`Options::queues`].
    pub queues: u16,
    /// See [`Options::depth`].
    pub depth: u16,
    /// See [`Options::threads`].
    pub threads: u16,
    /// See [`Options::io_size`].
    pub io_size: u64,
    /// See [`Options::read_only`].
    pub read_only: bool,
    /// See [`Options::wishes`].
    pub wishes: Wishes,
    /// Whether the device of a filesystem goes when it is unmounted.
    #[serde(default)]
    pub until_unmounted: bool,
}

impl Spec {
    /// How it is attached to the driver.
    pub const fn options(&self) -> Options {
        Options {
            id: self.id,
            queues: self.queues,
            depth: self.depth,
            threads: self.threads,
            io_size: Bytes::new(self.io_size),
            read_only: self.read_only,
            wishes: self.wishes,
        }
    }
}

/// What stands behind a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TargetSpec {
    /// A pool, to be mounted by the kernel module.
    Filesystem {},
    /// A file of a pool.
    Volume {
        /// Absolute, in the pool.
        path: String,
    },
    /// The file or device itself.
    Loop {
        /// The smallest possible if nothing is said.
        block_size: Option<BlockSize>,
        /// Whether it goes through the page cache although the file takes direct I/O.
        buffered: bool,
    },
    /// Memory.
    Mem(Plain),
    /// Nothing.
    Null(Plain),
}

impl TargetSpec {
    /// In a word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Filesystem {} => "filesystem",
            Self::Volume { .. } => "volume",
            Self::Loop { .. } => "loop",
            Self::Mem(_) => "mem",
            Self::Null(_) => "null",
        }
    }
}

/// A device that only exists in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    /// In bytes.
    pub size: u64,
    /// Logical.
    pub block_size: BlockSize,
    /// What it claims.
    pub write_cache: WriteCache,
}

/// What a daemon is to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// From what.
    pub backing: Backing,
    /// Devices to be there at the start, besides those that wait for a server.
    pub devices: Vec<Spec>,
}

/// What `POST /devices` carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Of the protocol.
    pub version: u32,
    /// What is asked for.
    pub request: Request,
}

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Another device. Answered with its [`DeviceFacts`] when it can be used.
    Add(Spec),
    /// Stop and delete a device. Answered `{"pending": …}`: whether it goes only when its last user closes it.
    Delete {
        /// The N of `/dev/ublkbN`.
        id: u32,
        /// Although it is in use.
        force: bool,
    },
    /// Take over what waits for a server. Answered with a [`Takeover`].
    Recover {},
    /// Have the program that is installed now go on with all devices. Answered `{}` when it begins.
    Handover {},
    /// End as on SIGTERM. Answered `{}` when it begins.
    Shutdown {},
}

impl Message {
    /// In the version of this program.
    pub const fn new(request: Request) -> Self {
        Self {
            version: VERSION,
            request,
        }
    }

    /// To be sent.
    pub fn body(&self) -> Value {
        json!({ "version": self.version, "request": self.request })
    }

    /// As it came. The version is looked at first: what else there is depends on it.
    pub fn read(body: &Value) -> Result<Self, Refusal> {
        let wrong = |text: String| Refusal::new(400, text);
        let version = body.get("version").and_then(Value::as_u64);
        let version = version.and_then(|version| u32::try_from(version).ok());
        let version =
            version.ok_or_else(|| wrong(format!("the request names no version; this server speaks {VERSION}")))?;
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(wrong(format!(
                "version {version} of the protocol is not spoken here, but {OLDEST} to {VERSION}; use the command of version {}",
                env!("CARGO_PKG_VERSION")
            )));
        }
        if let Some(unknown) = body.as_object().and_then(|members| {
            members
                .keys()
                .find(|name| !["version", "request"].contains(&name.as_str()))
        }) {
            return Err(wrong(format!(
                "unknown field {unknown:?}; use the command of this server's version"
            )));
        }
        let request = body.get("request").cloned().unwrap_or_default();
        let request = serde_json::from_value(request).map_err(|error| wrong(format!("the request: {error}")))?;
        Ok(Self { version, request })
    }
}

/// What `GET /devices` answers. New members may come within a version; readers pass over what they do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// Oldest and newest version of the protocol that the server speaks.
    pub versions: [u32; 2],
    /// Who serves.
    pub server: ServerFacts,
    /// By their numbers.
    pub devices: Vec<DeviceFacts>,
}

impl Overview {
    /// As it came. Fails with a sentence if there is no version that both sides know.
    pub fn read(document: Value) -> Result<Self, String> {
        let versions: [u32; 2] = document
            .get("versions")
            .cloned()
            .and_then(|versions| serde_json::from_value(versions).ok())
            .ok_or("the server names no versions of its protocol")?;
        let [oldest, newest] = versions;
        if newest < OLDEST || oldest > VERSION {
            return Err(format!(
                "the server speaks versions {oldest} to {newest} of its protocol, this command {OLDEST} to {VERSION}; use the command of its version"
            ));
        }
        serde_json::from_value(document).map_err(|error| error.to_string())
    }
}

/// Who serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// Its process.
    pub pid: u32,
    /// Of the software.
    pub software_version: String,
    /// Tells this life of the server from another one of the same process.
    pub incarnation: String,
    /// From what it serves.
    pub backing: Backing,
    /// Whether it ends with its last device.
    pub until_idle: bool,
    /// How long applications waited at most when the server before this one handed its devices over.
    pub handover_seconds: Option<f64>,
}

/// A device that is served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// The N of `/dev/ublkbN`.
    pub id: u32,
    /// `/dev/ublkbN`.
    pub path: String,
    /// What it is.
    pub spec: Spec,
    /// In bytes.
    pub size: u64,
    /// Whether it outlives its server.
    pub recoverable: bool,
    /// Whether it was made by another server.
    pub taken_over: bool,
}

/// What became of devices without a server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Takeover {
    /// Those that are served again.
    pub taken_over: Vec<DeviceFacts>,
    /// A sentence for each that is not.
    pub left: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            target: TargetSpec::Volume {
                path: "/volumes/a".into(),
            },
            id: Some(3),
            queues: 2,
            depth: 64,
            threads: 1,
            io_size: 1 << 19,
            read_only: true,
            wishes: Wishes::default(),
            until_unmounted: false,
        }
    }

    #[test]
    fn every_message_survives_being_sent() {
        let plain = Plain {
            size: 1 << 30,
            block_size: BlockSize::B4096,
            write_cache: WriteCache::Flush,
        };
        let targets = [
            spec().target,
            TargetSpec::Filesystem {},
            TargetSpec::Loop {
                block_size: Some(BlockSize::B512),
                buffered: true,
            },
            TargetSpec::Mem(plain),
            TargetSpec::Null(plain),
        ];
        let adds = targets
            .into_iter()
            .map(|target| Request::Add(Spec { target, ..spec() }));
        let others = [
            Request::Delete { id: 7, force: true },
            Request::Recover {},
            Request::Handover {},
            Request::Shutdown {},
        ];
        for request in adds.chain(others) {
            let message = Message::new(request);
            let text = message.body().to_string();
            assert_eq!(Message::read(&serde_json::from_str(&text).unwrap()), Ok(message));
        }
    }

    #[test]
    fn unknown_versions_fields_and_requests_are_refused_with_a_sentence() {
        let delete = |extra: &str| {
            format!("{{\"version\": 1, \"request\": {{\"delete\": {{\"id\": 1, \"force\": false{extra}}}}}}}")
        };
        assert!(Message::read(&serde_json::from_str(&delete("")).unwrap()).is_ok());
        for (body, word) in [
            ("{}".to_owned(), "version"),
            (
                "{\"version\": 2, \"request\": {\"recover\": {}}}".to_owned(),
                "version 2",
            ),
            (
                "{\"version\": 0, \"request\": {\"recover\": {}}}".to_owned(),
                "version 0",
            ),
            ("{\"version\": 99999999999, \"request\": {}}".to_owned(), "version"),
            ("{\"version\": 1, \"request\": {\"explode\": {}}}".to_owned(), "explode"),
            (
                "{\"version\": 1, \"request\": {\"recover\": {}}, \"hurry\": 1}".to_owned(),
                "hurry",
            ),
            (delete(", \"gently\": true"), "gently"),
            ("{\"version\": 1}".to_owned(), "request"),
            ("[]".to_owned(), "version"),
        ] {
            let refusal = Message::read(&serde_json::from_str(&body).unwrap()).unwrap_err();
            assert_eq!(refusal.status, 400, "{body}");
            assert!(refusal.message.contains(word), "{body}: {}", refusal.message);
        }
    }

    #[test]
    fn an_overview_is_read_past_what_is_new_in_it_but_not_of_another_version() {
        let overview = Overview {
            versions: [OLDEST, VERSION],
            server: ServerFacts {
                pid: 1,
                software_version: "0.1.0".into(),
                incarnation: "1".into(),
                backing: Backing::Memory {},
                until_idle: true,
                handover_seconds: None,
            },
            devices: vec![DeviceFacts {
                id: 3,
                path: "/dev/ublkb3".into(),
                spec: spec(),
                size: 1,
                recoverable: true,
                taken_over: false,
            }],
        };
        let mut document = serde_json::to_value(&overview).unwrap();
        document["server"]["mood"] = "good".into();
        assert_eq!(Overview::read(document.clone()), Ok(overview));
        document["versions"] = json!([2, 5]);
        let error = Overview::read(document.clone()).unwrap_err();
        assert!(error.contains("2 to 5") && error.contains("use the command"), "{error}");
        document["versions"] = Value::Null;
        assert!(Overview::read(document).is_err());
    }
}
