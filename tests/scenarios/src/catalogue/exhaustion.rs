// SPDX-License-Identifier: MIT OR Apache-2.0

//! Something runs out.

use lab_guest::measure::Promise as P;

use super::{scenario, variant};
use crate::scenario::{Case as C, Expectation, FrontEnd as F, Scenario, asserted, measured};

const IN_NEED: &[Expectation] = &[
    measured(
        P::GracefulError,
        "applications go on without an error, no call takes 20 s",
    ),
    measured(
        P::Stability,
        "the server is the same process; the kernel's mount was never degraded",
    ),
    measured(P::Recovery, "the server's socket answers when the need is over"),
    measured(P::Integrity, "promised files read back, the pool is sound"),
    measured(P::CleanUp, "mounts, processes, devices, references to the module"),
];
const FULL_BELOW: &[Expectation] = &[
    measured(P::GracefulError, "the write or the fsync that finds it full says so"),
    measured(P::RightErrno, "ENOSPC, EIO or EROFS"),
    measured(P::Recovery, "a new server mounts it when there is space"),
    measured(
        P::Integrity,
        "what was made durable reads back, before and after; the pool is sound",
    ),
    measured(P::CleanUp, "mounts, processes, devices, references to the module"),
];
const MOUNTED: &str = "a pool on ext4, mounted, with files";
const SPARSE: [&str; 2] = [
    "a sparse pool of 1 GiB on a smaller disk",
    "the disk is filled but for 24 MiB",
];

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        C::Memory,
        F::Fuse,
        [
            MOUNTED,
            "the server's control group may have 24 MiB more; 72 MiB are written",
        ],
        IN_NEED,
        [
            "tests/scenarios",
            "limits::a_fuse_server_with_little_memory_is_slower_and_loses_nothing",
        ],
    ),
    scenario(
        C::Memory,
        F::Kernel,
        [
            MOUNTED,
            "the server's control group may have 24 MiB more; 72 MiB are written",
        ],
        IN_NEED,
        [
            "tests/scenarios",
            "limits::the_server_of_a_kernel_mount_with_little_memory_is_slower_and_loses_nothing",
        ],
    ),
    scenario(
        C::Descriptors,
        F::Fuse,
        [MOUNTED, "the server may open nothing more"],
        IN_NEED,
        [
            "tests/scenarios",
            "limits::a_fuse_server_without_descriptors_serves_its_mount_and_answers_again",
        ],
    ),
    scenario(
        C::Descriptors,
        F::Kernel,
        [MOUNTED, "the server may open nothing more"],
        IN_NEED,
        [
            "tests/scenarios",
            "limits::the_server_of_a_kernel_mount_without_descriptors_serves_it_and_answers_again",
        ],
    ),
    scenario(
        C::Descriptors,
        F::Volume,
        [
            "a daemon with a volume",
            "it may open nothing more, and is asked for another volume",
        ],
        &[
            measured(P::GracefulError, "one line, exit code, within 20 s"),
            measured(P::Stability, "the daemon is the same process"),
            measured(P::Recovery, "the volume is added when the need is over"),
            measured(P::Integrity, "what was written meanwhile reads back"),
            measured(P::CleanUp, "processes, devices"),
        ],
        [
            "tests/scenarios",
            "limits::a_daemon_without_descriptors_refuses_a_volume_serves_the_others_and_takes_it_later",
        ],
    ),
    scenario(
        C::Processes,
        F::Fuse,
        [MOUNTED, "the server's control group may start no thread more"],
        IN_NEED,
        [
            "tests/scenarios",
            "limits::a_fuse_server_that_may_start_no_thread_serves_its_mount",
        ],
    ),
    scenario(
        C::Processes,
        F::Kernel,
        [MOUNTED, "the server's control group may start no thread more"],
        IN_NEED,
        [
            "tests/scenarios",
            "limits::the_server_of_a_kernel_mount_that_may_start_no_thread_serves_it",
        ],
    ),
    scenario(
        C::Space,
        F::Fuse,
        SPARSE,
        FULL_BELOW,
        [
            "tests/scenarios",
            "disks::a_fuse_mount_of_a_sparse_pool_on_a_full_disk_says_so_and_goes_on_when_there_is_space",
        ],
    ),
    scenario(
        C::Space,
        F::Kernel,
        [
            "a pool",
            "it is filled by several writers in several ways, and emptied, three times",
        ],
        &[
            asserted(P::RightErrno, "ENOSPC of the write, never of fsync or close"),
            asserted(P::Integrity, "what was accepted reads back; the check"),
            asserted(P::Recovery, "space comes back within 20 s"),
        ],
        ["vexfs", "mounted::a_full_pool_is_told_by_the_write_that_finds_it_full"],
    ),
    variant(
        "below",
        scenario(
            C::Space,
            F::Kernel,
            SPARSE,
            FULL_BELOW,
            [
                "tests/scenarios",
                "disks::a_kernel_mount_of_a_sparse_pool_on_a_full_disk_says_so_and_goes_on_when_there_is_space",
            ],
        ),
    ),
    scenario(
        C::Space,
        F::Volume,
        ["a volume larger than its pool", "it is written full, and discarded"],
        &[
            asserted(P::RightErrno, "ENOSPC"),
            asserted(P::Integrity, "what was there reads back; the check"),
            asserted(P::Recovery, "discarded space can be written again"),
        ],
        ["ublk-server", "volume::a_full_pool_says_so_and_space_comes_back"],
    ),
    variant(
        "below",
        scenario(
            C::Space,
            F::Volume,
            [
                "a file larger than its disk, as a device",
                "it is written until the disk is full",
            ],
            &[asserted(P::RightErrno, "the errno of the file reaches the application")],
            [
                "ublk-server",
                "looped::trouble_of_the_file_reaches_the_application_as_it_is",
            ],
        ),
    ),
    scenario(
        C::Cpu,
        F::Fuse,
        [MOUNTED, "four processes spin on two processors"],
        IN_NEED,
        [
            "tests/scenarios",
            "limits::a_fuse_mount_beside_processor_hogs_is_slower_and_nothing_else",
        ],
    ),
    scenario(
        C::Cpu,
        F::Kernel,
        [MOUNTED, "four processes spin on two processors"],
        IN_NEED,
        [
            "tests/scenarios",
            "limits::a_kernel_mount_beside_processor_hogs_is_slower_and_nothing_else",
        ],
    ),
];
