// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state machine against a table of its own, device by device and all at once.

use proptest::prelude::*;

use super::*;
use crate::registry::typed::Offline;

/// State before, change, state after. What is not here is refused.
const TABLE: &[(State, Change, State)] = &[
    (State::Offline, Change::Attach, State::Initializing),
    (State::Initializing, Change::Initialized, State::Ready),
    (State::Initializing, Change::Fail, State::Error),
    (State::Initializing, Change::Remove, State::Offline),
    (State::Ready, Change::Activate, State::Active),
    (State::Ready, Change::Lock, State::Locked),
    (State::Ready, Change::Fail, State::Error),
    (State::Ready, Change::Remove, State::Offline),
    (State::Active, Change::Deactivate, State::Ready),
    (State::Active, Change::Lock, State::Locked),
    (State::Active, Change::Fail, State::Error),
    (State::Active, Change::Remove, State::Offline),
    (State::Error, Change::Reset, State::Initializing),
    (State::Error, Change::Remove, State::Offline),
    (State::Locked, Change::Unlock, State::Ready),
    (State::Locked, Change::Fail, State::Error),
    (State::Locked, Change::Remove, State::Offline),
];

fn by_table(state: State, change: Change) -> Option<State> {
    let row = TABLE.iter().find(|(from, what, _)| (*from, *what) == (state, change));
    row.map(|(_, _, to)| *to)
}

fn device(registry: &Registry) -> DeviceId {
    registry.mode().device(2, 5).unwrap()
}

fn walk(registry: &Registry, changes: &[Change]) -> Result<State> {
    let id = device(registry);
    changes
        .iter()
        .try_fold(registry.state(id), |_, &change| registry.apply(id, change))
}

const UP: [Change; 2] = [Change::Attach, Change::Initialized];

#[test]
fn every_pair_of_state_and_change_is_as_the_table_says() {
    for state in State::ALL {
        for change in Change::ALL {
            assert_eq!(state.after(change), by_table(state, change), "{state:?} {change:?}");
        }
    }
}

