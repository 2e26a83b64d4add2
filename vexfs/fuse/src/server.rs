// SPDX-License-Identifier: MIT OR Apache-2.0

//! The life of the server: open the pool, have it mounted, serve, close it.
//!
//! It ends when the mount does, whoever unmounts it, or when it gets SIGTERM, SIGINT or SIGHUP. Then the mount point is taken
//! away, at once from the directory if it is still in use after a short wait. In every case the pool is closed in order
//! before the process ends. A panic ends the process at once: what was answered is in the journal, and callers get
//! an error instead of waiting for a thread that is gone.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use fuser::{Config, Session, SessionACL};
use nix::sys::signal::{SigSet, Signal};
use vexfs::fs::Fs;
use vexfs::pool::{Access, OpenError, OpenOptions as PoolOptions, Pool};
use vexfs_control::place::Socket;
use vexfs_control::server::Server;

use crate::control::{self, Kernel};
use crate::filesystem::callers::Callers;
use crate::filesystem::lookups::Lookups;
use crate::filesystem::{Settings, VexFilesystem};
use crate::guardian::{Guardian, Task, Unmounted};
use crate::options::{Audience, Options};
use crate::sandbox;

/// How long requests that are under way may take after the mount point is gone.
const GRACE: Duration = Duration::from_secs(1);

/// Why a pool could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The pool.
    #[error(transparent)]
    Pool(#[from] OpenError),
    /// The mount.
    #[error("{0}")]
    Mount(String),
    /// The connection to the kernel.
    #[error("the kernel ended the connection: {0}")]
    Session(std::io::Error),
    /// This process.
    #[error("{what}: {error}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// The end.
    #[error("the pool could not be closed in order: {0}; the next mount recovers it from its journal")]
    Close(vexfs::error::Error),
}

enum Event {
    /// A signal asks for the end.
    Signal(Signal),
    /// The kernel asks for nothing any more.
    Ended(std::io::Result<()>),
}

/// Serves a pool until it is unmounted. `pool` and `directory` are absolute paths. `ready` is called once the mount answers.
///
/// The process must have one thread.
pub fn serve(pool: PathBuf, directory: PathBuf, options: Options, ready: impl FnOnce()) -> Result<(), ServeError> {
    let process = |what| move |error| ServeError::Process { what, error };
    let task = Task {
        pool,
        directory,
        options,
    };
    let guardian = Arc::new(Guardian::start(&task).map_err(process("starting the guardian"))?);
    let signals = ending_signals();
    signals
        .thread_block()
        .map_err(|errno| process("blocking signals")(errno.into()))?;
    abort_on_panic();
    sandbox::prepare();
    let opened = open(&task.pool, &task.options);
    let result = opened.and_then(|opened| {
        let fs = opened.fs.clone();
        let served = attach(&task, &guardian, opened).and_then(|(session, control)| {
            ready();
            let ended = run(session, signals, &guardian);
            // Before the pool is closed: it is asked about no more.
            drop(control);
            ended
        });
        if served.is_err()
            && let Err(text) = guardian.unmount()
        {
            tracing::warn!("{text}");
        }
        // Closed in any case; a failure before it is what the caller should hear of.
        let closed = fs.close().map_err(ServeError::Close);
        served.and(closed)
    });
    guardian.dismiss();
    result
}

fn ending_signals() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals
}

fn abort_on_panic() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        std::process::abort();
    }));
}

/// Opens the pool and gives up everything that is not needed from then on, before threads are started.
fn open(path: &Path, options: &Options) -> Result<Opened, ServeError> {
    let access = if options.is_read_only() {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    };
    let pool = Pool::open_path(path, &PoolOptions::new(access))?;
    let callers = Callers::new();
    let socket = control::socket(pool.superblock().uuid);
    if options.sandbox {
        sandbox::enter();
    }
    let fs = Fs::mount(pool, &options.engine)?;
    Ok(Opened { fs, callers, socket })
}

