// SPDX-License-Identifier: MIT OR Apache-2.0

//! The host's commands as processes: started, fed, ended with all their descendants, and reaped.
//!
//! # Who reaps
//!
//! PID 1 inherits every orphan, so one thread waits for everybody. It first *looks* (`WNOWAIT`) and collects a status
//! only while it holds the job table: a spawn holds the table too, so a child that dies at once is not reaped before
//! its job is known, and the standard library's own wait after a failed exec is not stolen from.
//!
//! # Descendants
//!
//! A job lives in a control group of its own. When its first process ends, what is left in the group is killed: a
//! test cannot leave a server behind for the next one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use lab_guest::protocol::{self, Exit, TerminalSize, ToHost};
use nix::errno::Errno;
use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, setsid};

/// Where frames to the host go.
pub(crate) type Outbox = Arc<dyn Fn(&ToHost) + Send + Sync>;

const GROUPS: &str = "/sys/fs/cgroup/lab";
/// Output is sent in pieces of at most this many bytes.
const PIECE: usize = 64 << 10;

/// All running jobs.
#[derive(Clone)]
pub(crate) struct Jobs {
    table: Arc<Mutex<HashMap<u32, Job>>>,
    outbox: Outbox,
}

struct Job {
    pid: Pid,
    input: Option<Input>,
    /// Threads that forward output; joined before the exit is reported, so that no output comes after it.
    forwarders: Vec<thread::JoinHandle<()>>,
}

enum Input {
    Pipe(ChildStdin),
    Terminal(File),
}

