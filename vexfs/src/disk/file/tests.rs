// SPDX-License-Identifier: MIT OR Apache-2.0

use std::process::{Command, Stdio};

use super::*;
use crate::disk::scratch::Scratch;

const SIZE: u64 = 1 << 20;

#[test]
fn it_holds_what_was_written_and_never_grows_by_writing() {
    let path = Scratch::new();
    let disk = FileDisk::create(path.path(), SIZE).unwrap();
    disk.write(SIZE - 3, b"end").unwrap();
    disk.sync().unwrap();
    assert!(disk.write(SIZE - 2, b"end").is_err() && disk.write(u64::MAX, b"end").is_err());
    drop(disk);
    let disk = FileDisk::open(path.path(), Access::ReadOnly).unwrap();
    let mut read = [0; 3];
    disk.read(SIZE - 3, &mut read).unwrap();
    assert_eq!((&read, disk.size_bytes(), disk.kind()), (b"end", SIZE, Kind::File));
    assert!(disk.read(SIZE - 2, &mut read).is_err());
    assert_eq!(disk.write(0, b"x").unwrap_err().errno(), libc::EBADF);
}

#[test]
fn one_writer_or_several_readers_and_the_error_names_the_holder() {
    let path = Scratch::new();
    let writer = FileDisk::create(path.path(), SIZE).unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let error = FileDisk::open(path.path(), access).unwrap_err();
        let OpenDiskError::InUse {
            holder: Some(holder), ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!(holder.process, std::process::id());
        let text = error.to_string();
        assert!(
            text.contains(&format!("in use by process {}", std::process::id())),
            "{text}"
        );
    }
    drop(writer);
    let first = FileDisk::open(path.path(), Access::ReadOnly).unwrap();
    let second = FileDisk::open(path.path(), Access::ReadOnly).unwrap();
    FileDisk::open(path.path(), Access::ReadWrite).unwrap_err();
    drop((first, second));
    FileDisk::open(path.path(), Access::ReadWrite).unwrap();
}

#[test]
fn a_lock_of_another_process_is_respected_until_that_process_ends() {
    let path = Scratch::new();
    drop(FileDisk::create(path.path(), SIZE).unwrap());
    let mut child = Command::new("flock")
        .args(["--exclusive", "--no-fork"])
        .arg(path.path())
        .args(["sh", "-c", "echo locked; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let error = FileDisk::open(path.path(), Access::ReadWrite).unwrap_err();
    let id = child.id();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        matches!(&error, OpenDiskError::InUse { holder: Some(holder), .. } if holder.process == id),
        "{error:?}"
    );
    FileDisk::open(path.path(), Access::ReadWrite).unwrap();
}

#[test]
fn a_holder_is_found_while_others_come_and_go() {
    let path = Scratch::new();
    let _writer = FileDisk::create(path.path(), SIZE).unwrap();
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let others: Vec<_> = (0..20).map(|_| Scratch::new()).collect();
                    let open = |path: &Scratch| FileDisk::create(path.path(), 1 << 12).unwrap();
                    drop(others.iter().map(open).collect::<Vec<_>>());
                }
            });
        }
        let nameless = (0..1000)
            .filter(|_| {
                let error = FileDisk::open(path.path(), Access::ReadOnly).unwrap_err();
                matches!(error, OpenDiskError::InUse { holder: None, .. })
            })
            .count();
        enough.store(true, Ordering::Relaxed);
        assert_eq!(nameless, 0);
    });
}

#[test]
fn directories_and_devices_without_blocks_are_refused() {
    for path in ["/", "/dev/null"] {
        let error = FileDisk::open(Path::new(path), Access::ReadOnly).unwrap_err();
        assert!(matches!(error, OpenDiskError::WrongKind(_)), "{error}");
    }
    let error = FileDisk::open(Path::new("/nonexistent/pool"), Access::ReadOnly).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/pool"));
}

#[test]
fn a_file_is_never_created_over_another() {
    let path = Scratch::new();
    std::fs::write(path.path(), b"precious").unwrap();
    FileDisk::create(path.path(), SIZE).unwrap_err();
    assert_eq!(std::fs::read(path.path()).unwrap(), b"precious");
}

