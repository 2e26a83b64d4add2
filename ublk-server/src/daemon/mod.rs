// SPDX-License-Identifier: MIT OR Apache-2.0

//! The daemon: one process that serves several devices of one pool, or the device of one file, and can be asked to do
//! something at its control socket.
//!
//! # The life of a daemon
//!
//! 1. The process is [set up](process), and what it serves from is opened and so belongs to it.
//! 2. Devices of it that wait for a server are taken over: their [records](record) say what they are. What a mount held whose
//!    device is gone goes.
//! 3. Devices that were asked for and are not there are added. Each has a [thread](owner) that owns it.
//! 4. The control socket answers; whoever started the daemon is told, a service manager too.
//! 5. It serves until a signal or request ends it, or, if that was asked for, until its last device is gone.
//! 6. Devices that somebody uses are left to the next server; the others are stopped and deleted. The pool is closed.
//!
//! A panic anywhere, or a queue that breaks, ends the process at once, as a kill does: devices stay, and another server goes
//! on with them. That is always right, and exercised all the time.
//!
//! # Handover
//!
//! Asked to hand over, the daemon releases its devices, closes the pool, and becomes the program that is installed now, in
//! the same process. That begins at 1 and finds its devices at 2. Applications wait meanwhile.
//!
//! | module | job |
//! |---|---|
//! | [`protocol`] | what is said at the control socket |
//! | [`answers`] | who says it |
//! | [`backing`] | what is served from, and targets made of it |
//! | [`devices`] | the devices, and what can be done to them |
//! | [`owner`] | the thread of one device |
//! | [`record`] | what devices are made of, for other processes |
//! | [`holders`] | who uses a device |
//! | [`report`] | starting a daemon in the background |
//! | [`usable`] | whether a new device can be used |
//! | [`process`] | what the process is |
//! | [`unit`] | daemons that systemd runs |

mod answers;
pub(crate) mod backing;
mod devices;
pub mod holders;
mod owner;
pub mod process;
pub mod protocol;
pub mod record;
pub mod report;
pub mod unit;
mod usable;

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vexfs_control::engine::Engine;
use vexfs_control::handler::Refusal;
use vexfs_control::logging::LogControl;
use vexfs_control::place::{self, PlaceError, Socket};
use vexfs_control::server::Server;
use vexfs_control::status::Facts;

use self::answers::Answers;
use self::backing::{BackingError, Opened};
use self::devices::{Devices, Event, Events};
use self::owner::Fate;
use self::protocol::{DeviceFacts, ServerFacts, Wanted};
use self::record::Records;
use crate::args::ArgsError;
use crate::signals::StopSignals;

/// Who may administer devices: root.
const SOCKET_MODE: u32 = 0o600;
/// Tells the next program when the one before it let go of its devices: nanoseconds of the monotonic clock.
pub const HANDOVER_VARIABLE: &str = "VEXFS_UBLK_HANDOVER";

/// What a daemon is told when it starts.
#[derive(Debug)]
pub struct Settings {
    /// What to serve.
    pub wanted: Wanted,
    /// Where this program is, for the one that comes after it.
    pub program: PathBuf,
    /// End with the last device.
    pub until_idle: bool,
    /// Keep all memory in memory.
    pub lock_memory: bool,
    /// What is logged.
    pub log: LogControl,
}

/// What a daemon tells whoever started it, once it serves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Its devices.
    pub devices: Vec<DeviceFacts>,
    /// A sentence for each device that waits for a server and could not be taken over.
    pub left: Vec<String>,
}

/// How a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// There is nothing left to do for this daemon.
    Done {
        /// How many devices wait for another one.
        left: usize,
    },
    /// The program that is installed now is to go on.
    Handover {
        /// When applications began to wait: nanoseconds of the monotonic clock.
        since: u64,
    },
}

/// Why a daemon could not serve.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// What it serves from.
    #[error(transparent)]
    Backing(#[from] BackingError),
    /// The control socket.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A device that was asked for.
    #[error("{}", .0.message)]
    Device(Refusal),
    /// There is nothing to serve.
    #[error("no device of {0} waits for a server")]
    Nothing(String),
    /// This process.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A queue broke. Devices are left as by a kill.
    #[error("{0}; the devices wait for another server")]
    Broken(crate::error::Error),
    /// The end.
    #[error("cannot leave the pool clean: {0}; nothing written is lost, the next opening replays its journal")]
    Close(vexfs::error::Error),
}

fn system(what: &'static str) -> impl Fn(Errno) -> DaemonError {
    move |errno| DaemonError::System {
        what,
        source: errno.into(),
    }
}

/// Ends the process at a panic in any thread: devices then wait for another server.
pub fn abort_on_panic() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        std::process::abort();
    }));
}

