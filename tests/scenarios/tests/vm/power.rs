// SPDX-License-Identifier: MIT OR Apache-2.0

//! The machine loses power under an application, again and again: what it was promised is there. From the host.
//!
//! The promises are noted here ([`lab_scenarios::application`]), and what is lost is not only the machine's memory, but also what its
//! disk had in a cache ([`VolatileDisk`]).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::host::workspace;
use lab::kernel;
use lab::runner::guest;
use lab::vm::{Ended, Lost, Machine, Spec, Stream, VolatileDisk};
use lab_guest::measure::{Promise, check, recovered};
use lab_guest::protocol::Command;
use lab_scenarios::application::{FOUND, PROMISED};

const LIMIT: Duration = Duration::from_secs(120);
const WORKERS: usize = 4;
const SEED: u64 = 1;
/// Of so many cuts some come between a write and its flush.
const MANY: u32 = 50;
/// After so many cuts the pool is closed and checked.
const CUTS_BETWEEN_CHECKS: u32 = 20;
/// The longest that the application works between two cuts, in milliseconds.
const WORK: u64 = 3000;
/// Sets `$pool` to the scratch disk, makes a pool of it the first time, mounts it at `/mnt/pool`.
const MOUNT: &str = "mkdir -p /mnt/pool
for d in /sys/block/*; do [ \"$(cat $d/serial 2>/dev/null)\" = pool ] && pool=/dev/${d##*/}; done
[ -z \"$FIRST\" ] || $CLI mkfs --force $pool > /dev/null
case $FRONT in
fuse) modprobe fuse; $CLI mount --fuse $pool /mnt/pool ;;
kernel) modprobe ublk_drv; insmod $LAB_MODULES/vexfs.ko; mount -i -t vexfs $($CLI add $pool) /mnt/pool ;;
esac
";
const WORK_ON: &str = "exec $APPLICATION /mnt/pool $SEED $PROMISED";
/// Looks, unmounts, looks for damage.
const LOOK: &str = "$APPLICATION --look /mnt/pool $SEED $PROMISED
$CLI umount /mnt/pool; [ $FRONT = fuse ] || $CLI del --all; $CLI check --scrub $pool > /tmp/check || { cat /tmp/check; exit 1; }; echo sound";

