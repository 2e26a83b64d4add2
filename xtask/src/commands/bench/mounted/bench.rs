// SPDX-License-Identifier: MIT OR Apache-2.0

//! Works that are done on what is mounted, and timed there.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::vm::Machine;
use lab_guest::service::MOUNT;
use lab_guest::work::{Took, Work};
use vexfs_measure::fio;

use super::super::rounds::{Figure, Figures};
use super::programs::Programs;
use super::traffic::Traffic;
use super::{DISK, count};

/// A work is given up after that.
const LIMIT: Duration = Duration::from_secs(3600);

/// One contender's round.
pub(in super::super) struct Bench<'a> {
    pub(in super::super) machine: &'a mut Machine,
    pub(in super::super) programs: &'a Programs,
    pub(in super::super) figures: Figures,
}

impl<'a> Bench<'a> {
    pub(in super::super) fn new(machine: &'a mut Machine, programs: &'a Programs) -> Self {
        Self {
            machine,
            programs,
            figures: Figures::new(),
        }
    }

    /// Directories for so many threads.
    pub(in super::super) fn places(&mut self, name: &str, threads: usize) -> Result<Vec<String>> {
        let places: Vec<_> = (0..threads).map(|number| format!("{MOUNT}/{name}/{number}")).collect();
        self.machine.succeed(&format!("mkdir -p {}", places.join(" ")), LIMIT)?;
        Ok(places)
    }

    /// A work as a rate, so often in each place.
    pub(in super::super) fn work(
        &mut self,
        (what, unit): (String, &'static str),
        (work, amount): (Work, usize),
        places: &[String],
        cold: bool,
    ) -> Result<()> {
        let (took, _) = self.timed((work, amount), places, cold).with_context(|| what.clone())?;
        let rate = count(amount * places.len()) / took.seconds;
        self.figures.push(Figure::more(what, unit, rate));
        Ok(())
    }

    /// Does a work, with everything synced before. How long it took, and what it brought to the disk while it went on.
    pub(in super::super) fn timed(
        &mut self,
        (work, amount): (Work, usize),
        places: &[String],
        cold: bool,
    ) -> Result<(Took, Traffic)> {
        let chill = if cold { "echo 3 > /proc/sys/vm/drop_caches;" } else { "" };
        let (program, name, list) = (&self.programs.work, work.name(), places.join(" "));
        let counters = format!("cat /sys/block/$(basename $(readlink {DISK}))/stat");
        let script = format!("sync; {chill} {counters}; {program} {name} {amount} {list}; {counters}");
        read(&self.machine.succeed(&script, LIMIT)?)
    }

    /// Lets fio at a file of what is mounted, directly, for so many seconds.
    pub(in super::super) fn fio(
        &mut self,
        path: &str,
        (pattern, block, depth): (&str, &str, u32),
        (mebibytes, seconds): (usize, u32),
    ) -> Result<fio::Figures> {
        let script = format!(
            "sync; cd /tmp && fio --name=load --filename={path} --size={mebibytes}M --ioengine=io_uring --direct=1 \
             --time_based --runtime={seconds} --ramp_time=300ms --norandommap --rw={pattern} --bs={block} \
             --iodepth={depth} --output-format=json"
        );
        let done = fio::parse(&self.machine.succeed(&script, LIMIT)?)?;
        done.only().copied().with_context(|| format!("{pattern} {block}"))
    }
}

/// What a work printed between the disk's counters.
fn read(output: &str) -> Result<(Took, Traffic)> {
    let lines: Vec<&str> = output.lines().collect();
    let &[before, took, after] = lines.as_slice() else {
        anyhow::bail!("a work printed {output:?}");
    };
    let took = serde_json::from_str(took).with_context(|| format!("{took:?} is no time"))?;
    Ok((took, Traffic::parse(after)?.since(Traffic::parse(before)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_from_between_the_counters() {
        let counters = |flushes: u32| format!("0 0 0 0 0 0 8 0 0 0 0 0 0 0 0 {flushes} 0");
        let printed = format!(
            "{}\n{{\"seconds\":2.5,\"latency\":{{\"p50\":1.0,\"p99\":3.0}}}}\n{}\n",
            counters(1),
            counters(5)
        );
        let (took, traffic) = read(&printed).unwrap();
        assert_eq!(
            (took.seconds, took.latency.unwrap().p99, traffic.flushes),
            (2.5, 3.0, 4.0)
        );
        assert!(read("1.5\n").is_err());
    }
}