/// What is to be served, where a process that has just died may still hold the lock of the file that says so.
pub fn patiently_wanted(wanted: impl FnMut() -> Result<Wanted, ArgsError>) -> Result<Wanted, ArgsError> {
    backing::patiently(wanted, ArgsError::is_in_use)
}

/// Serves until the end. `ready` is called once. The process must have one thread.
pub fn serve(settings: Settings, ready: impl FnOnce(&Ready)) -> Result<End, DaemonError> {
    // Before the first thread, and before the first command to the driver.
    let signals = StopSignals::block().map_err(system("block signals"))?;
    let runtime = place::directory()?;
    let runtime = std::path::absolute(&runtime).map_err(|source| DaemonError::System {
        what: "find the runtime directory",
        source,
    })?;
    let needed = [
        Some(runtime.as_path()),
        Some(&settings.program),
        settings.wanted.backing.path(),
    ];
    process::prepare(&needed.into_iter().flatten().collect::<Vec<_>>(), settings.lock_memory);
    let records = Records::of(&runtime);
    records.prepare().map_err(|source| DaemonError::System {
        what: "make the directory of records",
        source,
    })?;
    let opened = Opened::open(&settings.wanted.backing)?;
    let pool = opened.pool().cloned();
    let served = serve_opened(settings, opened, &runtime, records, &signals, ready);
    if let Err(DaemonError::Broken(_)) = &served {
        // As after a kill: nothing is closed, and nothing is deleted.
        return served;
    }
    match pool.map(vexfs::fs::Fs::close) {
        Some(Err(error)) => served.and(Err(DaemonError::Close(error))),
        _ => served,
    }
}

fn serve_opened(
    settings: Settings,
    opened: Opened,
    runtime: &std::path::Path,
    records: Records,
    signals: &StopSignals,
    ready: impl FnOnce(&Ready),
) -> Result<End, DaemonError> {
    let Settings {
        wanted,
        until_idle,
        log,
        ..
    } = settings;
    let (directory, name) = match opened.pool() {
        Some(fs) => (runtime.to_owned(), place::socket_name(fs.superblock().uuid)),
        None => (records.directory().to_owned(), wanted.backing.socket_name()),
    };
    let socket = Socket::make(&directory, &name, SOCKET_MODE)?;
    let (events, inbox) = events()?;
    let pool = opened.pool().cloned();
    let place: PathBuf = directory.join(&name);
    let devices = Arc::new(Devices::new(
        wanted.backing.clone(),
        opened,
        records,
        place,
        Arc::clone(&events),
    ));
    let mut told = Ready::default();
    let brought = bring_up(&devices, &wanted, until_idle, &mut told);
    if let Err(error) = brought {
        devices.end();
        return Err(error);
    }
    let server = ServerFacts {
        pid: std::process::id(),
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        incarnation: now().to_string(),
        backing: wanted.backing,
        until_idle,
        handover_seconds: handed_over_for(),
    };
    if let Some(seconds) = server.handover_seconds {
        tracing::info!("applications waited {seconds:.3} s for the handover");
    }
    let engine = pool.map(|fs| {
        let facts = Facts {
            pool: server.backing.name(),
            mount_point: None,
            front_end: "ublk".into(),
            options: Vec::new(),
        };
        Engine::new(fs, facts, ()).with_log(log.clone())
    });
    let answers = Answers {
        devices: Arc::clone(&devices),
        server,
        engine,
        log,
        events,
    };
    let server = Server::start(socket, answers).map_err(|source| DaemonError::System {
        what: "answer at the control socket",
        source,
    })?;
    ready(&told);
    tell_manager(&[NotifyState::Ready, NotifyState::Status(&summary(&devices))]);
    let reason = wait(&inbox, signals, &devices, until_idle)?;
    match reason {
        Reason::Done => tell_manager(&[NotifyState::Stopping]),
        // The program that comes next says that it is ready. Who stops is given a limited time instead, and then killed.
        Reason::Handover => reload(),
    }
    // Before the devices go: who is being answered gets the answer.
    server.stop();
    let since = now();
    match reason {
        Reason::Handover => {
            devices.release_all();
            Ok(End::Handover { since })
        }
        Reason::Done => Ok(End::Done { left: devices.end() }),
    }
}

/// What waits for a server first, then what was asked for.
fn bring_up(devices: &Devices, wanted: &Wanted, until_idle: bool, told: &mut Ready) -> Result<(), DaemonError> {
    let recovered = devices.recover().map_err(DaemonError::Device)?;
    told.devices = recovered.taken_over;
    told.left = recovered.left;
    for sentence in &told.left {
        tracing::error!("{sentence}");
    }
    if told.left.is_empty() {
        devices.forget_lost_client();
    }
    for spec in &wanted.devices {
        if devices.of_target(&spec.target).is_none() {
            told.devices.push(devices.add(spec).map_err(DaemonError::Device)?);
        }
    }
    if until_idle && devices.is_empty() {
        let why = told.left.first().cloned();
        return Err(why.map_or_else(
            || DaemonError::Nothing(wanted.backing.name()),
            |why| DaemonError::Device(Refusal::new(409, why)),
        ));
    }
    Ok(())
}

