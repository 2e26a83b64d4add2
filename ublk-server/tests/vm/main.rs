// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs-ublkd serve` with the real ublk driver, inside a lab machine.

mod cost;
mod filesystem;
mod looped;
mod modes;
mod owner;
mod server;
mod threads;
mod volume;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab_guest::{kmod, sys};

use server::{FIO_JOBS, SERVER, Server, fill, fio};

#[lab_guest::test(timeout = 120)]
fn every_block_of_a_ram_disk_is_kept_in_both_block_sizes() -> Result<()> {
    for block_size in ["512", "4096"] {
        let server = Server::start(&["--target", "mem", "--size", "32MiB", "--block-size", block_size])?;
        let name = server.device.trim_start_matches("/dev/").to_owned();
        let sysfs = |attribute: &str| sys::read(format!("/sys/block/{name}/{attribute}"));
        ensure!(sysfs("queue/logical_block_size")? == block_size);
        ensure!(sysfs("size")? == (32 * 2048).to_string(), "{} sectors", sysfs("size")?);
        fio(&server.device, &[&format!("{FIO_JOBS}/verify.fio")])?;
        server.stop()?;
    }
    Ok(())
}

#[lab_guest::test]
fn discarded_blocks_of_a_ram_disk_read_as_zeros() -> Result<()> {
    let server = Server::start(&["--target", "mem", "--size", "16MiB"])?;
    fill(&server.device, 'x', 0, 16)?;
    sys::output("blkdiscard", &["--offset", "4MiB", "--length", "8MiB", &server.device])?;
    let bytes = std::fs::read(&server.device)?;
    ensure!(bytes.len() == 16 << 20);
    let zero = |range: std::ops::Range<usize>| bytes[range].iter().all(|&byte| byte == 0);
    let kept = |range: std::ops::Range<usize>| bytes[range].iter().all(|&byte| byte == b'x');
    ensure!(
        kept(0..4 << 20) && zero(4 << 20..12 << 20) && kept(12 << 20..16 << 20),
        "a discard hit the wrong blocks"
    );
    server.stop()
}

#[lab_guest::test]
fn the_null_target_takes_reads_and_writes_at_any_depth() -> Result<()> {
    let server = Server::start(&["--target", "null", "--size", "1GiB", "--queues", "2"])?;
    for depth in ["1", "64"] {
        let depth = format!("--iodepth={depth}");
        let job = [
            "--name=null",
            "--rw=randrw",
            "--bs=4k",
            "--direct=1",
            "--ioengine=io_uring",
            "--io_size=16m",
            &depth,
        ];
        fio(&server.device, &job)?;
    }
    server.stop()
}

#[lab_guest::test(timeout = 120)]
fn twenty_devices_come_and_go_and_leave_nothing() -> Result<()> {
    // The first cycle fills caches that stay.
    Server::start(&["--target", "mem", "--size", "8MiB"])?.stop()?;
    let check = sys::LeakCheck::start()?;
    for _ in 0..20 {
        Server::start(&["--target", "mem", "--size", "8MiB"])?.stop()?;
    }
    check.finish()?;
    let devices = std::fs::read_dir("/dev")?.flatten().map(|entry| entry.file_name());
    let left: Vec<_> = devices
        .filter(|name| name.to_string_lossy().starts_with("ublkb"))
        .collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

#[lab_guest::test(timeout = 120)]
fn a_server_that_is_killed_under_load_leaves_errors_not_a_hang() -> Result<()> {
    let mut server = Server::start(&["--target", "mem", "--size", "64MiB"])?;
    let arguments = [
        "--name=load",
        "--rw=randwrite",
        "--bs=4k",
        "--direct=1",
        "--time_based",
        "--runtime=60",
    ];
    let mut load = Command::new("fio")
        .arg(format!("--filename={}", server.device))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(
        load.try_wait()?.is_none(),
        "the load ended before the server was killed"
    );
    server.kill()?;
    server.wait(Duration::from_secs(10))?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = load.try_wait()? {
            break status;
        }
        ensure!(
            start.elapsed() < Duration::from_secs(30),
            "the application still hangs 30 s after its device died"
        );
        std::thread::sleep(Duration::from_millis(50));
    };
    ensure!(!status.success(), "fio saw no error although its device died");
    Ok(())
}

#[lab_guest::test]
fn what_cannot_work_is_said_in_one_line() -> Result<()> {
    kmod::modprobe("ublk_drv")?;
    let cases: [(&[&str], &str, i32); 3] = [
        (&["--target", "mem", "--size", "1000"], "whole number of blocks", 1),
        (&["--target", "mem", "--size", "nonsense"], "nonsense", 2),
        (&["--target", "tape"], "tape", 2),
    ];
    for (arguments, expected, code) in cases {
        let output = Command::new(SERVER).arg("serve").args(arguments).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(code),
            "{arguments:?}: {} {stderr}",
            output.status
        );
        ensure!(
            stderr.contains(expected),
            "{arguments:?} says {stderr:?}, nothing of {expected:?}"
        );
        ensure!(
            output.stdout.is_empty(),
            "{arguments:?} claims to be ready: {:?}",
            output.stdout
        );
    }
    Ok(())
}

lab_guest::main!();
