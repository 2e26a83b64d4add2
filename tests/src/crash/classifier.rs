// SPDX-License-Identifier: MIT OR Apache-2.0

//! Live classification of a console.
//!
//! # Contract
//!
//! * The classifier does no I/O and reads no clock: the same lines at the same times give the same answers.
//! * [`Classifier::feed_line`] answers at once, with what the line alone (and the report it stands in) tells. Traces
//!   follow their trigger, so whom a crash blames is known only when the report is complete: wait while
//!   [`Classifier::is_collecting`], then ask for [`Classifier::report`].
//! * Memory is bounded whatever the console says. When something must go it is neither the cause nor the worst.
//! * Notices are counted, never reported as a failure.
//!
//! # What belongs to a report
//!
//! A trigger opens an incident. Kernel messages that follow are its context, until its end marker, a gap in the
//! kernel's own time, the start of another report, or too many lines. A second trigger before the call trace belongs
//! to the same incident (`BUG: kernel NULL pointer dereference`, then `Oops:`); after the trace it opens its own, so
//! that one report's trace never blames a module for another report.
//!
//! Once a console has shown a kernel timestamp, messages without one are user space and are not looked at: a test that
//! prints `BUG: ...` is not a kernel that does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::console::{Message, messages, strip_controls};
use super::patterns::PatternTable;
use super::report::{Blame, Report, Sighting, clip};
use super::types::{CrashType, Effect};

/// One open or complete kernel report.
#[derive(Debug)]
struct Incident {
    sightings: Vec<Sighting>,
    context: Vec<String>,
    blame: Blame,
    stamp: Option<Duration>,
    last_at: Duration,
    trace_seen: bool,
    open: bool,
}

impl Incident {
    /// Lines kept; the longest lock order reports have about 300.
    const MAX_CONTEXT: usize = 400;
    /// Triggers kept of one report.
    const MAX_SIGHTINGS: usize = 8;
    /// A pause this long in the kernel's own time ends a report.
    const STAMP_GAP: Duration = Duration::from_secs(2);
    /// The same in the caller's time, for consoles without timestamps; the console may be slow.
    const ARRIVAL_GAP: Duration = Duration::from_secs(5);

    fn new(first: Sighting, stamp: Option<Duration>, preamble: Vec<String>) -> Self {
        let last_at = first.at;
        let sightings = vec![first];
        let mut blame = Blame::default();
        for line in &preamble {
            // What a warning says about itself may name the culprit as well as its trace does.
            for message in messages(line) {
                blame.read(message.text);
            }
        }
        Self {
            sightings,
            context: preamble,
            blame,
            stamp,
            last_at,
            trace_seen: false,
            open: true,
        }
    }

    /// Whether a message at this time is too late to belong to this report.
    fn is_past(&self, stamp: Option<Duration>, at: Duration) -> bool {
        match (self.stamp, stamp) {
            (Some(last), Some(now)) => now.saturating_sub(last) > Self::STAMP_GAP,
            _ => at.saturating_sub(self.last_at) > Self::ARRIVAL_GAP,
        }
    }

    /// Takes a message of the report and closes it at its end.
    fn take(&mut self, message: &Message<'_>, at: Duration) {
        self.context.push(clip(message.line));
        self.blame.read(message.text);
        self.trace_seen |= message.text.trim_start().starts_with("Call Trace:");
        self.stamp = message.stamp.or(self.stamp);
        self.last_at = at;
        self.open = !ends_report(message.text) && self.context.len() < Self::MAX_CONTEXT;
    }

    /// Adds a further trigger and tells how many sightings were dropped for it.
    fn add(&mut self, sighting: Sighting) -> usize {
        if self.sightings.len() < Self::MAX_SIGHTINGS {
            self.sightings.push(sighting);
            return 0;
        }
        if let Some(last) = self.sightings.last_mut().filter(|last| sighting.is_worse_than(last)) {
            *last = sighting;
        }
        1
    }

    /// The sightings with what the report says about modules.
    fn resolved(&self, watched: &[String]) -> impl Iterator<Item = Sighting> {
        self.sightings
            .iter()
            .map(|sighting| resolve(sighting, self.blame.modules(), watched))
    }

    fn worst(&self, watched: &[String]) -> Option<Sighting> {
        worst(self.resolved(watched))
    }
}