#[test]
fn the_numbers_of_states_are_those_of_the_c_interface() {
    assert_eq!(State::ALL.map(|state| state as u8), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn the_full_mode_has_84_devices_in_7_groups_and_the_legacy_mode_72_in_6() {
    assert_eq!((Mode::Full.all().count(), Mode::Full.groups()), (84, 7));
    assert_eq!((Mode::Legacy.all().count(), Mode::Legacy.groups()), (72, 6));
    assert_eq!(Mode::from_groups(7), Some(Mode::Full));
    assert_eq!(Mode::from_groups(6), Some(Mode::Legacy));
    assert_eq!([0, 5, 8, u32::MAX].map(Mode::from_groups), [None; 4]);
}

#[test]
fn a_number_is_twelve_times_the_group_plus_the_position() {
    for id in Mode::Full.all() {
        assert_eq!(Mode::Full.device(id.group(), id.position()).unwrap(), id);
        assert_eq!(id.number(), id.group() * 12 + id.position());
    }
}

#[test]
fn the_seventh_group_exists_in_the_full_mode_only() {
    assert!(Mode::Full.device(6, 11).is_ok());
    assert!(matches!(
        Mode::Legacy.device(6, 0),
        Err(Error::NoSuchDevice {
            group: 6,
            groups: 6,
            ..
        })
    ));
    assert!(Mode::Full.device(7, 0).is_err() && Mode::Full.device(0, 12).is_err());
}

#[test]
fn all_devices_begin_offline() {
    let registry = Registry::new(Mode::Full);
    assert_eq!(registry.count(State::Offline), DEVICES);
    assert_eq!(registry.last_event(), 0);
}

#[test]
fn a_refused_change_changes_nothing_and_is_no_event() {
    let registry = Registry::new(Mode::Full);
    walk(&registry, &UP).unwrap();
    let before = registry.last_event();
    let error = registry.apply(device(&registry), Change::Unlock).unwrap_err();
    assert_eq!(error.to_string(), "device 2:5 is Ready, which does not allow Unlock");
    assert_eq!(
        (registry.state(device(&registry)), registry.last_event()),
        (State::Ready, before)
    );
}

#[test]
fn a_device_is_used_and_released() {
    let registry = Registry::new(Mode::Full);
    assert_eq!(
        walk(&registry, &[UP[0], UP[1], Change::Activate]).unwrap(),
        State::Active
    );
    assert_eq!(registry.count(State::Active), 1);
    assert_eq!(walk(&registry, &[Change::Deactivate]).unwrap(), State::Ready);
}

#[test]
fn a_broken_device_comes_back_through_initializing_only() {
    let registry = Registry::new(Mode::Full);
    walk(&registry, &[UP[0], UP[1], Change::Fail]).unwrap();
    assert!(walk(&registry, &[Change::Activate]).is_err());
    assert!(walk(&registry, &[Change::Initialized]).is_err());
    assert_eq!(
        walk(&registry, &[Change::Reset, Change::Initialized]).unwrap(),
        State::Ready
    );
}

#[test]
fn a_locked_device_cannot_be_used_before_it_is_unlocked() {
    let registry = Registry::new(Mode::Full);
    walk(&registry, &[UP[0], UP[1], Change::Activate, Change::Lock]).unwrap();
    assert!(walk(&registry, &[Change::Activate]).is_err());
    assert_eq!(
        walk(&registry, &[Change::Unlock, Change::Activate]).unwrap(),
        State::Active
    );
}

#[test]
fn a_device_can_be_pulled_in_every_state_but_offline() {
    for state in State::ALL {
        assert_eq!(state.after(Change::Remove).is_some(), state != State::Offline);
    }
}

#[test]
fn typed_devices_make_the_same_steps() {
    let registry = Registry::new(Mode::Full);
    let id = device(&registry);
    let active = Device::claim(&registry, id)
        .unwrap()
        .attach()
        .unwrap()
        .initialized()
        .unwrap()
        .activate()
        .unwrap();
    assert_eq!((active.id(), registry.state(id)), (id, State::Active));
    let ready = active.fail().unwrap().reset().unwrap().initialized().unwrap();
    let _offline: Device<'_, Offline> = ready.remove().unwrap();
    assert_eq!(registry.state(id), State::Offline);
}

#[test]
fn a_typed_device_that_was_pulled_meanwhile_is_refused_its_next_step() {
    let registry = Registry::new(Mode::Full);
    let id = device(&registry);
    let ready = Device::claim(&registry, id)
        .unwrap()
        .attach()
        .unwrap()
        .initialized()
        .unwrap();
    registry.apply(id, Change::Remove).unwrap();
    assert!(matches!(
        ready.activate(),
        Err(Error::BadTransition {
            state: State::Offline,
            ..
        })
    ));
    assert!(Device::claim(&registry, id).is_ok());
}

#[test]
fn events_are_numbered_without_gaps_and_the_oldest_go_first() {
    let registry = Registry::new(Mode::Full);
    for up in (0..EVENTS_KEPT + 10).map(|number| number % 2 == 0) {
        registry.record(Happening::Link { up });
    }
    let events = registry.events_after(0);
    assert_eq!((events.len(), events[0].number), (EVENTS_KEPT, 11));
    assert!(events.windows(2).all(|pair| pair[1].number == pair[0].number + 1));
    assert_eq!(registry.events_after(registry.last_event() - 1).len(), 1);
}

proptest! {
    #[test]
    fn any_sequence_of_changes_on_all_devices_follows_the_table(
        steps in prop::collection::vec((0..84_usize, 0..9_usize), 1..300)
    ) {
        let registry = Registry::new(Mode::Full);
        let ids: Vec<DeviceId> = Mode::Full.all().collect();
        let mut model = [State::Offline; DEVICES];
        let mut changes = 0;
        for (index, change) in steps {
            // Few devices, so that they get far.
            let index = index % 5;
            let change = Change::ALL[change];
            let expected = by_table(model[index], change);
            let got = registry.apply(ids[index], change);
            prop_assert_eq!(got.ok(), expected);
            if let Some(state) = expected {
                model[index] = state;
                changes += 1;
            }
        }
        for (id, state) in ids.iter().zip(model) {
            prop_assert_eq!(registry.state(*id), state);
        }
        prop_assert_eq!(registry.last_event(), changes);
    }

    #[test]
    fn racing_changes_end_as_some_order_of_them_would(seed: u64) {
        let registry = Registry::new(Mode::Full);
        let id = device(&registry);
        walk(&registry, &UP).unwrap();
        let wins = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..3)
                .map(|racer| {
                    let registry = &registry;
                    let change = if (seed >> racer) & 1 == 0 { Change::Activate } else { Change::Lock };
                    scope.spawn(move || registry.apply(id, change).is_ok())
                })
                .collect();
            racers.into_iter().filter(|_| true).map(|racer| racer.join().unwrap()).filter(|&won| won).count()
        });
        // Ready → active → locked at most; locked allows neither.
        prop_assert!((1..=2).contains(&wins));
        prop_assert_eq!(registry.last_event(), 2 + wins as u64);
    }
}
