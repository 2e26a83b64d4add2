// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pools mounted by the kernel module, with a server that does its work.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use lab::runner::Outcome;
use lab::runner::suite::{self, Plan};
use lab::suites::target::On;
use lab::suites::{Case, cases};
use lab_guest::kmod;

use crate::served::{IMAGE, Server, at, drop_caches, program};

const BLOCK: usize = 4096;

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn a_mount_holds_what_was_written_across_caches_and_mounts() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|at| (at * 31 % 251) as u8).collect();
    fs::create_dir(at("directory"))?;
    fs::write(at("directory/file"), &bytes)?;
    fs::hard_link(at("directory/file"), at("other name"))?;
    symlink("directory/file", at("link"))?;
    fs::set_permissions(at("other name"), fs::Permissions::from_mode(0o640))?;
    let file = fs::OpenOptions::new().write(true).open(at("link"))?;
    file.write_all_at(b"within", 70_001)?;
    file.set_len(6_000_000)?;
    file.sync_all()?;
    drop(file);
    let mut expected = bytes;
    expected[70_001..70_007].copy_from_slice(b"within");
    expected.resize(6_000_000, 0);

    let look = || -> Result<()> {
        ensure!(fs::read(at("link"))? == expected, "the contents changed");
        let meta = fs::metadata(at("directory/file"))?;
        ensure!(
            meta.nlink() == 2 && meta.len() == 6_000_000 && meta.mode() & 0o7777 == 0o640,
            "{meta:?}"
        );
        let mut names: Vec<_> = fs::read_dir(at(""))?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<_>>()?;
        names.sort();
        ensure!(names == ["directory", "link", "other name"], "{names:?}");
        Ok(())
    };
    look()?;
    drop_caches()?;
    look().context("after dropping caches")?;
    ensure!(mount.attribute("health")? == "HEALTHY" && mount.counter("hostile")? == 0);
    mount.unmount()?;
    let mount = server.mount("")?;
    look().context("after mounting again")?;
    mount.unmount()?;
    server.stop_and_check()
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn a_hundred_mounts_leave_nothing_behind() -> Result<()> {
    let server = Server::of_new_pool()?;
    let start = Instant::now();
    for round in 0..100 {
        let mount = server.mount("")?;
        fs::write(at("round"), round.to_string())?;
        mount.unmount()?;
    }
    println!("100 mounts in {:?}", start.elapsed());
    let mount = server.mount("ro")?;
    ensure!(fs::read_to_string(at("round"))? == "99");
    ensure!(fs::write(at("round"), "").is_err(), "a read-only mount was written to");
    mount.unmount()?;
    server.stop_and_check()
}

