// SPDX-License-Identifier: MIT OR Apache-2.0

//! One machine of the lab.
//!
//! [`Machine::boot`] returns once the agent inside answers. From then on three things are watched at once: the agent's
//! port (what commands print and how they end, a heartbeat), the console (every line is logged and classified), and the
//! QEMU process. Whatever waits for a command therefore ends within a bound: with the command's exit, with a timeout,
//! or with the [`Report`] that says how the guest was lost.
//!
//! A machine that goes out of scope is killed, QEMU included, also when the lab itself is killed.

mod agent;
mod initramfs;
mod monitor;
mod qemu;
mod shell;
mod spec;
pub mod system;
mod volatile;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab_guest::protocol::{Command, Decoder, Exit, Message, ToGuest, ToHost, Vitals};

pub use monitor::Monitor;
pub use qemu::Accelerator;
pub use spec::{Bounds, Disk, Ivshmem, Medium, Root, SharedMemory, Spec};
pub use volatile::{Lost, VolatileDisk};

use crate::crash::{Classifier, CrashType, EMULATOR_FAULT, Effect, LineSplitter, Report, Sighting, Trend, TrendConfig};
use crate::kernel::KernelId;

/// How long the end of a kernel's report is waited for once its beginning was fatal.
const REPORT_GRACE: Duration = Duration::from_secs(2);
/// A console this quiet has said all it had to say.
const QUIET: Duration = Duration::from_millis(400);

/// Printed when it is seen: whoever judges the output of a process that drives machines knows by it.
pub const EMULATOR_FAULT_SEEN: &str = "an emulated processor ran into code that was just being patched";
/// How often a boot is tried when emulation is what ends it.
const BOOT_ATTEMPTS: u32 = 3;

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    spec: Spec,
    qemu: Child,
    // Removed with the machine.
    _sockets: Scratch,
    agent: UnixStream,
    monitor: Monitor,
    events: Receiver<Event>,
    console: Arc<Mutex<Console>>,
    jobs: HashMap<u32, JobState>,
    next_job: u32,
    heard: Instant,
    frozen: bool,
    checkpoint: Option<u64>,
    trouble: Option<String>,
    vitals: Vitals,
    trends: Trends,
    boot_time: Duration,
}

/// Resources of the guest that may grow for a while but not for ever.
#[derive(Debug)]
struct Trends {
    slab: Trend,
    open_files: Trend,
}

/// A command that was started in a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Job(u32);

/// Which of a command's streams bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Out,
    /// Standard error.
    Err,
}

/// How waiting for a command ended.
#[derive(Debug)]
pub enum Ended {
    /// The command ended.
    Exit(Exit),
    /// It did not end in time; the guest is alive.
    TimedOut,
    /// The guest crashed or fell silent.
    Lost(Box<Report>),
}

/// What a command printed, and its exit.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

#[derive(Debug, Default)]
struct JobState {
    output: Vec<(Stream, Vec<u8>)>,
    exit: Option<Exit>,
}

#[derive(Debug)]
enum Event {
    Agent(ToHost),
    /// A console line that is more than a notice.
    Alarm(Sighting),
    /// A stream from QEMU ended; why.
    Down(String),
}

#[derive(Debug)]
struct Console {
    classifier: Classifier,
    power_on: Instant,
    last_line: Instant,
}

impl Machine {
    /// Boots a machine and waits until it is ready for commands.
    pub fn boot(spec: &Spec) -> Result<Self> {
        let agent = agent::ensure()?;
        let mut attempt = 1;
        loop {
            let mut machine = Self::power_on(spec.clone(), &agent)?;
            match machine.wait_ready() {
                Ok(()) => return Ok(machine),
                Err(error) => {
                    let report = machine.locked().classifier.report();
                    let emulator = match report {
                        Some(report) => report.is_of_emulation(),
                        // A kernel that stops without a word did not meet anything of ours: unless it comes with its disk,
                        // nothing of ours is loaded yet.
                        None => matches!(spec.root, Root::Host),
                    };
                    if !emulator || attempt == BOOT_ATTEMPTS {
                        return Err(error);
                    }
                    eprintln!("boot {attempt} ended in an emulation fault, once more: {error}");
                    attempt += 1;
                }
            }
        }
    }

