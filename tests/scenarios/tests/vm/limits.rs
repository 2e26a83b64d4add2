// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a server needs runs out: descriptors, processes, memory, processor time. Whoever uses the mount goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::suites::target::On;
use lab_guest::measure::{Promise, check, recovered};
use lab_guest::sys;

use crate::work::{Book, Crowd};
use crate::world::{AT, BOUND, World, answers, cli, refused};

/// How long work goes on in need.
const NEED: Duration = Duration::from_secs(5);
/// Processors are two, and who spins are more.
const HOGS: usize = 4;
/// What a server may have of memory beyond what it has: less than what is written through it.
const MEMORY: u64 = 24 << 20;

/// Applications at work for a while.
fn work_for(time: Duration) -> Result<crate::work::Done> {
    Crowd::new(3, 100_000).work(Path::new(AT), || {
        thread::sleep(time);
        Ok(())
    })
}

/// The server works in need as it does without, and answers when the need is over.
fn in_need(
    world: World,
    book: &Book,
    before: impl FnOnce(u32) -> Result<()>,
    after: impl FnOnce(u32) -> Result<()>,
) -> Result<()> {
    let server = world.server()?;
    before(server)?;
    let done = work_for(NEED);
    let words = match &done {
        Ok(done) => format!("{} rounds of work, the longest {:.1?}", done.rounds, done.longest),
        Err(error) => format!("{error:#}"),
    };
    check(
        Promise::GracefulError,
        done.is_ok_and(|done| done.longest < BOUND),
        words,
    )?;
    let begin = Instant::now();
    after(server)?;
    sys::wait_for("an answer of the server", BOUND, || answers(&world).is_ok())?;
    recovered("the server's socket", begin)?;
    let same = world.server()? == server && Path::new("/proc").join(server.to_string()).exists();
    check(Promise::Stability, same, "the server is the process that it was")?;
    world.health()?;
    book.verify("after the need")?;
    world.finish()
}

/// The lowest number that is no descriptor of a process: with it as the limit none can be opened, and what is open stays.
fn lowest_free(process: u32) -> Result<u64> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
        numbers.push(entry?.file_name().to_string_lossy().parse::<u64>()?);
    }
    (0..=numbers.len() as u64)
        .find(|number| !numbers.contains(number))
        .context("all numbers are used")
}

fn limit_descriptors(server: u32, limit: &str) -> Result<()> {
    sys::output("prlimit", &["--pid", &server.to_string(), &format!("--nofile={limit}")]).map(drop)
}

/// No descriptor more than there are.
fn without_descriptors(on: On) -> Result<()> {
    let world = World::new(on)?;
    let mut book = Book::new(&Path::new(AT).join("book"))?;
    book.fill(5, 50_000)?;
    let silent = |server: u32| -> Result<()> {
        limit_descriptors(server, &format!("{}:4096", lowest_free(server)?))?;
        let start = Instant::now();
        let status = cli(on, &["status", AT]).output()?;
        // A new connection is one descriptor more.
        check(
            Promise::RightErrno,
            !status.status.success() && start.elapsed() < BOUND,
            format!(
                "who asks the server waits {:.1?} and is told: {}",
                start.elapsed(),
                String::from_utf8_lossy(&status.stderr).trim()
            ),
        )
    };
    in_need(world, &book, silent, |server| limit_descriptors(server, "4096:4096"))
}

