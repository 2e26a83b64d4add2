// SPDX-License-Identifier: MIT OR Apache-2.0

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::disk::{Disk, MemDisk};
use crate::pool::HEARTBEAT;

const INTERVAL: Duration = Duration::from_secs(1);

fn owner(machine: u8, boot: u8) -> Owner {
    Owner {
        machine_id: [machine; 16],
        boot_id: [boot; 16],
        process: 7,
        host_name: format!("host{machine}"),
    }
}

fn record(machine: u8, boot: u8, claim: u64) -> Record {
    Record {
        pool: Uuid::from_bytes([3; 16]),
        owner: owner(machine, boot),
        interval: INTERVAL,
        counter: 0,
        claim,
    }
}

fn policy(dead_owner: DeadOwner) -> Policy {
    Policy {
        interval: INTERVAL,
        dead_owner,
    }
}

/// One machine: a claim or a beat, and the transfer that is under way.
struct Machine {
    number: u8,
    role: Role,
    transfer: Transfer,
    next_beat: Duration,
    /// The opening of the pool that was this machine's, once it owned it.
    opening: Option<u32>,
}

enum Role {
    Claims(Claim),
    /// Owns it, and has not looked yet whether somebody opened it.
    Returns(Beat),
    Owns(Beat),
    Out(Out),
}

#[derive(Debug)]
enum Out {
    Refused(Refusal),
    Lost(Lost),
}

/// What the machines share.
struct Shared {
    block: Box<[u8; BLOCK_SIZE]>,
    /// How often the pool was opened.
    openings: u32,
}

/// A transfer begins, happens at one moment, and is reported: three turns, between which any time may pass.
enum Transfer {
    None,
    Read { began: Duration },
    HasRead { began: Duration, found: Found },
    Write { began: Duration, record: Record },
    Written { began: Duration },
}

impl Machine {
    fn new(number: u8, dead_owner: DeadOwner) -> Self {
        let me = record(number, number, u64::from(number));
        Self {
            number,
            role: Role::Claims(Claim::new(me, policy(dead_owner))),
            transfer: Transfer::None,
            next_beat: Duration::ZERO,
            opening: None,
        }
    }

    fn owns(&self, now: Duration) -> bool {
        matches!(&self.role, Role::Owns(beat) if beat.check(now).is_ok())
    }

    /// Takes one turn.
    fn turn(&mut self, shared: &mut Shared, now: Duration) {
        self.transfer = match std::mem::replace(&mut self.transfer, Transfer::None) {
            Transfer::None => self.begin(shared, now),
            Transfer::Read { began } => Transfer::HasRead {
                began,
                found: Found::decode(&shared.block),
            },
            Transfer::Write { began, record } => {
                shared.block = record.encode();
                Transfer::Written { began }
            }
            Transfer::HasRead { began, found } => match &mut self.role {
                Role::Claims(claim) => {
                    claim.have_read(found, began, now);
                    Transfer::None
                }
                Role::Owns(beat) => match beat.have_read(&found, now) {
                    Ok(Some(record)) => Transfer::Write { began: now, record },
                    Ok(None) => Transfer::None,
                    Err(lost) => self.lose(lost),
                },
                Role::Returns(_) | Role::Out(_) => Transfer::None,
            },
            Transfer::Written { began } => match &mut self.role {
                Role::Claims(claim) => {
                    claim.have_written(began, now);
                    Transfer::None
                }
                Role::Owns(beat) => match beat.have_written(began, now) {
                    Ok(()) => {
                        self.next_beat = began + INTERVAL;
                        Transfer::None
                    }
                    Err(lost) => self.lose(lost),
                },
                Role::Returns(_) | Role::Out(_) => Transfer::None,
            },
        };
    }

    fn begin(&mut self, shared: &mut Shared, now: Duration) -> Transfer {
        let step = match &mut self.role {
            Role::Claims(claim) => claim.step(now),
            Role::Owns(_) if now >= self.next_beat => Step::Read,
            Role::Returns(_) => return self.look_around(shared, now),
            Role::Owns(_) | Role::Out(_) => return Transfer::None,
        };
        match step {
            Step::Read => Transfer::Read { began: now },
            Step::Write(record) => Transfer::Write { began: now, record },
            Step::Wait(_) => Transfer::None,
            Step::Own(beat) => {
                self.role = Role::Returns(beat);
                Transfer::None
            }
            Step::Refuse(refusal) => {
                self.role = Role::Out(Out::Refused(refusal));
                Transfer::None
            }
        }
    }