    fn power_on(spec: Spec, agent: &Path) -> Result<Self> {
        let power_on = Instant::now();
        fs::create_dir_all(&spec.directory).with_context(|| format!("making {}", spec.directory.display()))?;
        let sockets = Scratch::create()?;
        let image = match &spec.root {
            Root::Host => {
                let image = sockets.path("initramfs");
                let archive = initramfs::build(&spec.kernel, agent, spec.bounds.sysctl())?;
                fs::write(&image, archive).with_context(|| format!("writing {}", image.display()))?;
                image
            }
            Root::Disk { initramfs } => initramfs.clone(),
        };
        let (agent_path, monitor_path) = (sockets.path("agent"), sockets.path("monitor"));
        let paths = qemu::Sockets {
            agent: &agent_path,
            monitor: &monitor_path,
        };
        let words = qemu::command_line(&spec, &image, &paths);
        let (program, arguments) = words.split_first().context("an empty command line")?;
        let errors = sockets.path("qemu.log");
        let mut qemu = Process::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()
            .context("starting QEMU")?;
        let screen = qemu.stdout.take().context("QEMU has no standard output")?;
        let (sender, events) = channel();
        let watched: Vec<&str> = spec.watched.iter().map(String::as_str).collect();
        let console = Arc::new(Mutex::new(Console {
            classifier: Classifier::new(&watched),
            power_on,
            last_line: power_on,
        }));
        let log = File::create(spec.directory.join("console.log")).context("making the console log")?;
        watch_console(screen, log, Arc::clone(&console), sender.clone());

        let connection = connect(&agent_path, &mut qemu, &errors).and_then(|agent| {
            watch_agent(agent.try_clone()?, sender);
            // QEMU makes its sockets one after the other: that the first is there says nothing of the second.
            let monitor = connect(&monitor_path, &mut qemu, &errors)?;
            Ok((agent, Monitor::negotiate(monitor)?))
        });
        let (agent, monitor) = match connection {
            Ok(connection) => connection,
            Err(error) => {
                // Not yet owned by a Machine: nobody else would end it.
                let _dead_already = qemu.kill();
                let _status = qemu.wait();
                return Err(error);
            }
        };
        Ok(Self {
            spec,
            qemu,
            _sockets: sockets,
            agent,
            monitor,
            events,
            console,
            jobs: HashMap::new(),
            next_job: 1,
            heard: power_on,
            frozen: false,
            checkpoint: None,
            trouble: None,
            vitals: Vitals::default(),
            trends: Trends {
                slab: Trend::new(TrendConfig::SLAB),
                open_files: Trend::new(TrendConfig::FDS),
            },
            boot_time: Duration::ZERO,
        })
    }

    fn wait_ready(&mut self) -> Result<()> {
        let bound = self.spec.bounds.boot;
        let stuck = self.spec.bounds.boot_quiet;
        let power_on = self.heard;
        while self.boot_time.is_zero() {
            let quiet = self.locked().last_line.elapsed();
            let why = match self.events.recv_timeout(Duration::from_millis(250)) {
                Err(RecvTimeoutError::Timeout) if quiet > stuck => format!("silent for {} s", stuck.as_secs()),
                Err(RecvTimeoutError::Timeout) if power_on.elapsed() < bound => continue,
                Ok(Event::Agent(ToHost::Ready(_))) => {
                    self.heard = Instant::now();
                    self.boot_time = power_on.elapsed();
                    continue;
                }
                Ok(Event::Alarm(sighting)) if sighting.is_fatal() => {
                    self.settle();
                    sighting.line
                }
                Ok(Event::Down(why)) => why,
                Ok(_) => continue,
                Err(_) => format!("not ready within {} s", bound.as_secs()),
            };
            let log = self.console_log();
            let tail = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = tail.lines().rev().take(15).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!(
                "kernel {} does not boot: {why}\n{}\n(whole console: {})",
                self.spec.kernel.release,
                tail.join("\n"),
                log.display()
            );
        }
        Ok(())
    }

