// SPDX-License-Identifier: MIT OR Apache-2.0

//! The machine and its disk's cache lose power while a volume is written to: what was flushed is there, and pool and file
//! system are sound.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::host::workspace;
use lab::kernel;
use lab::runner::guest;
use lab::vm::{Machine, Spec, Stream, VolatileDisk};
use lab_guest::protocol::Command;

const CLI: &str = env!("CARGO_BIN_EXE_vexfs-ublk");
const LIMIT: Duration = Duration::from_secs(120);
/// Sets `$pool` to the scratch disk, and has a device of its volume at `$dev`.
const SERVE: &str = "for d in /sys/block/*; do [ \"$(cat $d/serial 2>/dev/null)\" = pool ] && pool=/dev/${d##*/}; done
modprobe ublk_drv
[ -n \"$FIRST\" ] && { $CLI mkfs --force $pool > /dev/null; $CLI volume create $pool a --size 64MiB; $CLI volume create $pool fs --size 96MiB; }
dev=$($CLI add $pool --volume a); fs=$($CLI add $pool --volume fs); mkdir -p /mnt/volume
";
/// Block after block, with its number in it, and a file for each; tells the number when both are flushed.
const WRITE: &str = "mkfs.ext4 -q $fs; mount $fs /mnt/volume; i=0; while :; do
printf '%08d' $i | dd of=$dev bs=4k seek=$i conv=sync,notrunc,fdatasync status=none
printf '%08d' $i > /mnt/volume/$i; sync /mnt/volume/$i /mnt/volume; echo $i; i=$((i + 1)); done";
/// The same, read back up to a number, and both volumes checked.
const READ: &str = "i=0; while [ $i -le $LAST ]; do
[ \"$(dd if=$dev bs=4k skip=$i count=1 iflag=direct status=none | head -c 8)\" = $(printf '%08d' $i) ] || { echo block $i; exit 1; }; i=$((i + 1)); done
mount $fs /mnt/volume; i=0; while [ $i -le $LAST ]; do
[ \"$(cat /mnt/volume/$i)\" = $(printf '%08d' $i) ] || { echo file $i; exit 1; }; i=$((i + 1)); done
umount /mnt/volume; fsck.ext4 -fn $fs; $CLI del --all; $CLI check $pool; echo sound";

fn script(first: bool, last: usize, work: &str) -> Command {
    let first = if first { "1" } else { "" };
    Command::shell(&format!("set -e; CLI={CLI} FIRST={first} LAST={last}\n{SERVE}{work}"))
}

/// Cuts the power so many times, each time on a pool as it was left.
fn nothing_flushed_is_lost(kernel: &str, cuts: usize) -> Result<()> {
    let kernel = kernel::ensure(kernel.parse()?, false)?;
    let modules = kernel::modules::ensure(&kernel)?;
    let directory = workspace::results()
        .join("machines")
        .join(format!("power-{}-{}", kernel.id, std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let mut spec = Spec::new(&kernel, &directory);
    let disk = VolatileDisk::create(&directory, "pool", 512)?;
    spec.disks.push(disk.disk());
    let mut random = fastrand::Rng::with_seed(1);
    ensure!(
        Path::new(CLI).with_file_name("vexfs-ublkd").exists(),
        "the daemon is not built"
    );
    for cut in 0..cuts {
        let mut machine = Machine::boot(&spec)?;
        let writing = Command {
            env: guest::environment(&modules),
            ..script(true, 0, WRITE)
        };
        let job = machine.start(&writing)?;
        let mut told = String::new();
        let mut errors = String::new();
        let take = |told: &mut String, errors: &mut String, stream, bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            match stream {
                Stream::Out => told.push_str(&text),
                Stream::Err => errors.push_str(&text),
            }
        };
        // Until it writes; then for another moment each time.
        let start = std::time::Instant::now();
        while told.lines().count() < 8 {
            ensure!(start.elapsed() < LIMIT, "it does not write: {told:?} {errors:?}");
            machine.wait(job, Duration::from_millis(200), |stream, bytes| {
                take(&mut told, &mut errors, stream, bytes);
            });
        }
        let more = Duration::from_millis(700 + 330 * (cut as u64 % 5));
        machine.wait(job, more, |stream, bytes| take(&mut told, &mut errors, stream, bytes));
        spec = machine.power_cut()?;
        let undone = disk.lose_power(&mut random)?;
        // The last line may be half a number.
        let whole = told.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let last: usize = whole.lines().last().context("nothing was written")?.parse()?;
        println!("cut {cut}: {} blocks and files were flushed, {undone:?}", last + 1);

        let mut machine = Machine::boot(&spec)?;
        let reading = Command {
            env: guest::environment(&modules),
            ..script(false, last, READ)
        };
        let job = machine.start(&reading)?;
        let (mut told, mut errors) = (String::new(), String::new());
        let ended = machine.wait(job, LIMIT, |stream, bytes| take(&mut told, &mut errors, stream, bytes));
        ensure!(
            told.trim_end().ends_with("sound"),
            "after cut {cut}, at {last}: {ended:?} {told} {errors}"
        );
        spec = machine.power_cut()?;
        disk.lose_power(&mut random)?;
    }
    Ok(std::fs::remove_dir_all(&directory)?)
}

#[lab_guest::test(kernels = "stock", timeout = 400)]
fn nothing_that_was_flushed_to_a_volume_is_lost_with_the_power(kernel: &str) -> Result<()> {
    nothing_flushed_is_lost(kernel, 2)
}

#[lab_guest::test(kernels = "stock", timeout = 7200, stress = true)]
fn nothing_that_was_flushed_to_a_volume_is_lost_in_twenty_power_cuts(kernel: &str) -> Result<()> {
    nothing_flushed_is_lost(kernel, 20)
}
