// SPDX-License-Identifier: MIT OR Apache-2.0

//! Carries requests out, one at a time, in the order of their submission.
//!
//! ```text
//! idle ─issue─▶ waiting ─answer─▶ idle
//!                  │ deadline: a hang
//!                  ▼
//!               aborting ─acknowledged─▶ idle, and the request is tried again
//!                  │ ABORT_GRACE
//!                  ▼
//!               resetting ─acknowledged─▶ idle, and the request is tried again
//!                  │ RESET_GRACE, twice
//!                  ▼
//!                 hung: everything fails until a reset, tried once a second, is acknowledged
//! ```
//!
//! A request is tried again only when it is certain that the attempt before it will not be carried out any more, or when
//! its answer was damaged; all requests may be carried out twice with the same result. So every request ends, after at
//! most `attempts × (timeout + ABORT_GRACE + 2 × RESET_GRACE)` of its own time.
//!
//! The caller passes the time, from any fixed beginning, and calls [`Engine::poll`] after every interrupt and no later
//! than [`Engine::next_poll`] says. A deadline that has come is seen by the first poll at or after it, never before.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::{Request, Timeout};
use super::ticket::{Completer, Outcome, Ticket, pair};
use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::layout::{
    ABORT, ABORT_ACK, ANSWER_CHECK, ANSWER_DATA, ANSWER_SEQUENCE, ANSWER_STATUS, ARGUMENT, COMMAND, DATA_HIGH,
    DATA_LOW, RESET, RESET_ACK, Registers, SEQUENCE, Status, check,
};

/// Requests that may wait.
pub const QUEUE_LENGTH: usize = 256;
/// How long the firmware may take to acknowledge an abort.
pub const ABORT_GRACE: Duration = Duration::from_millis(10);
/// How long it may take to acknowledge a reset.
pub const RESET_GRACE: Duration = Duration::from_millis(20);
/// How often a reset is tried before the firmware counts as hung.
const RESET_TRIES: u32 = 2;
/// How long a hung firmware is left alone between resets.
const HUNG_PAUSE: Duration = Duration::from_secs(1);

/// How often a request is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// At least 1.
    pub attempts: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3 }
    }
}

/// Tells the firmware to look at the mailbox.
pub trait Doorbell {
    /// Rings.
    fn ring(&self);
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Requests that were accepted.
    pub submitted: u64,
    /// Requests that ended well.
    pub succeeded: u64,
    /// Requests that ended otherwise.
    pub failed: u64,
    /// Attempts without an answer in time.
    pub hangs: u64,
    /// The longest time between such a deadline and its being noticed.
    pub hang_lateness_max: Duration,
    /// Hangs whose answer came after all, before the abort did.
    pub late: u64,
    /// Damaged answers.
    pub corrupt: u64,
    /// Further attempts.
    pub retries: u64,
    /// Resets of the mailbox.
    pub resets: u64,
    /// Polls that found nothing to do: spurious interrupts, repeated or outdated answers.
    pub idle_polls: u64,
}

#[derive(Debug)]
struct Job {
    request: Request,
    timeout: Timeout,
    attempts: u32,
    completer: Completer,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Waiting {
        job: Job,
        deadline: Duration,
    },
    Aborting {
        job: Job,
        deadline: Duration,
    },
    Resetting {
        job: Option<Job>,
        tries: u32,
        deadline: Duration,
    },
    Hung {
        until: Duration,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    retry: Retry,
    queue: VecDeque<Job>,
    phase: Phase,
    /// Of the command in flight, or the last one.
    sequence: u32,
    /// The mailbox may hold a command that nobody waits for.
    stale: bool,
    pace: Duration,
    last_issue: Option<Duration>,
    figures: Figures,
    hangs: Vec<u32>,
}

impl Engine {
    /// An engine for a mailbox in any state, left by whomever.
    pub fn new(retry: Retry, registers: &impl Registers) -> Self {
        let (asked, answered) = (registers.read(SEQUENCE), registers.read(ANSWER_SEQUENCE));
        Self {
            retry,
            queue: VecDeque::new(),
            phase: Phase::Idle,
            sequence: asked,
            stale: asked != answered,
            pace: Duration::ZERO,
            last_issue: None,
            figures: Figures::default(),
            hangs: Vec::new(),
        }
    }

    /// Takes a request.
    pub fn submit(&mut self, request: Request, timeout: Timeout) -> Result<Ticket> {
        if matches!(self.phase, Phase::Hung { .. }) {
            return Err(Error::FirmwareHung);
        }
        if self.queue.len() == QUEUE_LENGTH {
            return Err(Error::QueueFull(QUEUE_LENGTH));
        }
        let (completer, ticket) = pair();
        self.queue.push_back(Job {
            request,
            timeout,
            attempts: 0,
            completer,
        });
        self.figures.submitted += 1;
        Ok(ticket)
    }