impl Jobs {
    pub(crate) fn new(outbox: Outbox) -> Result<Self> {
        fs::create_dir_all(GROUPS).with_context(|| format!("making {GROUPS}"))?;
        let jobs = Self {
            table: Arc::default(),
            outbox,
        };
        let reaper = jobs.clone();
        thread::Builder::new()
            .name("reaper".into())
            .spawn(move || reaper.reap())?;
        Ok(jobs)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u32, Job>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a command. That it could not is reported as its exit.
    pub(crate) fn run(&self, number: u32, command: &protocol::Command) {
        let mut table = self.table();
        match self.start(number, command) {
            Ok(job) => {
                table.insert(number, job);
            }
            Err(error) => (self.outbox)(&ToHost::Exit(number, Exit::NotStarted(format!("{error:#}")))),
        }
    }

    fn start(&self, number: u32, command: &protocol::Command) -> Result<Job> {
        let (program, arguments) = command.argv.split_first().context("the command is empty")?;
        let group = group(number);
        fs::create_dir_all(&group).with_context(|| format!("making {}", group.display()))?;
        let mut process = Command::new(program);
        process
            .args(arguments)
            .envs(command.env.iter().cloned())
            .current_dir(&command.cwd);
        let members = File::options().write(true).open(group.join("cgroup.procs"))?;
        let wants_terminal = command.terminal.is_some();
        let prepare = move || {
            (&members).write_all(b"0")?;
            setsid()?;
            if wants_terminal {
                // SAFETY: TIOCSCTTY takes an integer and touches no memory of this process.
                Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec `prepare` only calls write, setsid and ioctl, all async-signal-safe.
        unsafe { process.pre_exec(prepare) };
        if let Some(size) = command.terminal {
            self.start_on_terminal(number, process, size)
        } else {
            process
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut child = process.spawn().with_context(|| format!("starting {program}"))?;
            let mut forwarders = Vec::new();
            if let Some(stdout) = child.stdout.take() {
                forwarders.push(self.forward(stdout, move |bytes| ToHost::Stdout(number, bytes)));
            }
            if let Some(stderr) = child.stderr.take() {
                forwarders.push(self.forward(stderr, move |bytes| ToHost::Stderr(number, bytes)));
            }
            Ok(Job {
                pid: pid_of(&child),
                input: child.stdin.take().map(Input::Pipe),
                forwarders,
            })
        }
    }

    fn start_on_terminal(&self, number: u32, mut process: Command, size: TerminalSize) -> Result<Job> {
        let pair = openpty(Some(&winsize(size)), None).context("opening a terminal")?;
        let end = || -> Result<Stdio> { Ok(Stdio::from(pair.slave.try_clone()?)) };
        process.stdin(end()?).stdout(end()?).stderr(end()?);
        let child = process.spawn().context("starting the command on a terminal")?;
        // The command's own copies of the terminal's end live in `process`; while they do, its end never reads as closed.
        drop(process);
        drop(pair.slave);
        let screen = File::from(pair.master.try_clone()?);
        let forwarders = vec![self.forward(screen, move |bytes| ToHost::Stdout(number, bytes))];
        Ok(Job {
            pid: pid_of(&child),
            input: Some(Input::Terminal(File::from(pair.master))),
            forwarders,
        })
    }

    fn forward(
        &self,
        mut from: impl Read + Send + 'static,
        wrap: impl Fn(Vec<u8>) -> ToHost + Send + 'static,
    ) -> thread::JoinHandle<()> {
        let outbox = Arc::clone(&self.outbox);
        thread::spawn(move || {
            let mut piece = vec![0; PIECE];
            // A terminal whose other side closed reads as EIO: that is its end of file.
            while let Ok(length @ 1..) = from.read(&mut piece) {
                outbox(&wrap(piece.get(..length).unwrap_or_default().to_vec()));
            }
        })
    }

    pub(crate) fn feed(&self, number: u32, bytes: &[u8]) {
        let mut table = self.table();
        let Some(job) = table.get_mut(&number) else { return };
        let written = match &mut job.input {
            Some(Input::Pipe(pipe)) => pipe.write_all(bytes),
            Some(Input::Terminal(terminal)) => terminal.write_all(bytes),
            None => Ok(()),
        };
        if written.is_err() {
            job.input = None;
        }
    }

    pub(crate) fn end_input(&self, number: u32) {
        if let Some(job) = self.table().get_mut(&number) {
            job.input = None;
        }
    }

    pub(crate) fn resize(&self, number: u32, size: TerminalSize) {
        let table = self.table();
        if let Some(Input::Terminal(terminal)) = table.get(&number).and_then(|job| job.input.as_ref()) {
            use std::os::fd::AsRawFd;
            let size = winsize(size);
            // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call. A terminal that is gone answers an error,
            // which means there is nothing to resize.
            let _gone = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        }
    }

    /// Ends a job and its descendants; its exit is reported like any other.
    pub(crate) fn kill(&self, number: u32) {
        if self.table().contains_key(&number) {
            kill_group(number);
        }
    }

    fn reap(&self) {
        loop {
            match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Ok(status) => {
                    let Some(pid) = status.pid() else { continue };
                    let ended = {
                        let mut table = self.table();
                        let Ok(status) = waitpid(pid, Some(WaitPidFlag::WNOHANG)) else {
                            continue;
                        };
                        let number = table.iter().find(|(_, job)| job.pid == pid).map(|(number, _)| *number);
                        number.and_then(|number| Some((number, table.remove(&number)?, status)))
                    };
                    if let Some((number, job, status)) = ended {
                        let outbox = Arc::clone(&self.outbox);
                        thread::spawn(move || finish(number, job, status, &outbox));
                    }
                }
                // No children at the moment. New ones come with the next command.
                Err(Errno::ECHILD) => thread::sleep(std::time::Duration::from_millis(5)),
                Err(_) => {}
            }
        }
    }
}

/// Ends what the job left behind, lets its last output out, reports its exit.
fn finish(number: u32, job: Job, status: WaitStatus, outbox: &Outbox) {
    kill_group(number);
    drop(job.input);
    for forwarder in job.forwarders {
        // A forwarder that panicked has nothing more to send.
        let _panicked = forwarder.join();
    }
    // Killed processes leave the group a moment later; the directory is one of many in memory if they do not.
    for _ in 0..50 {
        if fs::remove_dir(group(number)).is_ok() {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(2));
    }
    let exit = match status {
        WaitStatus::Exited(_, code) => Exit::Code(code),
        WaitStatus::Signaled(_, signal, _) => Exit::Signal(signal as i32),
        other => Exit::NotStarted(format!("unexpected status {other:?}")),
    };
    outbox(&ToHost::Exit(number, exit));
}

fn group(number: u32) -> PathBuf {
    PathBuf::from(format!("{GROUPS}/job-{number}"))
}

fn kill_group(number: u32) {
    // A group that is already gone has nobody left to kill.
    let _gone = fs::write(group(number).join("cgroup.kill"), "1");
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn winsize(size: TerminalSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
