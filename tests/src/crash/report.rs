// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the classifier found: sightings, the report they belong to, and whom the traces blame.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::patterns::Pattern;
use super::types::{CrashType, Effect, Recovery, Severity};

/// Pattern of the crash that emulated processors bring about by themselves; see its row in `crash-patterns.toml`.
pub const EMULATOR_FAULT: &str = "stray-int3";

/// One recognised console line, or a timeout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Id of the row that matched, or `timeout`.
    pub pattern: String,
    /// What kind of failure it is, as far as known: a kernel bug becomes a module crash once its report names a module
    /// under test.
    pub crash: CrashType,
    /// How bad it is.
    pub severity: Severity,
    /// What it does to the run.
    pub effect: Effect,
    /// The line, with the kernel's timestamp.
    pub line: String,
    /// When the line arrived, in the caller's time.
    #[serde(rename = "at_ms", with = "millis")]
    pub at: Duration,
    /// Modules that the report names, the one that was executing first.
    pub modules: Vec<String>,
}

impl Sighting {
    /// Longer lines are cut before they are kept.
    pub const MAX_LINE: usize = 512;

    pub(super) fn new(pattern: &Pattern, line: &str, at: Duration) -> Self {
        Self {
            pattern: pattern.id.clone(),
            crash: pattern.crash,
            severity: pattern.severity(),
            effect: pattern.effect,
            line: clip(line),
            at,
            modules: Vec::new(),
        }
    }

    /// Whether the run must end because of it.
    pub fn is_fatal(&self) -> bool {
        self.effect == Effect::Fatal
    }

    /// Whether this one outranks `other`; equals do not.
    pub fn is_worse_than(&self, other: &Self) -> bool {
        (self.severity, self.effect) > (other.severity, other.effect)
    }
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.crash, self.severity, self.pattern)?;
        if !self.modules.is_empty() {
            write!(f, " in {}", self.modules.join(", "))?;
        }
        write!(f, ": {}", self.line)
    }
}

/// The verdict over everything seen since the classifier was made or last emptied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The worst sighting; among equals the first.
    pub verdict: Sighting,
    /// The first sighting that was more than a notice: what the verdict, as a rule, follows from.
    pub cause: Sighting,
    /// Modules blamed by the cause, then those only blamed by the verdict.
    pub modules: Vec<String>,
    /// Console lines of the cause's report, then of the verdict's if that is another one.
    pub context: Vec<String>,
    /// All sightings that were kept, in order, notices excepted.
    pub sightings: Vec<Sighting>,
    /// How many further sightings were dropped to bound memory; never the cause or the verdict.
    pub dropped: usize,
}

impl Report {
    /// The report of a single sighting that no console line stands behind.
    pub fn of(sighting: Sighting) -> Self {
        Self {
            verdict: sighting.clone(),
            cause: sighting.clone(),
            modules: sighting.modules.clone(),
            context: Vec::new(),
            sightings: vec![sighting],
            dropped: 0,
        }
    }

    /// Whether the crash is one that emulated processors bring about by themselves: a kernel that patches itself on one CPU
    /// while another runs the patched place. It blames nobody.
    pub fn is_of_emulation(&self) -> bool {
        self.cause.pattern == EMULATOR_FAULT && self.modules.is_empty()
    }

    /// What brings the machine back.
    pub fn recovery(&self) -> Recovery {
        self.verdict.crash.recovery()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
        if self.cause != self.verdict {
            writeln!(f, "cause: {}", self.cause)?;
        }
        let recovery = self.recovery();
        writeln!(f, "recovery: {recovery}, {}", recovery.level())?;
        for line in &self.context {
            writeln!(f, "  | {line}")?;
        }
        Ok(())
    }
}

/// Modules named by the code locations of one report.
///
/// A location is `function+0x12/0x34 [module]`. Lines that start with `?` are addresses which merely lay on the stack;
/// they count only if the report has no better ones.
#[derive(Debug, Default)]
pub(super) struct Blame {
    named: Vec<String>,
    doubtful: Vec<String>,
    reliable_seen: bool,
}

impl Blame {
    /// No report names more modules than this in any useful way.
    const MAX_MODULES: usize = 16;