/// How often a notice was seen, and its first sighting.
#[derive(Clone, Debug)]
pub struct NoticeCount {
    /// The first one.
    pub first: Sighting,
    /// How many there were.
    pub count: u64,
}

/// Watches one console.
#[derive(Debug)]
pub struct Classifier {
    table: &'static PatternTable,
    watched: Vec<String>,
    incidents: Vec<Incident>,
    notices: BTreeMap<String, NoticeCount>,
    /// Messages between a `cut here` line and its trigger: where a warning says what it is about.
    preamble: Option<Vec<String>>,
    dropped: usize,
    /// The console has shown kernel timestamps.
    stamped: bool,
}

impl Classifier {
    /// Incidents kept.
    const MAX_INCIDENTS: usize = 32;
    /// Messages kept between `cut here` and its trigger.
    const MAX_PREAMBLE: usize = 4;

    /// A classifier that treats crashes in `watched_modules` as module crashes. Names may be written with `-` or `_`.
    pub fn new(watched_modules: &[&str]) -> Self {
        Self {
            table: PatternTable::builtin(),
            watched: watched_modules.iter().map(|name| name.replace('-', "_")).collect(),
            incidents: Vec::new(),
            notices: BTreeMap::new(),
            preamble: None,
            dropped: 0,
            stamped: false,
        }
    }

    /// Reads one console line. Answers with what it stands for, the worst if the line holds several messages.
    pub fn feed_line(&mut self, line: &str, at: Duration) -> Option<Sighting> {
        let clean = strip_controls(line);
        let found: Vec<_> = messages(&clean)
            .iter()
            .filter_map(|message| self.feed_message(message, at))
            .collect();
        worst(found.into_iter())
    }

    /// Records that the machine or a test stopped answering, which no console line tells.
    pub fn feed_timeout(&mut self, what: &str, at: Duration) -> Sighting {
        self.close_open();
        let crash = CrashType::SystemHang;
        let sighting = Sighting {
            pattern: PatternTable::TIMEOUT_ID.to_owned(),
            crash,
            severity: crash.severity(),
            effect: Effect::Fatal,
            line: clip(what),
            at,
            modules: Vec::new(),
        };
        let mut incident = Incident::new(sighting.clone(), None, Vec::new());
        incident.open = false;
        self.keep(incident);
        sighting
    }

    /// Whether lines that belong to a report may still arrive.
    pub fn is_collecting(&self, now: Duration) -> bool {
        self.open_incident()
            .is_some_and(|incident| now.saturating_sub(incident.last_at) <= Incident::ARRIVAL_GAP)
    }

    /// The verdict so far, or nothing if there were no failures.
    pub fn report(&self) -> Option<Report> {
        let all = || {
            self.incidents
                .iter()
                .flat_map(|incident| incident.resolved(&self.watched))
        };
        let cause_at = self.incidents.first()?;
        let cause = cause_at.resolved(&self.watched).next()?;
        let verdict = worst(all())?;
        let verdict_at = self
            .incidents
            .iter()
            .find(|i| i.worst(&self.watched).as_ref() == Some(&verdict))?;
        let mut context = cause_at.context.clone();
        if !std::ptr::eq(cause_at, verdict_at) {
            context.extend(verdict_at.context.iter().cloned());
        }
        let mut modules = cause.modules.clone();
        modules.extend(verdict.modules.iter().filter(|m| !cause.modules.contains(m)).cloned());
        Some(Report {
            verdict,
            cause,
            modules,
            context,
            sightings: all().collect(),
            dropped: self.dropped,
        })
    }

    /// Takes the verdict and forgets what led to it: one test ends, another begins on the same machine.
    pub fn take_report(&mut self) -> Option<Report> {
        let report = self.report();
        self.incidents.clear();
        self.notices.clear();
        self.preamble = None;
        self.dropped = 0;
        report
    }

    /// Notices seen so far, by pattern id.
    pub fn notices(&self) -> &BTreeMap<String, NoticeCount> {
        &self.notices
    }

