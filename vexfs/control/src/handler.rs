// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can be asked of a server.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /metrics` | | the text format of Prometheus |
//! | `GET /status` | | [`Status`](crate::status::Status) |
//! | `POST /snapshot`, `POST /clone` | `{"source": "/a", "copy": "/b"}` | `{"inode": 7}` |
//! | `POST /label` | `{"label": "data"}` | `{"label": "data"}` |
//! | `POST /grow` | `{"bytes": 21474836480}` | `{"before": …, "size": …}` |
//! | `POST /flush` | | `{}` |
//! | `POST /query` | a request of [`vexfs::query`] | its answer |
//! | `POST /log` | `{"filter": "debug"}` | `{"filter": "debug"}` |
//! | `POST /volumes` | [`volumes::Request`](crate::volumes::Request) | what it says there |
//! | `GET /devices` | | JSON of a front end that serves block devices |
//! | `POST /devices` | JSON that such a front end understands | JSON of it |
//!
//! An answer that is no success is `{"error": "a sentence"}`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::volumes;

/// Answers. Each method may be called while another runs.
pub trait Handler: Send + Sync + 'static {
    /// The metrics, as text for Prometheus. Quick.
    fn metrics(&self) -> Result<String, Refusal>;
    /// The status, as JSON. Quick.
    fn status(&self) -> Result<String, Refusal>;
    /// The block devices, as JSON. Quick.
    fn devices(&self) -> Result<String, Refusal> {
        Err(Refusal::no_devices())
    }
    /// Does what an administrator wants. May take long; one call at a time.
    fn call(&self, call: &Call) -> Result<Value, Refusal>;
}

/// What administrators can have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Copy a directory and everything below it, sharing all blocks.
    Snapshot(Copy),
    /// The same for whatever is there.
    Clone(Copy),
    /// Another label.
    Label(Label),
    /// A larger pool.
    Grow(Grow),
    /// Make everything durable that was answered.
    Flush,
    /// Ask about vectors, as the administrator: see [`vexfs::query`].
    Query(Value),
    /// Log something else.
    Log(Log),
    /// Make, change, remove or list files that serve as disks.
    Volumes(volumes::Request),
    /// What only a front end that serves block devices understands, and reads itself.
    Devices(Value),
}

/// What is copied, and the name of the copy: absolute paths inside the pool. Only paths that are UTF-8 can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// What to copy.
    pub source: String,
    /// The copy; must not exist.
    pub copy: String,
}

/// The new label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// At most 63 bytes without control characters; empty for none.
    pub label: String,
}

/// The new size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grow {
    /// Not less than now.
    pub bytes: u64,
}

/// The new filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// See [`crate::logging`].
    pub filter: String,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of HTTP.
    pub status: u16,
    /// A sentence.
    pub message: String,
}

impl Refusal {
    /// With its sentence.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// Of a front end without block devices.
    pub fn no_devices() -> Self {
        Self::new(
            404,
            "this server has no block devices; ask the one of the pool's devices",
        )
    }
}

impl Call {
    /// The paths.
    pub const PATHS: [&'static str; 9] = [
        "/snapshot",
        "/clone",
        "/label",
        "/grow",
        "/flush",
        "/query",
        "/log",
        "/volumes",
        "/devices",
    ];

    /// From a path and a body; none: no call has this path.
    pub fn parse(path: &str, body: &[u8]) -> Option<Result<Self, Refusal>> {
        fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
            serde_json::from_slice(body).map_err(|error| Refusal::new(400, format!("the body: {error}")))
        }
        Some(match path {
            "/snapshot" => read(body).map(Self::Snapshot),
            "/clone" => read(body).map(Self::Clone),
            "/label" => read(body).map(Self::Label),
            "/grow" => read(body).map(Self::Grow),
            "/flush" => Ok(Self::Flush),
            "/query" => read(body).map(Self::Query),
            "/log" => read(body).map(Self::Log),
            "/volumes" => read(body).map(Self::Volumes),
            "/devices" => read(body).map(Self::Devices),
            _ => return None,
        })
    }

    /// The path.
    pub const fn path(&self) -> &'static str {
        match self {
            Self::Snapshot(_) => "/snapshot",
            Self::Clone(_) => "/clone",
            Self::Label(_) => "/label",
            Self::Grow(_) => "/grow",
            Self::Flush => "/flush",
            Self::Query(_) => "/query",
            Self::Log(_) => "/log",
            Self::Volumes(_) => "/volumes",
            Self::Devices(_) => "/devices",
        }
    }

    /// The body.
    pub fn body(&self) -> Value {
        match self {
            Self::Snapshot(copy) | Self::Clone(copy) => serde_json::json!(copy),
            Self::Label(label) => serde_json::json!(label),
            Self::Grow(grow) => serde_json::json!(grow),
            Self::Flush => serde_json::json!({}),
            Self::Query(request) | Self::Devices(request) => request.clone(),
            Self::Log(log) => serde_json::json!(log),
            Self::Volumes(request) => serde_json::json!(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_survive_being_sent() {
        let copy = || Copy {
            source: "/a".into(),
            copy: "/b\"".into(),
        };
        let calls = [
            Call::Snapshot(copy()),
            Call::Clone(copy()),
            Call::Label(Label { label: "l".into() }),
            Call::Grow(Grow { bytes: u64::MAX }),
            Call::Flush,
            Call::Query(serde_json::json!({"op": "spaces"})),
            Call::Log(Log { filter: "debug".into() }),
            Call::Volumes(volumes::Request::Resize(volumes::Resize {
                path: "/volumes/a".into(),
                bytes: 1,
                force: true,
            })),
            Call::Devices(serde_json::json!({"version": 1})),
        ];
        assert_eq!(calls.each_ref().map(Call::path), Call::PATHS);
        for call in calls {
            let body = call.body().to_string();
            assert_eq!(Call::parse(call.path(), body.as_bytes()), Some(Ok(call)));
        }
    }

    #[test]
    fn a_body_that_is_not_what_the_call_needs_is_refused() {
        for body in [
            "",
            "{}",
            "[]",
            "{\"label\": 1}",
            "{\"label\": \"a\", \"more\": 1}",
            "{\"label\": \"a\"} x",
            "\u{0}",
        ] {
            let refused = Call::parse("/label", body.as_bytes()).unwrap().unwrap_err();
            assert_eq!(refused.status, 400, "{body}");
        }
        assert_eq!(Call::parse("/nothing", b"{}"), None);
    }
}
