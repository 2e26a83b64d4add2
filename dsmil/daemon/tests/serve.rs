// SPDX-License-Identifier: MIT OR Apache-2.0

//! `dsmild` as a process, with a simulator: what it serves, whom it refuses, and what it survives.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dsmil_client::protocol::{Access, Device, Request, Status, Stopped, Text, Thermal, Word};
use dsmil_client::{Client, Failure};
use dsmil_sim::{Fault, Settings, Simulator};
use nix::libc;
use serde_json::Value;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(30);

struct Scene {
    server: Child,
    simulator: Option<Simulator>,
    directory: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::with("", &[])
    }

    fn with(config: &str, environment: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("config"), config).unwrap();
        let simulator = Simulator::start(Settings::at(directory.path().join("sim"))).unwrap();
        let server = start(&directory, environment);
        let scene = Self {
            server,
            simulator: Some(simulator),
            directory,
        };
        eventually("serving", || Client::connect(&scene.socket()).is_ok());
        scene
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap()
    }

    fn raw(&self) -> UnixStream {
        let socket = UnixStream::connect(self.socket()).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    }

    fn inject(&self, fault: Fault) {
        self.simulator.as_ref().unwrap().inject(fault).unwrap();
    }

    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("audit")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn is_alive(&mut self) -> bool {
        self.server.try_wait().unwrap().is_none()
    }

    fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _dead_already = self.server.kill();
        let _status = self.server.wait();
    }
}

fn start(directory: &TempDir, environment: &[(&str, &str)]) -> Child {
    let path = |name: &str| directory.path().join(name);
    // systemd names the process that its watchdog watches.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "export WATCHDOG_PID=$$; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_dsmild"),
    ]);
    command.arg("--device").arg(format!("sim:{}", path("sim").display()));
    command
        .arg("--socket")
        .arg(path("socket"))
        .arg("--audit-log")
        .arg(path("audit"));
    command.arg("--config").arg(path("config")).args(["--log", "error"]);
    command
        .env_remove("NOTIFY_SOCKET")
        .envs(environment.iter().copied())
        .spawn()
        .unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn read() -> Request {
    Request::ReadToken {
        group: 2,
        token: dsmil::smi::TokenPosition::Power,
    }
}

fn write(value: u32) -> Request {
    Request::WriteToken {
        group: 2,
        token: dsmil::smi::TokenPosition::Power,
        value,
    }
}

fn unlock() -> Request {
    Request::Unlock {
        address: 0x5200_0000 + (1 + 24) * (4 << 20),
    }
}