    /// What the machine was made from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// From power-on to the agent's first word.
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// The guest's state at its last heartbeat.
    pub fn vitals(&self) -> Vitals {
        self.vitals
    }

    /// The file that holds everything the console said.
    pub fn console_log(&self) -> PathBuf {
        self.spec.directory.join("console.log")
    }

    /// QEMU's monitor.
    pub fn monitor(&mut self) -> &mut Monitor {
        &mut self.monitor
    }

    /// Starts a command.
    pub fn start(&mut self, command: &Command) -> Result<Job> {
        let job = Job(self.next_job);
        self.next_job += 1;
        self.jobs.insert(job.0, JobState::default());
        self.send(&ToGuest::Run(job.0, command.clone()))?;
        Ok(job)
    }

    /// Waits for a command; its output goes to `sink` as it comes.
    pub fn wait(&mut self, job: Job, limit: Duration, mut sink: impl FnMut(Stream, &[u8])) -> Ended {
        let deadline = Instant::now() + limit;
        loop {
            let state = self.jobs.entry(job.0).or_default();
            for (stream, bytes) in state.output.drain(..) {
                sink(stream, &bytes);
            }
            if let Some(exit) = state.exit.take() {
                self.jobs.remove(&job.0);
                return Ended::Exit(exit);
            }
            let now = Instant::now();
            if now >= deadline {
                return Ended::TimedOut;
            }
            if let Some(report) = self.pump((deadline - now).min(Duration::from_millis(250))) {
                return Ended::Lost(Box::new(report));
            }
        }
    }

