// SPDX-License-Identifier: MIT OR Apache-2.0

//! What suites of mounted filesystems share: `fs`, `fsync`, `recovery` and `scale`.
//!
//! All filesystems have the same disk of the machine under them: ours and its FUSE front end a pool on it; ext4, btrfs and xfs
//! a loop device over ublk by rublk, which is as far from the disk as our server is. In every round each is made anew, does all
//! works, and is unmounted before the next; a round's order is that of the last one turned by one. The programs that work run
//! in the machine and are the same for all.
//!
//! | module | what |
//! |---|---|
//! | `contenders` | the filesystems: made, mounted, unmounted |
//! | `programs` | what runs in the machine |
//! | `bench` | works on what is mounted |
//! | `traffic` | what reached the disk |

mod bench;
mod contenders;
mod programs;
mod traffic;

use std::time::Duration;

use anyhow::{Context, Result};
use lab::host::{apt, workspace};
use lab::kernel::{Kernel, modules};
use lab::vm::{Disk, Machine, Spec};

pub(super) use self::bench::Bench;
pub(super) use self::contenders::{BTRFS, Contender, EXT4, OURS, OVER_FUSE};
pub(super) use self::programs::Programs;
pub(super) use self::traffic::Traffic;
use super::rounds::{Figures, Measured};

/// The disk under all of them, in the machine.
pub(super) const DISK: &str = "/dev/disk/bench";
/// Its name.
const NAME: &str = "bench";
/// Its size, if nothing else is needed.
pub(super) const DISK_MIB: u64 = 4096;
const MEMORY_MIB: u64 = 3072;
const LIMIT: Duration = Duration::from_secs(1800);
/// Of the peers, and of what measures.
pub(super) const PACKAGES: &[&str] = &["e2fsprogs", "btrfs-progs", "xfsprogs", "fio", "qemu-system-x86"];
const PEERS: &[apt::Package] = &[
    ("e2fsprogs", "/sbin/mkfs.ext4"),
    ("btrfs-progs", "/sbin/mkfs.btrfs"),
    ("xfsprogs", "/sbin/mkfs.xfs"),
];

/// Builds what is needed, and boots a machine with a disk that was written once.
pub(super) fn machine(kernel: &Kernel, suite: &str, disk_mib: u64) -> Result<(Machine, Programs)> {
    apt::ensure(apt::UBLK_BUILD)?;
    apt::ensure(PEERS)?;
    let programs = Programs::build(modules::ensure(kernel)?)?;
    let directory = workspace::machine_directory(&format!("bench-{suite}"));
    std::fs::create_dir_all(&directory)?;
    let spec = Spec {
        memory: MEMORY_MIB,
        disks: vec![Disk::create(&directory, NAME, disk_mib)?],
        ..Spec::new(kernel, directory)
    };
    let mut machine = boot(&spec, &programs)?;
    // So that nobody measures how the host finds room for it.
    machine.succeed(
        &format!("dd if=/dev/zero of={DISK} bs=1M oflag=direct count={disk_mib}"),
        LIMIT,
    )?;
    Ok((machine, programs))
}

/// Boots, with all drivers loaded and the disk at its place.
pub(super) fn boot(spec: &Spec, programs: &Programs) -> Result<Machine> {
    let mut machine = Machine::boot(spec)?;
    let script = format!(
        "mkdir -p /run/lock /dev/disk && modprobe -a ublk_drv fuse ext4 btrfs xfs && insmod {modules}/vexfs.ko && \
         for d in /sys/block/*; do if grep -qsx {NAME} $d/serial; then ln -s /dev/${{d##*/}} {DISK}; fi; done && test -b {DISK}",
        modules = programs.modules.display(),
    );
    machine.succeed(&script, LIMIT).context("loading drivers")?;
    Ok(machine)
}

/// Lets each contender do the same, round by round.
pub(super) fn in_turn(
    kernel: &Kernel,
    rounds: u32,
    mut contenders: Vec<Contender>,
    mut one: impl FnMut(Contender) -> Result<Figures>,
) -> Result<Measured> {
    let mut measured = Measured::new();
    for round in 1..=rounds {
        for contender in &contenders {
            eprintln!("{}: round {round} of {rounds}: {}", kernel.id, contender.name());
            let figures = one(*contender).with_context(|| format!("measuring {}", contender.name()))?;
            measured.entry(contender.name()).or_default().push(figures);
        }
        contenders.rotate_left(1);
    }
    Ok(measured)
}

/// An amount of work, to calculate with.
#[expect(clippy::cast_precision_loss, reason = "amounts of work are far below 2^52")]
pub(super) const fn count(amount: usize) -> f64 {
    amount as f64
}
