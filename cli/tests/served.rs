// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands on pools that are served: this process serves them, and runs the real program against them.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::fs::{Fs, MountOptions, NewFile};
use vexfs::metrics::Family;
use vexfs::pool::format::{FormatOptions, format_path};
use vexfs::units::Ino;
use vexfs_control::engine::{Engine, shown};
use vexfs_control::place::{self, Socket};
use vexfs_control::server::Server;
use vexfs_control::status::Facts;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

const FILE: NewFile<'static> = NewFile {
    kind: Kind::File,
    permissions: 0o644,
    uid: 0,
    gid: 0,
    device: 0,
    target: b"",
    now: NOW,
};

/// Pools served from a directory of their own.
struct Lab(TempDir);

/// A pool of it, with a front end that counts its operations.
struct Pool {
    path: PathBuf,
    fs: Fs,
    family: Arc<Family>,
    server: Server,
}

impl Lab {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn serve(&self, name: &str) -> Pool {
        let path = self.0.path().join(name);
        let options = FormatOptions {
            size_bytes: Some(32 << 20),
            label: format!("{name}-label"),
            ..FormatOptions::default()
        };
        format_path(&path, &options).unwrap();
        let fs = Fs::open(&path, &MountOptions::default()).unwrap();
        let family = Arc::new(Family::new("fuse_operation_seconds", ["read", "write", "lookup"]));
        fs.metrics().add_family(Arc::clone(&family));
        let mount_point = self.0.path().join(format!("{name}-mount"));
        std::fs::create_dir_all(mount_point.join("below")).unwrap();
        let facts = Facts {
            pool: shown(&path),
            mount_point: Some(shown(&mount_point)),
            front_end: "fuse".into(),
            options: vec!["noatime".into()],
        };
        let uuid = fs.superblock().uuid;
        let engine = Engine::new(fs.clone(), facts, ());
        let socket = Socket::make(&self.sockets(), &place::socket_name(uuid), 0o600).unwrap();
        let server = Server::start(socket, engine).unwrap();
        Pool {
            path,
            fs,
            family,
            server,
        }
    }

    fn sockets(&self) -> PathBuf {
        self.0.path().join("run")
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_vexfs-ublk"))
            .env(place::DIRECTORY_VARIABLE, self.sockets())
            .current_dir(self.0.path())
            .args(words)
            .output()
            .unwrap()
    }

    /// What a call that must succeed prints.
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line that a call that must fail says.
    fn fails(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(words)).unwrap()
    }
}

impl Pool {
    /// One write and one read, as a front end would do them.
    fn work(&self, number: u64) {
        let name = format!("file-{number}");
        let begin = Instant::now();
        let ino = self.fs.create(Ino::ROOT, name.as_bytes(), &FILE).unwrap().ino;
        self.fs.write(ino, 0, &[7; 8192], NOW).unwrap();
        self.family.record(1, begin.elapsed(), false);
        let begin = Instant::now();
        self.fs.read(ino, 0, &mut [0; 8192]).unwrap();
        self.family.record(0, begin.elapsed(), number.is_multiple_of(2));
    }

    fn uuid(&self) -> String {
        self.fs.superblock().uuid.to_string()
    }
}

