// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the simulation found, as plain tests: sequences shrunk to what mattered, with every crash point.

use vexfs::disk::Operation;
use vexfs::fs::Preallocation;
use vexfs::fs::op::rename;
use vexfs::fs::record::{FileFlags, Kind};

use crate::disk::Points;
use crate::runner::{Plan, check, check_fault};
use crate::workload::{Action, Among, Name, Pick, Place};

const FILE: Pick = Pick(Among::Files, 0);
const ROOT: Pick = Pick(Among::Directories, 0);
const BIG: u64 = 1 << 20;

const fn named(name: u8) -> Place {
    Place(0, Name::Known(name))
}

const fn file(name: u8, mode: u16) -> Action {
    Action::Create(named(name), Kind::File, mode, 0)
}

/// Runs a sequence with different pools and crashes.
fn holds(journal_bytes: u64, seeds: std::ops::Range<u64>, actions: &[Action]) {
    for seed in seeds {
        let actions = actions.to_vec();
        let plan = Plan {
            seed,
            journal_bytes,
            actions,
        };
        check(&plan, Points::All).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
}

/// It waited for more room than such a journal has.
#[test]
fn the_smallest_journal_does_not_hang_the_first_change() {
    holds(256 << 10, 0..1, &[file(0, 0o644)]);
}

/// Recovery took the block as it was, whether it had been written or not.
#[test]
fn data_without_checksums_is_not_found_half_written_after_power_loss() {
    let write = |at| Action::Write(FILE, at, 30_000, 2);
    let flags = Action::SetFlags(FILE, FileFlags::NO_CHECKSUM);
    holds(
        BIG,
        0..20,
        &[
            file(0, 0o644),
            flags,
            write(0),
            Action::Flush,
            write(20_000),
            write(9_000),
        ],
    );
}

/// Recovery ended the log before the write, which the disk did not know to be durable.
#[test]
fn a_flushed_write_without_checksums_survives_power_loss() {
    let flags = Action::SetFlags(FILE, FileFlags::NO_CHECKSUM);
    holds(
        BIG,
        0..10,
        &[file(0, 0o644), flags, Action::Write(FILE, 817, 2046, 13), Action::Flush],
    );
}

/// The blocks of a write were free and in use when its journal record failed.
#[test]
fn a_write_keeps_its_blocks_when_its_journal_record_fails() {
    for nth in 1..20 {
        let write = Action::Write(FILE, 0, 20_000, 2);
        let plan = Plan {
            seed: nth,
            journal_bytes: BIG,
            actions: vec![file(0, 0o644), write, write, write],
        };
        check_fault(&plan, Operation::Write, nth).unwrap_or_else(|wrong| panic!("write {nth}: {wrong}"));
    }
}

/// The source's bytes moved out of the metadata, which counted as a write.
#[test]
fn cloning_from_a_small_file_changes_neither_its_times_nor_its_set_ids() {
    let clone = Action::CloneRange(FILE, 0, Pick(Among::Files, 1), 0, 0);
    holds(
        BIG,
        0..2,
        &[file(0, 0o6711), Action::Write(FILE, 0, 100, 3), file(1, 0o644), clone],
    );
}

/// Only writing did.
#[test]
fn truncating_and_preallocating_take_set_ids_away() {
    for change in [
        Action::Truncate(FILE, 14_011),
        Action::Preallocate(FILE, Preallocation::Allocate { keep_size: true }, 0, 5000),
        Action::Preallocate(FILE, Preallocation::Punch, 4097, 3032),
    ] {
        holds(BIG, 0..1, &[file(0, 0o6711), change]);
    }
}

/// The copy could not be renamed, nor removed: a draft stayed.
#[test]
fn a_protected_file_can_be_copied() {
    let tree = Action::Create(named(0), Kind::Directory, 0o755, 0);
    let inside = Action::Create(Place(1, Name::Known(1)), Kind::File, 0o644, 0);
    let link = Action::Link(FILE, Place(1, Name::Known(2)));
    for flags in [FileFlags::IMMUTABLE, FileFlags::APPEND] {
        let protect = Action::SetFlags(FILE, flags);
        let copy = Action::CloneTree(Pick(Among::Everything, 0), named(3));
        holds(BIG, 0..2, &[tree, inside, link, protect, copy]);
    }
}

/// The draft's name could not be taken away again.
#[test]
fn nothing_is_copied_into_an_append_only_directory() {
    let protect = Action::SetFlags(ROOT, FileFlags::APPEND);
    holds(BIG, 0..2, &[file(0, 0o644), protect, Action::CloneTree(FILE, named(3))]);
}

/// It was refused as if a name were taken away there.
#[test]
fn a_file_can_be_moved_into_an_append_only_directory_but_replaces_nothing_there() {
    let directory = Action::Create(named(0), Kind::Directory, 0o755, 0);
    let protect = Action::SetFlags(Pick(Among::Directories, 1), FileFlags::APPEND);
    let mut actions = vec![directory, protect];
    for (name, flags) in [(1, 0), (2, 0), (3, rename::NO_REPLACE)] {
        let to = if name == 2 { 1 } else { name };
        actions.extend([
            file(name, 0o644),
            Action::Rename(named(name), Place(1, Name::Known(to)), flags),
        ]);
    }
    holds(BIG, 0..2, &actions);
}