/// What is there before the sandbox takes the way to it.
struct Opened {
    fs: Fs,
    callers: Callers,
    socket: Option<Socket>,
}

/// Mounts, and agrees with the kernel on how to talk.
fn attach(
    task: &Task,
    guardian: &Arc<Guardian>,
    opened: Opened,
) -> Result<(Session<VexFilesystem>, Option<Server>), ServeError> {
    let options = &task.options;
    let settings = Settings {
        note_reads: !options.is_read_only() && !options.flags.contains(nix::mount::MsFlags::MS_NOATIME),
        writeback: options.writeback,
    };
    let notifier = Arc::new(OnceLock::new());
    let lookups = Arc::new(Lookups::new());
    let filesystem = VexFilesystem::new(
        opened.fs.clone(),
        settings,
        Arc::clone(&lookups),
        opened.callers,
        Arc::clone(&notifier),
    );
    let device = guardian.mount().map_err(ServeError::Mount)?;
    let mut config = Config::default();
    config.acl = match options.audience {
        Audience::All => SessionACL::All,
        Audience::OwnerAndRoot => SessionACL::RootAndOwner,
        Audience::Owner => SessionACL::Owner,
    };
    config.n_threads = Some(options.thread_count());
    // Each thread gets a descriptor of its own, where the device may be opened again.
    config.clone_fd = OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    let acl = config.acl;
    let session = Session::from_fd(filesystem, device, acl, config).map_err(ServeError::Session)?;
    if notifier.set(session.notifier()).is_err() {
        tracing::debug!("a notifier was there already");
    }
    let kernel = Kernel {
        fs: opened.fs.clone(),
        lookups,
        notifier,
        guardian: Arc::clone(guardian),
    };
    let control = opened
        .socket
        .and_then(|socket| control::answer(socket, task, opened.fs, kernel));
    if options.sandbox {
        sandbox::note("system calls", sandbox::syscalls::restrict());
    }
    Ok((session, control))
}

/// Serves until the end.
fn run(session: Session<VexFilesystem>, signals: SigSet, guardian: &Guardian) -> Result<(), ServeError> {
    let process = |what| move |error| ServeError::Process { what, error };
    let (sender, events) = channel();
    let ended = sender.clone();
    let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
        let thread = thread::Builder::new().name(name.into()).spawn(work);
        thread.map(drop).map_err(process("starting a thread"))
    };
    start(
        "session",
        Box::new(move || {
            let result = session.run();
            let _ = ended.send(Event::Ended(result));
        }),
    )?;
    start("signals", Box::new(move || pass_on(signals, &sender)))?;
    wait(&events, guardian)
}

/// Waits for signals for as long as somebody wants to hear of them.
fn pass_on(signals: SigSet, to: &Sender<Event>) {
    loop {
        match signals.wait() {
            Ok(signal) => {
                if to.send(Event::Signal(signal)).is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "signals are not heard any more");
                return;
            }
        }
    }
}

fn wait(events: &Receiver<Event>, guardian: &Guardian) -> Result<(), ServeError> {
    let ended = |result: std::io::Result<()>| result.map_err(ServeError::Session);
    match events.recv() {
        Ok(Event::Ended(result)) => return ended(result),
        Ok(Event::Signal(signal)) => tracing::info!(%signal, "unmounting"),
        Err(_) => return Ok(()),
    }
    match guardian.unmount() {
        Ok(Unmounted::Fully) => {}
        Ok(Unmounted::Detached) => tracing::warn!("the mount was in use: who has files open gets errors from now on"),
        Err(text) => tracing::error!("{text}; who uses the mount gets errors from now on"),
    }
    loop {
        match events.recv_timeout(GRACE) {
            Ok(Event::Ended(result)) => return ended(result),
            Ok(Event::Signal(_)) => {}
            // Somebody still has files open. The process ends all the same, and with it their connection.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
