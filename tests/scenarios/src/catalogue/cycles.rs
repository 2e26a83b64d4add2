// SPDX-License-Identifier: MIT OR Apache-2.0

//! The same again and again.

use lab_guest::measure::Promise as P;

use super::{scenario, variant};
use crate::scenario::{Case as C, Expectation, FrontEnd as F, Scenario, asserted, measured};

const BESIDE_WORK: &[Expectation] = &[
    measured(
        P::GracefulError,
        "no application meets an error; no call takes 20 s; the kernel mounts 100 times a minute",
    ),
    measured(
        P::FlatTrend,
        "memory, descriptors and threads of the server, slabs, latency",
    ),
    measured(P::Integrity, "both pools are sound, promised files read back"),
    measured(P::CleanUp, "mounts, processes, devices, references to the module"),
];
const BESIDE: [&str; 2] = [
    "two pools, 25 applications on one of them",
    "the other is mounted and unmounted over and over",
];
const LOADED: &[Expectation] = &[
    asserted(P::CleanUp, "kernel memory before and after (slabs, or kmemleak)"),
    asserted(P::GracefulError, "version and state after each load"),
];

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        C::MountCycles,
        F::Fuse,
        BESIDE,
        BESIDE_WORK,
        [
            "tests/scenarios",
            "cycles::a_pool_is_mounted_through_fuse_over_and_over_beside_work_and_nothing_grows",
        ],
    ),
    scenario(
        C::MountCycles,
        F::Kernel,
        BESIDE,
        BESIDE_WORK,
        [
            "tests/scenarios",
            "cycles::a_pool_is_mounted_by_the_kernel_over_and_over_beside_work_and_nothing_grows",
        ],
    ),
    variant(
        "long",
        scenario(
            C::MountCycles,
            F::Kernel,
            BESIDE,
            BESIDE_WORK,
            [
                "tests/scenarios",
                "cycles::a_pool_is_mounted_by_the_kernel_for_twenty_minutes_beside_work_and_nothing_grows",
            ],
        ),
    ),
    scenario(
        C::MountCycles,
        F::Volume,
        [
            "a pool with a volume",
            "its device is added, used and deleted sixty times",
        ],
        &[asserted(
            P::CleanUp,
            "kernel memory, devices, sockets, records, daemons",
        )],
        ["cli", "devices::devices_come_and_go_and_leave_nothing"],
    ),
    scenario(
        C::MountCycles,
        F::Dsmil,
        [
            "the module and its device",
            "the device is bound and unbound thirty times",
        ],
        &[asserted(P::CleanUp, "kernel memory, UIO devices")],
        ["dsmil", "module::the_device_survives_30_cycles_of_bind_and_unbind"],
    ),
    scenario(
        C::LoadCycles,
        F::Kernel,
        ["the module", "it is loaded and unloaded a hundred times"],
        LOADED,
        ["vexfs", "the_module_survives_100_cycles_of_load_and_unload"],
    ),
    variant(
        "long",
        scenario(
            C::LoadCycles,
            F::Kernel,
            ["the module", "it is loaded and unloaded a thousand times"],
            LOADED,
            ["vexfs", "the_module_survives_1000_cycles_of_load_and_unload"],
        ),
    ),
    scenario(
        C::LoadCycles,
        F::Volume,
        ["the server", "twenty of them, with a device each, one after the other"],
        &[asserted(P::CleanUp, "kernel memory, devices")],
        ["ublk-server", "twenty_devices_come_and_go_and_leave_nothing"],
    ),
    scenario(
        C::LoadCycles,
        F::Dsmil,
        ["the module", "it is loaded and unloaded a hundred times"],
        LOADED,
        ["dsmil", "module::the_module_survives_100_cycles_of_load_and_unload"],
    ),
];
