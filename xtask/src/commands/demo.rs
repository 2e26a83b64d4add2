// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask demo`: the project's main job, for real, in a few minutes on any PC.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use lab::host::progress::Step;
use lab::host::{apt, workspace};
use lab::kernel::{self, KernelId, modules};
use lab::runner::discover::cargo;
use lab::runner::guest;
use lab::vm::{Ended, Job, Machine, Spec};
use lab_guest::protocol::Command;
use vexfs_measure::fio;

use super::suite::build_command_line;

/// Bound on every step inside the machine.
const LIMIT: Duration = Duration::from_secs(180);

/// What a disk of a pool goes through.
const VOLUME: &[&str] = &[
    "vexfs-ublk mkfs pool.img --size 512MiB",
    "vexfs-ublk volume create pool.img disk --size 256MiB",
    "vexfs-ublk add pool.img --volume disk",
    "mkfs.ext4 -q /dev/ublkb0; mount /dev/ublkb0 /mnt",
    "cp -r /usr/share/doc/util-linux /mnt; sync",
    "pkill -KILL vexfs-ublkd; vexfs-ublk list",
    "vexfs-ublk recover",
    "diff -r /usr/share/doc/util-linux /mnt/util-linux; echo every file is there",
    "umount /mnt; fsck.ext4 -fn /dev/ublkb0",
    "vexfs-ublk del /dev/ublkb0",
    "vexfs-ublk check pool.img",
];

/// What the filesystem of the pool goes through.
const FILESYSTEM: &[&str] = &[
    "vexfs-ublk mount -v pool.img /mnt; findmnt -o SOURCE,FSTYPE,OPTIONS /mnt",
    "cp -r /usr/share/doc/util-linux /mnt; ls /mnt",
    "vexfs-ublk space create /mnt docs --dimensions 384; vexfs-ublk embed /mnt/util-linux --space docs",
    "vexfs-ublk search /mnt --space docs 'hardware clock' -k 3",
    "(i=0; while [ ! -e enough ] && echo $i >>/mnt/lines; do i=$((i+1)); done; echo $i >written) & sleep 1",
    "pkill -KILL vexfs-ublkd; vexfs-ublk recover; sleep 1; touch enough; wait",
    "echo $(cat written) lines were written, $(wc -l </mnt/lines) are there; [ $(cat written) = $(wc -l </mnt/lines) ]",
    "mount -o remount,timeout=1000 /mnt; tail -n 1 /mnt/lines; pkill -STOP vexfs-ublkd",
    "if mkdir /mnt/new; then exit 1; fi; cat /sys/fs/vexfs/ublkb0/health; tail -n 1 /mnt/lines",
    "pkill -CONT vexfs-ublkd; until grep HEALTHY /sys/fs/vexfs/ublkb0/health; do sleep 0.1; done; ls /mnt",
    "diff -r /usr/share/doc/util-linux /mnt/util-linux; echo every file is there",
    "vexfs-ublk search /mnt --space docs 'hardware clock' -k 1",
    "vexfs-ublk umount -v /mnt",
    "vexfs-ublk check pool.img",
];

#[derive(Args)]
pub(crate) struct Arguments {
    /// 6.12, 7.x or debug
    #[arg(long, default_value = "6.12")]
    kernel: KernelId,
    /// A pool mounted on this machine through FUSE, without a virtual one
    #[arg(long, conflicts_with = "kernel")]
    fuse: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.fuse {
        return super::demo_fuse::run();
    }
    apt::ensure(apt::LAB)?;
    apt::ensure(apt::UBLK_BUILD)?;
    let server = build_server()?;
    let command_line = build_command_line(true)?;
    let kernel = kernel::ensure(arguments.kernel, false)?;
    let built = modules::ensure(&kernel)?;
    workspace::sweep_machines();
    let directory = workspace::machine_directory("demo");
    let mut machine = Machine::boot(&Spec {
        memory: 2048,
        ..Spec::new(&kernel, directory)
    })?;
    heading(&format!(
        "a machine with {}, up after {:.1} s",
        kernel.release,
        machine.boot_time().as_secs_f64()
    ));
    show(&mut machine, "uname -srm; uptime")?;

    heading("this project's kernel modules, loaded, with their state machines");
    show(&mut machine, "modprobe -a uio ublk_drv")?;
    for module in modules::WATCHED {
        show(&mut machine, &format!("insmod {}/{module}.ko", built.display()))?;
        show(
            &mut machine,
            &format!("cd /sys/module/{module}; grep -H . version lifecycle/*"),
        )?;
    }

