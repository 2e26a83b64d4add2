// SPDX-License-Identifier: MIT OR Apache-2.0

//! `dsmilctl` against a `dsmild` with a simulator, and on what was built.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use dsmil_sim::{Fault, Settings, Simulator};
use serde_json::Value;
use tempfile::TempDir;

struct Scene {
    server: Child,
    simulator: Simulator,
    directory: TempDir,
}

/// Where Cargo puts programs.
fn built() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_dsmilctl")).parent().unwrap().to_owned()
}

impl Scene {
    fn new() -> Self {
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "dsmild"])
            .status()
            .unwrap();
        assert!(status.success());
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let simulator = Simulator::start(Settings::at(path("sim"))).unwrap();
        let mut server = Command::new(built().join("dsmild"));
        server
            .arg("--device")
            .arg(format!("sim:{}", path("sim").display()))
            .args(["--log", "error"]);
        server
            .arg("--socket")
            .arg(path("socket"))
            .arg("--audit-log")
            .arg(path("audit"));
        let server = server.spawn().unwrap();
        let scene = Self {
            server,
            simulator,
            directory,
        };
        let start = Instant::now();
        while !scene.run(&["status"]).status.success() {
            assert!(start.elapsed() < Duration::from_secs(30), "dsmild does not serve");
        }
        scene
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dsmilctl"));
        command
            .arg("--socket")
            .arg(self.directory.path().join("socket"))
            .args(arguments);
        command.output().unwrap()
    }

    /// What it prints for people; it must succeed.
    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it prints for programs, one document a line, and its exit code.
    fn json(&self, arguments: &[&str]) -> (Vec<Value>, i32) {
        let output = self.run(&[&["--json"], arguments].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let documents = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (documents, output.status.code().unwrap())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _dead_already = self.server.kill();
        let _status = self.server.wait();
    }
}

#[test]
fn every_command_answers_people_and_programs() {
    let scene = Scene::new();
    assert_eq!(scene.text(&["list"]).lines().count(), 84);
    assert!(scene.text(&["show", "6", "11"]).contains("6:11 ready"));
    for (arguments, expected) in [
        (&["activate", "6", "11"][..], "active"),
        (&["deactivate", "6", "11"], "ready"),
        (&["unlock", "0x52400000"], "done"),
        (&["write-token", "0", "power", "0x10"], "done"),
        (&["read-token", "0", "power"], "0x00000010"),
        (&["verify"], "28 tokens are good"),
        (&["thermal"], "Normal"),
        (&["estop", "a test"], "stopped"),
        (&["status"], "stopped"),
        (&["resume"], "done"),
        (&["suspend"], "done"),
        (&["wake"], "done"),
        (&["events"], "a test"),
        (&["metrics"], "dsmil_up 1"),
        (&["watch", "--updates", "1"], "op/s"),
        (&["selftest"], "ok   a token can be written"),
    ] {
        let said = scene.text(arguments);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    for arguments in [
        &["list"][..],
        &["thermal"],
        &["status"],
        &["events"],
        &["watch", "--updates", "1"],
        &["selftest"],
    ] {
        let (documents, code) = scene.json(arguments);
        assert!(code == 0 && !documents.is_empty(), "{arguments:?}");
    }
}

#[test]
fn exit_codes_tell_refusals_wrong_commands_and_missing_servers_apart() {
    let mut scene = Scene::new();
    let (refused, code) = scene.json(&["write-token", "0", "power", "1"]);
    assert_eq!((code, &refused[0]["error"]["errno"]), (1, &Value::from(13)));
    assert_eq!(scene.json(&["show", "9", "0"]).1, 1);
    assert_eq!(
        scene.run(&["write-token", "0", "power", "0x1ffffffff"]).status.code(),
        Some(2)
    );
    assert_eq!(scene.run(&["nonsense"]).status.code(), Some(2));
    scene.server.kill().unwrap();
    scene.server.wait().unwrap();
    assert_eq!(scene.json(&["list"]).1, 3);
}

#[test]
fn the_selftest_finds_what_is_wrong() {
    let scene = Scene::new();
    scene.simulator.inject(Fault::StuckSensor { sensor: 4 }).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let (report, code) = scene.json(&["selftest"]);
    assert_eq!((code, &report[0]["passed"]), (1, &Value::from(false)));
    let checks = report[0]["checks"].as_array().unwrap();
    let failed: Vec<&str> = checks
        .iter()
        .filter(|check| check["passed"] == false)
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    assert!(
        failed.contains(&"it is cool enough") && !failed.contains(&"its devices are there"),
        "{failed:?}"
    );
}

#[test]
fn the_library_that_is_built_is_valid_and_another_is_not() {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "dsmil-capi"])
        .status()
        .unwrap();
    assert!(status.success());
    let validate = |path: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dsmilctl"));
        let output = command
            .args(["--json", "validate", "--library"])
            .arg(path)
            .output()
            .unwrap();
        (
            serde_json::from_slice::<Value>(&output.stdout).unwrap(),
            output.status.success(),
        )
    };
    let (report, passed) = validate(&built().join("libdsmil_capi.so"));
    assert!(passed, "{report:#}");
    let directory = TempDir::new().unwrap();
    let other = directory.path().join("libother.so");
    let mut compile = Command::new("cc");
    compile
        .args(["-shared", "-nostdlib", "-x", "c", "/dev/null", "-o"])
        .arg(&other);
    assert!(compile.status().unwrap().success());
    let (report, passed) = validate(&other);
    assert!(!passed, "{report:#}");
}
