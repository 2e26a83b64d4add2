// SPDX-License-Identifier: MIT OR Apache-2.0

//! A server at its socket, with honest and with hostile peers.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::fs::{Fs, MountOptions, NewFile};
use vexfs::pool::format::{FormatOptions, format_path};
use vexfs::units::Ino;
use vexfs_control::client::{Client, ClientError};
use vexfs_control::engine::{Engine, FrontEnd};
use vexfs_control::handler::{Call, Copy, Grow, Handler, Label, Log, Refusal};
use vexfs_control::http::{MAX_BODY, MAX_HEAD};
use vexfs_control::place::Socket;
use vexfs_control::server::{MAX_CONNECTIONS, Server};
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

/// Remembers what it was told.
#[derive(Default, Clone)]
struct Kernel(Arc<Mutex<Vec<String>>>);

impl FrontEnd for Kernel {
    fn before_copy(&self, path: &str, _source: Ino) -> std::io::Result<()> {
        self.0.lock().unwrap().push(format!("write back {path}"));
        Ok(())
    }

    fn name_appeared(&self, directory: Ino, name: &[u8]) {
        let name = String::from_utf8_lossy(name);
        self.0.lock().unwrap().push(format!("{} {name}", directory.0));
    }
}

struct Served {
    directory: TempDir,
    fs: Fs,
    kernel: Kernel,
    server: Server,
}

impl Served {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let pool = directory.path().join("pool");
        let options = FormatOptions {
            size_bytes: Some(32 << 20),
            ..FormatOptions::default()
        };
        format_path(&pool, &options).unwrap();
        let fs = Fs::open(&pool, &MountOptions::default()).unwrap();
        let kernel = Kernel::default();
        let facts = Facts {
            pool: vexfs_control::engine::shown(&pool),
            mount_point: Some("/mnt/\"here\"".into()),
            front_end: "test".into(),
            options: vec!["ro".into()],
        };
        let engine = Engine::new(fs.clone(), facts, kernel.clone());
        let server = Server::start(Socket::make(directory.path(), "a.sock", 0o600).unwrap(), engine).unwrap();
        Self {
            directory,
            fs,
            kernel,
            server,
        }
    }

    fn client(&self) -> Client {
        Client::new(self.server.path())
    }

    fn call(&self, call: &Call) -> Result<Value, u16> {
        self.client().call(call).map_err(|error| match error {
            ClientError::Refused { status, message } => {
                assert!(!message.is_empty());
                status
            }
            other => panic!("{other}"),
        })
    }
}

fn copy(source: &str, copy: &str) -> Copy {
    Copy {
        source: source.into(),
        copy: copy.into(),
    }
}

