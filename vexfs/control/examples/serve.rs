// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a front end does for its control socket, with a front end that only keeps a pool busy:
//!
//! ```sh
//! vexfs-ublk mkfs pool.img --size 1GiB
//! cargo run -p vexfs-control --example serve -- pool.img
//! vexfs-ublk top
//! ```
//!
//! It ends when its standard input does.

use std::error::Error;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vexfs::fs::record::{Kind, Timestamp};
use vexfs::fs::{Fs, MountOptions, NewFile};
use vexfs::metrics::Family;
use vexfs::units::Ino;
use vexfs_control::engine::{Engine, shown};
use vexfs_control::logging::{self, Output};
use vexfs_control::place::{self, Socket};
use vexfs_control::server::Server;
use vexfs_control::status::Facts;

const OPERATIONS: [&str; 4] = ["create", "write", "read", "unlink"];

fn main() -> Result<(), Box<dyn Error>> {
    let log = logging::start(None, "info", Output::Errors)?;
    let pool = std::env::args_os().nth(1).ok_or("which pool?")?;
    let fs = Fs::open(pool.as_ref(), &MountOptions::default())?;
    let family = Arc::new(Family::new("example_operation_seconds", OPERATIONS));
    fs.metrics().add_family(Arc::clone(&family));
    let facts = Facts {
        pool: shown(pool.as_ref()),
        front_end: "example".into(),
        ..Facts::default()
    };
    let name = place::socket_name(fs.superblock().uuid);
    let socket = Socket::make(&place::directory()?, &name, 0o600)?;
    let server = Server::start(socket, Engine::new(fs.clone(), facts, ()).with_log(log))?;
    eprintln!("serving at {}", server.path().display());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| work(&fs, &family, &stop));
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::Relaxed);
        ended
    })?;
    server.stop();
    fs.close()?;
    Ok(())
}

/// Makes, writes, reads and removes files until it is told to stop.
fn work(fs: &Fs, family: &Family, stop: &AtomicBool) {
    let timed = |index: usize, ino: Ino, operation: &dyn Fn() -> vexfs::error::Result<()>| {
        let span = logging::operation(OPERATIONS.get(index).copied().unwrap_or_default(), ino.0);
        let begin = Instant::now();
        let result = span.in_scope(operation);
        family.record(index, begin.elapsed(), result.is_err());
    };
    let file = NewFile {
        kind: Kind::File,
        permissions: 0o644,
        uid: 0,
        gid: 0,
        device: 0,
        target: b"",
        now: Timestamp::new(0, 0),
    };
    let data = vec![7; 256 << 10];
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("example-{}", number % 500);
        let name = name.as_bytes();
        timed(0, Ino::ROOT, &|| fs.create(Ino::ROOT, name, &file).map(|_| ()));
        let Ok(found) = fs.lookup(Ino::ROOT, name) else {
            continue;
        };
        timed(1, found.ino, &|| fs.write(found.ino, 0, &data, file.now).map(|_| ()));
        timed(2, found.ino, &|| fs.read(found.ino, 0, &mut vec![0; 4096]).map(|_| ()));
        if number % 3 == 0 {
            timed(3, Ino::ROOT, &|| fs.unlink(Ino::ROOT, name, file.now));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}
