// SPDX-License-Identifier: MIT OR Apache-2.0

//! Coming to own a pool: steps 3 to 5 of the protocol.
//!
//! The driver asks for a [`Step`], carries it out, reports what came of it with the times it began and ended, and asks
//! again.

use std::time::Duration;

use super::{Beat, Found, INTERVALS, Owner, Record};

/// What to do with a foreign claim whose counter does not move.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum DeadOwner {
    /// Take the pool over: its owner's lease is over.
    #[default]
    TakeOver,
    /// Refuse, and let a person decide.
    Refuse,
}

/// How to claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Between beats.
    pub interval: Duration,
    /// See [`DeadOwner`].
    pub dead_owner: DeadOwner,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            dead_owner: DeadOwner::TakeOver,
        }
    }
}

/// What the driver does next.
#[derive(Debug)]
pub enum Step {
    /// Read the block, and report to [`Claim::have_read`].
    Read,
    /// Write this, and report to [`Claim::have_written`].
    Write(Record),
    /// Ask again at that time.
    Wait(Duration),
    /// The pool is ours for as long as this beats.
    Own(Beat),
    /// It is not ours.
    Refuse(Refusal),
}

/// Why the pool is not ours. Says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its owner lives.
    #[error("the pool is in use by {0}; unmount it there first")]
    Alive(Owner),
    /// Its owner is silent, and the policy is not to take over.
    #[error(
        "the pool was last used by {0}, which is silent now; make sure that it is off, then open the pool with takeover"
    )]
    Dead(Owner),
    /// The block is damaged or of a newer version, and the policy is not to take over.
    #[error("it is unclear who uses the pool; make sure that nobody does, then open it with takeover")]
    Unclear,
    /// The claim that was to be renewed is not there any more.
    #[error("the heartbeat of the pool was erased")]
    Erased,
    /// Others keep claiming it.
    #[error("several machines try to open the pool at once; open it on one of them")]
    Contended,
}

/// Claims that one attempt writes at most.
const MAX_CLAIMS: u32 = 8;

/// See the module's text.
#[derive(Debug)]
pub struct Claim {
    me: Record,
    policy: Policy,
    phase: Phase,
    claims: u32,
    entitled: Entitled,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entitled {
    /// The pool, if nobody owns it.
    Newcomer,
    /// The pool, if nobody owned it since our lease ended. `settled` as in [`Beat`].
    Former { settled: bool },
}

#[derive(Debug)]
enum Phase {
    Look,
    /// The block held `seen` and must stay the same until then.
    Watch {
        seen: Found,
        look: Duration,
        until: Duration,
    },
    /// A read that began at `since` allows a claim.
    Take {
        since: Duration,
    },
    /// The claim was written, begun at `since`, and must stay until then.
    Confirm {
        since: Duration,
        until: Duration,
    },
    Own {
        since: Duration,
    },
    Refused(Refusal),
}

impl Claim {
    /// `me.counter` is the first that others see; `me.claim` is random.
    pub fn new(mut me: Record, policy: Policy) -> Self {
        me.interval = policy.interval.clamp(INTERVALS[0], INTERVALS[1]);
        Self {
            me,
            policy,
            phase: Phase::Look,
            claims: 0,
            entitled: Entitled::Newcomer,
        }
    }

    /// To go on with a claim whose lease is over. `me` is what was written last, or may have been.
    pub(super) fn again(me: Record, settled: bool) -> Self {
        let policy = Policy {
            interval: me.interval,
            ..Policy::default()
        };
        Self {
            entitled: Entitled::Former { settled },
            ..Self::new(me, policy)
        }
    }

    /// A transfer failed, or everything took too long: begin anew, without knowing what was written.
    pub(super) fn doubt(self) -> Self {
        Self::again(self.me, false)
    }

    /// What to do now.
    pub fn step(&mut self, now: Duration) -> Step {
        match &self.phase {
            Phase::Watch { look: then, .. } | Phase::Confirm { until: then, .. } if now < *then => Step::Wait(*then),
            Phase::Look | Phase::Watch { .. } | Phase::Confirm { .. } => Step::Read,
            Phase::Take { since } if now > *since + self.me.interval / 4 => {
                self.phase = Phase::Look;
                Step::Read
            }
            Phase::Take { .. } => {
                self.claims += 1;
                if self.claims > MAX_CLAIMS {
                    self.phase = Phase::Refused(Refusal::Contended);
                    return Step::Refuse(Refusal::Contended);
                }
                // A second attempt must not look like the first: who watches that one would take it for dead.
                self.me.counter = self.me.counter.wrapping_add(1);
                Step::Write(self.me.clone())
            }
            Phase::Own { since } => Step::Own(Beat::new(self.me.clone(), *since)),
            Phase::Refused(refusal) => Step::Refuse(refusal.clone()),
        }
    }