/// The errno of a refusal.
fn refused<T>(result: Result<T, Failure>) -> i32 {
    match result {
        Err(Failure::Refused { errno, .. }) => errno,
        Err(other) => panic!("no refusal but {other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[test]
fn every_request_is_answered() {
    let scene = Scene::new();
    let mut client = scene.client();
    assert_eq!(client.greeting().access, Access::Operate);
    assert_eq!(client.call::<Vec<Device>>(&Request::List {}).unwrap().len(), 84);
    let place = (6, 11);
    let (group, position) = place;
    let device: Device = client.call(&Request::Activate { group, position }).unwrap();
    assert_eq!((device.number, device.state), (83, dsmil::registry::State::Active));
    assert_eq!(
        client.call::<Device>(&Request::Show { group, position }).unwrap(),
        device
    );
    let device: Device = client.call(&Request::Deactivate { group, position }).unwrap();
    assert_eq!(device.state, dsmil::registry::State::Ready);
    assert_eq!(refused(client.call::<Value>(&write(1))), libc::EACCES);
    client.call::<Value>(&unlock()).unwrap();
    client.call::<Value>(&write(4711)).unwrap();
    assert_eq!(client.call::<Word>(&read()).unwrap().value, 4711);
    assert_eq!(client.call::<Word>(&Request::Verify {}).unwrap().value, 28);
    let thermal: Thermal = client.call(&Request::Thermal {}).unwrap();
    assert!(thermal.sensors.iter().all(|sensor| sensor.trusted));
    let stop = Request::Stop { reason: "test".into() };
    assert!(client.call::<Stopped>(&stop).unwrap().first);
    assert_eq!(refused(client.call::<Value>(&read())), libc::ECANCELED);
    client.call::<Value>(&Request::Resume {}).unwrap();
    client.call::<Value>(&Request::Suspend {}).unwrap();
    assert_eq!(refused(client.call::<Value>(&read())), libc::ESHUTDOWN);
    client.call::<Value>(&Request::Wake {}).unwrap();
    client.call::<Value>(&read()).unwrap();
    let events: Vec<Value> = client.call(&Request::Events { after: 0 }).unwrap();
    assert!(events.len() > 168, "{} events", events.len());
    let Text { text } = client.call(&Request::Metrics {}).unwrap();
    assert!(
        text.contains("\ndsmil_up 1\n") && text.contains("dsmil_temperature_celsius{sensor=\"7\"}"),
        "{text}"
    );
    let status: Status = client.call(&Request::Status {}).unwrap();
    assert_eq!(status.clients, 1);
}

#[test]
fn what_changes_the_device_is_audited_before_and_after() {
    let scene = Scene::new();
    let mut client = scene.client();
    client.call::<Value>(&read()).unwrap();
    client.call::<Value>(&unlock()).unwrap();
    client.call::<Value>(&write(5)).unwrap();
    let audit = scene.audit();
    assert_eq!(audit.len(), 4, "{audit:?}");
    assert_eq!(audit[2]["request"]["do"], "write-token");
    assert_eq!(audit[2]["request"]["value"], 5);
    assert_eq!(audit[2]["peer"]["pid"], std::process::id());
    assert_eq!(audit[2]["entry"], audit[3]["entry"]);
    assert!(audit[3]["reply"]["ok"].is_null() && audit[3].get("reply").is_some());
}

#[test]
fn who_is_in_no_group_is_refused() {
    let scene = Scene::new();
    if !nix::unistd::geteuid().is_root() {
        return; // Only root can become somebody else; the rule itself is tested in `peer`.
    }
    // The temporary directory is its owner's alone.
    std::fs::set_permissions(
        scene.directory.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let socket = scene.socket();
    let stranger = std::thread::spawn(move || {
        // SAFETY: these calls, made directly, change the identity of this thread alone, and take no pointers that are used.
        let changed = unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) };
        assert_eq!(changed, 0);
        // SAFETY: as above.
        let changed = unsafe { libc::syscall(libc::SYS_setresgid, 65534, 65534, 65534) };
        assert_eq!(changed, 0);
        // SAFETY: as above.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(changed, 0);
        refused(Client::connect(&socket))
    });
    assert_eq!(stranger.join().unwrap(), libc::EACCES);
}

#[test]
fn what_is_no_request_is_refused_and_the_next_request_is_answered() {
    let scene = Scene::new();
    let mut socket = scene.raw();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    for nonsense in [
        "hello",
        "{}",
        "{\"do\":\"read-token\"}",
        "{\"do\":\"verify\",\"more\":1}",
        "\u{0}",
        "[[[[",
    ] {
        writeln!(socket, "{nonsense}").unwrap();
        line.clear();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("{\"error\":{\"errno\":22"), "{nonsense}: {line}");
    }
    writeln!(socket, "{{\"do\":\"verify\"}}").unwrap();
    line.clear();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"ok\":{\"value\":28}}\n");
}

#[test]
fn a_line_without_end_is_cut_off() {
    let mut scene = Scene::new();
    let mut socket = scene.raw();
    let piece = [b'x'; 4096];
    // Fails as soon as the server has had enough.
    while socket.write_all(&piece).is_ok() {}
    assert!(scene.is_alive());
    scene.client().call::<Value>(&read()).unwrap();
}

#[test]
fn clients_that_say_nothing_or_half_of_something_hold_nobody_up() {
    let scene = Scene::new();
    let silent = scene.raw();
    let mut half = scene.raw();
    half.write_all(b"{\"do\":\"ver").unwrap();
    let start = Instant::now();
    scene.client().call::<Value>(&read()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    drop((silent, half));
}

#[test]
fn a_client_that_floods_does_not_starve_others() {
    let scene = Scene::with("requests-per-second = 200", &[]);
    let mut flood = scene.raw();
    let mut answers = flood.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; 65536];
        while answers.read(&mut bytes).is_ok_and(|length| length > 0) {}
    });
    flood.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let requests = "{\"do\":\"verify\"}\n".repeat(2000);
    // Stops when the server's buffers are full: it reads no faster than it answers.
    let _stopped = flood.write_all(requests.as_bytes());
    let mut client = scene.client();
    let start = Instant::now();
    for _ in 0..20 {
        client.call::<Value>(&read()).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    flood.shutdown(std::net::Shutdown::Both).unwrap();
    reader.join().unwrap();
}

#[test]
fn too_many_clients_of_one_user_are_refused_until_one_leaves() {
    let scene = Scene::with("max-clients-per-user = 3", &[]);
    let mut clients: Vec<Client> = Vec::new();
    eventually("taking all seats", || {
        clients.extend(Client::connect(&scene.socket()));
        clients.len() == 3
    });
    assert_eq!(refused(Client::connect(&scene.socket())), libc::EBUSY);
    clients.pop();
    eventually("a free seat", || Client::connect(&scene.socket()).is_ok());
}

