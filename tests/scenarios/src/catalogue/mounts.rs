// SPDX-License-Identifier: MIT OR Apache-2.0

//! What cannot be mounted, added or taken up.

use lab_guest::measure::Promise as P;

use super::scenario;
use crate::scenario::{Case as C, FrontEnd as F, Scenario, asserted, measured};

const REFUSED: &str = "one line, exit code, within 20 s";
const NOTHING_LEFT: &str = "mounts, processes, devices, references to the module";

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        C::BadDevice,
        F::Fuse,
        [
            "files on ext4",
            "mounts of half a pool, text, zeros, nothing, a directory, /dev/null",
        ],
        &[measured(P::GracefulError, REFUSED), measured(P::CleanUp, NOTHING_LEFT)],
        [
            "tests/scenarios",
            "mounts::what_is_no_pool_is_refused_by_fuse_in_one_line",
        ],
    ),
    scenario(
        C::BadDevice,
        F::Kernel,
        [
            "a RAM disk served by ublk",
            "it is mounted; then once more with its server stopped",
        ],
        &[
            asserted(
                P::RightErrno,
                "EINVAL of what is not ours, ETIMEDOUT of what does not answer",
            ),
            asserted(P::GracefulError, "within 10 s"),
            asserted(P::CleanUp, "no reference to the module when the late read has ended"),
        ],
        [
            "vexfs",
            "unanswered::a_device_that_is_not_ours_or_does_not_answer_is_refused_in_time",
        ],
    ),
    scenario(
        C::BadDevice,
        F::Volume,
        ["a pool", "names that are no file, or no regular file, as volumes"],
        &[
            asserted(P::GracefulError, "one line that names the reason"),
            asserted(P::Integrity, "the pool is sound"),
        ],
        ["ublk-server", "volume::what_is_no_volume_is_refused_in_one_line"],
    ),
    scenario(
        C::BadDevice,
        F::Dsmil,
        ["no device", "a platform region that lies in RAM"],
        &[asserted(
            P::GracefulError,
            "the module refuses to load, unless told otherwise",
        )],
        [
            "dsmil",
            "module::a_platform_region_in_ram_is_refused_unless_told_otherwise",
        ],
    ),
    scenario(
        C::DamagedMetadata,
        F::Fuse,
        [
            "a pool with forty files, not served",
            "superblocks, journal, manifest, names",
        ],
        &[
            measured(P::GracefulError, "the mount is refused, or serves; the check tells"),
            measured(
                P::Integrity,
                "no wrong bytes; nothing missing of which the check says nothing",
            ),
        ],
        [
            "tests/scenarios",
            "damage::damage_of_a_pool_at_rest_is_told_and_never_read_through_fuse",
        ],
    ),
    scenario(
        C::DamagedMetadata,
        F::Kernel,
        ["sealed images", "any byte of them, also below right checksums"],
        &[
            asserted(P::RightErrno, "EUCLEAN of names and attributes, EIO of bytes"),
            asserted(P::Integrity, "no wrong bytes"),
            asserted(P::CleanUp, "unmounts and unloads"),
        ],
        ["vexfs", "images::damaged_images_give_errors_and_nothing_else"],
    ),
    scenario(
        C::NoPermission,
        F::Fuse,
        ["a pool of root", "nobody mounts it"],
        &[
            measured(P::GracefulError, REFUSED),
            measured(P::RightErrno, "the line says: Permission denied"),
            measured(P::CleanUp, NOTHING_LEFT),
        ],
        [
            "tests/scenarios",
            "mounts::a_pool_of_another_user_is_not_mounted_through_fuse",
        ],
    ),
    scenario(
        C::NoPermission,
        F::Kernel,
        [
            "a mount, its device readable by all",
            "root of a user namespace mounts the device",
        ],
        &[
            measured(P::RightErrno, "EPERM"),
            measured(P::GracefulError, "the mount that was there goes on"),
            measured(P::CleanUp, NOTHING_LEFT),
        ],
        [
            "tests/scenarios",
            "mounts::who_is_root_in_a_namespace_only_mounts_no_device",
        ],
    ),
    scenario(
        C::NoPermission,
        F::Volume,
        ["a pool of root", "nobody adds its device"],
        &[
            measured(P::GracefulError, REFUSED),
            measured(P::RightErrno, "the line says why"),
            measured(P::CleanUp, NOTHING_LEFT),
        ],
        ["tests/scenarios", "mounts::who_may_not_use_the_driver_adds_no_device"],
    ),
    scenario(
        C::NoResources,
        F::Fuse,
        ["a pool", "mounts with ever more descriptors, from 4 on"],
        &[
            measured(P::GracefulError, REFUSED),
            measured(P::RightErrno, "too few are refused, enough are not"),
            measured(P::CleanUp, NOTHING_LEFT),
        ],
        [
            "tests/scenarios",
            "limits::a_fuse_mount_that_may_open_nothing_is_refused_and_leaves_nothing",
        ],
    ),
    scenario(
        C::ConcurrentMounts,
        F::Fuse,
        ["a pool", "six mount it at once, three times"],
        &[
            measured(P::GracefulError, "one gets it, the others are told in one line"),
            measured(P::Integrity, "the pool is sound"),
            measured(P::CleanUp, NOTHING_LEFT),
        ],
        [
            "tests/scenarios",
            "mounts::of_several_who_mount_a_pool_through_fuse_at_once_one_gets_it",
        ],
    ),
    scenario(
        C::ConcurrentMounts,
        F::Kernel,
        ["a mounted device", "six mount it at once, ten times"],
        &[
            measured(P::GracefulError, "all get it"),
            measured(P::Integrity, "all see what one writes; the pool is sound"),
            measured(P::CleanUp, NOTHING_LEFT),
        ],
        [
            "tests/scenarios",
            "mounts::several_who_mount_a_device_at_once_share_one_filesystem",
        ],
    ),
    scenario(
        C::ConcurrentMounts,
        F::Volume,
        ["a pool with a volume", "two add the volume at once"],
        &[
            asserted(P::GracefulError, "one gets it, the other is told in one line"),
            asserted(P::CleanUp, "no device, socket, record or daemon is left"),
        ],
        ["cli", "devices::of_two_who_add_the_same_volume_at_once_one_gets_it"],
    ),
    scenario(
        C::ConcurrentMounts,
        F::Dsmil,
        ["the module and its device", "two processes open it"],
        &[asserted(P::RightErrno, "EBUSY for the second")],
        ["dsmil", "module::one_process_at_a_time_has_the_device_open"],
    ),
];
