// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is below, beside or above does not do its part.

use lab_guest::measure::Promise as P;

use super::{scenario, variant};
use crate::scenario::{Case as C, Expectation, FrontEnd as F, Scenario, asserted, measured};

const SLOW: &[Expectation] = &[
    measured(
        P::GracefulError,
        "no application meets an error, none waits 20 s; the delay was felt",
    ),
    measured(P::Recovery, "a write is durable once the disk is fast again"),
    measured(P::Integrity, "promised files read back, the pool is sound"),
    measured(P::CleanUp, "mounts, processes, devices, references to the module"),
];
const FAILING: &[Expectation] = &[
    measured(
        P::GracefulError,
        "the first write or fsync says so, within 20 s; nothing is called durable",
    ),
    measured(P::RightErrno, "EIO or EROFS"),
    measured(P::Recovery, "a new server mounts it when the disk is back"),
    measured(P::Integrity, "what was durable reads back, the pool is sound"),
    measured(P::CleanUp, "mounts, processes, devices, references to the module"),
];
const CLOCK: &[Expectation] = &[
    measured(P::GracefulError, "no application meets an error, none waits 20 s"),
    measured(
        P::Integrity,
        "promised files read back; new files have the clock's time",
    ),
    measured(P::CleanUp, "mounts, processes, devices, references to the module"),
];
const DELAYED: [&str; 2] = ["a pool on dm-linear", "dm-delay, 40 ms for each request"];
const ERRORS: [&str; 2] = ["a pool on dm-linear, with files", "every request fails; then none"];
const JUMPS: [&str; 2] = [
    "a pool, mounted, applications at work",
    "a day, and 400 days ahead, a day and three years back",
];
const CUT: [&str; 2] = [
    "a pool on a disk with a cache, mounted, an application whose promises are noted outside of the machine",
    "the machine's power is cut, several times, and the disk's cache is lost",
];
const DURABLE: &[Expectation] = &[
    measured(P::Recovery, "from the boot until it is mounted"),
    measured(
        P::Integrity,
        "every promise, and names and attributes as after some step; the check",
    ),
];
const BOOKS: &str = "each writer's book against the tree: cached, uncached, mounted again";

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        C::SlowDevice,
        F::Fuse,
        DELAYED,
        SLOW,
        [
            "tests/scenarios",
            "disks::a_fuse_mount_on_a_slow_disk_is_slow_and_nothing_else",
        ],
    ),
    scenario(
        C::SlowDevice,
        F::Kernel,
        DELAYED,
        SLOW,
        [
            "tests/scenarios",
            "disks::a_kernel_mount_on_a_slow_disk_is_slow_and_nothing_else",
        ],
    ),
    scenario(
        C::SlowDevice,
        F::Dsmil,
        ["dsmild on a simulated device", "answers come 30 ms, and 300 ms late"],
        &[asserted(
            P::GracefulError,
            "the value is right; an attempt that is too late is repeated",
        )],
        ["dsmil", "served::every_fault_of_the_firmware_is_survived"],
    ),
    scenario(
        C::FailingDevice,
        F::Fuse,
        ERRORS,
        FAILING,
        [
            "tests/scenarios",
            "disks::a_fuse_mount_on_a_disk_that_fails_says_so_and_keeps_what_was_durable",
        ],
    ),
    scenario(
        C::FailingDevice,
        F::Kernel,
        ERRORS,
        FAILING,
        [
            "tests/scenarios",
            "disks::a_kernel_mount_on_a_disk_that_fails_says_so_and_keeps_what_was_durable",
        ],
    ),
    scenario(
        C::FailingDevice,
        F::Volume,
        ["a volume of a pool on dm-linear", "every request fails; then none"],
        &[
            asserted(P::RightErrno, "EIO"),
            asserted(P::GracefulError, "the log names the volume"),
            asserted(
                P::Integrity,
                "what was flushed reads back after adding it again; the check",
            ),
            asserted(P::CleanUp, "devices, sockets, records, daemons"),
        ],
        [
            "cli",
            "trouble::a_pool_whose_disk_fails_says_so_and_keeps_what_was_flushed",
        ],
    ),
    variant(
        "sectors",
        scenario(
            C::FailingDevice,
            F::Volume,
            ["dm-linear as a device", "8 MiB of it cannot be reached"],
            &[asserted(
                P::RightErrno,
                "EIO there, and nowhere else; none when they are back",
            )],
            [
                "cli",
                "trouble::sectors_that_cannot_be_reached_are_errors_and_others_are_not",
            ],
        ),
    ),
    variant(
        "writes",
        scenario(
            C::FailingDevice,
            F::Volume,
            ["dm-linear as a device", "dm-flakey: writes fail, reads do not"],
            &[
                asserted(P::RightErrno, "EIO"),
                asserted(P::Integrity, "what was there before a refused write is there after it"),
            ],
            [
                "cli",
                "trouble::writes_that_a_disk_refuses_for_a_while_are_errors_and_never_old_data",
            ],
        ),
    ),
    scenario(
        C::FailingDevice,
        F::Dsmil,
        [
            "dsmild on a simulated device",
            "the device is pulled from the bus, and returns",
        ],
        &[
            asserted(P::GracefulError, "calls say that it is gone"),
            asserted(P::Recovery, "dsmild takes it up again"),
        ],
        [
            "dsmil",
            "served::a_device_that_is_pulled_under_the_driver_process_is_taken_up_again_when_it_returns",
        ],
    ),
    scenario(
        C::ServerKilled,
        F::Fuse,
        [
            "a pool, mounted, with files, some not synced",
            "the server is killed; another mounts; four times",
        ],
        &[
            measured(P::GracefulError, "who asks is told at once"),
            measured(P::RightErrno, "ENOTCONN"),
            measured(P::Recovery, "another server mounts"),
            measured(P::Integrity, "everything that was answered reads back"),
            measured(P::CleanUp, "mounts, processes"),
        ],
        [
            "tests/scenarios",
            "servers::a_fuse_server_that_is_killed_leaves_errors_and_no_losses",
        ],
    ),
    scenario(
        C::ServerKilled,
        F::Kernel,
        [
            "a pool, mounted, three writers with books",
            "the server is killed and replaced six times",
        ],
        &[
            asserted(P::GracefulError, "no writer meets an error; stalls are bounded"),
            measured(P::Recovery, "from a server's start until it serves"),
            asserted(P::Integrity, BOOKS),
        ],
        [
            "vexfs",
            "storms::writers_do_not_notice_that_their_server_is_killed_and_replaced",
        ],
    ),
    variant(
        "storm",
        scenario(
            C::ServerKilled,
            F::Kernel,
            [
                "a pool, mounted, three writers with books",
                "the server is killed and replaced 300 times",
            ],
            &[
                asserted(
                    P::GracefulError,
                    "no writer meets an error; of stalls the 99th percentile",
                ),
                measured(P::Recovery, "from a server's start until it serves"),
                asserted(P::Integrity, BOOKS),
            ],
            [
                "vexfs",
                "storms::writers_do_not_notice_three_hundred_kills_of_their_server",
            ],
        ),
    ),
    variant(
        "unit",
        scenario(
            C::ServerKilled,
            F::Kernel,
            [
                "a pool, mounted, its daemon a unit of systemd",
                "the daemon is killed three times",
            ],
            &[
                asserted(P::Recovery, "systemd has another one; the application meets no error"),
                asserted(P::CleanUp, "devices, sockets, records, orders, daemons"),
            ],
            [
                "cli",
                "unit::systemd_replaces_a_daemon_that_dies_under_its_mount_and_no_application_notices",
            ],
        ),
    ),
    scenario(
        C::ServerKilled,
        F::Volume,
        [
            "a volume under fio with verification",
            "its daemon is killed and recovered ten times",
        ],
        &[
            measured(P::Recovery, "from the kill until vexfs-ublk recover is done"),
            asserted(P::Integrity, "fio verifies what it wrote; the check"),
            asserted(P::CleanUp, "devices, sockets, records, daemons"),
        ],
        [
            "cli",
            "recovery::no_application_notices_that_the_daemon_of_a_volume_was_killed",
        ],
    ),
    variant(
        "memory",
        scenario(
            C::ServerKilled,
            F::Volume,
            ["a RAM disk under fio", "its server is killed, and nobody replaces it"],
            &[asserted(P::GracefulError, "the application gets an error within 30 s")],
            [
                "ublk-server",
                "a_server_that_is_killed_under_load_leaves_errors_not_a_hang",
            ],
        ),
    ),
    variant(
        "twice",
        scenario(
            C::ServerKilled,
            F::Volume,
            [
                "a volume whose daemon was killed",
                "the next one is killed while it takes the device over",
            ],
            &[
                asserted(P::Recovery, "the one after it serves"),
                asserted(P::Integrity, "fio, the check"),
            ],
            [
                "cli",
                "recovery::a_daemon_killed_while_it_takes_a_device_over_is_replaced_like_any_other",
            ],
        ),
    ),
    scenario(
        C::ServerKilled,
        F::Dsmil,
        ["dsmild with an operation under way", "it is killed, three times"],
        &[asserted(P::Recovery, "another one serves, values are what they were")],
        [
            "dsmil",
            "served::a_driver_process_that_is_killed_in_mid_operation_is_replaced_by_another",
        ],
    ),
    scenario(
        C::ServerStopped,
        F::Fuse,
        [
            "a pool, mounted, with files",
            "the server stands still for 3 s; two call, one of them is killed",
        ],
        &[
            measured(
                P::GracefulError,
                "the killed caller ends, the other waits and is answered",
            ),
            measured(P::Recovery, "the call that waited"),
            measured(P::Integrity, "promised files read back, the pool is sound"),
            measured(P::CleanUp, "mounts, processes"),
        ],
        [
            "tests/scenarios",
            "servers::a_fuse_server_that_stands_still_keeps_callers_waiting_who_can_be_killed",
        ],
    ),
    scenario(
        C::ServerStopped,
        F::Kernel,
        ["a pool, mounted, something cached", "the server stands still"],
        &[
            asserted(
                P::GracefulError,
                "cached bytes and attributes are read; writers get an errno within 10 s",
            ),
            asserted(P::RightErrno, "EIO"),
            measured(P::Recovery, "the mount heals after the server's return"),
            asserted(P::Integrity, "the pool is sound"),
        ],
        [
            "vexfs",
            "unanswered::a_stopped_server_leaves_what_is_cached_and_fails_what_is_not_in_time",
        ],
    ),
    variant(
        "storm",
        scenario(
            C::ServerStopped,
            F::Kernel,
            [
                "a pool, mounted, three writers with books",
                "the server stands still, twice, up to 6 s",
            ],
            &[
                asserted(P::GracefulError, "no call takes 10 s"),
                measured(P::Recovery, "the mount heals after the server's return"),
                asserted(P::Integrity, BOOKS),
            ],
            [
                "vexfs",
                "storms::a_server_that_stands_still_costs_writers_time_and_errors_and_no_bytes",
            ],
        ),
    ),
    variant(
        "dirty",
        scenario(
            C::ServerStopped,
            F::Kernel,
            [
                "a pool, mounted, with 24 MiB not written back",
                "the server stands still; sync and umount",
            ],
            &[
                asserted(P::GracefulError, "sync and umount end within 10 s"),
                asserted(P::RightErrno, "ETIMEDOUT of a mount while bytes are under way"),
                asserted(P::Integrity, "nothing but what was written is there"),
                asserted(P::CleanUp, "no reference to the module is left"),
            ],
            [
                "vexfs",
                "unanswered::bytes_on_their_way_to_a_stopped_server_keep_neither_sync_nor_unmount",
            ],
        ),
    ),
    scenario(
        C::ServerStopped,
        F::Volume,
        [
            "ext4 on a volume, a tree being unpacked",
            "its daemon stands still, again and again",
        ],
        &[asserted(P::Integrity, "the tree, bit by bit; fsck; the check")],
        [
            "cli",
            "recovery::a_tree_is_unpacked_onto_a_volume_whose_daemon_stands_still_again_and_again",
        ],
    ),
    scenario(
        C::ServerStopped,
        F::Dsmil,
        ["dsmild, the firmware hangs in an operation", "the emergency stop"],
        &[
            asserted(
                P::GracefulError,
                "safe within 10 ms; operations say why they are refused",
            ),
            asserted(P::Recovery, "operations after resume"),
        ],
        ["dsmil", "served::the_emergency_stop_works_while_an_operation_hangs"],
    ),
    scenario(
        C::ServerLies,
        F::Kernel,
        [
            "a pool, mounted, applications at work",
            "answers are spoiled under right checksums",
        ],
        &[asserted(
            P::GracefulError,
            "applications get errors; the answers are counted as hostile",
        )],
        [
            "ublk-server",
            "filesystem::hostile::a_server_that_lies_costs_applications_errors_and_the_kernel_nothing",
        ],
    ),
    scenario(
        C::ServerLies,
        F::Dsmil,
        [
            "dsmild on a simulated device",
            "answers come twice, interrupts without a cause or not at all",
        ],
        &[asserted(P::Integrity, "values are right")],
        ["dsmil", "served::every_fault_of_the_firmware_is_survived"],
    ),
    scenario(
        C::PowerCut,
        F::Fuse,
        CUT,
        DURABLE,
        [
            "tests/scenarios",
            "power::no_promise_of_a_fuse_mount_is_broken_by_a_few_power_cuts",
        ],
    ),
    scenario(
        C::PowerCut,
        F::Kernel,
        CUT,
        DURABLE,
        [
            "tests/scenarios",
            "power::no_promise_of_a_kernel_mount_is_broken_by_a_few_power_cuts",
        ],
    ),
    variant(
        "many",
        scenario(
            C::PowerCut,
            F::Kernel,
            CUT,
            DURABLE,
            [
                "tests/scenarios",
                "power::no_promise_of_a_kernel_mount_is_broken_by_two_hundred_power_cuts",
            ],
        ),
    ),
    scenario(
        C::PowerCut,
        F::Volume,
        [
            "two volumes, one with ext4, written block by block",
            "the machine's power is cut, twice",
        ],
        &[asserted(
            P::Integrity,
            "every block and file that was flushed; fsck; the check",
        )],
        [
            "cli",
            "power::nothing_that_was_flushed_to_a_volume_is_lost_with_the_power",
        ],
    ),
    scenario(
        C::ClockJump,
        F::Fuse,
        JUMPS,
        CLOCK,
        ["tests/scenarios", "clock::a_fuse_mount_goes_on_when_the_clock_jumps"],
    ),
    scenario(
        C::ClockJump,
        F::Kernel,
        JUMPS,
        CLOCK,
        ["tests/scenarios", "clock::a_kernel_mount_goes_on_when_the_clock_jumps"],
    ),
];