/// A daemon without descriptors takes no further volume, serves the one it has, and takes more later.
#[lab_guest::test(disks = ["disk:768"], timeout = 180, stress = true)]
fn a_daemon_without_descriptors_refuses_a_volume_serves_the_others_and_takes_it_later() -> Result<()> {
    let on = On::Module;
    let world = World::without_pool(on)?;
    let pool = World::pool();
    let pool = pool.to_str().context("a name is text")?;
    let ok = |words: &[&str]| -> Result<String> {
        let output = cli(on, words).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{words:?}: {stderr}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    ok(&["mkfs", "--size", "128MiB", pool])?;
    for volume in ["a", "b"] {
        ok(&["volume", "create", pool, volume, "--size", "16MiB"])?;
    }
    let device = ok(&["add", "--log-file", "/run/daemon.log", pool, "--volume", "a"])?;
    let write = |byte: &str| {
        let script =
            format!("yes {byte} | dd of={device} bs=1M count=4 iflag=fullblock oflag=direct conv=fsync status=none");
        sys::output("sh", &["-ec", &script]).map(drop)
    };
    write("before")?;
    let daemon = process("vexfs-ublkd")?;
    limit_descriptors(daemon, &format!("{}:4096", lowest_free(daemon)?))?;
    refused("another volume", &mut cli(on, &["add", pool, "--volume", "b"]))?;
    write("during")?;
    let begin = Instant::now();
    limit_descriptors(daemon, "4096:4096")?;
    let other = ok(&["add", pool, "--volume", "b"])?;
    recovered("the daemon, which takes a volume", begin)?;
    check(
        Promise::Stability,
        process("vexfs-ublkd")? == daemon,
        "the daemon is the process that it was",
    )?;
    let found = sys::output(
        "sh",
        &[
            "-ec",
            &format!("dd if={device} bs=1M count=4 iflag=direct status=none | sort -u"),
        ],
    )?;
    check(
        Promise::Integrity,
        found.trim() == "during",
        format!("{found:.40} is read"),
    )?;
    for device in [&device, &other] {
        ok(&["del", device])?;
    }
    ok(&["check", pool])?;
    world.nothing_left()
}

/// The one process of a name.
fn process(name: &str) -> Result<u32> {
    let found = sys::output("pgrep", &["--exact", name])?;
    found
        .trim()
        .parse()
        .with_context(|| format!("processes called {name}: {found:?}"))
}

/// A control group; its processes are let go on drop.
struct Group(PathBuf);

impl Group {
    fn of(name: &str, process: u32) -> Result<Self> {
        let group = Self(Path::new("/sys/fs/cgroup").join(name));
        fs::create_dir_all(&group.0)?;
        sys::write(group.0.join("cgroup.procs"), &process.to_string())?;
        Ok(group)
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        sys::write(self.0.join(file), value)
    }

    /// A number in a file of lines `name number`.
    fn event(&self, file: &str, name: &str) -> Result<u64> {
        let text = sys::read(self.0.join(file))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("{file} has no {name}"))?.parse()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for process in fs::read_to_string(self.0.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            // One that ended meanwhile needs no place.
            let _gone = fs::write("/sys/fs/cgroup/cgroup.procs", process);
        }
        let _left = fs::remove_dir(&self.0);
    }
}

/// No thread or process more than there are.
fn without_processes(on: On) -> Result<()> {
    let world = World::new(on)?;
    let mut book = Book::new(&Path::new(AT).join("book"))?;
    book.fill(5, 50_000)?;
    // What starts with the first work is there by now.
    work_for(Duration::from_secs(1))?;
    let group = Group::of("scenario-processes", world.server()?)?;
    let few = |_| group.set("pids.max", &sys::read(group.0.join("pids.current"))?);
    in_need(world, &book, few, |_| group.set("pids.max", "max"))
}

/// Less memory than what goes through.
fn without_memory(on: On) -> Result<()> {
    let world = World::new(on)?;
    let mut book = Book::new(&Path::new(AT).join("book"))?;
    let group = Group::of("scenario-memory", world.server()?)?;
    group.set("memory.max", &MEMORY.to_string())?;
    book.fill(12, 6 << 20)?;
    let (pressed, killed) = (
        group.event("memory.events", "max")?,
        group.event("memory.events", "oom_kill")?,
    );
    check(
        Promise::Stability,
        pressed > 0 && killed == 0,
        format!("the limit was met {pressed} times, {killed} processes were killed over it"),
    )?;
    in_need(world, &book, |_| Ok(()), |_| group.set("memory.max", "max"))
}