/// Sends bytes, and reads what comes until the server hangs up.
fn exchange(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may have answered and hung up before it took everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn status(answer: &str) -> u16 {
    let line = answer.lines().next().unwrap_or_default();
    line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

#[test]
fn questions_are_answered_with_what_the_pool_and_the_front_end_know() {
    let served = Served::new();
    served.fs.create(Ino::ROOT, b"file", &FILE).unwrap();
    let status = served.client().status().unwrap();
    assert_eq!(status.server.pid, std::process::id());
    assert_eq!(status.server.facts.mount_point.as_deref(), Some("/mnt/\"here\""));
    assert_eq!(status.server.facts.front_end, "test");
    assert_eq!(status.pool.mode, "writable");
    assert_eq!(status.pool.uuid, served.fs.superblock().uuid.to_string());
    assert_eq!(status.count("vexfs_pool_files"), 2);
    assert_eq!(status.count("vexfs_space_total_bytes"), 32 << 20);
    assert!(status.time("vexfs_pool_uptime_seconds").unwrap() > Duration::ZERO);
    assert!(
        status
            .labelled("vexfs_cache_hits_total")
            .any(|(cache, _)| cache == "inodes")
    );
    let text = served.client().metrics().unwrap();
    let info = text
        .lines()
        .find(|line| line.starts_with("vexfs_server_info{"))
        .unwrap();
    assert!(info.contains("mount_point=\"/mnt/\\\"here\\\"\""), "{info}");
    let raw = exchange(
        served.server.path(),
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    assert!(raw.contains("Content-Type: text/plain; version=0.0.4"), "{raw}");
}

#[test]
fn administrators_change_a_pool_that_is_served() {
    let served = Served::new();
    let fs = &served.fs;
    let directory = NewFile {
        kind: Kind::Directory,
        permissions: 0o755,
        ..FILE
    };
    let inside = fs.create(Ino::ROOT, b"photos", &directory).unwrap().ino;
    let file = fs.create(inside, b"one", &FILE).unwrap().ino;
    fs.write(file, 0, &[7; 10_000], NOW).unwrap();

    served.call(&Call::Snapshot(copy("/photos", "/before"))).unwrap();
    assert_eq!(fs.resolve(b"/before/one").unwrap().size(), 10_000);
    served.call(&Call::Clone(copy("/photos/one", "/before/two"))).unwrap();
    assert_eq!(fs.resolve(b"/before/two").unwrap().size(), 10_000);
    let before = fs.resolve(b"/before").unwrap().ino.0;
    let told = served.kernel.0.lock().unwrap().clone();
    let two = format!("{before} two");
    assert_eq!(told, ["write back /photos", "1 before", "write back /photos/one", &two]);

    let label = |label: &str| Call::Label(Label { label: label.into() });
    assert_eq!(served.call(&label("data")), Ok(json!({"label": "data"})));
    assert_eq!(fs.superblock().label, "data");
    let grow = |bytes| Call::Grow(Grow { bytes });
    let grown = json!({"before": 32 << 20, "size": 64 << 20});
    assert_eq!(served.call(&grow(64 << 20)), Ok(grown));
    let syncs = fs.statistics().syncs;
    fs.create(Ino::ROOT, b"more", &FILE).unwrap();
    served.call(&Call::Flush).unwrap();
    assert!(fs.statistics().syncs > syncs);

    assert_eq!(served.call(&Call::Snapshot(copy("/photos", "/before"))), Err(409));
    assert_eq!(served.call(&Call::Snapshot(copy("/nowhere", "/x"))), Err(404));
    assert_eq!(served.call(&Call::Snapshot(copy("/photos", "/nowhere/x"))), Err(404));
    assert_eq!(served.call(&Call::Snapshot(copy("/photos/one", "/x"))), Err(400));
    assert_eq!(
        served.call(&Call::Snapshot(copy("/", "/photos/x"))),
        Err(400),
        "into itself"
    );
    assert_eq!(served.call(&Call::Clone(copy("photos", "/x"))), Err(400));
    assert_eq!(served.call(&Call::Clone(copy("/photos", "/"))), Err(400));
    assert_eq!(served.call(&label("line\nfeed")), Err(400));
    assert_eq!(served.call(&grow(1 << 20)), Err(400));
    assert_eq!(served.call(&Call::Log(Log { filter: "info".into() })), Err(501));
    // A closed pool is read-only.
    served.fs.clone().close().unwrap();
    assert_eq!(served.call(&label("late")), Err(403));
}

#[test]
fn what_is_not_understood_is_refused_and_the_server_goes_on() {
    let served = Served::new();
    let ask = |bytes: &[u8]| status(&exchange(served.server.path(), bytes));
    assert_eq!(ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), 400);
    assert_eq!(ask(b"GET /nothing HTTP/1.1\r\n\r\n"), 404);
    assert_eq!(ask(b"GET /../../etc/passwd HTTP/1.1\r\n\r\n"), 404);
    assert_eq!(ask(b"GET /flush HTTP/1.1\r\n\r\n"), 405);
    assert_eq!(ask(b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), 405);
    assert_eq!(ask(b"POST /label HTTP/1.1\r\nContent-Length: 3\r\n\r\n{\"x"), 400);
    assert_eq!(ask(b"GET /status HTTP/3.7\r\n\r\n"), 505);
    let deep = [b"[".repeat(MAX_BODY / 2), b"]".repeat(MAX_BODY / 2)].concat();
    let head = format!("POST /label HTTP/1.1\r\nContent-Length: {}\r\n\r\n", deep.len());
    assert_eq!(ask(&[head.as_bytes(), &deep].concat()), 400);
    assert_eq!(
        ask(format!("POST /label HTTP/1.1\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1).as_bytes()),
        413
    );
    let long = [b"GET /".as_slice(), &b"a".repeat(10 * MAX_HEAD)].concat();
    assert_eq!(ask(&long), 431);
    let allow = exchange(served.server.path(), b"DELETE /status HTTP/1.1\r\n\r\n");
    assert!(allow.contains("\r\nAllow: GET\r\n"), "{allow}");
    // Half a request, and gone.
    assert_eq!(exchange_and_close(served.server.path(), b"GET /sta"), "");
    served.client().status().unwrap();
}

fn exchange_and_close(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn peers_that_say_nothing_do_not_keep_others_out_for_long() {
    let served = Served::new();
    let silent: Vec<UnixStream> = (0..2 * MAX_CONNECTIONS)
        .map(|_| UnixStream::connect(served.server.path()).unwrap())
        .collect();
    let begin = Instant::now();
    // It waits in the queue until the first sixteen are given up, and those behind them.
    let mut late = UnixStream::connect(served.server.path()).unwrap();
    late.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    late.write_all(b"GET /status HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    late.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 200);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let mut first = silent.into_iter().next().unwrap();
    let mut told = String::new();
    first.read_to_string(&mut told).unwrap();
    assert_eq!(status(&told), 408);
}

#[test]
fn a_byte_at_a_time_is_a_request_too() {
    let served = Served::new();
    let mut stream = UnixStream::connect(served.server.path()).unwrap();
    for byte in b"GET /status HTTP/1.1\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 200);
}

#[test]
fn a_server_that_ends_removes_its_socket_and_hangs_up() {
    let served = Served::new();
    let mut open = UnixStream::connect(served.server.path()).unwrap();
    let client = served.client();
    served.server.stop();
    assert!(matches!(client.status(), Err(ClientError::NotServed(_))));
    assert!(!client.socket().exists());
    // An end, or a reset if it was never accepted; but no waiting.
    open.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let hung_up = open.read(&mut [0; 1]);
    assert!(
        matches!(&hung_up, Ok(0))
            || hung_up
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
        "{hung_up:?}"
    );
    drop(served.directory);
}

/// A handler whose calls take until somebody else is there, and which panics when it is told to.
struct Slow(Arc<Barrier>);

impl Handler for Slow {
    fn metrics(&self) -> Result<String, Refusal> {
        panic!("as the test wants it")
    }

    fn status(&self) -> Result<String, Refusal> {
        Ok("{}".into())
    }

    fn call(&self, call: &Call) -> Result<Value, Refusal> {
        assert!(*call != Call::Flush, "as the test wants it");
        self.0.wait();
        Ok(json!({}))
    }
}

#[test]
fn questions_are_answered_while_a_call_is_made_and_calls_wait_for_each_other() {
    let directory = TempDir::new().unwrap();
    let barrier = Arc::new(Barrier::new(2));
    let server = Server::start(
        Socket::make(directory.path(), "a.sock", 0o600).unwrap(),
        Slow(Arc::clone(&barrier)),
    )
    .unwrap();
    let label = || Call::Label(Label { label: "x".into() });
    let done = Arc::new(Mutex::new(0));
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (client, done) = (Client::new(server.path()), Arc::clone(&done));
            std::thread::spawn(move || {
                client.call(&label()).unwrap();
                *done.lock().unwrap() += 1;
            })
        })
        .collect();
    for made in 0..3 {
        let answer = exchange(server.path(), b"GET /status HTTP/1.1\r\n\r\n");
        assert_eq!(status(&answer), 200);
        assert!(*done.lock().unwrap() <= made);
        barrier.wait();
    }
    for caller in callers {
        caller.join().unwrap();
    }
}

#[test]
fn a_handler_that_panics_is_a_failed_answer() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(
        Socket::make(directory.path(), "a.sock", 0o600).unwrap(),
        Slow(Arc::new(Barrier::new(1))),
    )
    .unwrap();
    let client = Client::new(server.path());
    assert!(matches!(
        client.metrics(),
        Err(ClientError::Refused { status: 500, .. })
    ));
    assert!(matches!(
        client.call(&Call::Flush),
        Err(ClientError::Refused { status: 500, .. })
    ));
    assert_eq!(
        client.call(&Call::Label(Label { label: String::new() })).unwrap(),
        json!({})
    );
}

#[test]
fn a_peer_that_takes_no_answer_is_given_up() {
    struct Large;
    impl Handler for Large {
        fn metrics(&self) -> Result<String, Refusal> {
            Ok("x".repeat(32 << 20))
        }
        fn status(&self) -> Result<String, Refusal> {
            Ok("{}".into())
        }
        fn call(&self, _: &Call) -> Result<Value, Refusal> {
            Ok(json!({}))
        }
    }
    let directory = TempDir::new().unwrap();
    let server = Server::start(Socket::make(directory.path(), "a.sock", 0o600).unwrap(), Large).unwrap();
    let mut stream = UnixStream::connect(server.path()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(6500));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(
        answer.len() < 1 << 20,
        "only what was in the socket's buffer: {}",
        answer.len()
    );
    assert_eq!(Client::new(server.path()).metrics().unwrap().len(), 32 << 20);
}
