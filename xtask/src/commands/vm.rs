// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask vm`: a lab machine for a person.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use lab::host::{apt, workspace};
use lab::kernel::{self, KernelId, modules};
use lab::runner::guest;
use lab::vm::{Disk, Ended, Ivshmem, Machine, SharedMemory, Spec, Stream};
use lab_guest::kmod::MODULES_ENV;
use lab_guest::protocol::{Command, Exit};

/// Examples:
///   cargo xtask vm --shell                       a root shell in a fresh machine
///   cargo xtask vm uname -r                      one command; its exit code is the command's
///   cargo xtask vm --kernel 7.x --disk data:256 -- lsblk
#[derive(Args)]
#[command(verbatim_doc_comment)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]
pub(crate) struct Arguments {
    /// 6.12, 7.x or debug
    #[arg(long, default_value = "6.12")]
    kernel: KernelId,
    /// Look for a newer release of the kernel although one is cached
    #[arg(long)]
    refresh: bool,
    /// Give a shell on this terminal
    #[arg(long, conflicts_with = "command")]
    shell: bool,
    /// When the command fails or the guest is lost, keep the machine for a look
    #[arg(long)]
    hold: bool,
    /// Memory in MiB
    #[arg(long, default_value_t = 2048)]
    memory: u64,
    /// CPUs
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// A scratch disk, NAME:MIB; kept between runs in target/lab/disks
    #[arg(long = "disk", value_name = "NAME:MIB")]
    disks: Vec<String>,
    /// Plug the 512 MiB ivshmem PCI device
    #[arg(long)]
    ivshmem: bool,
    /// More for the kernel's command line
    #[arg(long, default_value = "")]
    append: String,
    /// End the command after this many seconds
    #[arg(long, default_value_t = 3600)]
    timeout: u64,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.command.is_empty() && !arguments.shell {
        bail!("say what to run in the machine, or --shell");
    }
    apt::ensure(apt::LAB)?;
    let kernel = kernel::ensure(arguments.kernel, arguments.refresh)?;
    let built = modules::ensure(&kernel)?;
    workspace::sweep_machines();
    let directory = workspace::machine_directory("vm");
    // Disks outlive the machine, so that a second boot finds them.
    let kept = workspace::results().join("disks");
    for directory in [&directory, &kept] {
        std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    let disks = arguments
        .disks
        .iter()
        .map(|text| disk(&kept, text))
        .collect::<Result<_>>()?;
    let ivshmem = if arguments.ivshmem {
        Some(Ivshmem::Memory(SharedMemory::create(&directory)?))
    } else {
        None
    };
    let mut machine = Machine::boot(&Spec {
        memory: arguments.memory,
        cpus: arguments.cpus,
        disks,
        ivshmem,
        command_line: arguments.append.clone(),
        ..Spec::new(&kernel, directory)
    })?;
    let release = &machine.spec().kernel.release;
    eprintln!(
        "{release} is up after {:.1} s; modules in ${MODULES_ENV}",
        machine.boot_time().as_secs_f64()
    );
    let environment = guest::environment(&built);
    let cwd = std::env::current_dir()?.to_string_lossy().into_owned();
    let ended = if arguments.shell {
        machine.interact(&cwd, &environment)?
    } else {
        let command = Command {
            argv: arguments.command.clone(),
            env: environment.clone(),
            cwd,
            terminal: None,
        };
        let job = machine.start(&command)?;
        machine.wait(job, Duration::from_secs(arguments.timeout), |stream, bytes| {
            // Nobody reading our output is no reason to stop the command.
            let _closed = match stream {
                Stream::Out => stdout().write_all(bytes).and_then(|()| stdout().flush()),
                Stream::Err => stderr().write_all(bytes),
            };
        })
    };
    let code = match &ended {
        Ended::Exit(Exit::NotStarted(why)) => {
            eprintln!("error: {why}");
            127
        }
        Ended::Exit(exit) => exit.shell_code(),
        Ended::TimedOut => {
            eprintln!("error: no end after {} s (--timeout)", arguments.timeout);
            124
        }
        Ended::Lost(report) => {
            eprintln!(
                "error: the guest was lost: {report}\nconsole: {}",
                machine.console_log().display()
            );
            125
        }
    };
    if let Some(report) = machine.take_report() {
        eprintln!("the console reported: {report}");
    }
    if arguments.hold && code != 0 {
        machine.hold(&environment)?;
    }
    if !matches!(ended, Ended::Lost(_)) {
        machine.shut_down()?;
    }
    Ok(ExitCode::from(code))
}

fn disk(directory: &std::path::Path, text: &str) -> Result<Disk> {
    match text.split_once(':').map(|(name, size)| (name, size.parse())) {
        Some((name, Ok(size))) => Disk::create(directory, name, size),
        _ => bail!("--disk {text}: write it as NAME:MIB, like data:256"),
    }
}