#[test]
fn growth_and_discard_show_in_the_file() {
    let path = Scratch::new();
    let disk = FileDisk::create(path.path(), SIZE).unwrap();
    disk.write(0, &vec![7; 1 << 20]).unwrap();
    disk.sync().unwrap();
    let blocks = path.path().metadata().unwrap().blocks();
    disk.discard(4095..SIZE - 1).unwrap();
    disk.sync().unwrap();
    let mut edges = [0; 2];
    disk.read(4094, &mut edges).unwrap();
    assert_eq!(edges, [7, 7]);
    if !disk.cannot_discard.load(Ordering::Relaxed) {
        assert!(path.path().metadata().unwrap().blocks() < blocks / 2);
    }
    disk.grow(2 * SIZE).unwrap();
    disk.grow(SIZE).unwrap();
    assert_eq!(
        (disk.size_bytes(), path.path().metadata().unwrap().len()),
        (2 * SIZE, 2 * SIZE)
    );
    disk.reserve(SIZE..2 * SIZE).unwrap();
    assert!(disk.reserve(SIZE..2 * SIZE + 1).is_err());
}

#[test]
fn after_a_failed_sync_no_sync_succeeds() {
    let path = Scratch::new();
    let disk = FileDisk::create(path.path(), SIZE).unwrap();
    disk.sync().unwrap();
    disk.sync_failed.store(true, Ordering::Release);
    assert!(disk.sync().unwrap_err().to_string().contains("earlier sync failed"));
}

#[test]
fn a_second_descriptor_reaches_the_same_file_and_no_other() {
    let path = Scratch::new();
    let disk = FileDisk::create(path.path(), SIZE).unwrap();
    for again in [disk.reopen(0).unwrap(), disk.share().unwrap()] {
        let mut read = [0; 5];
        again.write_all_at(b"there", 4096).unwrap();
        disk.read(4096, &mut read).unwrap();
        assert_eq!(&read, b"there");
        again.write_all_at(b"empty", 4096).unwrap();
    }
    std::fs::remove_file(path.path()).unwrap();
    std::fs::write(path.path(), b"another").unwrap();
    assert!(disk.reopen(0).is_err());
}

#[test]
fn who_shares_a_disk_may_wait_and_passes_by_the_page_cache_with_it() {
    let path = Scratch::new();
    drop(FileDisk::create(path.path(), SIZE).unwrap());
    let disk = FileDisk::open(path.path(), Access::ReadWrite).unwrap();
    let shared = disk.share().unwrap();
    let has = |flag| OFlag::from_bits_retain(fcntl(&shared, FcntlArg::F_GETFL).unwrap()).contains(flag);
    assert!(!has(OFlag::O_NONBLOCK) && !has(OFlag::O_DIRECT));
    // Not every file system can.
    if disk.set_direct(true).is_ok() {
        assert!(has(OFlag::O_DIRECT));
    }
    disk.set_direct(false).unwrap();
    assert!(!has(OFlag::O_DIRECT));
}

#[test]
fn who_shares_a_disk_passes_by_its_page_cache_and_both_see_what_the_other_wrote() {
    let path = Scratch::new();
    drop(FileDisk::create(path.path(), SIZE).unwrap());
    let mut disk = FileDisk::open(path.path(), Access::ReadWrite).unwrap();
    let passes = disk.pass_by_cache().unwrap();
    let shared = disk.share().unwrap();
    let flags = OFlag::from_bits_retain(fcntl(&shared, FcntlArg::F_GETFL).unwrap());
    assert_eq!(flags.contains(OFlag::O_DIRECT), passes);
    let mut block = AlignedBlock([1; BLOCK_SIZE]);
    for round in 1..20 {
        disk.write(4097, &[round; 5]).unwrap();
        shared.read_exact_at(&mut block.0, 4096).unwrap();
        assert_eq!(block.0[1..6], [round; 5]);
        block.0.fill(100 + round);
        shared.write_all_at(&block.0, 4096).unwrap();
        let mut read = [0; 3];
        disk.read(5001, &mut read).unwrap();
        assert_eq!(read, [100 + round; 3]);
    }
    // The lock stays with what is shared: an operation that outlives its process keeps it.
    let again = FileDisk::open(path.path(), Access::ReadWrite);
    assert!(matches!(again, Err(OpenDiskError::InUse { .. })));
}

#[test]
fn the_direct_block_sees_writes_made_elsewhere() {
    let path = Scratch::new();
    let disk = FileDisk::create(path.path(), SIZE).unwrap();
    let mut block = disk.direct_block(8192).unwrap();
    assert_eq!(block.read().unwrap(), &[0; BLOCK_SIZE]);
    disk.write(8192, &[1; BLOCK_SIZE]).unwrap();
    disk.sync().unwrap();
    assert_eq!(block.read().unwrap(), &[1; BLOCK_SIZE]);
    block.write(&[2; BLOCK_SIZE]).unwrap();
    let mut other = disk.direct_block(8192).unwrap();
    assert_eq!(other.read().unwrap(), &[2; BLOCK_SIZE]);
    let mut read = [0];
    disk.read(8192, &mut read).unwrap();
    assert_eq!(read, [2]);
}
