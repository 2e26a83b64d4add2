// SPDX-License-Identifier: MIT OR Apache-2.0

//! Looking for damage in a filesystem that is not mounted, by everybody's own tool, straight on the disk.

use anyhow::Result;
use lab::vm::Machine;

use super::super::mounted::{Contender, DISK, Programs};
use super::super::rounds::{Figure, Figures};
use super::{LIMIT, make_files, service};

/// Of a filesystem that is made anew with so many files. Its tool ran once before, but nothing of the disk is cached.
pub(super) fn check(machine: &mut Machine, contender: Contender, programs: &Programs, files: usize) -> Result<Figures> {
    let serving = contender.start(machine, programs)?;
    make_files(machine, programs, files)?;
    contender.stop(machine, serving, programs)?;
    let words = tool(contender, programs);
    machine.succeed(
        &format!("{} > /dev/null && blockdev --flushbufs {DISK}", words.join(" ")),
        LIMIT,
    )?;
    let mut task = vec!["command"];
    task.extend(words);
    let seconds: f64 = service(machine, programs, &task)?;
    let measure = format!("offline check of {files} files");
    Ok(vec![Figure::less(measure, "s", seconds)])
}

/// Looks at everything that is not the content of files, and changes nothing.
fn tool(contender: Contender, programs: &Programs) -> Vec<&str> {
    match contender {
        Contender::Ours | Contender::OursOverFuse => vec![&programs.cli, "check", DISK],
        Contender::Ext4 => vec!["e2fsck", "-f", "-n", DISK],
        Contender::Btrfs => vec!["btrfs", "check", "--readonly", DISK],
        Contender::Xfs => vec!["xfs_repair", "-n", DISK],
    }
}
