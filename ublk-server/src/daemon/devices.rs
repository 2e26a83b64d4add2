// SPDX-License-Identifier: MIT OR Apache-2.0

//! The devices of a daemon: adding, taking over, resizing, deleting them, and leaving them to another process.
//!
//! # Contract
//!
//! - What stands behind a device serves one device only; a second is refused, also while the first is being made. So is a
//!   volume of a pool whose filesystem is a device, and the other way round (see [`super::backing`]).
//! - A device has a [record](super::record) from before it can be used until it is gone. Devices that are left to another
//!   process keep theirs.
//! - Once [`Devices::end`] or [`Devices::release_all`] has begun, nothing is added any more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use parking_lot::Mutex;
use vexfs::client::Bell;
use vexfs_control::handler::Refusal;

use super::backing::{Behind, Opened};
use super::holders;
use super::owner::{Fate, Made, Owner, StopError};
use super::protocol::{Backing, DeviceFacts, Spec, Takeover, TargetSpec};
use super::record::{Record, Records};
use super::usable;
use crate::device::{self, Orphan, State};
use crate::error::Error;
use crate::metrics::{DeviceMetrics, DeviceSnapshot};
use crate::units::Bytes;

/// How long those may use a device still that only look at it for a moment, as udev does.
const GLANCE: Duration = Duration::from_secs(1);
/// How long an unmount may take whose last word was heard.
const CLOSING: Duration = Duration::from_secs(30);
/// How long who deletes a device waits for an unmount that is under way; those who ask wait half a minute for the answer.
const UNMOUNTING: Duration = Duration::from_secs(20);
/// The same where the daemon is about to end, and nobody would take what is still written.
const ENDING: Duration = Duration::from_secs(60);
/// How often to look.
const INTERVAL: Duration = Duration::from_millis(20);

/// Something that happens to a daemon.
#[derive(Debug)]
pub(super) enum Event {
    /// A device ended by itself.
    Ended(u32, Fate),
    /// The last device is gone.
    Idle,
    /// The filesystem of the pool is about to be unmounted.
    Unmounted,
    /// Somebody asks for the end.
    Shutdown,
    /// Somebody asks for the program that is installed now to go on.
    Handover,
}

/// Where events go.
pub(super) type Events = Arc<dyn Fn(Event) + Send + Sync>;

struct Entry {
    owner: Owner,
    behind: Behind,
    facts: DeviceFacts,
    metrics: DeviceMetrics,
}

/// See the module's text.
pub(super) struct Devices {
    pub(super) backing: Backing,
    pub(super) opened: Opened,
    records: Records,
    socket: PathBuf,
    entries: Mutex<Entries>,
    events: Events,
}

#[derive(Default)]
struct Entries {
    by_id: BTreeMap<u32, Entry>,
    /// What devices are being made of at this moment.
    claimed: Vec<TargetSpec>,
    ending: bool,
}

/// Keeps others from making a device of the same thing.
struct Claim<'a> {
    devices: &'a Devices,
    target: TargetSpec,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut entries = self.devices.entries.lock();
        if let Some(place) = entries.claimed.iter().position(|claimed| *claimed == self.target) {
            entries.claimed.swap_remove(place);
        }
    }
}

/// Whether one thing cannot stand behind two devices with these targets. A daemon has one backing, so one loop target.
fn collide(one: &TargetSpec, other: &TargetSpec) -> bool {
    match (one, other) {
        (TargetSpec::Loop { .. }, TargetSpec::Loop { .. }) => true,
        (TargetSpec::Mem(_) | TargetSpec::Null(_), _) => false,
        _ => one == other,
    }
}

/// Whether devices with these targets cannot be beside each other.
fn exclude(one: &TargetSpec, other: &TargetSpec) -> bool {
    use TargetSpec::{Filesystem, Volume};
    collide(one, other)
        || matches!(
            (one, other),
            (Volume { .. }, Filesystem {}) | (Filesystem {}, Volume { .. })
        )
}

impl Devices {
    /// None yet. `socket` is where the daemon will answer.
    pub(super) fn new(backing: Backing, opened: Opened, records: Records, socket: PathBuf, events: Events) -> Self {
        Self {
            backing,
            opened,
            records,
            socket,
            entries: Mutex::default(),
            events,
        }
    }

    /// What there is.
    pub(super) fn facts(&self) -> Vec<DeviceFacts> {
        let entries = self.entries.lock();
        entries.by_id.values().map(|entry| entry.facts.clone()).collect()
    }

