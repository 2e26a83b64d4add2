// SPDX-License-Identifier: MIT OR Apache-2.0

//! One client: its requests one after the other, each bounded in size, rate and time.
//!
//! A client that asks faster than it may waits; one that does not read its answers is dropped.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dsmil::Error;
use dsmil::driver::DeviceInfo;
use dsmil::registry::DeviceId;
use dsmil::smi::{RegionAddress, Request as Operation, Token};
use dsmil_client::protocol::{Access, Device, Greeting, LINE_LIMIT, Reply, Request, Status, Stopped, Text, Thermal};
use dsmil_client::protocol::{VERSION, Word};
use nix::errno::Errno;
use serde::Serialize;
use tokio_uring::net::UnixStream;

use crate::metrics;
use crate::peer::Peer;
use crate::server::Server;

/// How long a client may take to take an answer.
const WRITE_BOUND: Duration = Duration::from_secs(5);
const READ_SIZE: usize = 4096;

/// See the module.
pub(crate) struct Session {
    server: Rc<Server>,
    socket: UnixStream,
    peer: Peer,
    access: Access,
    pending: Vec<u8>,
    buffer: Vec<u8>,
    rate: Rate,
}

impl Session {
    pub(crate) fn new(server: Rc<Server>, socket: UnixStream, peer: Peer, access: Access) -> Self {
        let rate = Rate::new(server.limits().requests_per_second);
        Self {
            server,
            socket,
            peer,
            access,
            pending: Vec::new(),
            buffer: Vec::with_capacity(READ_SIZE),
            rate,
        }
    }

    /// Serves the client until it leaves.
    pub(crate) async fn serve(mut self) -> Result<()> {
        let greeting = Greeting {
            dsmild: VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            access: self.access,
        };
        send(&self.socket, &greeting).await?;
        while let Some(line) = self.line().await? {
            tokio::time::sleep(self.rate.wait(Instant::now())).await;
            let request = match serde_json::from_slice::<Request>(&line) {
                Ok(request) => request,
                Err(error) => {
                    let reply = refusal(Errno::EINVAL, format!("this is no request: {error}"));
                    send(&self.socket, &reply).await?;
                    continue;
                }
            };
            if let Request::Watch { after } = request {
                return self.watch(after).await;
            }
            let reply = self.answer(&request).await;
            send(&self.socket, &reply).await?;
        }
        Ok(())
    }

