// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs sequences, examines what crashes and failing disks leave, and shrinks what goes wrong.
//!
//! A crash is examined in four parts: crash, open and compare; go on working on what was found; crash again; open and
//! compare again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use vexfs::check::assert_sound;
use vexfs::disk::{Disk, Operation, SimDisk, SplitMix64};
use vexfs::fs::record::Timestamp;
use vexfs::fs::vectors::space::{Element, Metric, Shape};
use vexfs::fs::vectors::{NewSpace, PREFIX};
use vexfs::fs::{Fs, MountOptions};
use vexfs::pool::format::{FormatOptions, Seeds, format_disk};
use vexfs::pool::{Access, Heartbeat, Host, OpenOptions, Pool};
use vexfs::units::Ino;

use crate::disk::{Left, Moment, Points, Recorder};
use crate::history::{Allowed, History, Redo};
use crate::model::State;
use crate::session::{Session, Violation};
use crate::tree::{Tree, tree_of_engine, tree_of_model};
use crate::workload::{Action, Generator, Scale, VECTORS};

/// When the pools are made.
const BORN: i64 = 1_700_000_000_000_000_000;
/// Smallest pool there is.
const POOL_BYTES: u64 = 16 << 20;

/// A sequence and its pool.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub journal_bytes: u64,
    pub actions: Vec<Action>,
}

/// What was examined.
#[derive(Clone, Copy, Default, Debug)]
pub struct Figures {
    pub sequences: u64,
    pub actions: u64,
    pub crash_points: u64,
    pub recoveries: u64,
    pub faults: u64,
}

impl Figures {
    pub fn add(&mut self, other: &Self) {
        self.sequences += other.sequences;
        self.actions += other.actions;
        self.crash_points += other.crash_points;
        self.recoveries += other.recoveries;
        self.faults += other.faults;
    }
}

impl Plan {
    /// The sequence of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = SplitMix64::new(seed ^ 0x005e_0e4c_e0f5_eed5);
        let scale = if random.below(6) == 0 {
            Scale::Large
        } else {
            Scale::Small
        };
        let journal_bytes = [256 << 10, 512 << 10, 1 << 20, 2 << 20][random.below(4) as usize];
        let length = 1 + random.below(60);
        let squeeze = (random.below(3) == 0).then(|| Action::Squeeze(20 + random.below(600) as u16));
        let mut generator = Generator::new(random.next(), scale);
        let actions = squeeze.into_iter().chain(std::iter::repeat_with(|| generator.action()));
        Self {
            seed,
            journal_bytes,
            actions: actions.take(length as usize).collect(),
        }
    }

    fn random(&self, purpose: u64) -> SplitMix64 {
        SplitMix64::new(self.seed.wrapping_mul(31).wrapping_add(purpose))
    }

    /// A formatted disk.
    fn disk(&self) -> Result<Left, Violation> {
        let disk = SimDisk::new(POOL_BYTES, self.seed);
        let options = FormatOptions {
            journal_bytes: Some(self.journal_bytes),
            ..FormatOptions::default()
        };
        format_disk(&disk, &options, &Seeds::from_number(self.seed), &host(1))
            .map_err(|error| format!("format: {error}"))?;
        Ok(Left { disk, boot: 1 })
    }

    /// The same with a space for vectors.
    fn with_space(&self) -> Result<Left, Violation> {
        let recorder = Recorder::new(self.disk()?, Points::None, self.seed);
        let fs = open(&recorder)?;
        let shape = Shape::new(4, Element::I8, Metric::L2).map_err(|error| error.to_string())?;
        let space = NewSpace {
            name: VECTORS.strip_prefix(PREFIX).unwrap_or_default(),
            shape,
            effort: 0,
            fields: &[],
            now: Timestamp(BORN),
        };
        fs.create_space(&space).map_err(|error| error.to_string())?;
        fs.close().map_err(|error| error.to_string())?;
        Ok(recorder.now(0).process_ends())
    }

    pub fn start(&self, points: Points) -> Result<Session, Violation> {
        let recorder = Recorder::new(self.with_space()?, points, self.seed);
        let fs = open(&recorder)?;
        Ok(Session::new(
            fs,
            recorder,
            State::new(Timestamp(BORN)),
            &[Ino::ROOT],
            BORN,
        ))
    }
}

/// The machine after so many starts.
fn host(boot: u8) -> Host {
    let mut host = Host::this();
    host.identity.boot_id = [boot; 16];
    Host {
        now: || vexfs::pool::Timestamp {
            seconds: BORN / 1_000_000_000,
            nanos: 0,
        },
        ..host
    }
}