    /// Opens the pool, or finds it as it was left.
    fn look_around(&mut self, shared: &mut Shared, now: Duration) -> Transfer {
        let Role::Returns(beat) = std::mem::replace(&mut self.role, Role::Out(Out::Lost(Lost::Changed))) else {
            return Transfer::None;
        };
        if beat.check(now).is_err() {
            self.role = Role::Claims(beat.again());
            return Transfer::None;
        }
        if self.opening.is_none() {
            shared.openings += 1;
            self.opening = Some(shared.openings);
        }
        if self.opening == Some(shared.openings) {
            self.role = Role::Owns(beat);
        }
        Transfer::None
    }

    fn lose(&mut self, lost: Lost) -> Transfer {
        self.role = match (lost, &self.role) {
            (Lost::Expired, Role::Owns(beat)) => Role::Claims(beat.again()),
            (lost, _) => Role::Out(Out::Lost(lost)),
        };
        Transfer::None
    }
}

/// Runs machines by a schedule of (machine, milliseconds that pass before its turn); says how often somebody owned.
fn run(machines: &mut [Machine], schedule: impl IntoIterator<Item = (usize, u64)>) -> Result<usize, String> {
    let mut shared = Shared {
        block: Box::new([0; BLOCK_SIZE]),
        openings: 0,
    };
    let mut now = Duration::from_secs(1);
    let mut turns = 0;
    for (index, (machine, pause)) in schedule.into_iter().enumerate() {
        now += Duration::from_millis(pause);
        machines[machine].turn(&mut shared, now);
        let mut owners = machines.iter().filter(|machine| machine.owns(now));
        let Some(owner) = owners.next() else { continue };
        turns += 1;
        if owners.next().is_some() {
            return Err(format!("several owners at turn {index}"));
        }
        if owner.opening != Some(shared.openings) {
            return Err(format!(
                "machine {} changes what another opened, at turn {index}",
                owner.number
            ));
        }
    }
    Ok(turns)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn two_machines_never_own_a_pool_at_one_moment_and_none_goes_on_after_another(
        schedule in prop::collection::vec((0..3_usize, prop_oneof![
            6 => Just(0_u64), 6 => 1..60_u64, 3 => 60..600_u64, 1 => 600..4000_u64,
        ]), 20..400),
    ) {
        let mut machines = [1, 2, 3].map(|number| Machine::new(number, DeadOwner::TakeOver));
        run(&mut machines, schedule).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_hostile_block_is_free_alive_or_unclear(
        changes in prop::collection::vec((0..160_usize, any::<u8>()), 0..6), sealed: bool,
    ) {
        let mut block = record(1, 1, 1).encode();
        for (at, byte) in changes {
            block[at] = byte;
        }
        if sealed {
            let crc = Crc::of(&block[..CRC_AT]);
            block[CRC_AT..].copy_from_slice(&crc.0.to_le_bytes());
        }
        if let Found::Alive(record) = Found::decode(&block) {
            prop_assert!((INTERVALS[0]..=INTERVALS[1]).contains(&record.interval));
            prop_assert!(record.owner.host_name.len() <= 3 * MAX_HOST_NAME);
        }
    }
}

/// A schedule in which everybody gets a turn every few milliseconds.
fn fair(machines: &[usize], millis: u64) -> Vec<(usize, u64)> {
    let count = machines.len() as u64;
    (0..millis / 10)
        .map(|turn| (machines[usize::try_from(turn % count).unwrap()], 10))
        .collect()
}

#[test]
fn one_of_several_machines_gets_the_pool_and_keeps_it() {
    let mut machines = [1, 2, 3].map(|number| Machine::new(number, DeadOwner::TakeOver));
    let owned = run(&mut machines, fair(&[0, 1, 2], 20_000)).unwrap();
    assert!(owned > 1900, "owned for {owned} of 2000 turns");
    let refused = |machine: &&Machine| matches!(machine.role, Role::Out(Out::Refused(Refusal::Alive(_))));
    assert_eq!(machines.iter().filter(refused).count(), 2);
}

#[test]
fn a_silent_owner_is_succeeded_only_after_its_lease_and_by_policy() {
    for (dead_owner, succeeds) in [(DeadOwner::TakeOver, true), (DeadOwner::Refuse, false)] {
        let mut machines = [Machine::new(1, dead_owner), Machine::new(2, dead_owner)];
        let mut schedule = fair(&[0], 5000);
        schedule.extend(fair(&[1], 5000));
        run(&mut machines, schedule).unwrap();
        assert_eq!(matches!(machines[1].role, Role::Owns(_)), succeeds);
        assert_eq!(
            matches!(&machines[1].role, Role::Out(Out::Refused(Refusal::Dead(owner))) if owner.host_name == "host1"),
            !succeeds
        );
    }
}

#[test]
fn a_claim_whose_write_was_stuck_does_not_rob_the_owner_confirmed_meanwhile() {
    let mut machines = [1, 2].map(|number| Machine::new(number, DeadOwner::TakeOver));
    // Machine 1 sees a free block and begins to write. Before the write happens machine 2 claims, confirms and beats.
    let mut schedule = vec![(0, 0); 4];
    schedule.extend(fair(&[1], 900));
    schedule.extend(fair(&[0, 1], 6000));
    run(&mut machines, schedule).unwrap();
    assert!(
        matches!(machines[1].role, Role::Out(Out::Lost(Lost::TakenOver(_)))),
        "its claim was overwritten"
    );
    assert!(
        matches!(machines[0].role, Role::Owns(_)),
        "the other one waited for that"
    );
}

#[test]
fn a_claim_written_twice_is_not_taken_for_a_dead_one() {
    // Machine 1's write is reported so late that it watches its own claim and writes it again; with the same counter,
    // machine 0, which watches it too, saw nothing move.
    let mut machines = [1, 2].map(|number| Machine::new(number, DeadOwner::TakeOver));
    let mut schedule = vec![(1, 0); 5];
    schedule.extend([(0, 10), (0, 0), (0, 0), (1, 1000)]);
    // Machine 0 looks again shortly before machine 1 writes again, and then when its own wait is over.
    schedule.extend([
        (0, 10),
        (0, 0),
        (0, 0),
        (1, 2500),
        (1, 0),
        (1, 0),
        (1, 0),
        (1, 0),
        (1, 0),
    ]);
    schedule.extend([
        (0, 1),
        (0, 0),
        (0, 0),
        (0, 0),
        (0, 0),
        (0, 0),
        (1, 500),
        (1, 0),
        (1, 0),
        (1, 0),
    ]);
    schedule.extend(fair(&[0, 1], 4000));
    run(&mut machines, schedule).unwrap();
    assert!(matches!(machines[1].role, Role::Owns(_)));
    assert!(matches!(&machines[0].role, Role::Out(Out::Refused(Refusal::Alive(owner))) if owner.host_name == "host2"));
}

#[test]
fn an_owner_learns_that_it_was_succeeded() {
    let mut machines = [1, 2].map(|number| Machine::new(number, DeadOwner::TakeOver));
    let mut schedule = fair(&[0], 5000);
    schedule.extend(fair(&[1], 5000));
    schedule.extend(fair(&[0, 1], 3000));
    run(&mut machines, schedule).unwrap();
    assert!(matches!(&machines[0].role, Role::Out(Out::Lost(Lost::TakenOver(owner))) if owner.host_name == "host2"));
    assert!(matches!(machines[1].role, Role::Owns(_)));
}

#[test]
fn an_owner_that_was_paused_goes_on_if_nobody_took_the_pool() {
    let mut machines = [Machine::new(1, DeadOwner::TakeOver)];
    let mut schedule = fair(&[0], 5000);
    let before = run(&mut [Machine::new(1, DeadOwner::TakeOver)], schedule.clone()).unwrap();
    schedule.push((0, 60_000));
    schedule.extend(fair(&[0], 5000));
    let owned = run(&mut machines, schedule).unwrap();
    assert!(matches!(machines[0].role, Role::Owns(_)));
    assert!(owned > before + 350, "{owned} after {before}");
}

/// Two machines, and a schedule after which the first was paused while it wrote a beat, and the second came to own the
/// pool, but did not open it yet.
fn paused_in_a_beat() -> ([Machine; 2], Vec<(usize, u64)>) {
    let machines = || [1, 2].map(|number| Machine::new(number, DeadOwner::TakeOver));
    let after = |schedule: &[(usize, u64)]| {
        let mut two = machines();
        run(&mut two, schedule.iter().copied()).unwrap();
        two
    };
    let mut schedule = fair(&[0], 2000);
    schedule.push((0, 1000));
    while !matches!(after(&schedule)[0].transfer, Transfer::Write { .. }) {
        schedule.push((0, 0));
    }
    while !matches!(after(&schedule)[1].role, Role::Returns(_)) {
        schedule.push((1, 10));
    }
    (machines(), schedule)
}

#[test]
fn a_beat_that_came_late_does_not_hide_that_another_machine_had_the_pool() {
    let (mut machines, mut schedule) = paused_in_a_beat();
    schedule.extend([(1, 0), (1, 0)]);
    schedule.extend(fair(&[0], 6000));
    run(&mut machines, schedule).unwrap();
    let changed = matches!(machines[0].role, Role::Out(Out::Lost(Lost::Changed)));
    assert!(changed, "it went on");
}

#[test]
fn a_beat_that_came_late_does_not_rob_who_is_about_to_open_the_pool() {
    let (mut machines, mut schedule) = paused_in_a_beat();
    schedule.extend(fair(&[0], 700));
    schedule.extend(fair(&[1], 20));
    schedule.extend(fair(&[0, 1], 6000));
    run(&mut machines, schedule).unwrap();
    assert!(!matches!(machines[1].role, Role::Owns(_)), "it was overwritten");
}

#[test]
fn what_may_be_taken_at_once_and_what_is_watched() {
    let me = record(1, 1, 10);
    let cases = [
        (Found::Free, true),
        (Found::Alive(Box::new(record(1, 1, 11))), true),
        (Found::Alive(Box::new(record(1, 2, 11))), true),
        (Found::Alive(Box::new(record(2, 1, 11))), false),
        (Found::Unclear(Crc(5)), false),
    ];
    for (found, at_once) in cases {
        let mut claim = Claim::new(me.clone(), policy(DeadOwner::TakeOver));
        claim.have_read(found.clone(), Duration::ZERO, Duration::ZERO);
        assert_eq!(
            matches!(claim.step(Duration::ZERO), Step::Write(_)),
            at_once,
            "{found:?}"
        );
    }
    let mut nameless = me;
    nameless.owner.machine_id = [0; 16];
    let mut claim = Claim::new(nameless.clone(), policy(DeadOwner::TakeOver));
    claim.have_read(Found::Alive(Box::new(nameless)), Duration::ZERO, Duration::ZERO);
    assert!(
        matches!(claim.step(Duration::ZERO), Step::Wait(_)),
        "no machine id proves nothing"
    );
}

#[test]
fn the_layout_is_as_documented_and_long_names_are_cut() {
    let mut original = record(1, 2, 0x0807_0605_0403_0201);
    original.owner.host_name = "ä".repeat(40);
    let block = original.encode();
    assert_eq!(&block[..16], b"VEXFSHB1\x01\0\0\0\x01\0\0\0");
    assert_eq!(
        (block[32], block[48], block[64], block[80], block[88]),
        (1, 2, 7, 1, 64)
    );
    let Found::Alive(decoded) = Found::decode(&block) else {
        panic!()
    };
    assert_eq!(decoded.owner.host_name, "ä".repeat(32));
    assert_eq!(Found::decode(&original.encode_free()), Found::Free);
}

/// Short enough for a test, long enough for a busy machine.
const QUICK: Duration = Duration::from_millis(300);

fn runner(disk: &Arc<dyn Disk>, machine: u8) -> Result<Runner, ClaimError> {
    let quick = Policy {
        interval: QUICK,
        dead_owner: DeadOwner::TakeOver,
    };
    let claim = Claim::new(record(machine, machine, u64::from(machine)), quick);
    Runner::start(Box::new(SharedBlock(Arc::clone(disk))), claim, Box::new(|| Ok(true)))
}

#[test]
fn in_real_time_the_first_machine_keeps_the_second_out_until_it_leaves() {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new(1 << 20));
    let first = runner(&disk, 1).unwrap();
    let ownership = first.ownership();
    assert!(matches!(runner(&disk, 2), Err(ClaimError::Refused(Refusal::Alive(owner))) if owner.host_name == "host1"));
    assert_eq!(ownership.check(), Ok(()));
    drop(first);
    assert!(ownership.check().is_err());
    let before = Instant::now();
    let second = runner(&disk, 2).unwrap();
    // Somebody ignores the protocol.
    disk.write(HEARTBEAT.byte_at(), &record(9, 9, 9).encode()[..]).unwrap();
    let ownership = second.ownership();
    while ownership.check().is_ok() {
        assert!(before.elapsed().as_secs() < 5);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(matches!(ownership.check(), Err(Lost::TakenOver(owner)) if owner.host_name == "host9"));
    assert!(ownership.require("write").unwrap_err().to_string().contains("host9"));
}

/// A device that fails or hangs for as long as it is told to.
struct Moody(SharedBlock, Arc<AtomicBool>);

impl HeartbeatDevice for Moody {
    fn read(&mut self, into: &mut [u8; BLOCK_SIZE]) -> std::io::Result<()> {
        if self.1.load(Ordering::Relaxed) {
            return Err(std::io::Error::from_raw_os_error(nix::libc::EIO));
        }
        self.0.read(into)
    }

    fn write(&mut self, from: &[u8; BLOCK_SIZE]) -> std::io::Result<()> {
        self.0.write(from)
    }
}

fn moody(opened: Arc<AtomicBool>) -> (Arc<dyn Disk>, Arc<AtomicBool>, Runner) {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new(1 << 20));
    let fails = Arc::new(AtomicBool::new(false));
    let quick = Policy {
        interval: QUICK,
        dead_owner: DeadOwner::TakeOver,
    };
    let device = Moody(SharedBlock(Arc::clone(&disk)), Arc::clone(&fails));
    let witness = move || Ok(!opened.load(Ordering::Relaxed));
    let runner = Runner::start(Box::new(device), Claim::new(record(1, 1, 1), quick), Box::new(witness)).unwrap();
    (disk, fails, runner)
}