    heading("a RAM disk served from user space through io_uring: every block written, read back and checked");
    let job = serve(&mut machine, &server, &built, &["--target", "mem", "--size", "128MiB"])?;
    show(&mut machine, "lsblk -o NAME,SIZE,LOG-SEC,ROTA,TYPE /dev/ublkb0")?;
    let fio::Results { read, write, .. } = measure(&mut machine, "verify")?;
    println!(
        "  {} blocks written at {:.0} IOPS, {} read back at {:.0} IOPS, all checksums right",
        write.operations, write.iops, read.operations, read.iops
    );
    stop(&mut machine, job)?;

    heading("a file of a pool as a disk: ext4 on it, the server killed, another one goes on");
    let path = command_line.parent().unwrap_or(Path::new("/")).display();
    play(&mut machine, &path, VOLUME)?;

    heading(
        "the pool itself, mounted by vexfs.ko: files found by what is in them; its server killed under an application, then stopped",
    );
    play(&mut machine, &path, FILESYSTEM)?;

    heading("the null target: what the transport itself can do");
    let job = serve(&mut machine, &server, &built, &["--target", "null"])?;
    let read = measure(&mut machine, "randread")?.read;
    println!(
        "  4 KiB random reads, 32 in flight: {:.0} IOPS, median {:.0} µs, p99 {:.0} µs",
        read.iops,
        read.p50.as_secs_f64() * 1e6,
        read.p99.as_secs_f64() * 1e6
    );
    stop(&mut machine, job)?;

    heading("everything gone again, in order");
    for module in modules::WATCHED {
        show(&mut machine, &format!("rmmod {module}"))?;
    }
    show(
        &mut machine,
        "find /dev -name 'ublkb*'; lsmod | grep -E 'vexfs|dsmil' || echo 'no device, no module of ours left'",
    )?;
    if let Some(report) = machine.take_report() {
        anyhow::bail!("the kernel reported a failure: {report}");
    }
    machine.shut_down()?;
    Ok(ExitCode::SUCCESS)
}

/// Runs lines as one script, because a daemon ends with the job that started it; each is shown with its output, and the first
/// command that fails ends it: so none stands before `&&`.
fn play(machine: &mut Machine, path: &std::path::Display<'_>, lines: &[&str]) -> Result<()> {
    let lines: Vec<_> = lines.iter().map(|line| format!("echo '$ {line}'\n{line}")).collect();
    let script = format!("exec 2>&1; PATH={path}:$PATH; cd /root; set -e\n{}", lines.join("\n"));
    let output = machine.succeed(&script, LIMIT)?;
    output.lines().for_each(|line| println!("  {line}"));
    Ok(())
}

/// Builds the server, optimised, and says where it is.
pub(crate) fn build_server() -> Result<String> {
    let step = Step::start("building vexfs-ublkd");
    cargo()
        .args(["build", "--release", "--package", "ublk-server", "--bin", "vexfs-ublkd"])
        .lines(|line| step.now(line.trim().to_owned()))?;
    step.done();
    Ok(workspace::target()
        .join("release/vexfs-ublkd")
        .to_string_lossy()
        .into_owned())
}

/// Starts the server in the guest and waits until its device is usable.
pub(crate) fn serve(machine: &mut Machine, server: &str, modules: &std::path::Path, arguments: &[&str]) -> Result<Job> {
    let command = Command {
        env: guest::environment(modules),
        ..Command::new([server, "serve"].into_iter().chain(arguments.iter().copied()))
    };
    let job = machine.start(&command)?;
    let device = machine.first_line(job, LIMIT).context("starting the server")?;
    anyhow::ensure!(device == "/dev/ublkb0", "the server offers {device:?}, not /dev/ublkb0");
    Ok(job)
}

/// Stops the server as a service manager would, and waits for its end.
pub(crate) fn stop(machine: &mut Machine, job: Job) -> Result<()> {
    machine.succeed("pkill -TERM -x vexfs-ublkd", LIMIT)?;
    match machine.wait(job, LIMIT, |_, _| {}) {
        Ended::Exit(lab_guest::protocol::Exit::Code(0)) => Ok(()),
        ended => anyhow::bail!("the server did not end in order: {ended:?}"),
    }
}

/// Runs one of the fio jobs of `tests/fio` on the device.
fn measure(machine: &mut Machine, name: &str) -> Result<fio::Results> {
    let file = workspace::root().join("tests/fio").join(format!("{name}.fio"));
    let script = format!(
        "cd /tmp; fio --output-format=json --filename=/dev/ublkb0 {}",
        file.display()
    );
    println!("  $ fio --filename=/dev/ublkb0 tests/fio/{name}.fio");
    fio::parse(&machine.succeed(&script, LIMIT)?)
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// Runs a command in the guest, with itself and its output shown.
fn show(machine: &mut Machine, script: &str) -> Result<()> {
    println!("  $ {script}");
    for line in machine.succeed(script, LIMIT)?.lines() {
        println!("  {line}");
    }
    Ok(())
}
