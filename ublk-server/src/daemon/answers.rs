// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a daemon answers at its control socket: the engine's answers about the pool, if there is one, and its own about
//! devices.

use std::sync::Arc;

use nix::errno::Errno;
use serde_json::{Value, json};
use vexfs::metrics::{Kind, Metric, Value as Measured, text};
use vexfs_control::engine::Engine;
use vexfs_control::handler::{Call, Handler, Refusal};
use vexfs_control::logging::LogControl;
use vexfs_control::volumes;

use super::devices::{Devices, Event, Events};
use super::protocol::{Message, OLDEST, Overview, Request, ServerFacts, TargetSpec, VERSION};
use crate::metrics::families;
use crate::units::Bytes;

/// See the module's text.
pub(super) struct Answers {
    pub(super) devices: Arc<Devices>,
    pub(super) server: ServerFacts,
    /// Of a pool.
    pub(super) engine: Option<Engine<()>>,
    pub(super) log: LogControl,
    pub(super) events: Events,
}

impl Answers {
    fn engine(&self) -> Result<&Engine<()>, Refusal> {
        self.engine
            .as_ref()
            .ok_or_else(|| Refusal::new(404, "this server serves no pool, only devices"))
    }

    fn device_metrics(&self) -> Vec<Metric> {
        let mut size = Metric::new("vexfs_device_size_bytes", Kind::Gauge, "Size of a block device");
        for facts in self.devices.facts() {
            let labels = vec![
                ("device", facts.path.clone()),
                ("target", facts.spec.target.name().to_owned()),
            ];
            size = size.labelled(labels, Measured::Count(facts.size));
        }
        let mut all = vec![size];
        all.extend(families(&self.devices.metrics()));
        all
    }

    fn request(&self, body: &Value) -> Result<Value, Refusal> {
        match Message::read(body)?.request {
            Request::Add(spec) => self.devices.add(&spec).map(|facts| json!(facts)),
            Request::Delete { id, force } => {
                let pending = self.devices.delete(id, force)?;
                Ok(json!({ "pending": pending }))
            }
            Request::Recover {} => self.devices.recover().map(|takeover| json!(takeover)),
            Request::Handover {} => {
                let mortal: Vec<String> = self
                    .devices
                    .facts()
                    .into_iter()
                    .filter(|facts| !facts.recoverable)
                    .map(|facts| facts.path)
                    .collect();
                if !mortal.is_empty() {
                    let text = format!("{} would not outlive the server: delete it first", mortal.join(", "));
                    return Err(Refusal::new(409, text));
                }
                (self.events)(Event::Handover);
                Ok(json!({}))
            }
            Request::Shutdown {} => {
                (self.events)(Event::Shutdown);
                Ok(json!({}))
            }
        }
    }

    /// Nobody caches the files of the pool, so they may be changed.
    fn uncached(&self) -> Result<(), Refusal> {
        match self.devices.of_filesystem() {
            None => Ok(()),
            Some(facts) => Err(Refusal::new(
                409,
                format!(
                    "{} is {}, and a mount of it would not learn of the change: make it in the mount, or delete the device first with 'vexfs-ublk del {}'",
                    self.server.backing.name(),
                    facts.path,
                    facts.id
                ),
            )),
        }
    }

    /// Volumes that are devices must not lose what their users rely on.
    fn volumes(&self, request: &volumes::Request) -> Result<Value, Refusal> {
        let engine = self.engine()?;
        let call = |request: &volumes::Request| engine.call(&Call::Volumes(request.clone()));
        let device = |path: &str| {
            let path = path.to_owned();
            self.devices.of_target(&TargetSpec::Volume { path })
        };
        if !matches!(request, volumes::Request::List {}) {
            self.uncached()?;
        }
        match request {
            volumes::Request::Create(_) => call(request),
            volumes::Request::Remove { path } => match device(path) {
                Some(facts) => Err(Refusal::new(
                    409,
                    format!(
                        "{path} is {}: delete the device first with 'vexfs-ublk del {}'",
                        facts.path, facts.id
                    ),
                )),
                None => call(request),
            },
            volumes::Request::Resize(resize) => {
                let found = device(&resize.path);
                if let Some(facts) = found.as_ref().filter(|facts| resize.bytes < facts.size) {
                    return Err(Refusal::new(
                        409,
                        format!(
                            "{} is {} and cannot become smaller under it: delete the device first with 'vexfs-ublk del {}'",
                            resize.path, facts.path, facts.id
                        ),
                    ));
                }
                let mut answer = call(request)?;
                if let Some(facts) = found {
                    let note = match self.devices.resized(&resize.path, Bytes::new(resize.bytes)) {
                        None | Some(Ok(())) => Value::Null,
                        Some(Err(Errno::EOPNOTSUPP)) => format!(
                            "the driver of this kernel cannot resize {0}: it has the new size once it is made anew (vexfs-ublk del {1}, then add)",
                            facts.path, facts.id
                        )
                        .into(),
                        Some(Err(errno)) => format!("the driver did not resize {}: {errno}", facts.path).into(),
                    };
                    answer["device"] = facts.path.into();
                    answer["note"] = note;
                }
                Ok(answer)
            }
            volumes::Request::List {} => {
                let mut answer = call(request)?;
                for volume in answer["volumes"].as_array_mut().into_iter().flatten() {
                    let found = volume["path"].as_str().and_then(device);
                    volume["device"] = found.map(|facts| facts.path).into();
                }
                Ok(answer)
            }
        }
    }
}

impl Handler for Answers {
    fn metrics(&self) -> Result<String, Refusal> {
        let pool = self.engine.as_ref().map_or(Ok(String::new()), Handler::metrics)?;
        Ok(pool + &text::render(&self.device_metrics(), &[("server", &self.server.backing.name())]))
    }

    fn status(&self) -> Result<String, Refusal> {
        let mut status = self.engine()?.document()?;
        let devices: Vec<_> = self
            .devices
            .metrics()
            .into_iter()
            .map(|(path, snapshot)| (path, snapshot.operations()))
            .collect();
        let operations = devices.iter().flat_map(|(path, operations)| {
            let device = path.trim_start_matches("/dev/");
            operations
                .iter()
                .map(move |(operation, times, failures)| (format!("{device} {}", operation.name()), times, *failures))
        });
        status.add_operations("ublk", operations);
        status.text()
    }

    fn devices(&self) -> Result<String, Refusal> {
        let overview = Overview {
            versions: [OLDEST, VERSION],
            server: self.server.clone(),
            devices: self.devices.facts(),
        };
        let text = serde_json::to_string(&overview);
        text.map_err(|error| Refusal::new(500, error.to_string()))
    }

    fn call(&self, call: &Call) -> Result<Value, Refusal> {
        match call {
            Call::Devices(body) => self.request(body),
            Call::Volumes(request) => self.volumes(request),
            Call::Log(log) => {
                let set = self.log.set(&log.filter);
                set.map_err(|error| Refusal::new(400, error.to_string()))?;
                Ok(json!({ "filter": log.filter }))
            }
            Call::Snapshot(_) | Call::Clone(_) => {
                self.uncached()?;
                self.engine()?.call(call)
            }
            other => self.engine()?.call(other),
        }
    }
}