    fn feed_message(&mut self, message: &Message<'_>, at: Duration) -> Option<Sighting> {
        self.stamped |= message.stamp.is_some();
        if self.stamped && message.stamp.is_none() {
            return None;
        }
        let pattern = self.table.classify(message.text);
        let sighting = pattern.map(|pattern| Sighting::new(pattern, message.line, at));
        match sighting {
            Some(sighting) if sighting.effect != Effect::Notice => Some(self.feed_trigger(message, sighting)),
            Some(notice) => {
                self.feed_context(message, at);
                let count = self.notices.entry(notice.pattern.clone());
                count
                    .or_insert_with(|| NoticeCount {
                        first: notice.clone(),
                        count: 0,
                    })
                    .count += 1;
                Some(notice)
            }
            None => {
                self.feed_context(message, at);
                None
            }
        }
    }

    fn feed_trigger(&mut self, message: &Message<'_>, sighting: Sighting) -> Sighting {
        let at = sighting.at;
        let preamble = self.preamble.take().unwrap_or_default();
        let same_report = self
            .open_incident()
            .is_some_and(|open| !open.trace_seen && !open.is_past(message.stamp, at));
        if same_report {
            let dropped = self.open_incident_mut().map_or(0, |open| open.add(sighting.clone()));
            self.dropped += dropped;
        } else {
            self.close_open();
            self.keep(Incident::new(sighting.clone(), message.stamp, preamble));
        }
        let Some(incident) = self.open_incident_mut() else {
            return sighting;
        };
        incident.take(message, at);
        let modules = incident.blame.modules().to_vec();
        resolve(&sighting, &modules, &self.watched)
    }

    /// Attaches a message that is no trigger to the report it belongs to.
    fn feed_context(&mut self, message: &Message<'_>, at: Duration) {
        if message.text.starts_with("------------[ cut here ]") {
            // The next report begins, unless it is the second line of one that has not come to its trace.
            if self.open_incident().is_some_and(|open| open.trace_seen) {
                self.close_open();
            }
            self.preamble = Some(vec![clip(message.line)]);
        } else if let Some(lines) = &mut self.preamble {
            if lines.len() == Self::MAX_PREAMBLE {
                self.preamble = None;
            } else {
                lines.push(clip(message.line));
            }
        }
        let Some(open) = self.open_incident_mut() else { return };
        if open.is_past(message.stamp, at) {
            open.open = false;
        } else {
            open.take(message, at);
        }
    }

    fn open_incident(&self) -> Option<&Incident> {
        self.incidents.last().filter(|incident| incident.open)
    }

    fn open_incident_mut(&mut self) -> Option<&mut Incident> {
        self.incidents.last_mut().filter(|incident| incident.open)
    }

    fn close_open(&mut self) {
        if let Some(open) = self.open_incident_mut() {
            open.open = false;
        }
    }

    /// Keeps an incident; beyond the bound, the least important of those between the first and the newest goes.
    fn keep(&mut self, incident: Incident) {
        self.incidents.push(incident);
        if self.incidents.len() <= Self::MAX_INCIDENTS {
            return;
        }
        let rank = |i: &Incident| i.worst(&self.watched).map(|w| (w.severity, w.effect));
        let between = 1..self.incidents.len() - 1;
        // Of equals the latest goes: the first of its kind is the one a person wants to see.
        if let Some(index) = between.rev().min_by_key(|&index| rank(&self.incidents[index])) {
            self.dropped += self.incidents.remove(index).sightings.len();
        }
    }
}

/// The first of the worst.
fn worst(sightings: impl Iterator<Item = Sighting>) -> Option<Sighting> {
    sightings.reduce(|best, next| if next.is_worse_than(&best) { next } else { best })
}

/// What a sighting is, given the modules its report names.
fn resolve(sighting: &Sighting, modules: &[String], watched: &[String]) -> Sighting {
    let mut resolved = Sighting {
        modules: modules.to_vec(),
        ..sighting.clone()
    };
    if sighting.crash == CrashType::KernelBug && modules.iter().any(|m| watched.contains(&m.replace('-', "_"))) {
        resolved.crash = CrashType::ModuleCrash;
        resolved.severity = CrashType::ModuleCrash.severity();
    }
    resolved
}

/// Whether a message is the last one of its report.
fn ends_report(text: &str) -> bool {
    let ruler = || text.len() >= 20 && text.bytes().all(|b| b == b'=');
    text.starts_with("---[ end ") || text.starts_with("Rebooting in ") || ruler()
}