    /// Reads one message of a report.
    pub(super) fn read(&mut self, text: &str) {
        let text = text.trim_start();
        if let Some(work) = text.strip_prefix("Workqueue: ") {
            // `Workqueue: name function [module]`: what the worker was running.
            if let Some((_, module)) = work.strip_suffix(']').and_then(|w| w.rsplit_once(" [")) {
                Self::add(&mut self.named, module, false);
            }
            return;
        }
        let (doubtful, text) = text.strip_prefix("? ").map_or((false, text), |rest| (true, rest));
        let executing = text.starts_with("RIP: ");
        for module in locations(text) {
            self.reliable_seen |= !doubtful;
            if let Some(module) = module {
                let list = if doubtful { &mut self.doubtful } else { &mut self.named };
                Self::add(list, module, executing);
            }
        }
    }

    /// The modules to blame, in order of suspicion.
    pub(super) fn modules(&self) -> &[String] {
        if self.reliable_seen || !self.named.is_empty() {
            &self.named
        } else {
            &self.doubtful
        }
    }

    fn add(list: &mut Vec<String>, module: &str, first: bool) {
        if let Some(known) = list.iter().position(|m| m == module) {
            if first {
                list[..=known].rotate_right(1);
            }
        } else if list.len() < Self::MAX_MODULES {
            list.insert(if first { 0 } else { list.len() }, clip(module));
        }
    }
}

/// The module of every `+0x12/0x34` location in `text`; locations in the kernel image have none.
fn locations(text: &str) -> impl Iterator<Item = Option<&str>> {
    text.match_indices("+0x").filter_map(|(at, _)| {
        let (_, rest) = text[at + 3..].split_once("/0x").filter(|(offset, _)| is_hex(offset))?;
        let after = rest.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        if after.len() == rest.len() {
            return None;
        }
        // `[module]`, or `[module build-id]` where the kernel prints build ids.
        let module = after
            .strip_prefix(" [")
            .and_then(|bracket| bracket.split([']', ' ']).next())
            .filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)));
        Some(module)
    })
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The text, cut to the length that is kept.
pub(super) fn clip(text: &str) -> String {
    match text.char_indices().nth(Sighting::MAX_LINE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blamed(lines: &[&str]) -> Vec<String> {
        let mut blame = Blame::default();
        for line in lines {
            blame.read(line);
        }
        blame.modules().to_vec()
    }

    #[test]
    fn frames_name_their_module_and_the_executing_one_comes_first() {
        let report = [
            " xfs_read+0x12/0x34 [xfs]",
            "RIP: 0010:vexfs_iget+0x1b3/0x420 [vexfs]",
            " ublk_queue_rq+0x1/0x2 [ublk_drv 0123456789abcdef0123456789abcdef01234567]",
            " vfs_read+0x12/0x34",
        ];
        assert_eq!(blamed(&report), ["vexfs", "xfs", "ublk_drv"]);
    }

    #[test]
    fn a_list_of_loaded_modules_blames_nobody() {
        let report = [
            "Modules linked in: vexfs(OE) ublk_drv [last unloaded: uio_dsmil(OE)]",
            "RIP: 0033:0x7f1c2d3e4f50",
            "Code: 0f 1f 44 [vexfs] +0x",
            "CPU: 0 PID: 1 Comm: mount",
        ];
        assert!(blamed(&report).is_empty());
    }

    #[test]
    fn stack_leftovers_count_only_without_better_frames() {
        assert_eq!(blamed(&[" ? vexfs_iget+0x1/0x2 [vexfs]"]), ["vexfs"]);
        assert!(blamed(&[" ? vexfs_iget+0x1/0x2 [vexfs]", " vfs_read+0x12/0x34"]).is_empty());
    }

    #[test]
    fn the_work_that_was_running_is_named() {
        assert_eq!(blamed(&["Workqueue: vexfs-heal vexfs_heal_work [vexfs]"]), ["vexfs"]);
        assert!(blamed(&["Workqueue: events_unbound deferred_probe_work_func"]).is_empty());
    }

    #[test]
    fn kept_lines_are_bounded() {
        assert_eq!(clip(&"é".repeat(5000)).chars().count(), Sighting::MAX_LINE + 1);
        assert_eq!(clip("short"), "short");
    }
}