    /// Waits for the first line a command prints on its standard output, such as a server's sign that it is ready.
    pub fn first_line(&mut self, job: Job, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        let (mut line, mut rest) = (Vec::new(), Vec::new());
        while !line.contains(&b'\n') {
            let ended = self.wait(job, Duration::from_millis(50), |stream, bytes| match stream {
                Stream::Out => line.extend_from_slice(bytes),
                Stream::Err => rest.extend_from_slice(bytes),
            });
            match ended {
                Ended::TimedOut if Instant::now() < deadline => {}
                ended => bail!("no line of output but {ended:?}\n{}", String::from_utf8_lossy(&rest)),
            }
        }
        let text = String::from_utf8_lossy(&line);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// Ends a command and its descendants.
    pub fn kill(&mut self, job: Job) -> Result<()> {
        self.send(&ToGuest::Kill(job.0))
    }

    /// Sends bytes to a command's standard input.
    pub fn feed(&mut self, job: Job, bytes: &[u8]) -> Result<()> {
        self.send(&ToGuest::Stdin(job.0, bytes.to_vec()))
    }

    /// Runs a shell command to its end and returns what it printed. A guest that is lost, or late, is an error.
    pub fn shell(&mut self, script: &str, limit: Duration) -> Result<Output> {
        let job = self.start(&Command::shell(script))?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let ended = self.wait(job, limit, |stream, bytes| match stream {
            Stream::Out => stdout.extend_from_slice(bytes),
            Stream::Err => stderr.extend_from_slice(bytes),
        });
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (stdout, stderr) = (text(stdout), text(stderr));
        match ended {
            Ended::Exit(exit) => Ok(Output { exit, stdout, stderr }),
            Ended::TimedOut => bail!("{script:?} did not end within {} s\n{stdout}{stderr}", limit.as_secs()),
            Ended::Lost(report) => bail!("the guest was lost during {script:?}: {report}"),
        }
    }

    /// Like [`Self::shell`], and a non-zero exit is an error too. Returns the standard output.
    pub fn succeed(&mut self, script: &str, limit: Duration) -> Result<String> {
        let output = self.shell(script, limit)?;
        if output.exit != Exit::Code(0) {
            bail!(
                "{script:?} in the guest: {:?}\n{}{}",
                output.exit,
                output.stdout,
                output.stderr
            );
        }
        Ok(output.stdout)
    }

    /// An interactive shell on the caller's terminal, until it ends.
    pub fn interact(&mut self, directory: &str, environment: &[(String, String)]) -> Result<Ended> {
        shell::interact(self, directory, environment)
    }

    /// Keeps the machine for a person to look at; returns when they are done. A shell while the guest answers, QEMU's monitor when it
    /// does not.
    pub fn hold(&mut self, environment: &[(String, String)]) -> Result<()> {
        shell::hold(self, environment)
    }

    /// Makes a number durable inside the guest, and waits until it is.
    pub fn checkpoint(&mut self, number: u64, limit: Duration) -> Result<()> {
        self.send(&ToGuest::Checkpoint(number))?;
        let deadline = Instant::now() + limit;
        while self.checkpoint != Some(number) {
            if let Some(report) = self.pump(Duration::from_millis(250)) {
                bail!("the guest was lost before its checkpoint: {report}");
            }
            if let Some(trouble) = self.trouble.take() {
                bail!("the guest cannot keep a checkpoint: {trouble}");
            }
            if Instant::now() > deadline {
                bail!("no checkpoint within {} s", limit.as_secs());
            }
        }
        Ok(())
    }

    /// What went wrong on the console since the last call, if anything did.
    pub fn take_report(&mut self) -> Option<Report> {
        // Only what is on its way is waited for: a console that has said nothing lately says nothing more.
        if self.locked().classifier.report().is_some() {
            self.settle();
        }
        self.locked().classifier.take_report()
    }

    /// Waits until the console reports a failure, or for `limit`.
    pub fn wait_for_report(&mut self, limit: Duration) -> Option<Report> {
        let deadline = Instant::now() + limit;
        loop {
            let report = self.pump(Duration::from_millis(100)).or_else(|| self.take_report());
            if report.is_some() || Instant::now() > deadline {
                return report;
            }
        }
    }

    /// Waits until some resource of the guest is seen to grow without end, or for `limit`.
    pub fn wait_for_leak_warning(&mut self, limit: Duration) -> Option<Report> {
        let deadline = Instant::now() + limit;
        loop {
            let report = self
                .pump(Duration::from_millis(250))
                .or_else(|| self.take_leak_warning());
            if report.is_some() || Instant::now() > deadline {
                return report;
            }
        }
    }

    /// The verdict that the guest hangs, for a caller who found out by other means than the console.
    pub fn declare_hung(&mut self, why: &str) -> Report {
        let mut console = self.locked();
        let at = console.power_on.elapsed();
        let sighting = console.classifier.feed_timeout(why, at);
        console.classifier.take_report().unwrap_or_else(|| Report::of(sighting))
    }

    /// Stops the guest's CPUs.
    pub fn freeze(&mut self) -> Result<()> {
        self.monitor.execute("stop", &serde_json::json!({}))?;
        self.frozen = true;
        Ok(())
    }

    /// Lets them go on.
    pub fn thaw(&mut self) -> Result<()> {
        self.monitor.execute("cont", &serde_json::json!({}))?;
        self.frozen = false;
        self.heard = Instant::now();
        Ok(())
    }

    /// Ends the machine as a power failure does. Returns what to boot again, on the same disks.
    pub fn power_cut(mut self) -> Result<Spec> {
        self.qemu.kill().context("killing QEMU")?;
        self.qemu.wait().context("waiting for QEMU")?;
        Ok(self.spec.clone())
    }

    /// Powers the guest off in order; cuts its power when it does not go. Says whether it went by itself.
    pub fn shut_down(mut self) -> Result<bool> {
        self.send(&ToGuest::PowerOff)?;
        let deadline = Instant::now() + self.spec.bounds.power_off;
        while Instant::now() < deadline {
            if self.qemu.try_wait().context("waiting for QEMU")?.is_some() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.power_cut()?;
        Ok(false)
    }

    /// Whether the agent still answers.
    pub fn is_responsive(&mut self) -> bool {
        let heard = self.heard;
        let deadline = Instant::now() + Duration::from_secs(3);
        while self.heard == heard && Instant::now() < deadline {
            self.take_event(Duration::from_millis(100));
        }
        self.heard != heard
    }

    fn send(&mut self, message: &ToGuest) -> Result<()> {
        let mut wire = Vec::new();
        message.encode(&mut wire);
        self.agent.write_all(&wire).context("talking to the guest's agent")
    }

    /// Handles what happens within `wait`. Returns the verdict when the guest is lost.
    fn pump(&mut self, wait: Duration) -> Option<Report> {
        let down = self.take_event(wait);
        let fatal = self
            .locked()
            .classifier
            .report()
            .is_some_and(|report| report.verdict.is_fatal());
        if fatal {
            self.settle();
            return self.locked().classifier.take_report();
        }
        let silence = self.heard.elapsed();
        let why = match down {
            Some(why) => why,
            None if !self.frozen && silence > self.spec.bounds.silence => {
                format!("no sign of life from the guest for {:.0} s", silence.as_secs_f64())
            }
            None => return None,
        };
        Some(self.declare_hung(&why))
    }

    /// Handles the next event, if one comes within `wait`. Returns why the machine is down when it is.
    fn take_event(&mut self, wait: Duration) -> Option<String> {
        match self.events.recv_timeout(wait) {
            Ok(Event::Agent(message)) => {
                self.heard = Instant::now();
                self.handle(message);
                None
            }
            Ok(Event::Alarm(_)) | Err(RecvTimeoutError::Timeout) => None,
            Ok(Event::Down(why)) => Some(why),
            Err(RecvTimeoutError::Disconnected) => Some("QEMU is gone".into()),
        }
    }

    fn follow(&mut self, vitals: Vitals) {
        self.vitals = vitals;
        let at = Duration::from_millis(vitals.uptime_ms);
        // Both are far below 2^52, where f64 stops being exact.
        #[expect(
            clippy::cast_precision_loss,
            reason = "bytes of a small guest's memory and numbers of its files"
        )]
        let (slab, open_files) = (vitals.slab as f64, vitals.open_files as f64);
        // The debug kernel's checkers keep freed memory for a while: its slabs grow without any leak.
        if self.spec.kernel.id != KernelId::Debug {
            self.trends.slab.feed(at, slab);
        }
        self.trends.open_files.feed(at, open_files);
    }

