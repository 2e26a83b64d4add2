// SPDX-License-Identifier: MIT OR Apache-2.0

//! An interactive command in the guest on the caller's terminal.

use std::io::{IsTerminal, Read, Write, stdin, stdout};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab_guest::protocol::{Command, TerminalSize, ToGuest};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::{Ended, Machine};

/// Gives a shell on a terminal of the caller's size until it ends or the guest is lost.
pub(super) fn interact(machine: &mut Machine, directory: &str, environment: &[(String, String)]) -> Result<Ended> {
    if !stdin().is_terminal() {
        bail!("an interactive shell needs a terminal on standard input; to run a command, give it as arguments");
    }
    let mut size = terminal_size();
    // The user's own start-up files may do anything; across an emulated file system that takes its time.
    let argv = ["/bin/bash", "--noprofile", "--norc"].map(str::to_owned).to_vec();
    let mut env = environment.to_vec();
    env.push(("PS1".to_owned(), r"[\h \w]# ".to_owned()));
    let job = machine.start(&Command {
        argv,
        env,
        cwd: directory.to_owned(),
        terminal: Some(size),
    })?;
    let _raw = RawMode::enter()?;
    let keys = keyboard();
    loop {
        while let Ok(bytes) = keys.try_recv() {
            machine.feed(job, &bytes)?;
        }
        let now = terminal_size();
        if now != size {
            size = now;
            machine.send(&ToGuest::Resize(job.0, size))?;
        }
        let ended = machine.wait(job, Duration::from_millis(10), |_, bytes| {
            let mut screen = stdout().lock();
            // A terminal that is gone shows nothing; the shell's end is noticed all the same.
            let _gone = screen.write_all(bytes).and_then(|()| screen.flush());
        });
        match ended {
            Ended::TimedOut => {}
            ended => return Ok(ended),
        }
    }
}

/// Post-mortem: a shell while the guest answers, QEMU's own monitor when it does not.
pub(super) fn hold(machine: &mut Machine, environment: &[(String, String)]) -> Result<()> {
    let log = machine.console_log();
    if !stdin().is_terminal() {
        bail!(
            "holding a machine needs a terminal on standard input; its console is in {}",
            log.display()
        );
    }
    eprintln!("held; console: {}", log.display());
    if machine.is_responsive() {
        eprintln!("a shell in the guest; leave it to go on");
        return interact(machine, "/", environment).map(drop);
    }
    eprintln!("the guest does not answer; QEMU's monitor (info registers -a, x/16i $pc, …), an empty line to go on");
    for line in stdin().lines() {
        let line = line.context("reading the terminal")?;
        if line.trim().is_empty() {
            break;
        }
        match machine.monitor().human(line.trim()) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("{error:#}"),
        }
    }
    Ok(())
}

/// Key strokes as they come. The thread ends with the process: a blocking read of a terminal cannot be called back.
fn keyboard() -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(length @ 1..) = stdin().read(&mut bytes) {
            if sender.send(bytes.get(..length).unwrap_or_default().to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn terminal_size() -> TerminalSize {
    let (rows, columns) = console::Term::stdout().size();
    TerminalSize { rows, columns }
}

/// The terminal in raw mode; as it was on drop.
struct RawMode {
    before: Termios,
}

impl RawMode {
    fn enter() -> Result<Self> {
        let before = tcgetattr(stdin().as_fd()).context("reading the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin().as_fd(), SetArg::TCSADRAIN, &raw).context("changing the terminal's settings")?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _gone = tcsetattr(stdin().as_fd(), SetArg::TCSADRAIN, &self.before);
    }
}