    /// The block was read.
    pub fn have_read(&mut self, found: Found, began: Duration, ended: Duration) {
        if let Some(refusal) = self.succeeded(&found) {
            self.phase = Phase::Refused(refusal);
            return;
        }
        self.phase = match std::mem::replace(&mut self.phase, Phase::Look) {
            Phase::Confirm { since, .. } if self.is_mine(&found) && ended < since + 2 * self.me.interval => {
                Phase::Own { since }
            }
            Phase::Watch { seen, until, .. } if seen == found => {
                if began < until {
                    self.watch(found, ended, until)
                } else {
                    self.silent(found, began)
                }
            }
            // A write of ours arrived that had been on its way.
            Phase::Watch { .. } if self.is_former() && self.is_mine(&found) => self.watch_anew(found, ended),
            Phase::Watch { seen, .. } => match found {
                Found::Free => Phase::Take { since: began },
                // The owner that was watched beats, or somebody else was faster.
                Found::Alive(record) => Phase::Refused(Refusal::Alive(record.owner)),
                // It is being written. Look again, but never for ever.
                Found::Unclear(_) if matches!(seen, Found::Unclear(_)) => Phase::Refused(Refusal::Unclear),
                Found::Unclear(_) => self.watch_anew(found, ended),
            },
            _ => self.first_look(found, began, ended),
        };
    }

    /// The claim was written.
    pub fn have_written(&mut self, began: Duration, ended: Duration) {
        let interval = self.me.interval;
        self.phase = match self.phase {
            Phase::Take { since } if ended <= since + interval / 4 => Phase::Confirm {
                since: began,
                until: ended + interval / 2,
            },
            // Too late: this may have overwritten a confirmed owner, so treat the claim as a stranger's.
            _ => self.watch_anew(Found::Alive(Box::new(self.me.clone())), ended),
        };
    }

    const fn is_former(&self) -> bool {
        matches!(self.entitled, Entitled::Former { .. })
    }

    /// Why a claim cannot be renewed.
    fn succeeded(&self, found: &Found) -> Option<Refusal> {
        match found {
            _ if !self.is_former() || self.is_mine(found) => None,
            Found::Alive(record) => Some(Refusal::Alive(record.owner.clone())),
            Found::Free => Some(Refusal::Erased),
            Found::Unclear(_) => None,
        }
    }

    fn first_look(&self, found: Found, began: Duration, ended: Duration) -> Phase {
        match &found {
            // A write of ours that was late may have hit a successor, who learns of it only by his next beat.
            Found::Alive(record) if self.is_former() => {
                if self.entitled == (Entitled::Former { settled: true }) && **record == self.me {
                    Phase::Take { since: began }
                } else {
                    self.watch_anew(found, ended)
                }
            }
            Found::Free => Phase::Take { since: began },
            Found::Alive(record) if record.owner.same_machine(&self.me.owner) => Phase::Take { since: began },
            _ => self.watch_anew(found, ended),
        }
    }

    fn watch_anew(&self, found: Found, now: Duration) -> Phase {
        let interval = match &found {
            Found::Alive(record) => record.interval,
            _ => self.me.interval,
        };
        self.watch(found, now, now + interval * 5 / 2)
    }

    /// Looks several times, so that a living owner is found before the wait is over.
    fn watch(&self, seen: Found, now: Duration, until: Duration) -> Phase {
        Phase::Watch {
            seen,
            look: until.min(now + self.me.interval),
            until,
        }
    }

    fn silent(&self, found: Found, began: Duration) -> Phase {
        match (self.policy.dead_owner, found) {
            (_, Found::Alive(record)) if record.is_claim_of(&self.me) => Phase::Take { since: began },
            (DeadOwner::TakeOver, _) => Phase::Take { since: began },
            (DeadOwner::Refuse, Found::Alive(record)) => Phase::Refused(Refusal::Dead(record.owner)),
            (DeadOwner::Refuse, _) => Phase::Refused(Refusal::Unclear),
        }
    }

    fn is_mine(&self, found: &Found) -> bool {
        matches!(found, Found::Alive(record) if record.is_claim_of(&self.me))
    }
}
