// SPDX-License-Identifier: MIT OR Apache-2.0

//! Levels, hysteresis, and sensors that lie.

use proptest::prelude::*;

use super::*;

const STEP: Duration = Duration::from_millis(100);

struct Scene {
    monitor: Monitor,
    now: Duration,
    samples: u32,
}

impl Scene {
    fn new() -> Self {
        Self {
            monitor: Monitor::new(Thresholds::default()).unwrap(),
            now: Duration::ZERO,
            samples: 0,
        }
    }

    fn show(&mut self, temperatures: [i32; SENSORS]) -> Level {
        self.now += STEP;
        self.samples += 1;
        let samples = self.samples;
        let readings = temperatures.map(|temperature| Reading { temperature, samples });
        self.monitor.update(&readings, self.now);
        self.monitor.level()
    }

    fn all(&mut self, temperature: i32) -> Level {
        self.show([temperature; SENSORS])
    }
}

#[test]
fn before_the_first_reading_it_counts_as_critical() {
    let mut scene = Scene::new();
    assert_eq!(scene.monitor.level(), Level::Critical);
    assert_eq!(scene.all(20_000), Level::Normal);
}

#[test]
fn levels_are_entered_at_their_thresholds() {
    for (temperature, level) in [
        (74_999, Level::Normal),
        (75_000, Level::Warm),
        (89_999, Level::Warm),
        (90_000, Level::Critical),
        (99_999, Level::Critical),
        (100_000, Level::Emergency),
    ] {
        assert_eq!(Scene::new().all(temperature), level, "{temperature}");
    }
}

#[test]
fn a_level_is_left_a_hysteresis_below_its_threshold() {
    let mut scene = Scene::new();
    assert_eq!(scene.all(91_000), Level::Critical);
    assert_eq!(scene.all(87_000), Level::Critical);
    assert_eq!(scene.all(86_999), Level::Warm);
    assert_eq!(scene.all(89_999), Level::Warm);
    assert_eq!(scene.all(72_000), Level::Warm);
    assert_eq!(scene.all(71_999), Level::Normal);
}

#[test]
fn the_hottest_sensor_decides() {
    let mut scene = Scene::new();
    let mut temperatures = [40_000; SENSORS];
    temperatures[5] = 95_000;
    assert_eq!(scene.show(temperatures), Level::Critical);
    assert_eq!(scene.monitor.hottest(), Some(95_000));
}

#[test]
fn a_sensor_that_takes_no_samples_makes_it_critical() {
    let mut scene = Scene::new();
    scene.all(40_000);
    let mut readings = [Reading {
        temperature: 40_000,
        samples: scene.samples,
    }; SENSORS];
    let mut level = Level::Normal;
    for step in 1..=10 {
        for reading in &mut readings[1..] {
            reading.samples += 1;
        }
        scene.monitor.update(&readings, scene.now + STEP * step);
        level = scene.monitor.level();
        assert_eq!(level == Level::Critical, step == 10, "after {step} periods");
    }
    assert_eq!(level, Level::Critical);
    assert!(!scene.monitor.sensors()[0].trusted && scene.monitor.sensors()[1].trusted);
}

#[test]
fn a_temperature_that_cannot_be_is_not_believed() {
    for absurd in [i32::MIN, -40_001, 150_001, i32::MAX] {
        let mut scene = Scene::new();
        let mut temperatures = [40_000; SENSORS];
        temperatures[0] = absurd;
        assert_eq!(scene.show(temperatures), Level::Critical, "{absurd}");
        assert_eq!(scene.monitor.hottest(), Some(40_000));
    }
}

#[test]
fn thresholds_that_contradict_each_other_are_refused() {
    let good = Thresholds::default();
    for bad in [
        Thresholds { hysteresis: 0, ..good },
        Thresholds { hysteresis: -1, ..good },
        Thresholds { warm: 90_000, ..good },
        Thresholds {
            critical: 98_000,
            ..good
        },
        Thresholds {
            emergency: i32::MAX,
            ..good
        },
        Thresholds { warm: i32::MIN, ..good },
    ] {
        assert!(Monitor::new(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn a_temperature_that_trembles_by_less_than_the_hysteresis_changes_the_level_at_most_once(
        centre in 60_000..110_000, tremor in prop::collection::vec(-1_499..=1_499, 2..100)
    ) {
        let mut scene = Scene::new();
        let levels: Vec<Level> = tremor.iter().map(|offset| scene.all(centre + offset)).collect();
        let changes = levels.windows(2).filter(|pair| pair[0] != pair[1]).count();
        prop_assert!(changes <= 1, "{levels:?}");
    }

    #[test]
    fn the_level_never_understates_the_temperature(path in prop::collection::vec(20_000..120_000, 1..100)) {
        let thresholds = Thresholds::default();
        let mut scene = Scene::new();
        for temperature in path {
            let level = scene.all(temperature);
            prop_assert!(temperature < thresholds.warm || level >= Level::Warm);
            prop_assert!(temperature < thresholds.critical || level >= Level::Critical);
            prop_assert!(temperature < thresholds.emergency || level == Level::Emergency);
            prop_assert!(temperature >= thresholds.warm - thresholds.hysteresis || level == Level::Normal);
        }
    }
}
