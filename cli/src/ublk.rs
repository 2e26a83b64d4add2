// SPDX-License-Identifier: MIT OR Apache-2.0

//! Block devices, and the daemons that serve them.
//!
//! What there is is asked of three sides: the driver says which devices exist, records say what they are made of, and
//! daemons at their sockets what they serve. See `ublk_server::daemon`.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, io, thread};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use ublk_server::daemon::protocol::{Backing, Message, Overview, Request, TargetSpec};
use ublk_server::daemon::record::{Record, Records};
use ublk_server::device::{self, State, Survey};
use vexfs_control::client::{Client, ClientError};
use vexfs_control::handler::Call;
use vexfs_control::place as sockets;

use crate::failure::failed;
use crate::served;

/// How long a daemon may take to answer a question.
const ANSWER: Duration = Duration::from_secs(3);
/// How long the driver may take for what it is told.
const DRIVER: Duration = Duration::from_secs(20);
/// The daemon's program.
const PROGRAM: &str = "vexfs-ublkd";

/// A device of ours.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) survey: Survey,
    /// None: nobody knows what it is made of.
    pub(crate) record: Option<Record>,
}

impl Known {
    pub(crate) fn path(&self) -> String {
        format!("/dev/ublkb{}", self.survey.id)
    }

    pub(crate) const fn state(&self) -> State {
        self.survey.state
    }

    /// Whether it is a pool, to be mounted.
    pub(crate) fn is_filesystem(&self) -> bool {
        let target = self.record.as_ref().map(|record| &record.spec.target);
        matches!(target, Some(TargetSpec::Filesystem {}))
    }

    /// The daemon that has it, if that answers; the reason why it does not is for who wants to know.
    pub(crate) fn daemon(&self) -> Result<Option<Daemon>, ClientError> {
        let Some(record) = &self.record else { return Ok(None) };
        let found = Daemon::at(&record.socket)?;
        Ok(found.filter(|daemon| daemon.overview.devices.iter().any(|facts| facts.id == record.id)))
    }
}

/// A daemon that answers.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    pub(crate) client: Client,
    pub(crate) overview: Overview,
}

impl Daemon {
    /// At a socket; none if nobody serves there. Fails if somebody does not answer, or not in our protocol.
    pub(crate) fn at(socket: &Path) -> Result<Option<Self>, ClientError> {
        let client = Client::new(socket);
        let document = match client.devices(ANSWER) {
            // Nobody, or another kind of server.
            Err(ClientError::NotServed(_) | ClientError::Refused { status: 404, .. }) => return Ok(None),
            answer => answer?,
        };
        let overview = Overview::read(document).map_err(|what| ClientError::Nonsense {
            path: socket.to_owned(),
            what,
        })?;
        Ok(Some(Self { client, overview }))
    }

    /// Of a pool or file, if there is one.
    pub(crate) fn of(backing: &Backing) -> Result<Option<Self>> {
        match backing {
            Backing::Pool { path } => {
                let Some(served) = served::of_pool(path)? else {
                    return Ok(None);
                };
                let facts = &served.status.server.facts;
                match Self::at(served.client.socket())? {
                    Some(daemon) => Ok(Some(daemon)),
                    None => Err(failed(
                        format!(
                            "{} is mounted on {} through {} (process {})",
                            path.display(),
                            facts.mount_point.as_deref().unwrap_or("no directory"),
                            facts.front_end,
                            served.status.server.pid
                        ),
                        "unmount it first: one server has a pool at a time",
                    )),
                }
            }
            Backing::File { .. } => Ok(Self::at(&records()?.directory().join(backing.socket_name()))?),
            Backing::Memory {} => Ok(None),
        }
    }

    /// Has something done.
    pub(crate) fn call(&self, request: Request) -> Result<Value, ClientError> {
        self.client.call(&Call::Devices(Message::new(request).body()))
    }

    /// Has something done that must not take longer than this.
    pub(crate) fn call_within(&self, request: Request, patience: Duration) -> Result<Value, ClientError> {
        self.client
            .call_within(&Call::Devices(Message::new(request).body()), patience)
    }
}

/// The records of this user's runtime directory.
pub(crate) fn records() -> Result<Records> {
    Ok(Records::of(&sockets::directory()?))
}