#[test]
fn a_device_that_fails_for_longer_than_a_lease_makes_writers_wait_and_no_more() {
    let (_disk, fails, runner) = moody(Arc::default());
    let ownership = runner.ownership();
    fails.store(true, Ordering::Relaxed);
    std::thread::sleep(3 * QUICK);
    assert!(!ownership.is_held());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| ownership.check());
        std::thread::sleep(QUICK);
        assert!(!writer.is_finished());
        fails.store(false, Ordering::Relaxed);
        assert_eq!(writer.join().unwrap(), Ok(()));
    });
}

#[test]
fn patience_ends_and_the_pool_with_it() {
    let (disk, fails, runner) = moody(Arc::default());
    let ownership = runner.ownership();
    fails.store(true, Ordering::Relaxed);
    let began = Instant::now();
    while ownership.is_held() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(ownership.check(), Err(Lost::Expired));
    assert!(began.elapsed() > 20 * QUICK);
    // For ever, and nobody is told that the pool were free.
    fails.store(false, Ordering::Relaxed);
    std::thread::sleep(2 * QUICK);
    assert_eq!(ownership.check(), Err(Lost::Expired));
    drop(runner);
    let mut block = [0; BLOCK_SIZE];
    disk.read(HEARTBEAT.byte_at(), &mut block).unwrap();
    assert!(matches!(Found::decode(&block), Found::Alive(_)));
}

#[test]
fn a_pool_that_was_used_in_between_is_lost() {
    let opened = Arc::new(AtomicBool::new(false));
    let (_disk, fails, runner) = moody(Arc::clone(&opened));
    let ownership = runner.ownership();
    fails.store(true, Ordering::Relaxed);
    opened.store(true, Ordering::Relaxed);
    std::thread::sleep(3 * QUICK);
    fails.store(false, Ordering::Relaxed);
    assert_eq!(ownership.check(), Err(Lost::Changed));
}