/// Somebody who uses a processor and gives nothing for it; ended on drop.
struct Hog(Child);

impl Hog {
    fn start() -> Result<Self> {
        let spin = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(spin))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// More who spin than there are processors.
fn beside_hogs(on: On) -> Result<()> {
    let world = World::new(on)?;
    let mut book = Book::new(&Path::new(AT).join("book"))?;
    book.fill(5, 50_000)?;
    let hogs: Vec<Hog> = (0..HOGS).map(|_| Hog::start()).collect::<Result<_>>()?;
    in_need(
        world,
        &book,
        |_| Ok(()),
        move |_| {
            drop(hogs);
            Ok(())
        },
    )
}

#[lab_guest::test(disks = ["disk:768"], timeout = 180, stress = true)]
fn a_fuse_server_without_descriptors_serves_its_mount_and_answers_again() -> Result<()> {
    without_descriptors(On::Fuse)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 180, stress = true)]
fn the_server_of_a_kernel_mount_without_descriptors_serves_it_and_answers_again() -> Result<()> {
    without_descriptors(On::Module)
}

#[lab_guest::test(disks = ["disk:768"], timeout = 180, stress = true)]
fn a_fuse_server_that_may_start_no_thread_serves_its_mount() -> Result<()> {
    without_processes(On::Fuse)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 180, stress = true)]
fn the_server_of_a_kernel_mount_that_may_start_no_thread_serves_it() -> Result<()> {
    without_processes(On::Module)
}

#[lab_guest::test(disks = ["disk:768"], timeout = 240, stress = true)]
fn a_fuse_server_with_little_memory_is_slower_and_loses_nothing() -> Result<()> {
    without_memory(On::Fuse)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 240, stress = true)]
fn the_server_of_a_kernel_mount_with_little_memory_is_slower_and_loses_nothing() -> Result<()> {
    without_memory(On::Module)
}

#[lab_guest::test(disks = ["disk:768"], timeout = 180, stress = true)]
fn a_fuse_mount_beside_processor_hogs_is_slower_and_nothing_else() -> Result<()> {
    beside_hogs(On::Fuse)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 180, stress = true)]
fn a_kernel_mount_beside_processor_hogs_is_slower_and_nothing_else() -> Result<()> {
    beside_hogs(On::Module)
}

/// A mount that cannot have the descriptors it needs is refused, and leaves nothing.
#[lab_guest::test(disks = ["disk:768"], timeout = 120, stress = true)]
fn a_fuse_mount_that_may_open_nothing_is_refused_and_leaves_nothing() -> Result<()> {
    let world = World::without_pool(On::Fuse)?;
    let pool = World::pool();
    let pool = pool.to_str().context("a name is text")?;
    sys::output(
        cli(On::Fuse, &[]).get_program().to_str().context("a name is text")?,
        &["mkfs", "--size", "64MiB", pool],
    )?;
    let mut first = None;
    for limit in 4..24_u32 {
        let inner = cli(On::Fuse, &["mount", "--fuse", pool, AT]);
        let mut command = Command::new("prlimit");
        command
            .arg(format!("--nofile={limit}"))
            .arg(inner.get_program())
            .args(inner.get_args());
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        // From some number on there are enough.
        if command.stdin(Stdio::null()).output()?.status.success() {
            first = Some(limit);
            break;
        }
        refused(&format!("a mount with {limit} descriptors"), &mut command)?;
    }
    let Some(first) = first else {
        bail!("even 23 descriptors are too few");
    };
    check(
        Promise::RightErrno,
        first > 4,
        format!("a mount needs {first} descriptors"),
    )?;
    let output = world.cli(&["umount", AT])?;
    check(
        Promise::GracefulError,
        output.status.success(),
        format!("umount: {}", String::from_utf8_lossy(&output.stderr).trim()),
    )?;
    world.nothing_left()
}
