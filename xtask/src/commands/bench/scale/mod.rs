// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench scale`: what an operation costs where there is more and more of something, ours beside ext4.
//!
//! | module | more and more |
//! |---|---|
//! | `directory` | files in one directory |
//! | `extents` | extents of one file |
//! | `depth` | reads at the same time |
//! | `fullness` | of the filesystem that is used |
//! | `devices` | devices that one server of ours has; nobody is beside it |
//!
//! How filesystems are made and take turns is in `mounted`. A row is a curve: one measure at all places of one axis.

mod depth;
mod devices;
mod directory;
mod extents;
mod fullness;

use anyhow::{Result, ensure};
use lab::kernel::Kernel;
use lab::vm::Machine;

use super::mounted::{self, Bench, Contender, OURS, Programs};
use super::rounds::{self, Figures, Measured};
use super::row::Row;

/// Bytes of the disk for each file: what ext4 has of it for an inode, and some more.
const BYTES_A_FILE: u64 = 20 << 10;

/// What to measure.
pub(super) struct Plan<'a> {
    pub(super) rounds: u32,
    /// The most files of a directory, and extents of a file.
    pub(super) files: usize,
    /// Of each run of reads.
    pub(super) seconds: u32,
    /// Parts of the names of subjects; all if empty.
    pub(super) only: &'a [String],
}

/// What there is more and more of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Subject {
    Directory,
    Extents,
    Depth,
    Fullness,
    Devices,
}

impl Subject {
    /// What fills the filesystem comes last of those on it.
    const ALL: [Self; 5] = [
        Self::Directory,
        Self::Extents,
        Self::Depth,
        Self::Fullness,
        Self::Devices,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Extents => "extents",
            Self::Depth => "depth",
            Self::Fullness => "fullness",
            Self::Devices => "devices",
        }
    }

    fn wanted(parts: &[String]) -> Result<Vec<Self>> {
        let is_wanted = |one: &Self| parts.is_empty() || parts.iter().any(|part| one.name().contains(part.as_str()));
        let found: Vec<_> = Self::ALL.into_iter().filter(is_wanted).collect();
        let names = Self::ALL.map(Self::name).join(", ");
        ensure!(!found.is_empty(), "no subject has such a name; there are: {names}");
        Ok(found)
    }
}

pub(super) fn run(kernel: &Kernel, plan: &Plan<'_>) -> Result<Vec<Row>> {
    let subjects = Subject::wanted(plan.only)?;
    let (mut machine, programs) = mounted::machine(kernel, "scale", disk_mib(plan.files))?;
    let on_filesystems: Vec<_> = subjects
        .iter()
        .copied()
        .filter(|one| *one != Subject::Devices)
        .collect();
    let mut rows = Vec::new();
    if !on_filesystems.is_empty() {
        let contenders = vec![Contender::Ours, Contender::Ext4];
        let measured = mounted::in_turn(kernel, plan.rounds, contenders, |contender| {
            one(&mut machine, contender, &programs, &on_filesystems, plan)
        })?;
        rows.extend(found(kernel, &measured)?);
    }
    if subjects.contains(&Subject::Devices) {
        let measured = mounted::in_turn(kernel, plan.rounds, vec![Contender::Ours], |_| {
            devices::measure(&mut machine, &programs)
        })?;
        rows.extend(found(kernel, &measured)?);
    }
    machine.shut_down()?;
    Ok(rows)
}

fn found(kernel: &Kernel, measured: &Measured) -> Result<Vec<Row>> {
    rounds::rows(&kernel.release, OURS, measured, |_, _| None)
}

/// All figures of one contender, made anew.
fn one(
    machine: &mut Machine,
    contender: Contender,
    programs: &Programs,
    subjects: &[Subject],
    plan: &Plan<'_>,
) -> Result<Figures> {
    let serving = contender.start(machine, programs)?;
    let mut bench = Bench::new(machine, programs);
    for subject in subjects {
        match subject {
            Subject::Directory => directory::measure(&mut bench, &steps(plan.files))?,
            Subject::Extents => extents::measure(&mut bench, &steps(plan.files))?,
            Subject::Depth => depth::measure(&mut bench, plan.seconds)?,
            Subject::Fullness => fullness::measure(&mut bench)?,
            // Those are not on a filesystem that is mounted.
            Subject::Devices => {}
        }
    }
    let figures = bench.figures;
    contender.stop(machine, serving, programs)?;
    Ok(figures)
}

/// Decades from 1000 to a million, up to a most, which is the only one if it is less than all of them.
fn steps(most: usize) -> Vec<usize> {
    let decades = [1_000, 10_000, 100_000, 1_000_000];
    let steps: Vec<_> = decades.into_iter().filter(|step| *step <= most).collect();
    if steps.is_empty() { vec![most] } else { steps }
}

fn disk_mib(files: usize) -> u64 {
    let most = steps(files).last().copied().unwrap_or_default() as u64;
    ((most * BYTES_A_FILE) >> 20).max(mounted::DISK_MIB)
}

/// Microseconds that one of so many took.
fn each(seconds: f64, operations: usize) -> f64 {
    seconds * 1e6 / mounted::count(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_decades_up_to_the_most() {
        assert_eq!(steps(100), [100]);
        assert_eq!(steps(99_999), [1_000, 10_000]);
        assert_eq!(steps(10_000_000).len(), 4);
    }

    #[test]
    fn the_disk_grows_with_the_files_that_must_fit() {
        assert_eq!(disk_mib(100_000), mounted::DISK_MIB);
        assert_eq!(disk_mib(1_000_000), 19_531);
        assert_eq!(disk_mib(10_000_000), 19_531);
    }

    #[test]
    fn subjects_are_chosen_by_parts_of_their_names() {
        let wanted = |part: &str| Subject::wanted(&[part.to_owned()]);
        assert_eq!(wanted("d").unwrap().len(), 3);
        assert_eq!(wanted("full").unwrap(), [Subject::Fullness]);
        assert!(wanted("nothing").unwrap_err().to_string().contains("extents"));
        assert_eq!(Subject::wanted(&[]).unwrap(), Subject::ALL);
    }
}