#[test]
fn status_lists_every_served_pool_and_tells_all_of_one() {
    let lab = Lab::new();
    assert_eq!(lab.ok(&["status"]), "no pool is served\n");
    assert_eq!(lab.json(&["status", "--json"])["pools"], serde_json::json!([]));
    let (one, _two) = (lab.serve("one"), lab.serve("two"));
    one.work(1);
    one.work(2);
    let table = lab.ok(&["status"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    for word in ["POOL", "one-label", "two-label", "writable", "32.0 MiB", "one-mount"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    let details = lab.ok(&["status", "one"]);
    let operations: Vec<&str> = details.lines().filter(|line| line.starts_with("write ")).collect();
    assert_eq!(operations.len(), 1, "{details}");
    assert!(operations[0].split_whitespace().nth(1) == Some("2"), "{details}");
    assert!(details.contains("16.0 KiB read, 16.0 KiB written"), "{details}");
    assert!(details.contains("options noatime"), "{details}");
    assert!(details.contains("stalls       none"), "{details}");
}

#[test]
fn a_pool_is_found_by_everything_that_names_it() {
    let lab = Lab::new();
    let (one, _two) = (lab.serve("one"), lab.serve("two"));
    let uuid = one.uuid();
    std::os::unix::fs::symlink(&one.path, lab.0.path().join("link")).unwrap();
    let socket = one.server.path().to_str().unwrap().to_owned();
    for name in [
        "one",
        "./one",
        "link",
        "one-mount",
        "one-mount/below",
        "one-label",
        &uuid,
        &socket,
    ] {
        let found = lab.json(&["status", name, "--json"]);
        assert_eq!(found["pool"]["uuid"], Value::String(uuid.clone()), "{name}");
    }
    let told = lab.fails(&["status", "three"]);
    assert!(told.contains("three: no served pool"), "{told}");
    let told = lab.fails(&["top", "--once", "three"]);
    assert!(told.contains("three: no served pool"), "{told}");
}

#[test]
fn the_json_and_the_metrics_say_the_same() {
    let lab = Lab::new();
    let (one, two) = (lab.serve("one"), lab.serve("two"));
    one.work(2);
    let document = lab.json(&["status", "one", "--json"]);
    assert_eq!(document["version"], 1);
    assert_eq!(document["server"]["pid"], std::process::id());
    assert_eq!(document["metrics"]["vexfs_data_written_bytes_total"], 8192);
    let reads = &document["metrics"]["vexfs_fuse_operation_seconds"]["read"];
    assert_eq!(reads["count"], 1);
    assert!(reads["p50_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(document["metrics"]["vexfs_fuse_operation_failures_total"]["read"], 1);
    let text = lab.ok(&["status", "one", "--metrics"]);
    let line = format!("vexfs_data_written_bytes_total{{pool=\"{}\"}} 8192", one.uuid());
    assert!(text.lines().any(|found| found == line), "{text}");

    // Of both in one text, each metric has one head and its values together.
    let both = lab.ok(&["status", "--metrics"]);
    let heads = both.lines().filter(|line| *line == "# TYPE vexfs_pool_failed gauge");
    assert_eq!(heads.count(), 1);
    let values = both
        .lines()
        .skip_while(|line| *line != "# TYPE vexfs_pool_failed gauge");
    let values: Vec<&str> = values.skip(1).take(2).collect();
    for pool in [&one, &two] {
        let value = format!("vexfs_pool_failed{{pool=\"{}\"}} 0", pool.uuid());
        assert!(values.contains(&value.as_str()), "{values:?}");
    }
}

#[test]
fn top_shows_a_frame_of_a_pool_at_work() {
    let lab = Lab::new();
    let pool = lab.serve("one");
    let over = AtomicBool::new(false);
    let frame = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if over.load(Ordering::Relaxed) || number > 2000 {
                    break;
                }
                pool.work(number);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        std::thread::sleep(Duration::from_millis(50));
        let frame = lab.ok(&["top", "--once", "--interval", "0.3"]);
        over.store(true, Ordering::Relaxed);
        frame
    });
    assert!(frame.contains("vexfs-ublk top  one-label  writable"), "{frame}");
    for name in ["space", "journal", "flushes", "checkpoints", "stalls", "recovery"] {
        assert!(frame.lines().any(|line| line.starts_with(name)), "{name}: {frame}");
    }
    let write = frame.lines().find(|line| line.starts_with("write ")).unwrap();
    let per_second: f64 = write.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(per_second > 1.0, "{frame}");
    assert!(
        frame.contains("written ") && !frame.contains("written 0 B/s"),
        "{frame}"
    );
}

#[test]
fn top_without_a_terminal_says_what_to_do() {
    let lab = Lab::new();
    let told = lab.fails(&["top"]);
    assert!(told.contains("--once"), "{told}");
    assert!(lab.ok(&["top", "--once", "-i", "0.05"]).contains("no pool is served"));
}

#[test]
fn commands_on_pools_go_to_the_server_of_one_that_is_served() {
    let lab = Lab::new();
    let pool = lab.serve("one");
    pool.work(1);
    assert_eq!(lab.ok(&["label", "one"]), "one-label\n");
    lab.ok(&["label", "one", "other"]);
    assert_eq!(pool.fs.superblock().label, "other");
    lab.ok(&["snapshot", "one:/file-1", "one:/copy"]);
    assert_eq!(pool.fs.resolve(b"/copy").unwrap().size(), 8192);
    let grown = lab.ok(&["grow", "one", "64MiB"]);
    assert!(grown.contains("64MiB"), "{grown}");
    assert_eq!(pool.fs.statistics().total_blocks, 16_384);
    let told = lab.fails(&["snapshot", "one:/nowhere", "one:/x"]);
    assert!(told.contains("/nowhere: no such file or directory"), "{told}");
    let told = lab.fails(&["grow", "one", "16MiB"]);
    assert!(told.contains("cannot become smaller"), "{told}");

    // Once nobody serves it, the commands open it themselves.
    drop(pool.server);
    pool.fs.close().unwrap();
    assert_eq!(lab.ok(&["label", "one", "third"]), "third\n");
}

#[test]
fn what_a_killed_server_left_is_passed_by() {
    let lab = Lab::new();
    let _pool = lab.serve("one");
    let left = lab.sockets().join(place::socket_name(uuid_of_nobody()));
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    let table = lab.ok(&["status"]);
    assert_eq!(table.lines().count(), 2, "{table}");
    let told = lab.fails(&["status", left.to_str().unwrap()]);
    assert!(told.contains("nobody serves there"), "{told}");
}

fn uuid_of_nobody() -> uuid::Uuid {
    uuid::Uuid::from_u128(7)
}

#[test]
fn a_server_that_does_not_answer_does_not_hide_the_others() {
    let lab = Lab::new();
    let _pool = lab.serve("one");
    let mute = lab.sockets().join(place::socket_name(uuid_of_nobody()));
    let listener = std::os::unix::net::UnixListener::bind(&mute).unwrap();
    // Ends with the process.
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Else hanging up would be all that is heard.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"220 smtp.example.org\r\n\r\n");
        }
    });
    let output = lab.run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("one-label"));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("makes no sense"), "{complaint}");
    let frame = lab.ok(&["top", "--once", "-i", "0.05"]);
    assert!(
        frame.contains("one-label") && frame.contains(".sock: an answer that"),
        "{frame}"
    );
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let lab = Lab::new();
    let told = lab.fails(&["--log", "verbose", "status"]);
    assert!(told.contains("--log") && told.contains("verbose"), "{told}");
}
