// SPDX-License-Identifier: MIT OR Apache-2.0

//! The SMI engine against the firmware, both in a time of their own: a second takes no time, and a seed decides
//! everything.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dsmil::Error;
use dsmil::gate::Gate;
use dsmil::layout::{REGION_SIZE, RESET, Registers, SEQUENCE, STOP};
use dsmil::registry::Mode;
use dsmil::smi::{
    ABORT_GRACE, Doorbell, Engine, Outcome, QUEUE_LENGTH, RESET_GRACE, RegionAddress, Request, Retry, Ticket, Timeout,
    Token, TokenPosition,
};
use dsmil_sim::firmware::Character;
use dsmil_sim::{Fault, Firmware};
use proptest::prelude::*;

/// Memory that stands for the region, and costs nothing where it is not touched.
struct Memory(dsmil::memory::Mapping);

impl Registers for Memory {
    fn read(&self, offset: usize) -> u32 {
        Registers::read(&self.0, offset)
    }

    fn write(&self, offset: usize, value: u32) {
        Registers::write(&self.0, offset, value);
    }
}

struct Bell<'a>(&'a Cell<bool>);

impl Doorbell for Bell<'_> {
    fn ring(&self) {
        self.0.set(true);
    }
}

/// Both ends of the link, and the time.
struct Scene {
    memory: Memory,
    firmware: RefCell<Firmware>,
    engine: Engine,
    gate: Gate,
    rung: Cell<bool>,
    now: Duration,
    /// How late the driver's polls are, as a busy machine would make them.
    delay: Duration,
    interrupts: u64,
}

impl Scene {
    fn new(seed: u64, attempts: u32) -> Self {
        let memory = Memory(dsmil::memory::Mapping::anonymous(REGION_SIZE).unwrap());
        let character = Character {
            seed,
            ..Character::default()
        };
        let firmware = Firmware::start(character, &memory);
        let engine = Engine::new(Retry { attempts }, &memory);
        Self {
            memory,
            firmware: RefCell::new(firmware),
            engine,
            gate: Gate::new(),
            rung: Cell::new(false),
            now: Duration::ZERO,
            delay: Duration::ZERO,
            interrupts: 0,
        }
    }

    fn inject(&self, faults: &[Fault]) {
        for &fault in faults {
            self.firmware.borrow_mut().inject(fault, self.now, &self.memory);
        }
    }

    fn poll(&mut self) {
        self.engine.poll(self.now, &self.memory, &self.gate, &Bell(&self.rung));
    }

    /// Lets time pass until it is `until`, each side acting when it has to.
    fn advance(&mut self, until: Duration) {
        let mut driver = self.now;
        let mut firmware = self.now;
        while self.now <= until {
            if self.rung.take() || self.now >= firmware {
                let due = self.firmware.borrow_mut().run(self.now, &self.memory);
                firmware = due.next;
                if due.interrupts > 0 {
                    self.interrupts += u64::from(due.interrupts);
                    self.poll();
                }
            }
            if self.now >= driver {
                self.poll();
            }
            driver = self
                .engine
                .next_poll()
                .map_or(Duration::MAX, |at| at.saturating_add(self.delay));
            if self.rung.get() {
                continue;
            }
            // A driver that cannot go on wants to be polled at once, for ever: behind a shut gate.
            let next = driver.min(firmware);
            self.now = next
                .max(self.now + Duration::from_micros(20))
                .min(until + Duration::from_nanos(1));
        }
        self.now = until;
    }

    fn submit(&mut self, request: Request) -> Ticket {
        let ticket = self.engine.submit(request, Timeout::MIN).unwrap();
        self.poll();
        ticket
    }

    /// The outcome, and how long it took.
    fn run(&mut self, request: Request) -> (Outcome, Duration) {
        let start = self.now;
        let ticket = self.submit(request);
        for _ in 0..100_000 {
            if let Some(outcome) = ticket.peek() {
                return (outcome, self.now.saturating_sub(start));
            }
            self.advance(self.now + Duration::from_micros(100));
        }
        panic!("no outcome after ten seconds");
    }
}

fn token(group: u8, position: TokenPosition) -> Token {
    Token::new(Mode::Full, group, position).unwrap()
}

