// SPDX-License-Identifier: MIT OR Apache-2.0

//! A C program against the library as it is installed: shared and static, alone and through `dsmild`, under valgrind and
//! the address sanitizer.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use dsmil_sim::{Settings, Simulator};
use tempfile::TempDir;

/// The library, laid down by `make install`; the program, linked with it in every way.
struct Installed {
    directory: TempDir,
}

static INSTALLED: LazyLock<Installed> = LazyLock::new(|| {
    let directory = TempDir::new().unwrap();
    // Where this test lies is where the libraries were built.
    let built = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let prefix = directory.path().join("usr");
    let (assign_prefix, assign_built) = (
        format!("PREFIX={}", prefix.display()),
        format!("BUILT={}", built.display()),
    );
    run(Command::new("make").args([
        "-s",
        "-C",
        env!("CARGO_MANIFEST_DIR"),
        "install",
        &assign_prefix,
        &assign_built,
    ]));
    let installed = Installed { directory };
    installed.compile("shared", &["-Wl,-rpath,$LIB"], false);
    installed.compile("static", &[], true);
    installed.compile("sanitized", &["-fsanitize=address", "-g"], true);
    installed
});

impl Installed {
    fn compile(&self, name: &str, options: &[&str], fixed: bool) {
        let lib = self.directory.path().join("usr/lib");
        let mut ask = Command::new("pkg-config");
        ask.env("PKG_CONFIG_PATH", lib.join("pkgconfig"))
            .args(["--cflags", "--libs", "dsmil"]);
        if fixed {
            ask.arg("--static");
        }
        let flags = String::from_utf8(run(&mut ask)).unwrap();
        // `-ldsmil` takes the shared library where there is one.
        let archive = lib.join("libdsmil.a").display().to_string();
        let flags = if fixed {
            flags.replace("-ldsmil", &archive)
        } else {
            flags
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/exercise.c");
        let mut compile = Command::new("cc");
        compile
            .args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"])
            .arg(source);
        compile.args(flags.split_ascii_whitespace()).arg("-lpthread");
        compile.args(
            options
                .iter()
                .map(|option| option.replace("$LIB", &lib.display().to_string())),
        );
        run(compile.arg("-o").arg(self.program(name)));
    }

    fn program(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Runs a command that must succeed; returns what it printed.
fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Runs the program's cases against a simulator of its own.
fn exercise(program: &mut Command, cases: &[&str]) {
    let directory = TempDir::new().unwrap();
    let simulator = Simulator::start(Settings::at(directory.path().join("sim"))).unwrap();
    let device = format!("sim:{}", simulator.socket().display());
    run(program.env("DSMIL_DEVICE", device).args(cases));
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                exercise(&mut Command::new(INSTALLED.program("shared")), &[stringify!($name)]);
            }
        )*
    };
}

cases!(
    nothing_works_without_init,
    init_is_done_once,
    cleanup_may_be_repeated_and_init_follow_it,
    null_pointers_are_refused,
    pointers_that_are_not_aligned_are_refused,
    devices_that_are_not_there_are_refused,
    all_devices_can_be_put_in_use,
    tokens_are_locked_until_their_region_is_unlocked,
    tokens_that_are_not_there_are_refused,
    addresses_outside_the_region_are_refused,
    without_smi_only_devices_work,
    threads_share_the_connection,
    cleanup_may_come_while_others_are_inside,
    a_device_that_is_not_there_is_an_error,
);

#[test]
fn a_case_that_does_not_exist_fails() {
    let status = Command::new(INSTALLED.program("shared"))
        .arg("no_such_case")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
}

#[test]
fn the_static_library_does_the_same() {
    exercise(&mut Command::new(INSTALLED.program("static")), &[]);
}

#[test]
fn the_address_sanitizer_finds_nothing() {
    exercise(&mut Command::new(INSTALLED.program("sanitized")), &[]);
}

#[test]
fn valgrind_finds_nothing() {
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--quiet",
        "--error-exitcode=99",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
    ]);
    // One thread runs at a time there, and slowly: what is bound by time is left to the other runs.
    let cases = [
        "nothing_works_without_init",
        "init_is_done_once",
        "null_pointers_are_refused",
        "all_devices_can_be_put_in_use",
        "tokens_are_locked_until_their_region_is_unlocked",
        "threads_share_the_connection",
        "a_device_that_is_not_there_is_an_error",
    ];
    exercise(valgrind.arg(INSTALLED.program("shared")), &cases);
}

#[test]
fn the_same_program_works_through_dsmild() {
    run(Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "dsmild"]));
    let directory = TempDir::new().unwrap();
    let simulator = Simulator::start(Settings::at(directory.path().join("sim"))).unwrap();
    let (socket, audit) = (directory.path().join("dsmild.sock"), directory.path().join("audit"));
    // …/deps/c-… and …/dsmild
    let built = std::env::current_exe().unwrap();
    let mut server = Command::new(built.parent().unwrap().parent().unwrap().join("dsmild"));
    server
        .arg("--device")
        .arg(format!("sim:{}", simulator.socket().display()));
    server.arg("--socket").arg(&socket).arg("--audit-log").arg(audit);
    let mut server = server.spawn().unwrap();
    let start = Instant::now();
    while dsmil_client::Client::connect(&socket).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "dsmild does not serve");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut program = Command::new(INSTALLED.program("shared"));
    run(program.env("DSMIL_DEVICE", format!("unix:{}", socket.display())));
    server.kill().unwrap();
    server.wait().unwrap();
}
