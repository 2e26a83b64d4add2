// SPDX-License-Identifier: MIT OR Apache-2.0

//! The whole driver against a simulator in a thread: shared memory, eventfds, real time.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dsmil::driver::{Stopped, Telemetry};
use dsmil::power::Hook;
use dsmil::registry::{Change, Happening, Mode, State};
use dsmil::smi::{RegionAddress, Request, Retry, Timeout, Token, TokenPosition};
use dsmil::thermal::Level;
use dsmil::transport::Sim;
use dsmil::{Config, Driver, Error, Service};
use dsmil_sim::firmware::Character;
use dsmil_sim::{Fault, Settings, Simulator};
use tempfile::TempDir;

/// Longer than anything here takes; reached only when something fails.
const LONG: Duration = Duration::from_secs(20);

struct Scene {
    service: Service,
    simulator: Simulator,
    config: Config,
    _directory: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::with(Config::default(), Character::default())
    }

    fn with(config: Config, character: Character) -> Self {
        let directory = TempDir::new().unwrap();
        let settings = Settings {
            character,
            ..Settings::at(directory.path().join("sim"))
        };
        let simulator = Simulator::start(settings).unwrap();
        Self {
            service: attach(&simulator, config),
            simulator,
            config,
            _directory: directory,
        }
    }

    fn driver(&self) -> &Driver {
        self.service.driver()
    }

    fn run(&self, request: Request) -> Result<u32, Error> {
        let ticket = self.service.submit(request, Timeout::MIN)?;
        ticket.wait(LONG).expect("every operation ends")
    }

    fn inject(&self, fault: Fault) {
        self.simulator.inject(fault).unwrap();
    }

    fn telemetry(&self) -> Telemetry {
        self.driver().telemetry()
    }
}

fn attach(simulator: &Simulator, config: Config) -> Service {
    let transport = Sim::connect(simulator.socket()).unwrap();
    Service::start(Driver::attach(Box::new(transport), config).unwrap()).unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn read() -> Request {
    Request::Read(Token::new(Mode::Full, 0, TokenPosition::Power).unwrap())
}

#[test]
fn all_devices_are_found_and_ready() {
    let scene = Scene::new();
    assert_eq!(scene.driver().registry().count(State::Ready), 84);
    assert_eq!(scene.telemetry().chunks_mapped, 85);
}

#[test]
fn a_legacy_firmware_has_72_devices_and_no_seventh_group() {
    let character = Character {
        mode: Mode::Legacy,
        ..Character::default()
    };
    let scene = Scene::with(Config::default(), character);
    assert_eq!((scene.driver().mode(), scene.telemetry().present), (Mode::Legacy, 72));
    assert_eq!(scene.run(Request::Verify).unwrap(), 24);
}

#[test]
fn few_chunks_suffice_for_all_devices() {
    let config = Config {
        cap: 2,
        ..Config::default()
    };
    let scene = Scene::with(config, Character::default());
    for device in Mode::Full.all() {
        assert_eq!(scene.driver().activate(device).unwrap().state, State::Active);
    }
    let telemetry = scene.telemetry();
    assert_eq!((telemetry.active, telemetry.chunks_mapped), (84, 2));
    assert!(telemetry.chunk_evictions > 84);
}

#[test]
fn tokens_are_read_written_unlocked_and_verified() {
    let scene = Scene::new();
    let token = Token::new(Mode::Full, 6, TokenPosition::Sensors).unwrap();
    let before = scene.run(Request::Read(token)).unwrap();
    assert_eq!(scene.run(Request::Write(token, !before)), Err(Error::Locked));
    scene
        .run(Request::Unlock(RegionAddress::of_device(token.device)))
        .unwrap();
    scene.run(Request::Write(token, !before)).unwrap();
    assert_eq!(scene.run(Request::Read(token)).unwrap(), !before);
    assert_eq!(scene.run(Request::Verify).unwrap(), 28);
}

#[test]
fn many_threads_share_one_mailbox() {
    let scene = Scene::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let expected = scene.run(read()).unwrap();
                for _ in 0..50 {
                    assert_eq!(scene.run(read()).unwrap(), expected);
                }
            });
        }
    });
    assert_eq!(scene.telemetry().smi.failed, 0);
}

#[test]
fn an_operation_that_hangs_is_an_event_and_is_tried_again() {
    let scene = Scene::new();
    scene.inject(Fault::Hang);
    scene.run(read()).unwrap();
    assert_eq!(scene.telemetry().smi.hangs, 1);
    let events = scene.driver().registry().events_after(0);
    assert!(events.iter().any(|event| matches!(event.what, Happening::Hang { .. })));
}