/// Why a daemon stops serving.
enum Reason {
    Done,
    Handover,
}

/// What happens, and a descriptor that is readable then.
struct Inbox {
    events: Receiver<Event>,
    wake: Arc<EventFd>,
}

fn events() -> Result<(Events, Inbox), DaemonError> {
    let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
    let wake = Arc::new(wake.map_err(system("make an eventfd"))?);
    let (sender, events) = mpsc::channel();
    let waker = Arc::clone(&wake);
    let send: Events = Arc::new(move |event| {
        // Both fail only when nobody waits for events any more, or when somebody is about to be woken.
        let _ = sender.send(event);
        let _ = waker.write(1);
    });
    Ok((send, Inbox { events, wake }))
}

/// Waits for a reason to end.
fn wait(inbox: &Inbox, signals: &StopSignals, devices: &Arc<Devices>, until_idle: bool) -> Result<Reason, DaemonError> {
    // Half of what the manager waits for, as it recommends.
    let beat = sd_notify::watchdog_enabled().map(|interval| interval / 2);
    loop {
        let next = beat.map(|beat| Instant::now() + beat);
        if let Some(signal) = signals.take().map_err(system("read signals"))? {
            tracing::info!("ending on {signal}");
            return Ok(Reason::Done);
        }
        while let Ok(event) = inbox.events.try_recv() {
            match event {
                Event::Ended(
                    _,
                    Fate::Broken {
                        error,
                        recoverable: true,
                    },
                ) => {
                    tracing::error!("{error}");
                    return Err(DaemonError::Broken(error));
                }
                Event::Ended(id, Fate::Broken { error, .. }) => {
                    tracing::error!("{error}");
                    devices.forget(id);
                }
                Event::Ended(id, Fate::Stopped) => {
                    tracing::info!("device {id} was stopped by somebody else");
                    devices.forget(id);
                }
                Event::Idle if until_idle && devices.is_empty() => return Ok(Reason::Done),
                Event::Idle => {}
                Event::Unmounted => devices.end_unmounted(),
                Event::Shutdown => return Ok(Reason::Done),
                Event::Handover => return Ok(Reason::Handover),
            }
            tell_manager(&[NotifyState::Status(&summary(devices))]);
        }
        tell_manager(&[NotifyState::Watchdog]);
        let timeout = next.map_or(PollTimeout::NONE, |next| {
            let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(inbox.wake.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(system("wait for events")(errno)),
        }
        // Only clears it.
        let _ = inbox.wake.read();
    }
}

fn summary(devices: &Devices) -> String {
    let paths: Vec<String> = devices.facts().into_iter().map(|facts| facts.path).collect();
    match paths.as_slice() {
        [] => "no devices".to_owned(),
        paths => paths.join(" "),
    }
}

/// A manager of today wants to know when that began, to tell this from what was said before.
fn reload() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell_manager(&[NotifyState::Reloading, now, NotifyState::Watchdog]),
        Err(error) => tracing::warn!("cannot read the clock for the service manager: {error}"),
    }
}

/// Tells the service manager, which has no other way to know, why nothing is served.
pub fn tell_failure(error: &dyn std::error::Error) {
    tell_manager(&[NotifyState::Status(&error.to_string().replace('\n', " "))]);
}

/// Nothing happens where there is no service manager.
fn tell_manager(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager: {error}");
    }
}

/// Nanoseconds of the monotonic clock.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    u64::try_from(time.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// How long the handover took that this program came to be by.
fn handed_over_for() -> Option<f64> {
    let since: u64 = std::env::var(HANDOVER_VARIABLE).ok()?.parse().ok()?;
    Some(Duration::from_nanos(now().checked_sub(since)?).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn a_panic_in_any_thread_ends_the_process_as_a_kill_does() {
        let own = std::env::current_exe().unwrap();
        let mut child = Command::new(own);
        child.args(["--exact", "daemon::tests::a_thread_panics", "--ignored"]);
        let output = child.output().unwrap();
        assert_eq!(output.status.signal(), Some(nix::libc::SIGABRT), "{output:?}");
    }

    #[test]
    #[ignore = "ends its process; the test above runs it"]
    fn a_thread_panics() {
        abort_on_panic();
        let ended = thread::spawn(|| panic!("as intended")).join();
        assert!(ended.is_ok(), "the process outlived a panic");
    }
}
