// SPDX-License-Identifier: MIT OR Apache-2.0

//! Servers that are killed, and others that go on with their devices.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab_guest::sys;

use crate::server::{SERVER, Server, fill, refusal};
use crate::volume::Pool;

/// What the 99th percentile of takeovers may take, from the kill until the device is live again, beyond what starting a
/// server takes on this machine, which is emulated.
const BOUND: Duration = Duration::from_secs(1);
/// Added for a pool on a block device: a claim stands half a second, and one that was written too slowly is watched for
/// two and a half seconds more before it counts (see `vexfs::pool::heartbeat`).
const CLAIM: Duration = Duration::from_secs(3);
const BACKING: &str = "/mnt/backing";

/// A file system on the scratch disk; unmounted on drop.
struct Mounted;

impl Mounted {
    fn new() -> Result<Self> {
        let disk = sys::disk("backing")?;
        let disk = disk.to_str().context("a device's name is text")?;
        sys::output("mkfs.ext4", &["-q", disk])?;
        sys::output("mount", &[disk, "/mnt"])?;
        Ok(Self)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = sys::output("umount", &["/mnt"]) {
            println!("{error:#}");
        }
    }
}

fn looped() -> Result<[&'static str; 4]> {
    File::create(BACKING)?.set_len(32 << 20)?;
    Ok(["--target", "loop", "--file", BACKING])
}

/// Kills the server, and starts another for the same device. Returns how long applications had to wait at least.
fn replace(mut server: Server, program: &str, target: &[&str]) -> Result<(Server, Duration)> {
    let device = server.device.clone();
    let start = Instant::now();
    // Not waited for: the successor has to cope with a process that is still ending.
    server.kill()?;
    let next = Server::spawn(Command::new(program).args(recovery(&device, target)))?;
    let took = start.elapsed();
    ensure!(next.device == device, "{} was taken over as {}", device, next.device);
    Ok((next, took))
}