#[test]
fn the_emergency_stop_is_safe_at_once_even_while_an_operation_hangs() {
    let config = Config {
        retry: Retry { attempts: 1 },
        ..Config::default()
    };
    let scene = Scene::with(config, Character::default());
    scene.inject(Fault::HangHard);
    let hanging = scene.service.submit(read(), Timeout::MAX).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let start = Instant::now();
    let stopped = scene.driver().stop("test");
    assert!(
        stopped.first && stopped.acknowledged,
        "{stopped:?} after {:?}",
        start.elapsed()
    );
    assert_eq!(hanging.wait(Duration::ZERO), Some(Err(Error::Stopped)));
    assert_eq!(scene.run(read()), Err(Error::Stopped));
    assert!(!scene.driver().stop("again").first);
    eventually("releasing", || scene.driver().release("test").is_ok());
    scene.run(read()).unwrap();
}

#[test]
fn a_dead_firmware_cannot_keep_the_emergency_stop_from_taking_effect() {
    let scene = Scene::new();
    scene.inject(Fault::Dead { millis: 60_000 });
    let hanging = scene.service.submit(read(), Timeout::MAX).unwrap();
    let Stopped { acknowledged, .. } = scene.driver().stop("test");
    assert!(!acknowledged);
    assert_eq!(hanging.wait(Duration::ZERO), Some(Err(Error::Stopped)));
    assert_eq!(scene.driver().release("test"), Err(Error::FirmwareHung));
    assert!(scene.driver().is_stopped());
    scene.inject(Fault::Clear);
    eventually("releasing", || scene.driver().release("test").is_ok());
    scene.run(read()).unwrap();
}

#[test]
fn a_stop_and_a_release_that_race_end_with_gate_and_firmware_agreeing() {
    let scene = Scene::new();
    let control = scene.driver().region().chunk(0).unwrap();
    for _ in 0..100 {
        scene.driver().stop("first");
        let released = std::thread::scope(|scope| {
            let release = scope.spawn(|| scene.driver().release("racing"));
            scene.driver().stop("second");
            release.join().unwrap()
        });
        let stopped = scene.driver().is_stopped();
        let told: u32 = control.read(dsmil::layout::STOP).unwrap();
        assert_eq!(
            told % 2 == 1,
            stopped,
            "the firmware was told something else than the gate says"
        );
        assert!(stopped || released.is_ok(), "{released:?}, and yet it is released");
    }
}

#[test]
fn an_emergency_stop_outlives_the_driver_that_pulled_it() {
    let Scene {
        service,
        simulator,
        config,
        _directory,
    } = Scene::new();
    service.driver().stop("test");
    drop(service);
    let service = attach(&simulator, config);
    assert!(service.driver().is_stopped());
    assert!(matches!(service.submit(read(), Timeout::MIN), Err(Error::Stopped)));
    eventually("releasing", || service.driver().release("test").is_ok());
    service
        .submit(read(), Timeout::MIN)
        .unwrap()
        .wait(LONG)
        .unwrap()
        .unwrap();
}

#[test]
fn a_driver_that_comes_after_one_that_died_in_mid_operation_works() {
    let Scene {
        service,
        simulator,
        config,
        _directory,
    } = Scene::new();
    simulator.inject(Fault::Hang).unwrap();
    let orphan = service.submit(read(), Timeout::MAX).unwrap();
    drop(service);
    assert_eq!(orphan.wait(LONG), Some(Err(Error::Gone)));
    let service = attach(&simulator, config);
    service
        .submit(read(), Timeout::MIN)
        .unwrap()
        .wait(LONG)
        .unwrap()
        .unwrap();
}

#[test]
fn heat_refuses_operations_and_cooling_allows_them_again() {
    let scene = Scene::new();
    scene.inject(Fault::Heat {
        sensor: 3,
        to: 95_000,
        per_second: 0,
    });
    eventually("blocking", || matches!(scene.run(read()), Err(Error::Hot(_))));
    assert_eq!(scene.telemetry().level, Level::Critical);
    scene.inject(Fault::Clear);
    eventually("cooling", || scene.run(read()).is_ok());
}

#[test]
fn an_operation_under_way_is_failed_when_it_gets_too_hot() {
    let scene = Scene::new();
    scene.inject(Fault::HangHard);
    let ticket = scene.service.submit(read(), Timeout::MAX).unwrap();
    scene.inject(Fault::Heat {
        sensor: 0,
        to: 95_000,
        per_second: 0,
    });
    assert!(matches!(ticket.wait(LONG), Some(Err(Error::Hot(_)))));
}

#[test]
fn an_emergency_temperature_pulls_the_stop_which_cooling_does_not_release() {
    let scene = Scene::new();
    scene.inject(Fault::Heat {
        sensor: 7,
        to: 120_000,
        per_second: 0,
    });
    eventually("the stop", || scene.driver().is_stopped());
    scene.inject(Fault::Clear);
    eventually("cooling", || scene.telemetry().level == Level::Normal);
    assert_eq!(scene.run(read()), Err(Error::Stopped));
    eventually("releasing", || scene.driver().release("test").is_ok());
    scene.run(read()).unwrap();
}

