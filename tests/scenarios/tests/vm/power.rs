// SPDX-License-Identifier: MIT OR Apache-2.0

//! The machine loses power while files of a mount are made durable one by one: each that was is there. From the host.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::host::workspace;
use lab::kernel;
use lab::runner::guest;
use lab::vm::{Disk, Ended, Machine, Spec, Stream};
use lab_guest::measure::{Promise, check, recovered};
use lab_guest::protocol::Command;

const LIMIT: Duration = Duration::from_secs(120);
/// Power cuts of a test, each on the pool as the one before left it.
const CUTS: u64 = 2;
/// Sets `$pool` to the scratch disk, makes a pool of it the first time, mounts it at `/mnt/pool`.
const MOUNT: &str = "mkdir -p /mnt/pool
for d in /sys/block/*; do [ \"$(cat $d/serial 2>/dev/null)\" = pool ] && pool=/dev/${d##*/}; done
[ -z \"$FIRST\" ] || $CLI mkfs --force $pool > /dev/null
case $FRONT in
fuse) modprobe fuse; $CLI mount --fuse $pool /mnt/pool ;;
kernel) modprobe ublk_drv; insmod $LAB_MODULES/vexfs.ko; mount -i -t vexfs $($CLI add $pool) /mnt/pool ;;
esac
";
/// One file after the other, with its number in it; tells the number when the file and its name are durable.
const WRITE: &str = "i=$NEXT; while :; do
printf '%08d' $i > /mnt/pool/draft; sync /mnt/pool/draft; mv /mnt/pool/draft /mnt/pool/$i; sync /mnt/pool; echo $i; i=$((i + 1)); done";
/// Reads them up to a number, unmounts, looks for damage.
const READ: &str = "echo mounted; i=0; while [ $i -le $LAST ]; do
[ \"$(cat /mnt/pool/$i)\" = $(printf '%08d' $i) ] || { echo file $i; exit 1; }; i=$((i + 1)); done
$CLI umount /mnt/pool; [ $FRONT = fuse ] || $CLI del --all; $CLI check --scrub $pool; echo sound";

/// What a command in the guest printed so far.
#[derive(Default)]
struct Printed {
    out: String,
    errors: String,
}

impl Printed {
    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        match stream {
            Stream::Out => self.out.push_str(&text),
            Stream::Err => self.errors.push_str(&text),
        }
    }
}

/// `vexfs-ublk`, where it was built; the guest finds it at the same place.
fn program() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let built = this.ancestors().nth(2).context("a test lies below its target folder")?;
    let path = built.join("vexfs-ublk");
    ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

fn nothing_durable_is_lost(kernel: &str, front: &str) -> Result<()> {
    let kernel = kernel::ensure(kernel.parse()?, false)?;
    let modules = kernel::modules::ensure(&kernel)?;
    let directory = workspace::machine_directory(&format!("power-{front}-{}", kernel.id));
    std::fs::create_dir_all(&directory)?;
    let mut spec = Spec::new(&kernel, &directory);
    spec.disks.push(Disk::create(&directory, "pool", 256)?);
    let cli = program()?;
    let script = |first: bool, next: u64, work: &str| Command {
        env: guest::environment(&modules),
        ..Command::shell(&format!(
            "set -e; CLI={} FRONT={front} FIRST={} NEXT={next} LAST={next}\n{MOUNT}{work}",
            cli.display(),
            if first { "1" } else { "" }
        ))
    };
    let mut next = 0;
    for cut in 0..CUTS {
        let mut machine = Machine::boot(&spec)?;
        let job = machine.start(&script(cut == 0, next, WRITE))?;
        let mut printed = Printed::default();
        let start = Instant::now();
        while printed.out.lines().count() < 8 {
            ensure!(
                start.elapsed() < LIMIT,
                "it does not write: {} {}",
                printed.out,
                printed.errors
            );
            let ended = machine.wait(job, Duration::from_millis(200), |stream, bytes| {
                printed.take(stream, bytes);
            });
            ensure!(
                matches!(ended, Ended::TimedOut),
                "{ended:?}: {} {}",
                printed.out,
                printed.errors
            );
        }
        let more = Duration::from_millis(700 + 430 * cut);
        machine.wait(job, more, |stream, bytes| printed.take(stream, bytes));
        spec = machine.power_cut()?;
        // The last line may be half a number.
        let whole = printed.out.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let last: u64 = whole.lines().last().context("nothing was written")?.trim().parse()?;

        let mut machine = Machine::boot(&spec)?;
        let begin = Instant::now();
        let job = machine.start(&script(false, last, READ))?;
        let mut printed = Printed::default();
        while !printed.out.contains("mounted") {
            let ended = machine.wait(job, Duration::from_millis(100), |stream, bytes| {
                printed.take(stream, bytes);
            });
            ensure!(
                matches!(ended, Ended::TimedOut) && begin.elapsed() < LIMIT || printed.out.contains("mounted"),
                "it does not mount after cut {cut}: {ended:?} {} {}",
                printed.out,
                printed.errors
            );
        }
        recovered(&format!("the mount after cut {cut}"), begin)?;
        let ended = machine.wait(job, LIMIT, |stream, bytes| printed.take(stream, bytes));
        let sound = printed.out.trim_end().ends_with("sound");
        let words = if sound {
            format!("cut {cut}: {} durable files are there, the pool is sound", last + 1)
        } else {
            format!(
                "cut {cut}, {last} was durable: {ended:?} {} {}",
                printed.out, printed.errors
            )
        };
        check(Promise::Integrity, sound, words)?;
        if let Some(report) = machine.take_report() {
            bail!("the kernel complains: {report}");
        }
        spec = machine.power_cut()?;
        next = last + 1;
    }
    Ok(std::fs::remove_dir_all(&directory)?)
}

#[lab_guest::test(kernels = "stock", timeout = 400, stress = true)]
fn no_durable_file_of_a_fuse_mount_is_lost_with_the_power(kernel: &str) -> Result<()> {
    nothing_durable_is_lost(kernel, "fuse")
}

#[lab_guest::test(kernels = "stock", timeout = 400, stress = true)]
fn no_durable_file_of_a_kernel_mount_is_lost_with_the_power(kernel: &str) -> Result<()> {
    nothing_durable_is_lost(kernel, "kernel")
}