fn recovery<'a>(device: &'a str, target: &[&'a str]) -> Vec<&'a str> {
    let id = device.trim_start_matches("/dev/ublkb");
    [&["recover", "--id", id][..], target].concat()
}

/// Reads back what it writes, all the time, and ends with an error at the first that is not as it was written.
fn start_verifying(device: &str, log: &str) -> Result<Child> {
    let fio = Command::new("fio")
        .arg(format!("--filename={device}"))
        .arg(format!("--output={log}"))
        .args(["--name=load", "--rw=randrw", "--bsrange=4k-64k", "--direct=1"])
        .args(["--ioengine=io_uring", "--iodepth=16", "--fsync=64"])
        .args(["--verify=crc32c", "--verify_backlog=128", "--verify_fatal=1"])
        .args(["--time_based", "--runtime=3600"])
        .stdout(Stdio::null())
        .spawn()?;
    Ok(fio)
}

/// Kills and replaces the server so many times while an application works, which must not notice.
fn survives(target: &[&str], cycles: usize, bound: Duration) -> Result<()> {
    let log = "/run/recovery-fio.log";
    // The machine's root is another's, reached at the cost of half a second for a program of this size.
    let program = "/run/vexfs-ublkd";
    fs::copy(SERVER, program)?;
    let mut starts = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let server = Server::spawn(Command::new(program).args(target))?;
        starts.push(start.elapsed());
        server.stop()?;
    }
    starts.sort();
    let mut server = Server::spawn(Command::new(program).args(target))?;
    let mut load = start_verifying(&server.device, log)?;
    let mut times = Vec::new();
    for cycle in 0..cycles {
        // Another moment each time, so that all kinds of requests are under way.
        std::thread::sleep(Duration::from_millis(200 + 37 * (cycle as u64 % 11)));
        let before = sectors(&server.device)?;
        let took;
        (server, took) = replace(server, program, target).with_context(|| format!("cycle {cycle}"))?;
        times.push(took);
        if let Some(status) = load.try_wait()? {
            anyhow::bail!("fio ended with {status} in cycle {cycle}: {}", fs::read_to_string(log)?);
        }
        let start = Instant::now();
        while sectors(&server.device)? == before {
            ensure!(
                start.elapsed() < Duration::from_secs(20),
                "nothing moves after cycle {cycle}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    sys::output("kill", &["-INT", &load.id().to_string()])?;
    let status = load.wait()?;
    let text = fs::read_to_string(log)?;
    ensure!(status.code() == Some(128), "fio ended with {status}: {text}");
    ensure!(text.contains("err= 0") && !text.contains("verify:"), "{text}");

    times.sort();
    let p99 = times[(times.len() * 99).div_ceil(100) - 1];
    let figures = format!(
        "recovery: {cycles} cycles of {}, start {:?}, median {:?}, p99 {p99:?}, worst {:?}",
        target[1],
        starts[1],
        times[times.len() / 2],
        times[times.len() - 1]
    );
    println!("{figures}");
    // Also where figures of a test that passes can be found: the log of the console.
    fs::write("/dev/kmsg", figures)?;
    ensure!(
        p99 < starts[1] + bound,
        "the 99th percentile of takeovers is {p99:?}, and a start takes {:?}",
        starts[1]
    );
    server.stop()
}

/// What the block layer counts as read and written.
fn sectors(device: &str) -> Result<Vec<String>> {
    let stat = sys::read(format!("/sys/block/{}/stat", device.trim_start_matches("/dev/")))?;
    let words = stat.split_ascii_whitespace().map(str::to_owned);
    Ok(words
        .enumerate()
        .filter(|(at, _)| [2, 6].contains(at))
        .map(|(_, word)| word)
        .collect())
}

fn file_survives(cycles: usize) -> Result<()> {
    let _mounted = Mounted::new()?;
    survives(&looped()?, cycles, BOUND)
}

fn volume_survives(cycles: usize) -> Result<()> {
    let _mounted = Mounted::new()?;
    File::create(BACKING)?.set_len(200 << 20)?;
    let pool = Pool::make(Path::new(BACKING), 32, None)?;
    survives(&pool.arguments(), cycles, BOUND)?;
    pool.check()
}

#[lab_guest::test(disks = ["backing:64"], timeout = 240)]
fn no_application_notices_that_the_server_of_a_file_was_killed() -> Result<()> {
    file_survives(10)
}

#[lab_guest::test(disks = ["backing:256"], timeout = 240)]
fn no_application_notices_that_the_server_of_a_volume_was_killed() -> Result<()> {
    volume_survives(10)
}

#[lab_guest::test(disks = ["pool:256"], timeout = 240)]
fn no_application_notices_that_the_server_of_a_volume_on_a_device_was_killed() -> Result<()> {
    let pool = Pool::new("pool", 32, None)?;
    survives(&pool.arguments(), 10, BOUND + CLAIM)?;
    pool.check()
}

#[lab_guest::test(disks = ["backing:64"], timeout = 1800, stress = true)]
fn no_application_notices_two_hundred_kills_of_the_server_of_a_file() -> Result<()> {
    file_survives(200)
}

#[lab_guest::test(disks = ["backing:256"], timeout = 1800, stress = true)]
fn no_application_notices_two_hundred_kills_of_the_server_of_a_volume() -> Result<()> {
    volume_survives(200)
}

#[lab_guest::test(disks = ["backing:64"], timeout = 120)]
fn a_device_goes_on_with_what_it_was_made_of_and_nothing_else() -> Result<()> {
    let _mounted = Mounted::new()?;
    let target = looped()?;
    let mut server = Server::start(&target)?;
    let device = server.device.clone();
    fill(&device, 'x', 0, 4)?;
    let text = refusal(&recovery(&device, &target))?;
    ensure!(text.contains("is served by process"), "a live device: {text:?}");
    server.kill()?;
    server.wait(Duration::from_secs(10))?;

    File::create("/mnt/another")?.set_len(32 << 20)?;
    let text = refusal(&recovery(&device, &["--target", "loop", "--file", "/mnt/another"]))?;
    ensure!(text.contains("made of something else"), "another file: {text:?}");
    File::options().write(true).open(BACKING)?.set_len(16 << 20)?;
    let text = refusal(&recovery(&device, &target))?;
    ensure!(text.contains("what is behind it only"), "a file cut short: {text:?}");
    File::options().write(true).open(BACKING)?.set_len(32 << 20)?;
    let text = refusal(&recovery(&device, &[&target[..], &["--block-size", "4096"]].concat()))?;
    ensure!(text.contains("smaller blocks"), "larger blocks: {text:?}");

    // None of that has changed the device.
    let log = fs::File::create("/run/recovery.log")?;
    let server = Server::spawn(
        Command::new(SERVER)
            .args(recovery(&device, &target))
            .stderr(Stdio::from(log)),
    )?;
    ensure!(server.device == device);
    let mut bytes = vec![0; 4 << 20];
    std::os::unix::fs::FileExt::read_exact_at(&File::open(&device)?, &mut bytes, 0)?;
    ensure!(bytes.iter().all(|&byte| byte == b'x'), "other bytes after the takeover");
    server.stop()?;
    let log = fs::read_to_string("/run/recovery.log")?;
    ensure!(log.is_empty(), "a takeover without trouble says {log:?}");
    let text = refusal(&recovery(&device, &target))?;
    ensure!(
        text.contains("there is no ublk device"),
        "a device that is gone: {text:?}"
    );
    Ok(())
}

#[lab_guest::test(disks = ["backing:64"], timeout = 120)]
fn a_device_without_a_server_can_be_deleted_and_lets_nobody_hang() -> Result<()> {
    let _mounted = Mounted::new()?;
    let mut server = Server::start(&looped()?)?;
    let features = sys::output(SERVER, &["features"])?;
    ensure!(
        features.lines().any(|name| name == "USER_RECOVERY_REISSUE"),
        "the driver can do {features:?}"
    );
    let device = server.device.clone();
    let id = device.trim_start_matches("/dev/ublkb").to_owned();
    let delete = ["delete", "--id", &id];
    let text = refusal(&delete)?;
    ensure!(text.contains("is served by process"), "a live device: {text:?}");
    server.kill()?;
    server.wait(Duration::from_secs(10))?;
    let mut reader = Command::new("dd")
        .args([
            &format!("if={device}"),
            "of=/dev/null",
            "bs=4k",
            "count=1",
            "iflag=direct",
        ])
        .stderr(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(reader.try_wait()?.is_none(), "a read was answered by nobody");
    sys::output(SERVER, &delete)?;
    ensure!(!reader.wait()?.success(), "a read of a deleted device succeeded");
    let start = Instant::now();
    while Path::new(&device).exists() || Path::new(&format!("/dev/ublkc{id}")).exists() {
        ensure!(start.elapsed() < Duration::from_secs(5), "{device} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = refusal(&delete)?;
    ensure!(
        text.contains("there is no ublk device"),
        "a device that is gone: {text:?}"
    );

    // A RAM disk does not outlive its server: its readers got errors at once, and it is deleted in the same way.
    let mut server = Server::start(&["--target", "mem", "--size", "8MiB", "--id", &id])?;
    server.kill()?;
    server.wait(Duration::from_secs(10))?;
    let text = refusal(&recovery(&device, &looped()?))?;
    ensure!(text.contains("cannot be taken over"), "a RAM disk: {text:?}");
    sys::output(SERVER, &delete).map(drop)
}