#[test]
fn watchers_are_told_what_happens() {
    let scene = Scene::new();
    let (mut watcher, mut client) = (scene.client(), scene.client());
    let past: Vec<Value> = client.call(&Request::Events { after: 0 }).unwrap();
    let newest = past.last().unwrap()["number"].as_u64().unwrap();
    let told = std::thread::spawn(move || {
        let mut event: Value = watcher.call(&Request::Watch { after: newest }).unwrap();
        let mut seen = vec![];
        while event["event"] != "stop" {
            seen.push(event);
            event = watcher.follow().unwrap();
        }
        seen
    });
    client
        .call::<Value>(&Request::Activate { group: 1, position: 1 })
        .unwrap();
    scene.inject(Fault::Hang);
    client.call::<Value>(&read()).unwrap();
    scene.inject(Fault::Unplug { device: 50 });
    eventually("removal", || {
        let show = Request::Show { group: 4, position: 2 };
        client.call::<Device>(&show).unwrap().state == dsmil::registry::State::Offline
    });
    client.call::<Value>(&Request::Stop { reason: "end".into() }).unwrap();
    let names: Vec<String> = told
        .join()
        .unwrap()
        .iter()
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["device", "hang", "device"]);
}

#[test]
fn a_simulator_that_crashes_is_found_again_when_it_returns() {
    let mut scene = Scene::new();
    let mut client = scene.client();
    for _ in 0..3 {
        scene.inject(Fault::HangHard);
        let socket = scene.socket();
        let hanging = std::thread::spawn(move || refused(Client::connect(&socket).unwrap().call::<Value>(&read())));
        std::thread::sleep(Duration::from_millis(20));
        scene.simulator = None;
        assert_eq!(hanging.join().unwrap(), libc::ENODEV);
        assert_eq!(refused(client.call::<Value>(&read())), libc::ENODEV);
        scene.simulator = Some(Simulator::start(Settings::at(scene.directory.path().join("sim"))).unwrap());
        eventually("return", || client.call::<Value>(&read()).is_ok());
    }
    assert!(scene.is_alive());
}

#[test]
fn a_server_that_was_killed_in_mid_operation_is_replaced() {
    let mut scene = Scene::new();
    scene.client().call::<Value>(&unlock()).unwrap();
    scene.client().call::<Value>(&write(99)).unwrap();
    for _ in 0..3 {
        scene.inject(Fault::HangHard);
        let mut client = scene.client();
        let hanging = std::thread::spawn(move || client.call::<Value>(&Request::Verify {}).is_err());
        std::thread::sleep(Duration::from_millis(20));
        scene.kill();
        assert!(hanging.join().unwrap());
        scene.server = start(&scene.directory, &[]);
        eventually("serving", || Client::connect(&scene.socket()).is_ok());
        assert_eq!(scene.client().call::<Word>(&read()).unwrap().value, 99);
    }
}

#[test]
fn two_servers_do_not_serve_at_one_socket() {
    let mut scene = Scene::new();
    let mut second = start(&scene.directory, &[]);
    assert!(!second.wait().unwrap().success());
    assert!(scene.is_alive());
    scene.client().call::<Value>(&read()).unwrap();
}

#[test]
fn systemd_is_told_when_it_is_ready_and_that_it_lives() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    notify.set_read_timeout(Some(LONG)).unwrap();
    let _scene = Scene::with(
        "",
        &[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")],
    );
    let mut said = Vec::new();
    while said.len() < 3 {
        let mut bytes = [0; 256];
        let length = notify.recv(&mut bytes).unwrap();
        said.push(String::from_utf8_lossy(&bytes[..length]).trim().to_owned());
    }
    said.sort();
    assert_eq!(said, ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]);
}

#[test]
fn the_process_has_given_up_what_it_does_not_need() {
    let scene = Scene::new();
    let status = std::fs::read_to_string(format!("/proc/{}/status", scene.server.id())).unwrap();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2", "no filter of system calls");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", scene.server.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        core.split_ascii_whitespace().rev().take(3).collect::<Vec<_>>(),
        ["bytes", "0", "0"]
    );
}

#[test]
fn wrong_settings_end_the_start_with_a_sentence() {
    for (config, expected) in [
        ("timeout-ms = 300", "timeout of 300 ms"),
        ("attempts = 0", "between 1 and 10"),
        ("unknown = 1", "unknown field"),
        (
            "[thermal]\nwarm = 90000\ncritical = 80000\nemergency = 100000\nhysteresis = 1000",
            "must rise",
        ),
    ] {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("config"), config).unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_dsmild"));
        command
            .args(["--device", "sim:/no/such"])
            .arg("--config")
            .arg(path("config"));
        command.arg("--socket").arg(path("socket")).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{config}: {said}");
    }
}