    /// The early warning that something in the guest only ever grows, if it does. Watching starts over after it.
    pub fn take_leak_warning(&mut self) -> Option<Report> {
        let (what, warning) = [
            ("slab bytes", self.trends.slab.warning()),
            ("open files", self.trends.open_files.warning()),
        ]
        .into_iter()
        .find_map(|(what, warning)| Some((what, warning?)))?;
        self.trends = Trends {
            slab: Trend::new(TrendConfig::SLAB),
            open_files: Trend::new(TrendConfig::FDS),
        };
        let crash = CrashType::ResourceLeak;
        let sighting = Sighting {
            pattern: "trend".to_owned(),
            crash,
            severity: crash.severity(),
            effect: Effect::Notice,
            line: format!(
                "{what} in the kernel grow by {:.0} per second, now {:.0}",
                warning.per_second, warning.level
            ),
            at: self.locked().power_on.elapsed(),
            modules: Vec::new(),
        };
        Some(Report::of(sighting))
    }

    fn handle(&mut self, message: ToHost) {
        match message {
            ToHost::Ready(_) => {}
            ToHost::Heartbeat(vitals) => self.follow(vitals),
            ToHost::Stdout(job, bytes) => self.jobs.entry(job).or_default().output.push((Stream::Out, bytes)),
            ToHost::Stderr(job, bytes) => self.jobs.entry(job).or_default().output.push((Stream::Err, bytes)),
            ToHost::Exit(job, exit) => self.jobs.entry(job).or_default().exit = Some(exit),
            ToHost::Checkpointed(number) => self.checkpoint = Some(number),
            ToHost::Trouble(text) => self.trouble = Some(text),
        }
    }