/// Opens a pool so that the same calls always do the same.
pub fn open(disk: &Arc<Recorder>) -> Result<Fs, Violation> {
    let (disk, boot) = (Arc::clone(disk) as Arc<dyn Disk>, disk.boot);
    let options = OpenOptions {
        heartbeat: Heartbeat::Off,
        host: host(boot),
        ..OpenOptions::new(Access::ReadWrite)
    };
    let pool = Pool::open_disk(disk, &options).map_err(|error| format!("open: {error}"))?;
    let options = MountOptions {
        background: false,
        ..MountOptions::default()
    };
    Fs::mount(pool, &options).map_err(|error| format!("mount: {error}"))
}

/// Runs a sequence live, then examines crashes of it.
pub fn check(plan: &Plan, points: Points) -> Result<Figures, Violation> {
    let mut session = plan.start(points)?;
    for action in &plan.actions {
        session.perform(action)?;
    }
    session.compare_all().map_err(|wrong| format!("at the end: {wrong}"))?;
    let mut figures = Figures {
        sequences: 1,
        actions: session.history.calls() as u64,
        ..Figures::default()
    };
    let Session {
        fs,
        history,
        disk: recorder,
        ..
    } = session;
    let last = history.calls();
    let mut moments = recorder.moments();
    moments.push(recorder.now(last));
    // What a normal end leaves is what there was.
    fs.close().map_err(|error| format!("close: {error}"))?;
    let allowed = history.after_process_end(last);
    recover(&recorder.now(last).process_ends(), &history, allowed, &mut figures)
        .map_err(|wrong| format!("after close and open: {wrong}"))?;
    let mut random = plan.random(1);
    for moment in &moments {
        figures.crash_points += 1;
        examine(moment, &history, random.next(), &mut figures).map_err(|wrong| {
            let (operations, call) = (moment.operations, moment.call);
            format!("crash after {operations} disk operations, in call {call}: {wrong}")
        })?;
    }
    Ok(figures)
}

/// One crash in four parts.
fn examine(moment: &Moment, history: &History, seed: u64, figures: &mut Figures) -> Result<(), Violation> {
    let mut random = SplitMix64::new(seed);
    let process = random.below(3) == 0;
    let (mut left, mut allowed) = if process {
        (moment.process_ends(), history.after_process_end(moment.call))
    } else {
        (moment.power_fails(random.next()), history.after_power_loss(moment.call))
    };
    let manner = if process { "the process ends" } else { "the power fails" };
    if random.below(4) == 0 {
        // The next opening does not end either.
        if let Some(half_open) = crash_while_opening(&left, random.next()) {
            left = half_open;
            allowed = history.after_power_loss(moment.call);
        }
    }
    let mut session = recover(&left, history, allowed, figures).map_err(|wrong| format!("{manner}: {wrong}"))?;
    let mut generator = Generator::new(random.next(), Scale::Small);
    for _ in 0..random.below(12) {
        session
            .perform(&generator.action())
            .map_err(|wrong| format!("{manner}, then: {wrong}"))?;
    }
    session
        .compare_all()
        .map_err(|wrong| format!("{manner}, then at the end: {wrong}"))?;
    let history = session.history;
    let moment = session.disk.now(history.calls());
    let (left, allowed) = if random.below(3) == 0 {
        (moment.process_ends(), history.after_process_end(moment.call))
    } else {
        (moment.power_fails(random.next()), history.after_power_loss(moment.call))
    };
    recover(&left, &history, allowed, figures).map_err(|wrong| format!("{manner}, then a second crash: {wrong}"))?;
    Ok(())
}

fn crash_while_opening(left: &Left, seed: u64) -> Option<Left> {
    let recorder = Recorder::new(left.clone(), Points::Some(1), seed);
    // Whether it opens is looked at afterwards.
    let _ = open(&recorder);
    let moments = recorder.moments();
    let moment = moments.get(seed as usize % moments.len().max(1))?;
    Some(moment.power_fails(seed))
}

/// Opens what a crash left, and goes on from the state that is found.
fn recover(left: &Left, history: &History, allowed: Allowed, figures: &mut Figures) -> Result<Session, Violation> {
    figures.recoveries += 1;
    let begin = |fs: Fs, recorder, tree: &Tree<Ino>, found| {
        let state = history.state(found).without_holders();
        let session = Session::new(fs, recorder, state, &tree.files, BORN + (1 << 50));
        session.compare_all().map(|()| session)
    };
    assert_sound(Arc::new(left.disk.clone())).map_err(|error| format!("before opening: {error}"))?;
    let recorder = Recorder::new(left.clone(), Points::None, 0);
    let fs = open(&recorder)?;
    let tree = tree_of_engine(&fs)?;
    if let Some(found) = history.find(tree.print(), allowed) {
        return begin(fs, recorder, &tree, found);
    }
    for (redo, now, states) in history.redos(allowed) {
        let recorder = Recorder::new(left.clone(), Points::None, 0);
        let fs = open(&recorder)?;
        if finish(&fs, redo, now).is_some() {
            let tree = tree_of_engine(&fs)?;
            if let Some(found) = history.find(tree.print(), states) {
                return begin(fs, recorder, &tree, found);
            }
        }
    }
    let nearest = tree.differences(&tree_of_model(history.state(allowed.to)));
    Err(match history.find_any(tree.print()) {
        Some(other) => format!("state {other} is found, but {allowed:?}; compared with the last:{nearest}"),
        None => format!("what is found is no state on the way ({allowed:?}); compared with the last:{nearest}"),
    })
}

