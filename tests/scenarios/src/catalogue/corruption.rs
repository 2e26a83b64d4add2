// SPDX-License-Identifier: MIT OR Apache-2.0

//! Bytes change that nobody wrote.

use lab_guest::measure::Promise as P;

use super::{scenario, variant};
use crate::scenario::{Case as C, Expectation, FrontEnd as F, Scenario, Structure as S, When, asserted, measured};

const TOLD: &[Expectation] = &[
    measured(P::GracefulError, "the check tells; the mount is refused or serves"),
    measured(
        P::RightErrno,
        "EIO or EUCLEAN of what is damaged, nothing of what is not",
    ),
    measured(
        P::Integrity,
        "no wrong bytes; nothing missing of which nobody says anything",
    ),
    measured(P::CleanUp, "mounts, processes, devices, references to the module"),
];
const FUSE_AT_REST: [&str; 2] = [
    "tests/scenarios",
    "damage::damage_of_a_pool_at_rest_is_told_and_never_read_through_fuse",
];
const KERNEL_AT_REST: [&str; 2] = [
    "tests/scenarios",
    "damage::damage_of_a_pool_at_rest_is_told_and_never_read_through_the_kernel_mount",
];
const FUSE_IN_USE: [&str; 2] = [
    "tests/scenarios",
    "damage::damage_of_a_pool_in_use_is_told_and_never_read_through_fuse",
];
const KERNEL_IN_USE: [&str; 2] = [
    "tests/scenarios",
    "damage::damage_of_a_pool_in_use_is_told_and_never_read_through_the_kernel_mount",
];
const CLOSED: &str = "a pool with forty files, closed";
const MOUNTED: &str = "a pool with forty files, mounted";

const fn at_rest(structure: S, front: F, fault: &'static str, test: [&'static str; 2]) -> Scenario {
    scenario(C::Damage(structure, When::AtRest), front, [CLOSED, fault], TOLD, test)
}

const fn in_use(structure: S, front: F, fault: &'static str, test: [&'static str; 2]) -> Scenario {
    scenario(
        C::Damage(structure, When::AtRunTime),
        front,
        [MOUNTED, fault],
        TOLD,
        test,
    )
}

const SUPERBLOCK: &str = "bits of all four superblocks";
const JOURNAL: &str = "bits all over the journal of a copy made while it was served";
const METADATA: &str = "bits of the manifest";
const DATA: &str = "bits of one block of one file";
const DIRECTORY: &str = "bits of every page that holds one name";

pub(super) const SCENARIOS: &[Scenario] = &[
    at_rest(S::Superblock, F::Fuse, SUPERBLOCK, FUSE_AT_REST),
    at_rest(S::Superblock, F::Kernel, SUPERBLOCK, KERNEL_AT_REST),
    in_use(S::Superblock, F::Fuse, SUPERBLOCK, FUSE_IN_USE),
    in_use(S::Superblock, F::Kernel, SUPERBLOCK, KERNEL_IN_USE),
    at_rest(S::Journal, F::Fuse, JOURNAL, FUSE_AT_REST),
    at_rest(S::Journal, F::Kernel, JOURNAL, KERNEL_AT_REST),
    at_rest(S::Metadata, F::Fuse, METADATA, FUSE_AT_REST),
    at_rest(S::Metadata, F::Kernel, METADATA, KERNEL_AT_REST),
    at_rest(S::Data, F::Fuse, DATA, FUSE_AT_REST),
    at_rest(S::Data, F::Kernel, DATA, KERNEL_AT_REST),
    variant(
        "images",
        scenario(
            C::Damage(S::Data, When::AtRest),
            F::Kernel,
            ["a sealed image", "damage here and there, up to the limit of damage"],
            &[
                asserted(P::RightErrno, "EUCLEAN and EIO"),
                asserted(
                    P::GracefulError,
                    "damage is counted; the mount is refused beyond the limit",
                ),
            ],
            ["vexfs", "images::damage_is_counted_and_too_much_of_it_ends_a_mount"],
        ),
    ),
    scenario(
        C::Damage(S::Data, When::AtRest),
        F::Volume,
        ["a volume, written full, not served", "one byte of one of its blocks"],
        &[
            asserted(P::RightErrno, "EIO of that block, nothing of others"),
            asserted(P::GracefulError, "the log names pool, file and place"),
            asserted(P::Recovery, "the block is right again once it is written"),
        ],
        [
            "ublk-server",
            "volume::damage_below_a_volume_is_an_error_and_never_data",
        ],
    ),
    in_use(S::Data, F::Fuse, DATA, FUSE_IN_USE),
    in_use(S::Data, F::Kernel, DATA, KERNEL_IN_USE),
    scenario(
        C::Damage(S::Data, When::AtRunTime),
        F::Dsmil,
        ["dsmild on a simulated device", "the firmware's answer is damaged"],
        &[
            asserted(P::Integrity, "the value of the next attempt is the right one"),
            asserted(P::GracefulError, "the answer is counted as corrupt"),
        ],
        ["dsmil", "served::every_fault_of_the_firmware_is_survived"],
    ),
    at_rest(S::Directory, F::Fuse, DIRECTORY, FUSE_AT_REST),
    at_rest(S::Directory, F::Kernel, DIRECTORY, KERNEL_AT_REST),
    in_use(S::Directory, F::Fuse, DIRECTORY, FUSE_IN_USE),
    in_use(S::Directory, F::Kernel, DIRECTORY, KERNEL_IN_USE),
];