    /// Does everything that can be done at this time.
    pub fn poll(
        &mut self,
        now: Duration,
        registers: &impl Registers,
        gate: &Gate,
        doorbell: &(impl Doorbell + ?Sized),
    ) {
        let mut moved = false;
        loop {
            // Nothing is written to a mailbox behind a shut gate; whoever shut it fails what is waiting.
            let Some(_inside) = gate.enter() else { return };
            let phase = std::mem::replace(&mut self.phase, Phase::Idle);
            let (next, step) = match phase {
                Phase::Idle => self.idle(now, registers, doorbell),
                Phase::Waiting { job, deadline } => self.waiting(job, deadline, now, registers, doorbell),
                Phase::Aborting { job, deadline } => self.aborting(job, deadline, now, registers, doorbell),
                Phase::Resetting { job, tries, deadline } => {
                    self.resetting(job, tries, deadline, now, registers, doorbell)
                }
                Phase::Hung { until } if now >= until => (self.reset(None, 1, now, registers, doorbell), true),
                hung @ Phase::Hung { .. } => (hung, false),
            };
            self.phase = next;
            if !step {
                self.figures.idle_polls += u64::from(!moved);
                return;
            }
            moved = true;
        }
    }

    /// When to poll at the latest, if at all before the next submission or interrupt.
    pub fn next_poll(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Idle if self.queue.is_empty() => None,
            Phase::Idle => Some(self.last_issue.map_or(Duration::ZERO, |last| last + self.pace)),
            Phase::Waiting { deadline, .. } | Phase::Aborting { deadline, .. } | Phase::Resetting { deadline, .. } => {
                Some(*deadline)
            }
            Phase::Hung { until } => Some(*until),
        }
    }