#[test]
fn a_heat_ramp_slows_operations_down_before_it_blocks_them() {
    let scene = Scene::new();
    scene.inject(Fault::Heat {
        sensor: 0,
        to: 80_000,
        per_second: 0,
    });
    eventually("warming", || scene.telemetry().level == Level::Warm);
    let start = Instant::now();
    for _ in 0..5 {
        scene.run(read()).unwrap();
    }
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
}

#[test]
fn a_stuck_sensor_blocks_operations() {
    let scene = Scene::new();
    scene.inject(Fault::StuckSensor { sensor: 2 });
    eventually("distrust", || matches!(scene.run(read()), Err(Error::HeatUnknown)));
    assert!(!scene.driver().sensors()[2].trusted);
}

#[test]
fn devices_are_pulled_and_plugged_in_while_the_driver_runs() {
    let scene = Scene::new();
    let device = Mode::Full.device(3, 3).unwrap();
    scene.driver().activate(device).unwrap();
    scene.inject(Fault::Unplug { device: device.index() });
    eventually("removal", || scene.driver().registry().state(device) == State::Offline);
    assert!(matches!(
        scene.driver().activate(device),
        Err(Error::BadTransition {
            change: Change::Activate,
            ..
        })
    ));
    scene.inject(Fault::Plug { device: device.index() });
    eventually("return", || scene.driver().registry().state(device) == State::Ready);
    scene.driver().activate(device).unwrap();
}

#[test]
fn a_simulator_that_ends_in_mid_operation_is_a_device_that_is_gone() {
    let Scene {
        service,
        simulator,
        _directory,
        ..
    } = Scene::new();
    simulator.inject(Fault::HangHard).unwrap();
    let ticket = service.submit(read(), Timeout::MAX).unwrap();
    drop(simulator);
    assert_eq!(ticket.wait(LONG), Some(Err(Error::Gone)));
    assert!(matches!(service.submit(read(), Timeout::MIN), Err(Error::Gone)));
    assert!(!service.driver().is_linked());
    assert_eq!(service.driver().registry().count(State::Offline), 84);
}

#[test]
fn with_smi_switched_off_every_operation_is_refused() {
    let config = Config {
        smi: false,
        ..Config::default()
    };
    let scene = Scene::with(config, Character::default());
    assert_eq!(scene.run(read()), Err(Error::SmiDisabled));
    assert_eq!(scene.telemetry().present, 84);
}

#[test]
fn a_suspended_device_refuses_operations_until_it_is_resumed() {
    struct Part(Arc<AtomicBool>);
    impl Hook for Part {
        fn name(&self) -> &'static str {
            "part"
        }
        fn suspend(&mut self) -> Result<(), String> {
            self.0.store(true, Ordering::Release);
            Ok(())
        }
        fn resume(&mut self) {
            self.0.store(false, Ordering::Release);
        }
    }
    let scene = Scene::new();
    let suspended = Arc::new(AtomicBool::new(false));
    scene.driver().add_hook(Part(Arc::clone(&suspended)));
    scene.driver().suspend().unwrap();
    assert!(suspended.load(Ordering::Acquire));
    assert_eq!(scene.run(read()), Err(Error::Suspended));
    scene.driver().resume().unwrap();
    assert!(!suspended.load(Ordering::Acquire));
    scene.run(read()).unwrap();
}

#[test]
fn suspending_is_refused_while_an_operation_is_under_way() {
    let scene = Scene::new();
    scene.inject(Fault::Late { millis: 100 });
    let ticket = scene.service.submit(read(), Timeout::MAX).unwrap();
    assert!(matches!(scene.driver().suspend(), Err(Error::PowerRefused { .. })));
    ticket.wait(LONG).unwrap().unwrap();
    eventually("suspending", || scene.driver().suspend().is_ok());
}

#[test]
fn memory_without_a_firmware_is_not_taken_for_a_device() {
    let directory = TempDir::new().unwrap();
    let settings = Settings::at(directory.path().join("sim"));
    let simulator = Simulator::start(settings.clone()).unwrap();
    let transport = Sim::connect(simulator.socket()).unwrap();
    let region = dsmil::memory::Region::new(dsmil::transport::Transport::source(&transport).unwrap(), 1);
    let control = region.chunk(0).unwrap();
    for (offset, value, expected) in [
        (dsmil::layout::GROUPS, 9_u32, "9 groups"),
        (dsmil::layout::VERSION, 2, "version 2"),
        (dsmil::layout::MAGIC, 5, "no firmware"),
    ] {
        control.write(offset, value).unwrap();
        let transport = Sim::connect(simulator.socket()).unwrap();
        let error = Driver::attach(Box::new(transport), Config::default()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