/// Changes a byte of a block in the pool's file, which is found by its first bytes.
fn damage(block: &[u8]) -> Result<()> {
    let image = fs::OpenOptions::new().read(true).write(true).open(IMAGE)?;
    let mut start = [0; 64];
    let blocks = image.metadata()?.len() / BLOCK as u64;
    for number in 0..blocks {
        let place = number * BLOCK as u64;
        image.read_exact_at(&mut start, place)?;
        if block.starts_with(&start) {
            return Ok(image.write_all_at(&[!block[1000]], place + 1000)?);
        }
    }
    bail!("the pool has no such block");
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn a_damaged_block_fails_reads_until_it_is_overwritten() -> Result<()> {
    const DAMAGED: usize = 300 * BLOCK;
    let mut random = fastrand::Rng::with_seed(7);
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(512 * BLOCK).collect();
    let server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    fs::write(at("file"), &bytes)?;
    mount.unmount()?;
    server.stop()?;
    damage(&bytes[DAMAGED..DAMAGED + BLOCK])?;

    let server = Server::of_pool()?;
    let mount = server.mount("")?;
    let failed = fs::read(at("file")).err().context("damaged bytes were read")?;
    ensure!(failed.raw_os_error() == Some(nix::libc::EIO), "{failed}");
    let file = fs::OpenOptions::new().read(true).write(true).open(at("file"))?;
    let mut before = vec![0; DAMAGED / 2];
    file.read_exact_at(&mut before, 0)?;
    ensure!(before == bytes[..DAMAGED / 2], "what is not damaged reads otherwise");
    // The cache may have a large page of which this is a part.
    bytes[DAMAGED..DAMAGED + BLOCK].fill(b'w');
    file.write_all_at(&bytes[DAMAGED..DAMAGED + BLOCK], DAMAGED as u64)?;
    ensure!(fs::read(at("file"))? == bytes, "read around what was just written");
    file.sync_all()?;
    drop(file);
    drop_caches()?;
    ensure!(fs::read(at("file"))? == bytes, "read again");
    ensure!(mount.attribute("health")? == "HEALTHY" && mount.counter("hostile")? == 0);
    mount.unmount()?;
    server.stop_and_check()
}

/// Building a crate takes an hour where instructions are emulated. What compilers do with a mount, `compiled` shows.
const TOO_LONG: &str = "cargo_builds_in_it";

/// Runs cases of the suites on a mount by the module.
fn suite(name: &str, share: u32) -> Result<()> {
    kmod::modprobe("ublk_drv")?;
    let plan = Plan {
        inner: vec![program("xtask")?.into(), OsString::from("suite")],
        on: On::Module,
        program: program("vexfs-ublk")?,
        full: false,
        share,
        seed: 1,
    };
    let is_wanted = |case: &Case| case.suite == name && case.name != TOO_LONG;
    let wanted: Vec<_> = cases().into_iter().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "there is no suite {name}");
    for mut case in wanted {
        // The machine is emulated.
        case.quick *= 10;
        let result = suite::run(&case, &plan)?;
        println!("{}: {:?} in {:?}", result.name, result.outcome, result.took);
        ensure!(result.outcome == Outcome::Passed, "{}", result.output);
    }
    Ok(())
}

// The ordinary run has time for these on one kernel each.

#[lab_guest::test(modules = ["vexfs"], kernels = "6.12,debug", timeout = 1500, memory = 3072, suite = "pjdfstest")]
fn every_posix_call_does_what_pjdfstest_expects() -> Result<()> {
    suite("pjdfstest", 1)
}

#[lab_guest::test(modules = ["vexfs"], kernels = "7.x", timeout = 1500, memory = 3072, stress = true, suite = "pjdfstest")]
fn every_posix_call_does_what_pjdfstest_expects_on_the_newest_kernel() -> Result<()> {
    suite("pjdfstest", 1)
}

#[lab_guest::test(modules = ["vexfs"], kernels = "7.x,debug", timeout = 1500, memory = 3072, suite = "fsx")]
fn every_byte_that_fsx_writes_reads_back() -> Result<()> {
    suite("fsx", 50)
}

#[lab_guest::test(modules = ["vexfs"], kernels = "7.x,debug", timeout = 1500, memory = 3072, suite = "full")]
fn a_full_pool_is_told_by_the_write_that_finds_it_full() -> Result<()> {
    suite("full", 1)
}

#[lab_guest::test(modules = ["vexfs"], timeout = 1500, memory = 3072, stress = true, suite = "fsx")]
fn every_byte_that_fsx_writes_in_a_long_run_reads_back() -> Result<()> {
    suite("fsx", 1)
}

#[lab_guest::test(modules = ["vexfs"], timeout = 1500, memory = 3072, stress = true, suite = "ranges")]
fn ranges_that_move_read_back() -> Result<()> {
    suite("ranges", 1)
}

#[lab_guest::test(modules = ["vexfs"], timeout = 1500, memory = 3072, stress = true, suite = "fio")]
fn blocks_that_fio_verifies_are_right() -> Result<()> {
    suite("fio", 1)
}

#[lab_guest::test(modules = ["vexfs"], timeout = 3600, memory = 3072, stress = true, suite = "applications")]
fn programs_find_in_it_what_they_left_there() -> Result<()> {
    suite("applications", 1)
}