    /// Fails whatever is under way or waiting. The mailbox is reset before it is used again.
    pub fn fail_all(&mut self, error: &Error) {
        let current = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Waiting { job, .. } | Phase::Aborting { job, .. } | Phase::Resetting { job: Some(job), .. } => {
                Some(job)
            }
            Phase::Resetting { job: None, .. } => None,
            Phase::Idle | Phase::Hung { .. } => {
                self.fail_queue(error);
                return;
            }
        };
        self.stale = true;
        if let Some(job) = current {
            self.end(job, Err(error.clone()));
        }
        self.fail_queue(error);
    }

    /// The least time between the beginnings of two attempts.
    pub fn set_pace(&mut self, pace: Duration) {
        self.pace = pace;
    }

    /// Whether nothing is under way or waiting.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Hung { .. }) && self.queue.is_empty()
    }

    /// Whether the firmware is given up for now.
    pub fn is_hung(&self) -> bool {
        matches!(self.phase, Phase::Hung { .. })
    }

    /// What has happened so far.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Sequence numbers of the hangs since the last call.
    pub fn take_hangs(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.hangs)
    }

    fn idle(
        &mut self,
        now: Duration,
        registers: &impl Registers,
        doorbell: &(impl Doorbell + ?Sized),
    ) -> (Phase, bool) {
        if self.stale {
            return (self.reset(None, 1, now, registers, doorbell), true);
        }
        if self.last_issue.is_some_and(|last| now < last + self.pace) {
            return (Phase::Idle, false);
        }
        let Some(mut job) = self.queue.pop_front() else {
            return (Phase::Idle, false);
        };
        job.attempts += 1;
        self.last_issue = Some(now);
        // 0 names no command.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let (opcode, argument, low, high) = job.request.words();
        registers.write(COMMAND, opcode as u32);
        registers.write(ARGUMENT, argument);
        registers.write(DATA_LOW, low);
        registers.write(DATA_HIGH, high);
        registers.write(SEQUENCE, self.sequence);
        doorbell.ring();
        let deadline = now + job.timeout.get();
        (Phase::Waiting { job, deadline }, true)
    }

    fn waiting(
        &mut self,
        job: Job,
        deadline: Duration,
        now: Duration,
        registers: &impl Registers,
        doorbell: &(impl Doorbell + ?Sized),
    ) -> (Phase, bool) {
        match self.answer(registers) {
            Some(Answer::Outcome(outcome)) => {
                self.end(job, outcome);
                (Phase::Idle, true)
            }
            Some(Answer::Damaged) => {
                let attempts = job.attempts;
                self.again(job, Error::Corrupt { attempts });
                (Phase::Idle, true)
            }
            // Not ours: no abort is under way. The deadline decides.
            None | Some(Answer::Aborted) if now < deadline => (Phase::Waiting { job, deadline }, false),
            None | Some(Answer::Aborted) => {
                self.figures.hangs += 1;
                self.figures.hang_lateness_max = self.figures.hang_lateness_max.max(now.saturating_sub(deadline));
                self.hangs.push(self.sequence);
                registers.write(ABORT, self.sequence);
                doorbell.ring();
                let deadline = now + ABORT_GRACE;
                (Phase::Aborting { job, deadline }, true)
            }
        }
    }

    fn aborting(
        &mut self,
        job: Job,
        deadline: Duration,
        now: Duration,
        registers: &impl Registers,
        doorbell: &(impl Doorbell + ?Sized),
    ) -> (Phase, bool) {
        // Acknowledged first, answered second: the firmware writes them in the other order, so an acknowledgement
        // that was seen means that the answer is there too.
        let acknowledged = registers.read(ABORT_ACK) == self.sequence;
        match self.answer(registers) {
            Some(Answer::Outcome(outcome)) => {
                self.figures.late += 1;
                self.end(job, outcome);
                (Phase::Idle, true)
            }
            _ if acknowledged => {
                let attempts = job.attempts;
                self.again(job, Error::TimedOut { attempts });
                (Phase::Idle, true)
            }
            _ if now < deadline => (Phase::Aborting { job, deadline }, false),
            _ => (self.reset(Some(job), 1, now, registers, doorbell), true),
        }
    }

    fn resetting(
        &mut self,
        job: Option<Job>,
        tries: u32,
        deadline: Duration,
        now: Duration,
        registers: &impl Registers,
        doorbell: &(impl Doorbell + ?Sized),
    ) -> (Phase, bool) {
        if registers.read(RESET_ACK) == registers.read(RESET) {
            if let Some(job) = job {
                let attempts = job.attempts;
                self.again(job, Error::TimedOut { attempts });
            }
            return (Phase::Idle, true);
        }
        if now < deadline {
            return (Phase::Resetting { job, tries, deadline }, false);
        }
        if tries < RESET_TRIES {
            return (self.reset(job, tries + 1, now, registers, doorbell), true);
        }
        if let Some(job) = job {
            self.end(job, Err(Error::FirmwareHung));
        }
        self.fail_queue(&Error::FirmwareHung);
        let until = now + HUNG_PAUSE;
        (Phase::Hung { until }, false)
    }

    fn reset(
        &mut self,
        job: Option<Job>,
        tries: u32,
        now: Duration,
        registers: &impl Registers,
        doorbell: &(impl Doorbell + ?Sized),
    ) -> Phase {
        self.stale = false;
        self.figures.resets += 1;
        registers.write(RESET, registers.read(RESET).wrapping_add(1));
        doorbell.ring();
        let deadline = now + RESET_GRACE;
        Phase::Resetting { job, tries, deadline }
    }

    /// The answer to the command in flight, if it is there.
    fn answer(&mut self, registers: &impl Registers) -> Option<Answer> {
        let sequence = registers.read(ANSWER_SEQUENCE);
        if sequence != self.sequence {
            return None;
        }
        let (status, data) = (registers.read(ANSWER_STATUS), registers.read(ANSWER_DATA));
        let status = Status::from_word(status)
            .filter(|&status| registers.read(ANSWER_CHECK) == check(sequence, status as u32, data));
        let Some(status) = status else {
            self.figures.corrupt += 1;
            return Some(Answer::Damaged);
        };
        Some(Answer::Outcome(match status {
            Status::Ok => Ok(data),
            Status::Invalid => Err(Error::Invalid),
            Status::Locked => Err(Error::Locked),
            Status::Fault => Err(Error::Fault),
            Status::Aborted => return Some(Answer::Aborted),
        }))
    }

    /// One more attempt, before everything else that waits; or the end, if there were enough.
    fn again(&mut self, job: Job, error: Error) {
        if job.attempts < self.retry.attempts {
            self.figures.retries += 1;
            self.queue.push_front(job);
        } else {
            self.end(job, Err(error));
        }
    }

    fn end(&mut self, job: Job, outcome: Outcome) {
        if outcome.is_ok() {
            self.figures.succeeded += 1;
        } else {
            self.figures.failed += 1;
        }
        job.completer.complete(outcome);
    }

    fn fail_queue(&mut self, error: &Error) {
        while let Some(job) = self.queue.pop_front() {
            self.end(job, Err(error.clone()));
        }
    }
}

/// What the mailbox says about the command in flight.
enum Answer {
    Outcome(Outcome),
    /// It was dropped, which only an abort or reset brings about.
    Aborted,
    /// The check does not match.
    Damaged,
}