/// Ends a call that a crash left half done; none if there was nothing to end.
fn finish(fs: &Fs, redo: &Redo, now: Timestamp) -> Option<()> {
    match redo {
        Redo::Clone(path) => {
            let directory = fs.resolve(path).ok()?.ino;
            let entries = fs.list_all(directory).ok()?;
            let draft = entries.into_iter().find(|entry| entry.name.starts_with(b".clone-"))?;
            fs.remove_tree(directory, &draft.name, now).ok()?;
        }
        Redo::Remove(path, name) => {
            let directory = fs.resolve(path).ok()?.ino;
            fs.remove_tree(directory, name, now).ok()?;
        }
    }
    fs.flush().ok()
}

/// Runs a sequence on a disk of which one operation fails.
pub fn check_fault(plan: &Plan, kind: Operation, nth: u64) -> Result<Figures, Violation> {
    let mut session = plan.start(Points::None)?;
    let recorder = Arc::clone(&session.disk);
    session.faulty = true;
    recorder.sim.fail_nth(kind, nth);
    for action in &plan.actions {
        session.perform(action)?;
        if session.stopped {
            break;
        }
    }
    let call = session.history.calls().saturating_sub(usize::from(session.stopped));
    if session.stopped {
        refuses_everything(&session.fs)?;
    } else {
        recorder.sim.clear_faults();
        session.faulty = false;
        session.compare_all()?;
    }
    let history = &session.history;
    let mut figures = Figures {
        faults: 1,
        ..Figures::default()
    };
    drop(session.fs);
    let moment = recorder.now(call);
    let process = history.after_process_end(call);
    let mut again = recover(&moment.process_ends(), history, process, &mut figures)
        .map_err(|wrong| format!("{kind:?} {nth} fails, then the process ends: {wrong}"))?;
    let mut random = plan.random(2);
    // What the next process finds and flushes is as safe as if nothing had failed before.
    again.perform(&Action::Flush)?;
    let flushed = again.history.after_power_loss(again.history.calls());
    let later = again.disk.now(again.history.calls()).power_fails(random.next());
    recover(&later, &again.history, flushed, &mut figures)
        .map_err(|wrong| format!("{kind:?} {nth} fails, the next process flushes, then the power fails: {wrong}"))?;
    let power = history.after_power_loss(call);
    recover(&moment.power_fails(random.next()), history, power, &mut figures)
        .map_err(|wrong| format!("{kind:?} {nth} fails, then the power fails: {wrong}"))?;
    Ok(figures)
}

fn refuses_everything(fs: &Fs) -> Result<(), Violation> {
    let now = Timestamp(BORN);
    let set = vexfs::fs::SetAttributes::default();
    let results = [
        fs.flush(),
        fs.checkpoint(),
        fs.set_attributes(Ino::ROOT, &set).map(|_| ()),
        fs.set_xattr(Ino::ROOT, b"user.a", b"", 0, now),
    ];
    match results.iter().position(Result::is_ok) {
        Some(index) => Err(format!("after the pool failed, change {index} succeeds")),
        None => Ok(()),
    }
}

/// The bytes of a disk after a sequence.
pub fn bytes_after(plan: &Plan) -> Result<Vec<u8>, Violation> {
    let mut session = plan.start(Points::None)?;
    for action in &plan.actions {
        session.perform(action)?;
    }
    let mut bytes = vec![0; POOL_BYTES as usize];
    session
        .disk
        .sim
        .read(0, &mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// A panic is a violation too.
pub fn guarded<T>(run: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// The shortest part of a sequence that still fails, and how it does.
pub fn shrink(plan: &Plan, wrong: Violation, fails: impl Fn(&Plan) -> Option<Violation>) -> (Plan, Violation) {
    let (mut plan, mut wrong) = (plan.clone(), wrong);
    let mut step = plan.actions.len().div_ceil(2).max(1);
    let mut tries = 300;
    loop {
        let mut removed = false;
        let mut at = 0;
        while at < plan.actions.len() && tries > 0 {
            let mut shorter = plan.clone();
            shorter.actions.drain(at..(at + step).min(plan.actions.len()));
            tries -= 1;
            match fails(&shorter) {
                Some(still) => (plan, wrong, removed) = (shorter, still, true),
                None => at += step,
            }
        }
        if tries == 0 || step == 1 && !removed {
            return (plan, wrong);
        }
        step = (step / 2).max(1);
    }
}