    /// The next line, `None` when the client has left.
    async fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let rest = self.pending.get(searched..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                return Ok(Some(self.pending.drain(..=searched + end).collect()));
            }
            searched = self.pending.len();
            if searched >= LINE_LIMIT {
                bail!("a line of more than {LINE_LIMIT} bytes");
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            buffer.reserve(READ_SIZE);
            let (result, buffer) = self.socket.read(buffer).await;
            self.buffer = buffer;
            let length = result?;
            if length == 0 {
                return Ok(None);
            }
            self.pending
                .extend_from_slice(self.buffer.get(..length).unwrap_or_default());
        }
    }

    async fn watch(&self, mut after: u64) -> Result<()> {
        loop {
            let driver = self.server.link().driver();
            for event in driver.registry().events_after(after) {
                after = event.number;
                send(&self.socket, &value(&event)).await?;
            }
            // A driver that came after this one counts from the beginning.
            if driver.registry().last_event() < after {
                after = 0;
            }
            // Also without news: a client that left is noticed by what is sent to it, at the latest by the next news.
            self.server.link().news().await;
        }
    }

    async fn answer(&self, request: &Request) -> Reply {
        if request.access() > self.access {
            return refusal(Errno::EPERM, "only operators may do this".to_owned());
        }
        if !request.is_audited() {
            return self.carry_out(request).await;
        }
        match self.server.audit().begin(&self.peer, request) {
            Ok(entry) => {
                let reply = self.carry_out(request).await;
                self.server.audit().end(entry, &reply);
                reply
            }
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be written");
                refusal(Errno::EIO, format!("not done, because it cannot be recorded: {error}"))
            }
        }
    }

    async fn carry_out(&self, request: &Request) -> Reply {
        self.perform(request)
            .await
            .unwrap_or_else(|error| refusal(error.errno(), error.to_string()))
    }

    async fn perform(&self, request: &Request) -> Result<Reply, Error> {
        let link = self.server.link();
        let driver = link.driver();
        let mode = driver.mode();
        let device = |group, position| mode.device(group, position);
        Ok(match *request {
            Request::List {} => {
                let devices: Result<Vec<Device>, Error> =
                    mode.all().map(|device| driver.info(device).map(describe)).collect();
                value(&devices?)
            }
            Request::Show { group, position } => value(&describe(driver.info(device(group, position)?)?)),
            Request::Activate { group, position } => {
                let info = driver.activate(device(group, position)?)?;
                link.touch();
                value(&describe(info))
            }
            Request::Deactivate { group, position } => {
                let info = driver.deactivate(device(group, position)?)?;
                link.touch();
                value(&describe(info))
            }
            Request::ReadToken { group, token } => {
                let token = Token::new(mode, group, token)?;
                value(&Word {
                    value: link.operate(Operation::Read(token)).await?,
                })
            }
            Request::WriteToken {
                group,
                token,
                value: new,
            } => {
                let token = Token::new(mode, group, token)?;
                link.operate(Operation::Write(token, new)).await?;
                done()
            }
            Request::Unlock { address } => {
                link.operate(Operation::Unlock(RegionAddress::new(address)?)).await?;
                done()
            }
            Request::Verify {} => value(&Word {
                value: link.operate(Operation::Verify).await?,
            }),
            Request::Thermal {} => {
                let telemetry = driver.telemetry();
                value(&Thermal {
                    level: telemetry.level,
                    hottest: telemetry.hottest,
                    sensors: driver.sensors(),
                    thresholds: driver.thresholds(),
                })
            }
            Request::Stop { ref reason } => {
                let stopped = driver.stop(reason);
                link.touch();
                value(&Stopped {
                    first: stopped.first,
                    safe_after_us: u64::try_from(stopped.safe_after.as_micros()).unwrap_or(u64::MAX),
                    acknowledged: stopped.acknowledged,
                })
            }
            Request::Resume {} => {
                driver.release(&format!("user {}", self.peer.uid))?;
                link.touch();
                done()
            }
            Request::Events { after } | Request::Watch { after } => value(&driver.registry().events_after(after)),
            Request::Status {} => value(&Status {
                device: link.name(),
                mode: Some(mode),
                telemetry: Some(driver.telemetry()),
                clients: self.server.clients(),
            }),
            Request::Metrics {} => value(&Text {
                text: metrics::text(&driver.telemetry(), &driver.sensors(), self.server.clients()),
            }),
            Request::Suspend {} => {
                driver.suspend()?;
                link.touch();
                done()
            }
            Request::Wake {} => {
                driver.resume()?;
                link.touch();
                done()
            }
        })
    }
}

fn describe(info: DeviceInfo) -> Device {
    let id: DeviceId = info.device;
    Device {
        group: id.group(),
        position: id.position(),
        number: id.number(),
        state: info.state,
        address: info.address,
        capabilities: info.capabilities,
    }
}

fn done() -> Reply {
    Reply::Ok(serde_json::Value::Null)
}

fn value(value: &impl Serialize) -> Reply {
    match serde_json::to_value(value) {
        Ok(value) => Reply::Ok(value),
        Err(error) => refusal(Errno::EIO, format!("the answer cannot be written: {error}")),
    }
}

/// A reply that says no.
pub(crate) fn refusal(errno: Errno, message: String) -> Reply {
    Reply::Error {
        errno: errno as i32,
        message,
    }
}

/// Sends one line; a client that does not take it in time is an error.
pub(crate) async fn send(socket: &UnixStream, message: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let (result, _line) = tokio::time::timeout(WRITE_BOUND, socket.write_all(line)).await?;
    Ok(result?)
}

/// Spaces requests out: as many at once as may be made in a tenth of a second, and no more than that over time.
#[derive(Debug)]
struct Rate {
    period: Duration,
    /// When the next request is due if none may be made early.
    due: Option<Instant>,
}

impl Rate {
    const BURST: Duration = Duration::from_millis(100);

    fn new(per_second: u32) -> Self {
        Self {
            period: Duration::from_secs(1) / per_second.max(1),
            due: None,
        }
    }

    /// How long a request that comes now must wait.
    fn wait(&mut self, now: Instant) -> Duration {
        let due = self.due.map_or(now, |due| due.max(now));
        self.due = Some(due + self.period);
        (due - now).saturating_sub(Self::BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_the_rate_is_kept_after_it() {
        let mut rate = Rate::new(100);
        let start = Instant::now();
        let waits: Vec<Duration> = (0..20).map(|_| rate.wait(start)).collect();
        assert!(waits.iter().take(11).all(Duration::is_zero), "{waits:?}");
        assert_eq!(waits[19], Duration::from_millis(90));
        assert_eq!(rate.wait(start + Duration::from_secs(1)), Duration::ZERO);
    }
}