    /// What each has recorded, after its path.
    pub(super) fn metrics(&self) -> Vec<(String, DeviceSnapshot)> {
        let entries = self.entries.lock();
        let of = |entry: &Entry| (entry.facts.path.clone(), entry.metrics.snapshot());
        entries.by_id.values().map(of).collect()
    }

    /// The device of a target, if there is one.
    pub(super) fn of_target(&self, target: &TargetSpec) -> Option<DeviceFacts> {
        let entries = self.entries.lock();
        let mut entries = entries.by_id.values();
        let found = entries.find(|entry| collide(target, &entry.facts.spec.target));
        found.map(|entry| entry.facts.clone())
    }

    /// For as long as a device is made of a target.
    fn claim(&self, target: &TargetSpec) -> Result<Claim<'_>, Refusal> {
        let mut entries = self.entries.lock();
        if entries.ending {
            return Err(ending());
        }
        let mut made = entries.by_id.values();
        if let Some(entry) = made.find(|entry| exclude(target, &entry.facts.spec.target)) {
            return Err(Refusal::new(409, self.taken(target, &entry.facts)));
        }
        if entries.claimed.iter().any(|claimed| exclude(target, claimed)) {
            let name = self.name_of(target);
            return Err(Refusal::new(
                409,
                format!("somebody else is making a device of {name} at this moment"),
            ));
        }
        entries.claimed.push(target.clone());
        Ok(Claim {
            devices: self,
            target: target.clone(),
        })
    }

    /// What people call what stands behind a device.
    fn name_of(&self, target: &TargetSpec) -> String {
        match target {
            TargetSpec::Volume { path } => path.clone(),
            _ => self.backing.name(),
        }
    }

    /// Why there is no device of a target beside the one with these facts.
    fn taken(&self, target: &TargetSpec, facts: &DeviceFacts) -> String {
        let name = self.name_of(&facts.spec.target);
        let (id, path) = (facts.id, &facts.path);
        if collide(target, &facts.spec.target) {
            return format!("{name} is {path} already");
        }
        let what = match &facts.spec.target {
            TargetSpec::Filesystem {} => format!("the filesystem of {name}"),
            _ => format!("{name} of {}", self.backing.name()),
        };
        format!(
            "{what} is {path}: a pool is presented as a filesystem or volume by volume; delete that first with 'vexfs-ublk del {id}'"
        )
    }

    /// The device of the pool's filesystem, if that is one.
    pub(super) fn of_filesystem(&self) -> Option<DeviceFacts> {
        self.of_target(&TargetSpec::Filesystem {})
    }

    /// What a mount held whose device is gone is given back. To be asked for when no device waits for a server.
    pub(super) fn forget_lost_client(&self) {
        if let Some(fs) = self.opened.pool()
            && self.of_filesystem().is_none()
            && let Err(error) = fs.end_session()
        {
            tracing::error!("what a mount held whose device is gone stays: {error}");
        }
    }

    /// Makes a device, and returns when it can be used.
    pub(super) fn add(&self, spec: &Spec) -> Result<DeviceFacts, Refusal> {
        let _claim = self.claim(&spec.target)?;
        let behind = self
            .opened
            .target(spec, self.farewell())
            .map_err(|error| refused(&error))?;
        let (backing, socket, records) = (self.backing.clone(), self.socket.clone(), self.records.clone());
        let (target, wanted) = (behind.clone(), spec.clone());
        let options = spec.options();
        let work = move || {
            let identity = target.identity();
            let mut recorded = None;
            let made = target.start(&options, |id| {
                recorded = Some(id);
                let record = Record::new(id, identity, backing, wanted, socket);
                records.write(&record).map_err(|source| Error::Record { id, source })
            });
            let made = made.and_then(|device| usable::wait(&device.path()).map(|()| device));
            if let (Err(_), Some(id)) = (&made, recorded) {
                records.remove(id);
            }
            made
        };
        let (owner, made) = Owner::start(work, self.ended()).map_err(|error| refused(&error))?;
        Ok(self.enter(owner, behind, made, spec, false))
    }

    /// Takes over every device of this backing that waits for a server.
    pub(super) fn recover(&self) -> Result<Takeover, Refusal> {
        if self.entries.lock().ending {
            return Err(ending());
        }
        let records = self.records.all();
        let records = records.map_err(|error| Refusal::new(500, format!("the records of devices: {error}")))?;
        let own: Vec<Record> = records
            .into_iter()
            .filter(|record| record.backing.is_same_as(&self.backing))
            .filter(|record| !self.entries.lock().by_id.contains_key(&record.id))
            .collect();
        // Of two devices of one thing, as when a pool was made anew where another had been, one at most is of what is there
        // now: they are tried one after the other. All else at once: most of it is waiting for the driver.
        let mut groups: Vec<Vec<Record>> = Vec::new();
        for record in own {
            let rivals = |other: &Record| exclude(&other.spec.target, &record.spec.target);
            match groups.iter_mut().find(|group| group.iter().any(rivals)) {
                Some(group) => group.push(record),
                None => groups.push(vec![record]),
            }
        }
        let mut outcome = Takeover::default();
        let results: Vec<_> = thread::scope(|scope| {
            let one_by_one = |group: &[Record]| group.iter().map(|record| self.take_over(record)).collect::<Vec<_>>();
            let tries: Vec<_> = groups
                .iter()
                .map(|group| scope.spawn(move || one_by_one(group)))
                .collect();
            tries.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        for (group, results) in groups.iter().zip(results) {
            let Ok(results) = results else {
                let ids: Vec<_> = group.iter().map(|record| record.id.to_string()).collect();
                let text = format!("devices {}: their thread panicked", ids.join(", "));
                outcome.left.push(text);
                continue;
            };
            for (record, result) in group.iter().zip(results) {
                match result {
                    Ok(Some(facts)) => outcome.taken_over.push(facts),
                    Ok(None) => {}
                    Err(text) => outcome.left.push(format!("device {}: {text}", record.id)),
                }
            }
        }
        Ok(outcome)
    }

    /// None: there is nothing to take over, the record was out of date.
    fn take_over(&self, record: &Record) -> Result<Option<DeviceFacts>, String> {
        let id = record.id;
        let found = device::survey(id).map_err(|error| error.to_string())?;
        let Some(survey) = found.filter(|survey| record.is_of(survey)) else {
            tracing::info!("the record of device {id} was out of date");
            self.records.remove(id);
            return Ok(None);
        };
        if survey.state == State::Dead {
            return Err(Error::NotRecoverable(id).to_string());
        }
        let _claim = self.claim(&record.spec.target).map_err(|refusal| refusal.message)?;
        let orphan = Orphan::find(id).map_err(|error| error.to_string())?;
        let behind = self
            .opened
            .target(&record.spec, self.farewell())
            .map_err(|error| error.to_string())?;
        let target = behind.clone();
        let started = Owner::start(move || target.take_over(orphan), self.ended());
        let (owner, made) = started.map_err(|error| error.to_string())?;
        let record = Record::new(
            id,
            behind.identity(),
            self.backing.clone(),
            record.spec.clone(),
            self.socket.clone(),
        );
        if let Err(error) = self.records.write(&record) {
            tracing::warn!("the record of device {id} still names its last server: {error}");
        }
        Ok(Some(self.enter(owner, behind, made, &record.spec, true)))
    }

    fn farewell(&self) -> Bell {
        let events = Arc::clone(&self.events);
        Arc::new(move || events(Event::Unmounted))
    }

    /// Deletes the device of the filesystem when nobody holds it any more, if it was to last that long. A thread looks after
    /// that; it gives up when somebody has mounted it again, whose unmount will be heard of.
    pub(super) fn end_unmounted(self: &Arc<Self>) {
        let Some(facts) = self.of_filesystem().filter(|facts| facts.spec.until_unmounted) else {
            return;
        };
        let devices = Arc::clone(self);
        let work = move || {
            let deadline = Instant::now() + CLOSING;
            while Instant::now() < deadline {
                if !usable::is_held(&facts.path) {
                    if let Err(refusal) = devices.delete(facts.id, false) {
                        tracing::info!("{} was unmounted and stays: {}", facts.path, refusal.message);
                    }
                    return;
                }
                thread::sleep(INTERVAL);
            }
        };
        if let Err(error) = thread::Builder::new().name("unmounted".into()).spawn(work) {
            tracing::error!("a device that was unmounted stays: {error}");
        }
    }

    fn ended(&self) -> impl FnOnce(u32, Fate) + Send + 'static {
        let events = Arc::clone(&self.events);
        move |id, fate| events(Event::Ended(id, fate))
    }

    fn enter(&self, owner: Owner, behind: Behind, made: Made, spec: &Spec, taken_over: bool) -> DeviceFacts {
        let facts = DeviceFacts {
            id: made.id,
            path: made.path,
            spec: Spec {
                id: Some(made.id),
                ..spec.clone()
            },
            size: behind.size().get(),
            recoverable: made.recoverable,
            taken_over,
        };
        let entry = Entry {
            owner,
            behind,
            facts: facts.clone(),
            metrics: made.metrics,
        };
        self.entries.lock().by_id.insert(made.id, entry);
        facts
    }

    /// Stops and deletes a device. True: it goes when its last user closes it.
    pub(super) fn delete(&self, id: u32, force: bool) -> Result<bool, Refusal> {
        let entry = self.entries.lock().by_id.remove(&id);
        let Some(entry) = entry else {
            return Err(Refusal::new(404, format!("this server has no device {id}")));
        };
        let users = if force {
            Vec::new()
        } else {
            users(&entry.facts, UNMOUNTING)
        };
        let stopped = if users.is_empty() {
            entry.owner.stop(!force)
        } else {
            Err(StopError::InUse)
        };
        match stopped {
            Err(StopError::InUse) => {
                let path = entry.facts.path.clone();
                self.entries.lock().by_id.insert(id, entry);
                let who = if users.is_empty() { holders::of(id) } else { users };
                let who = if who.is_empty() {
                    "somebody has it open".to_owned()
                } else {
                    who.join(", ")
                };
                return Err(Refusal::new(
                    409,
                    format!("{path} is in use: {who}; end that first, or add --force"),
                ));
            }
            Err(StopError::Broken(error)) => tracing::error!("{error}"),
            Ok(()) | Err(StopError::Gone) => {}
        }
        entry.owner.join();
        entry.behind.gone();
        self.records.remove(id);
        let pending = matches!(device::survey(id), Ok(Some(_)));
        if self.entries.lock().by_id.is_empty() {
            (self.events)(Event::Idle);
        }
        Ok(pending)
    }

    /// Forgets a device that is gone by itself.
    pub(super) fn forget(&self, id: u32) {
        if let Some(entry) = self.entries.lock().by_id.remove(&id) {
            entry.owner.join();
            entry.behind.gone();
            self.records.remove(id);
        }
        if self.entries.lock().by_id.is_empty() {
            (self.events)(Event::Idle);
        }
    }

    /// The file of a volume has another size. Tells whether its device has it too; none if there is no device.
    pub(super) fn resized(&self, path: &str, size: Bytes) -> Option<Result<(), Errno>> {
        let mut entries = self.entries.lock();
        let entry = entries
            .by_id
            .values_mut()
            .find(|entry| matches!(&entry.facts.spec.target, TargetSpec::Volume { path: own } if own == path))?;
        if let Behind::Volume(volume) = &entry.behind {
            volume.resized(size);
        }
        let result = entry.owner.resize(size);
        if result.is_ok() {
            entry.facts.size = size.get();
        }
        Some(result)
    }

    /// The end: devices that somebody uses and that outlive this process are left to another one, the others go. Tells how
    /// many are left.
    pub(super) fn end(&self) -> usize {
        self.leave(|facts| facts.recoverable && !users(facts, ENDING).is_empty())
    }

    /// Leaves every device to another process. Those that would not outlive this one are the caller's to look for.
    pub(super) fn release_all(&self) {
        let _left = self.leave(|facts| facts.recoverable);
    }

    fn leave(&self, stays: impl Fn(&DeviceFacts) -> bool + Sync) -> usize {
        let left = AtomicUsize::new(0);
        let entries = {
            let mut entries = self.entries.lock();
            entries.ending = true;
            std::mem::take(&mut entries.by_id)
        };
        thread::scope(|scope| {
            for (id, entry) in entries {
                let (stays, left) = (&stays, &left);
                scope.spawn(move || {
                    let stays = stays(&entry.facts);
                    if stays {
                        left.fetch_add(1, Ordering::Relaxed);
                        if let Err(error) = entry.owner.release() {
                            tracing::error!("{error}");
                        }
                    } else {
                        if let Err(StopError::Broken(error)) = entry.owner.stop(false) {
                            tracing::error!("{error}");
                        }
                        self.records.remove(id);
                    }
                    entry.owner.join();
                    if !stays {
                        entry.behind.gone();
                    }
                });
            }
        });
        left.into_inner()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.lock().by_id.is_empty()
    }
}

/// Who uses a device, but for those who only look at it for a moment.
///
/// A mount that is being taken away is in no table any more, and writes out what it has. That is waited for.
fn users(facts: &DeviceFacts, unmounting: Duration) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let found = holders::of(facts.id);
        let only_open = found.iter().all(|user| user.starts_with("process "));
        if found.is_empty() {
            if !usable::is_held(&facts.path) {
                return found;
            }
            if begin.elapsed() >= unmounting {
                return vec![format!("{} is being unmounted", facts.path)];
            }
        } else if !only_open || begin.elapsed() >= GLANCE {
            return found;
        }
        thread::sleep(INTERVAL);
    }
}

fn ending() -> Refusal {
    Refusal::new(503, "the server is about to end; try again")
}

fn refused(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(400, error.to_string())
}