fn read() -> Request {
    Request::Read(token(1, TokenPosition::Power))
}

fn unlock(group: u8) -> Request {
    Request::Unlock(RegionAddress::of_device(Mode::Full.device(group, 0).unwrap()))
}

#[test]
fn what_was_written_is_read_once_the_region_is_unlocked() {
    let mut scene = Scene::new(1, 3);
    let token = token(4, TokenPosition::Storage);
    assert_eq!(scene.run(Request::Write(token, 7)).0, Err(Error::Locked));
    scene.run(unlock(4)).0.unwrap();
    scene.run(Request::Write(token, 7)).0.unwrap();
    assert_eq!(scene.run(Request::Read(token)).0.unwrap(), 7);
}

#[test]
fn verify_counts_all_tokens() {
    assert_eq!(Scene::new(1, 3).run(Request::Verify).0.unwrap(), 28);
}

#[test]
fn the_same_seed_gives_the_same_tokens_and_times_and_another_seed_others() {
    let run = |seed| {
        let mut scene = Scene::new(seed, 3);
        (0..20)
            .map(|_| {
                let (outcome, took) = scene.run(read());
                (outcome.unwrap(), took)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_late_answer_within_the_timeout_is_an_answer() {
    let mut scene = Scene::new(1, 1);
    scene.inject(&[Fault::Late { millis: 49 }]);
    let (outcome, took) = scene.run(read());
    outcome.unwrap();
    assert!(took >= Duration::from_millis(49));
    assert_eq!(scene.engine.figures().hangs, 0);
}

#[test]
fn a_hang_is_noticed_at_the_deadline_and_tried_again() {
    let mut scene = Scene::new(1, 3);
    scene.inject(&[Fault::Hang]);
    let (outcome, took) = scene.run(read());
    outcome.unwrap();
    assert!(
        took >= Timeout::MIN.get() && took < Timeout::MIN.get() + Duration::from_millis(2),
        "{took:?}"
    );
    let figures = scene.engine.figures();
    assert_eq!((figures.hangs, figures.retries, figures.resets), (1, 1, 0));
    assert_eq!(scene.engine.take_hangs().len(), 1);
}

#[test]
fn an_operation_that_always_hangs_fails_after_its_attempts() {
    let mut scene = Scene::new(1, 3);
    scene.inject(&[Fault::Hang; 3]);
    let (outcome, took) = scene.run(read());
    assert!(matches!(outcome, Err(Error::TimedOut { attempts: 3 })));
    assert!(took < 3 * (Timeout::MIN.get() + ABORT_GRACE));
    scene.run(read()).0.unwrap();
}

#[test]
fn an_abort_that_is_ignored_ends_in_a_reset() {
    let mut scene = Scene::new(1, 3);
    scene.inject(&[Fault::HangHard]);
    scene.run(read()).0.unwrap();
    assert_eq!(scene.engine.figures().resets, 1);
}

#[test]
fn a_dead_firmware_fails_everything_and_is_found_again_when_it_returns() {
    let mut scene = Scene::new(1, 3);
    scene.inject(&[Fault::Dead { millis: 3000 }]);
    let waiting = scene.submit(read());
    let (outcome, took) = scene.run(Request::Verify);
    assert!(matches!(outcome, Err(Error::FirmwareHung)), "{outcome:?}");
    assert!(matches!(waiting.peek(), Some(Err(Error::FirmwareHung))));
    assert!(
        took <= Timeout::MIN.get() + ABORT_GRACE + 2 * RESET_GRACE + Duration::from_millis(1),
        "{took:?}"
    );
    assert!(matches!(
        scene.engine.submit(read(), Timeout::MIN),
        Err(Error::FirmwareHung)
    ));
    scene.advance(Duration::from_secs(5));
    scene.run(read()).0.unwrap();
}

#[test]
fn a_damaged_answer_is_asked_for_again() {
    let mut scene = Scene::new(1, 3);
    scene.inject(&[Fault::Corrupt, Fault::Corrupt]);
    scene.run(read()).0.unwrap();
    assert_eq!(scene.engine.figures().corrupt, 2);
    scene.inject(&[Fault::Corrupt; 3]);
    assert!(matches!(scene.run(read()).0, Err(Error::Corrupt { attempts: 3 })));
}

#[test]
fn duplicate_answers_spurious_and_lost_interrupts_change_no_outcome() {
    let mut scene = Scene::new(3, 3);
    let expected = scene.run(read()).0.unwrap();
    scene.inject(&[
        Fault::Duplicate,
        Fault::SpuriousInterrupts { count: 5 },
        Fault::LostInterrupt,
    ]);
    for _ in 0..3 {
        assert_eq!(scene.run(read()).0.unwrap(), expected);
    }
    // The answer whose interrupt was lost is found at the deadline, where it is no hang.
    assert_eq!(scene.engine.figures().hangs, 0);
}

#[test]
fn a_fault_that_the_firmware_reports_is_not_tried_again() {
    let mut scene = Scene::new(1, 3);
    scene.inject(&[Fault::Fail]);
    assert!(matches!(scene.run(read()).0, Err(Error::Fault)));
    assert_eq!(scene.engine.figures().retries, 0);
}

#[test]
fn behind_a_shut_gate_nothing_is_written_to_the_mailbox() {
    let mut scene = Scene::new(1, 3);
    scene.run(read()).0.unwrap();
    let before = scene.memory.read(SEQUENCE);
    scene.gate.shut();
    let ticket = scene.submit(read());
    scene.advance(Duration::from_secs(1));
    assert_eq!((scene.memory.read(SEQUENCE), scene.memory.read(RESET)), (before, 0));
    assert!(ticket.peek().is_none());
    scene.engine.fail_all(&Error::Stopped);
    assert!(matches!(ticket.peek(), Some(Err(Error::Stopped))));
}

#[test]
fn what_was_under_way_when_all_was_failed_is_reset_before_the_next_operation() {
    let mut scene = Scene::new(1, 3);
    scene.inject(&[Fault::Hang]);
    let ticket = scene.submit(read());
    scene.engine.fail_all(&Error::Stopped);
    assert!(matches!(ticket.peek(), Some(Err(Error::Stopped))));
    scene.run(read()).0.unwrap();
    assert_eq!(scene.engine.figures().resets, 1);
}

#[test]
fn a_new_engine_drops_what_its_predecessor_left_in_the_mailbox() {
    let mut scene = Scene::new(1, 3);
    scene.inject(&[Fault::Hang]);
    let orphan = scene.submit(read());
    scene.advance(Duration::from_millis(10));
    scene.engine = Engine::new(Retry::default(), &scene.memory);
    assert!(matches!(orphan.peek(), Some(Err(Error::Gone))), "who waited is told");
    scene.run(read()).0.unwrap();
    assert_eq!(scene.engine.figures().resets, 1);
}

#[test]
fn the_queue_is_bounded() {
    let mut scene = Scene::new(1, 3);
    scene.inject(&[Fault::Hang]);
    let mut tickets: Vec<Ticket> = vec![scene.submit(read())];
    for _ in 0..QUEUE_LENGTH {
        tickets.push(scene.engine.submit(read(), Timeout::MIN).unwrap());
    }
    assert!(matches!(
        scene.engine.submit(read(), Timeout::MIN),
        Err(Error::QueueFull(QUEUE_LENGTH))
    ));
    scene.advance(Duration::from_secs(2));
    assert!(
        tickets
            .iter()
            .all(|ticket| ticket.peek().is_some_and(|outcome| outcome.is_ok()))
    );
}

#[test]
fn operations_are_spaced_out_by_the_pace() {
    let mut scene = Scene::new(1, 3);
    scene.engine.set_pace(Duration::from_millis(50));
    let start = scene.now;
    for _ in 0..4 {
        scene.run(read()).0.unwrap();
    }
    assert!(scene.now.saturating_sub(start) >= Duration::from_millis(150));
}

#[test]
fn sequence_numbers_wrap_without_ever_being_zero() {
    let mut scene = Scene::new(1, 3);
    scene.memory.write(SEQUENCE, u32::MAX - 1);
    scene.firmware = RefCell::new(Firmware::start(Character::default(), &scene.memory));
    scene.engine = Engine::new(Retry::default(), &scene.memory);
    for expected in [u32::MAX, 1, 2] {
        scene.run(read()).0.unwrap();
        assert_eq!(scene.memory.read(SEQUENCE), expected);
    }
}

#[test]
fn a_firmware_that_starts_while_stopped_stays_stopped() {
    let mut scene = Scene::new(1, 1);
    scene.memory.write(STOP, 1);
    scene.advance(Duration::from_millis(1));
    scene.firmware = RefCell::new(Firmware::start(Character::default(), &scene.memory));
    assert!(scene.run(read()).0.is_err());
    scene.memory.write(STOP, 2);
    scene.advance(Duration::from_secs(5));
    scene.run(read()).0.unwrap();
}

#[test]
fn a_waiting_thread_is_woken_by_the_outcome_and_not_before() {
    let mut scene = Scene::new(1, 3);
    let ticket = scene.submit(read());
    assert!(ticket.wait(Duration::from_millis(20)).is_none());
    let woken = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            ticket.wait(Duration::from_secs(10)).unwrap().unwrap();
            woken.store(1, Ordering::Release);
        });
        scene.advance(Duration::from_millis(5));
    });
    assert_eq!(woken.load(Ordering::Acquire), 1);
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (0..100_u64).prop_map(|millis| Fault::Late { millis }),
        Just(Fault::Hang),
        Just(Fault::HangHard),
        (0..400_u64).prop_map(|millis| Fault::Dead { millis }),
        Just(Fault::Corrupt),
        Just(Fault::Duplicate),
        Just(Fault::LostInterrupt),
        Just(Fault::Fail),
        (0..4_u32).prop_map(|count| Fault::SpuriousInterrupts { count }),
    ]
}

