// SPDX-License-Identifier: MIT OR Apache-2.0

//! The server of a FUSE mount dies, or stands still. (What the kernel's mount does then, other tests show.)

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use lab::suites::target::On;
use lab_guest::measure::{Promise, check, recovered};
use lab_guest::sys;
use nix::errno::Errno;

use crate::work::Book;
use crate::world::{AT, BOUND, World};

/// How often the server is killed.
const KILLS: usize = 4;
/// How long it stands still.
const PAUSE: Duration = Duration::from_secs(3);

#[lab_guest::test(disks = ["disk:768"], timeout = 180, stress = true)]
fn a_fuse_server_that_is_killed_leaves_errors_and_no_losses() -> Result<()> {
    let mut world = World::new(On::Fuse)?;
    let mut book = Book::new(&Path::new(AT).join("book"))?;
    for round in 0..KILLS {
        book.fill(4, 60_000)?;
        // Not made durable: the end of a process is no power loss, so it must be there too.
        let answered = Path::new(AT).join(format!("answered-{round}"));
        fs::write(&answered, round.to_string())?;
        world.target()?.kill_server()?;
        let start = Instant::now();
        let error = fs::metadata(Path::new(AT).join("book")).err();
        let errno = error.as_ref().and_then(io::Error::raw_os_error).map(Errno::from_raw);
        check(
            Promise::GracefulError,
            error.is_some() && start.elapsed() < BOUND,
            format!(
                "round {round}: who asks is told {error:?} after {:.1?}",
                start.elapsed()
            ),
        )?;
        check(
            Promise::RightErrno,
            errno == Some(Errno::ENOTCONN),
            format!("{errno:?}"),
        )?;
        let begin = Instant::now();
        world.target()?.remount()?;
        recovered("the mount, by another server", begin)?;
        ensure!(
            fs::read_to_string(&answered)? == round.to_string(),
            "an answered write is lost"
        );
        book.verify(&format!("after kill {round}"))?;
    }
    world.finish()
}

#[lab_guest::test(disks = ["disk:768"], timeout = 180, stress = true)]
fn a_fuse_server_that_stands_still_keeps_callers_waiting_who_can_be_killed() -> Result<()> {
    let world = World::new(On::Fuse)?;
    let mut book = Book::new(&Path::new(AT).join("book"))?;
    book.fill(5, 60_000)?;
    let server = world.server()?.to_string();
    sys::output("kill", &["-STOP", &server])?;
    let (killed, waited) = thread::scope(|scope| -> Result<_> {
        let waiting = scope.spawn(|| fs::write(Path::new(AT).join("waited"), "waited"));
        let impatient = Command::new("sh")
            .args(["-c", &format!("echo x > {AT}/impatient")])
            .stdin(Stdio::null())
            .spawn();
        thread::sleep(PAUSE);
        let still_waits = !waiting.is_finished();
        let killed = impatient.and_then(|mut impatient| {
            impatient.kill()?;
            let start = Instant::now();
            while impatient.try_wait()?.is_none() && start.elapsed() < BOUND / 2 {
                thread::sleep(Duration::from_millis(20));
            }
            Ok((impatient.try_wait()?.is_some(), start.elapsed()))
        });
        // Whatever was found, nobody may be left waiting.
        sys::output("kill", &["-CONT", &server])?;
        let begin = Instant::now();
        let Ok(written) = waiting.join() else {
            bail!("the caller panicked")
        };
        recovered("the call that waited", begin)?;
        Ok((killed?, (still_waits, written.is_ok())))
    })?;
    check(
        Promise::GracefulError,
        killed.0 && waited == (true, true),
        format!("a killed caller ended: {killed:?}; another waited, and was answered: {waited:?}"),
    )?;
    book.verify("after the pause")?;
    world.finish()
}