/// A program of ours, where it was built; the guest finds it at the same place.
fn program(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let built = this.ancestors().nth(2).context("a test lies below its target folder")?;
    let path = built.join(name);
    ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

/// What the application is known to have been promised, and what it said since the last boot.
#[derive(Default)]
struct Book {
    promised: [u64; WORKERS],
    /// Workers that found what must be there.
    found: usize,
    sound: bool,
    line: String,
    errors: String,
}

impl Book {
    fn rebooted(&mut self) {
        *self = Self {
            promised: self.promised,
            ..Self::default()
        };
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(bytes);
        if stream == Stream::Err {
            self.errors.push_str(&text);
            return Ok(());
        }
        self.line.push_str(&text);
        // The last line may not be whole yet.
        while let Some(end) = self.line.find('\n') {
            let line: String = self.line.drain(..=end).collect();
            self.note(line.trim_end()).with_context(|| line.clone())?;
        }
        Ok(())
    }

    fn note(&mut self, line: &str) -> Result<()> {
        self.sound |= line == "sound";
        let words: Vec<&str> = line.split(' ').collect();
        let [what, worker, steps] = words[..] else {
            return Ok(());
        };
        let (worker, steps): (usize, u64) = (worker.parse()?, steps.parse()?);
        let promised = self.promised.get_mut(worker).context("no such worker")?;
        match what {
            FOUND => {
                ensure!(steps >= *promised, "{steps} steps found, {promised} were promised");
                self.found += 1;
            }
            PROMISED => *promised = steps,
            _ => bail!("not understood"),
        }
        Ok(())
    }
}

/// A pool that goes from machine to machine.
struct Scene {
    spec: Spec,
    modules: PathBuf,
    front: &'static str,
    disk: VolatileDisk,
    random: fastrand::Rng,
    book: Book,
}

impl Scene {
    fn script(&self, first: bool, work: &str) -> Result<Command> {
        let promised = self.book.promised.map(|steps| steps.to_string()).join(" ");
        let script = format!(
            "set -e; CLI={} APPLICATION={} FRONT={} FIRST={} SEED={SEED} PROMISED='{promised}'\n{MOUNT}{work}",
            program("vexfs-ublk")?.display(),
            program("lab-application")?.display(),
            self.front,
            if first { "1" } else { "" },
        );
        Ok(Command {
            env: guest::environment(&self.modules),
            ..Command::shell(&script)
        })
    }

    /// Mounts it in a new machine. Then either the application looks, and the pool is closed and checked, or it works for a
    /// while. Then the power goes.
    fn round(&mut self, cut: u32, looks: bool) -> Result<Lost> {
        self.book.rebooted();
        let before = self.book.promised;
        let mut machine = Machine::boot(&self.spec)?;
        let begin = Instant::now();
        let job = machine.start(&self.script(cut == 0, if looks { LOOK } else { WORK_ON })?)?;
        let mut until = None;
        while !self.book.sound && until.is_none_or(|until| Instant::now() < until) {
            let mut noted = Ok(());
            let ended = machine.wait(job, Duration::from_millis(100), |stream, bytes| {
                if noted.is_ok() {
                    noted = self.book.take(stream, bytes);
                }
            });
            if self.book.found == WORKERS && until.is_none() && !looks {
                recovered(&format!("the mount after cut {cut}"), begin)?;
                until = Some(Instant::now() + Duration::from_millis(self.random.u64(..WORK)));
            }
            // Such a machine lost its power a little early.
            if cut > 0 && noted.is_ok() && matches!(&ended, Ended::Lost(report) if report.is_of_emulation()) {
                let _counted = machine.take_report();
                break;
            }
            let goes_on = self.book.sound || matches!(ended, Ended::TimedOut) && begin.elapsed() < LIMIT;
            if noted.is_err() || !goes_on {
                let errors = &self.book.errors;
                let words = format!("after {cut} cuts, promised {before:?}: {noted:?}, {ended:?} {errors}");
                check(Promise::Integrity, false, words)?;
            }
        }
        if let Some(report) = machine.take_report().filter(|report| !report.is_of_emulation()) {
            bail!("the kernel complains: {report}");
        }
        self.spec = machine.power_cut()?;
        self.disk.lose_power(&mut self.random)
    }
}

/// So many, one after the other on the same pool.
fn cuts(kernel: &str, front: &'static str, cuts: u32) -> Result<()> {
    let kernel = kernel::ensure(kernel.parse()?, false)?;
    let directory = workspace::machine_directory(&format!("power-{front}-{}", kernel.id));
    std::fs::create_dir_all(&directory)?;
    let disk = VolatileDisk::create(&directory, "pool", 512)?;
    let mut spec = Spec::new(&kernel, &directory);
    spec.disks.push(disk.disk());
    let mut scene = Scene {
        spec,
        modules: kernel::modules::ensure(&kernel)?,
        front,
        disk,
        random: fastrand::Rng::with_seed(SEED),
        book: Book::default(),
    };
    let (mut unflushed, mut undone) = (0, 0);
    for cut in 0..=cuts {
        let looks = cut == cuts || cut % CUTS_BETWEEN_CHECKS == CUTS_BETWEEN_CHECKS - 1;
        loop {
            let lost = scene.round(cut, looks)?;
            (unflushed, undone) = (unflushed + lost.unflushed, undone + lost.undone);
            // A machine that its emulator ended may not have looked.
            if !looks || scene.book.sound {
                break;
            }
        }
    }
    let idle = scene.book.promised.iter().filter(|&&steps| steps == 0).count();
    ensure!(idle == 0, "{idle} workers were never promised anything");
    // Of a few cuts perhaps none does.
    ensure!(undone > 0 || cuts < MANY, "no cut came between a write and its flush");
    let steps: u64 = scene.book.promised.iter().sum();
    let words = format!(
        "{cuts} cuts, {steps} steps promised; {undone} of {unflushed} writes that no flush had followed were undone; \
         every promise was kept and the pool is sound"
    );
    println!("{words}");
    check(Promise::Integrity, true, words)?;
    Ok(std::fs::remove_dir_all(&directory)?)
}

#[lab_guest::test(kernels = "stock", timeout = 600, stress = true)]
fn no_promise_of_a_fuse_mount_is_broken_by_a_few_power_cuts(kernel: &str) -> Result<()> {
    cuts(kernel, "fuse", 5)
}

#[lab_guest::test(kernels = "stock", timeout = 600, stress = true)]
fn no_promise_of_a_kernel_mount_is_broken_by_a_few_power_cuts(kernel: &str) -> Result<()> {
    cuts(kernel, "kernel", 5)
}

#[lab_guest::test(kernels = "stock", timeout = 7200, stress = true)]
fn no_promise_of_a_kernel_mount_is_broken_by_two_hundred_power_cuts(kernel: &str) -> Result<()> {
    cuts(kernel, "kernel", 200)
}