fn request() -> impl Strategy<Value = (u8, u8, Option<u32>)> {
    (0..7_u8, 0..4_u8, any::<Option<u32>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever goes wrong: every operation ends, in bounded time; no hang is seen early, nor later than polls are; a
    /// read never returns anything but what was last written with success, or possibly written by a write that failed.
    #[test]
    fn operations_end_and_never_lie_whatever_goes_wrong(
        seed: u64,
        delay in 0..5_u64,
        work in prop::collection::vec((request(), prop::collection::vec(fault(), 0..3)), 1..25)
    ) {
        let mut scene = Scene::new(seed, 3);
        scene.delay = Duration::from_millis(delay);
        let mut known: std::collections::HashMap<(u8, u8), Vec<u32>> = std::collections::HashMap::new();
        let unlocked: Vec<bool> = (0..7).map(|group| scene.run(unlock(group)).0.is_ok()).collect();
        prop_assert!(unlocked.iter().all(|&ok| ok));
        for ((group, position, write), faults) in work {
            scene.inject(&faults);
            let token = token(group, TokenPosition::try_from(position).unwrap());
            let request = write.map_or(Request::Read(token), |value| Request::Write(token, value));
            if scene.engine.is_hung() {
                scene.advance(scene.now + Duration::from_secs(3));
            }
            let submitted = scene.engine.submit(request, Timeout::MIN);
            let Ok(ticket) = submitted else {
                prop_assert!(scene.engine.is_hung());
                continue;
            };
            let start = scene.now;
            while ticket.peek().is_none() {
                scene.advance(scene.now + Duration::from_millis(1));
                let bound = 3 * (Timeout::MIN.get() + ABORT_GRACE + 2 * RESET_GRACE + 4 * scene.delay);
                prop_assert!(scene.now.saturating_sub(start) <= bound + Duration::from_millis(2), "no end after {:?}", scene.now.saturating_sub(start));
            }
            let values = known.entry((group, position)).or_default();
            match (write, ticket.peek().unwrap()) {
                (Some(value), Ok(_)) => *values = vec![value],
                // What the token held before is not known, so neither is what it holds now.
                (Some(_), Err(_)) if values.is_empty() => {}
                (Some(value), Err(_)) => values.push(value),
                (None, Ok(value)) if values.is_empty() => values.push(value),
                (None, Ok(value)) => {
                    prop_assert!(values.contains(&value), "{value} was never written: {values:?}");
                    *values = vec![value];
                }
                (None, Err(_)) => {}
            }
            prop_assert!(scene.engine.figures().hang_lateness_max <= scene.delay);
        }
    }
}