    /// Waits, within bounds, for the rest of a kernel report.
    fn settle(&self) {
        let deadline = Instant::now() + REPORT_GRACE;
        while Instant::now() < deadline {
            let console = self.locked();
            if console.last_line.elapsed() > QUIET || !console.classifier.is_collecting(console.power_on.elapsed()) {
                return;
            }
            drop(console);
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn locked(&self) -> MutexGuard<'_, Console> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Failures mean that it is dead already.
        let _dead_already = self.qemu.kill();
        let _status = self.qemu.wait();
    }
}

/// A private directory for sockets, whose paths must be short; removed on drop.
#[derive(Debug)]
struct Scratch {
    directory: PathBuf,
}

impl Scratch {
    fn create() -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("lab-{}-{number}", std::process::id()));
        // A directory of this name is left over from a process of the same number that was killed.
        let _absent = fs::remove_dir_all(&directory);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("making {}", directory.display()))?;
        Ok(Self { directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left-overs in the temporary directory harm nobody; the next user of the name clears them.
        let _left_over = fs::remove_dir_all(&self.directory);
    }
}

fn connect(path: &Path, qemu: &mut Child, errors: &Path) -> Result<UnixStream> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                if let Some(status) = qemu.try_wait().context("waiting for QEMU")? {
                    let said = fs::read_to_string(errors).unwrap_or_default();
                    bail!("QEMU does not start: {status}\n{}", said.trim_end());
                }
                if Instant::now() > deadline {
                    return Err(error).with_context(|| format!("connecting to {}", path.display()));
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn watch_console(
    mut from: impl Read + Send + 'static,
    mut log: File,
    console: Arc<Mutex<Console>>,
    events: Sender<Event>,
) {
    thread::spawn(move || {
        let mut splitter = LineSplitter::new();
        let mut bytes = vec![0; 16 << 10];
        let mut feed = |line: &str| {
            let mut console = console.lock().unwrap_or_else(PoisonError::into_inner);
            console.last_line = Instant::now();
            let at = console.power_on.elapsed();
            if let Some(sighting) = console.classifier.feed_line(line, at) {
                drop(console);
                if sighting.pattern == EMULATOR_FAULT {
                    eprintln!("{EMULATOR_FAULT_SEEN}");
                }
                // Without a receiver the machine is being dropped; the console is still logged to its end.
                let _unheard = events.send(Event::Alarm(sighting));
            }
        };
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let piece = bytes.get(..length).unwrap_or_default();
            // A full disk must not stop classification.
            let _unlogged = log.write_all(piece);
            splitter.push(piece, &mut feed);
        }
        splitter.finish(&mut feed);
        let _unheard = events.send(Event::Down("QEMU ended".into()));
    });
}

fn watch_agent(mut stream: UnixStream, events: Sender<Event>) {
    thread::spawn(move || {
        let mut decoder = Decoder::default();
        let mut bytes = vec![0; 64 << 10];
        let why = 'connection: loop {
            match stream.read(&mut bytes) {
                Ok(0) => break "the agent's port closed".to_owned(),
                Ok(length) => decoder.push(bytes.get(..length).unwrap_or_default()),
                Err(error) => break format!("the agent's port: {error}"),
            }
            loop {
                match decoder.take() {
                    Ok(Some(message)) => {
                        if events.send(Event::Agent(message)).is_err() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => break 'connection format!("the agent does not speak the protocol: {error}"),
                }
            }
        };
        let _unheard = events.send(Event::Down(why));
    });
}