/// Excludes others from starting daemons while held: else two could, and one would fail.
pub(crate) fn lock_starting() -> Result<Flock<fs::File>> {
    let records = records()?;
    records.prepare().context("making the directory of records")?;
    let path = records.directory().join(".lock");
    let file = fs::File::options().create(true).append(true).open(&path);
    let file = file.with_context(|| path.display().to_string())?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| anyhow!("locking {}: {errno}", path.display()))
}

/// Removes sockets that daemons left which were killed: this one, and those of daemons without a pool. One that hangs has its
/// socket still.
pub(crate) fn remove_dead_sockets(own: Option<&Path>) -> Result<()> {
    let _nobody_starts = lock_starting()?;
    let mut candidates = sockets::sockets(records()?.directory())?;
    candidates.extend(own.map(Path::to_owned));
    for socket in candidates {
        let refused = UnixStream::connect(&socket).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if refused && let Err(error) = fs::remove_file(&socket) {
            return Err(error).with_context(|| format!("removing {}", socket.display()));
        }
    }
    Ok(())
}

/// The daemon's program: beside this one, or where the shell would find it.
pub(crate) fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PROGRAM.into())
}

/// The number in `0`, `ublkb0` or `/dev/ublkb0`.
pub(crate) fn id(word: &str) -> Result<u32, String> {
    let name = word.strip_prefix("/dev/").unwrap_or(word);
    let digits = name.strip_prefix("ublkb").unwrap_or(name);
    digits
        .parse()
        .map_err(|_| format!("{word:?} is no device; write its number or /dev/ublkbN"))
}

/// Every device of ours, by their numbers.
pub(crate) fn all() -> Result<Vec<Known>> {
    let entries = fs::read_dir("/dev").context("/dev")?;
    let mut ids: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("ublkc")?.parse().ok())
        .collect();
    ids.sort_unstable();
    let mut known = Vec::new();
    for id in ids {
        known.extend(find(id)?);
    }
    Ok(known)
}

/// A device of ours; none if there is none with this number. A record that is out of date is removed.
pub(crate) fn find(id: u32) -> Result<Option<Known>> {
    let records = records()?;
    let record = records.find(id);
    let Some(survey) = device::survey(id)?.filter(|survey| survey.ours) else {
        if record.is_some() {
            records.remove(id);
        }
        return Ok(None);
    };
    let record = record.filter(|record| {
        let fits = record.is_of(&survey);
        if !fits {
            records.remove(id);
        }
        fits
    });
    Ok(Some(Known { survey, record }))
}

/// The same, where it must be there.
pub(crate) fn must_find(id: u32) -> Result<Known> {
    if let Some(known) = find(id)? {
        return Ok(known);
    }
    if device::survey(id)?.is_some() {
        return Err(ublk_server::error::Error::NotOurs(id).into());
    }
    Err(ublk_server::error::Error::NoDevice(id).into())
}

/// The device that a volume of a pool is, whoever serves it or not.
pub(crate) fn of_volume(pool: &Path, volume: &str) -> Result<Option<Known>> {
    let same = |target: &TargetSpec| matches!(target, TargetSpec::Volume { path } if path == volume);
    of_target(&records()?, pool, same)
}

/// The device that the filesystem of a pool is, whoever serves it or not.
pub(crate) fn of_filesystem(pool: &Path) -> Result<Option<Known>> {
    // Without a place for records there are no devices of this user's.
    let Ok(records) = records() else { return Ok(None) };
    of_target(&records, pool, |target| matches!(target, TargetSpec::Filesystem {}))
}

fn of_target(records: &Records, pool: &Path, is_it: impl Fn(&TargetSpec) -> bool) -> Result<Option<Known>> {
    let backing = Backing::Pool { path: pool.to_owned() };
    for record in records.all()? {
        if is_it(&record.spec.target) && record.backing.is_same_as(&backing) {
            return find(record.id);
        }
    }
    Ok(None)
}

/// Does something that asks the driver, which is not waited for for ever.
pub(crate) fn bounded<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = mpsc::channel();
    thread::spawn(move || {
        // Nobody waits any more, if that fails.
        let _ = done.send(work());
    });
    result.recv_timeout(DRIVER).map_err(|_| {
        failed(
            format!("{what}: the driver did not answer within {} s", DRIVER.as_secs()),
            "the kernel log may say why",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_in_three_ways() {
        for word in ["7", "ublkb7", "/dev/ublkb7"] {
            assert_eq!(id(word), Ok(7));
        }
        for word in ["", "/dev/sda", "-1", "ublkc7", "/dev/ublkb"] {
            assert!(id(word).is_err(), "{word}");
        }
    }
}
