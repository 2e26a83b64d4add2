// SPDX-License-Identifier: MIT OR Apache-2.0

//! Many threads on one pool, with checkpoints and flushes beside them.
//!
//! Each thread knows what its own files must hold, and all of them share directories, the allocator, the journal and its
//! small size. What a run does depends on how the threads meet; what must hold does not.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vexfs::check::assert_sound;
use vexfs::disk::{Disk, MemDisk, SplitMix64};
use vexfs::error::Errno;
use vexfs::fs::op::rename;
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::fs::{Fs, MountOptions, NewFile, Preallocation};
use vexfs::pool::format::{FormatOptions, Seeds, format_disk};
use vexfs::pool::{Access, Host, OpenOptions, Pool};
use vexfs::units::Ino;

const THREADS: u64 = 6;
const NOW: Timestamp = Timestamp(1);
const LONG_ENOUGH: Duration = Duration::from_secs(2);

fn open(disk: &Arc<dyn Disk>) -> Fs {
    let pool = Pool::open_disk(Arc::clone(disk), &OpenOptions::new(Access::ReadWrite)).unwrap();
    Fs::mount(pool, &MountOptions::default()).unwrap()
}

fn new(kind: Kind) -> NewFile<'static> {
    NewFile {
        kind,
        permissions: 0o755,
        uid: 0,
        gid: 0,
        device: 0,
        target: b"",
        now: NOW,
    }
}

/// One thread's files, by name, as they must be.
type Files = BTreeMap<String, Vec<u8>>;

fn read_all(fs: &Fs, ino: Ino) -> Vec<u8> {
    let size = usize::try_from(fs.attributes(ino).unwrap().size()).unwrap();
    let mut content = vec![0xaa; size];
    assert_eq!(fs.read(ino, 0, &mut content).unwrap(), size);
    content
}

/// What one thread does in a directory that all share, until the time is over.
fn work(fs: &Fs, directory: Ino, thread: u64) -> Files {
    let mut random = SplitMix64::new(thread + 1);
    let mut files = Files::new();
    let begin = Instant::now();
    while begin.elapsed() < LONG_ENOUGH {
        let name = format!("{thread}-{}", random.below(12));
        let known = files.contains_key(&name);
        match random.below(12) {
            _ if !known => {
                fs.create(directory, name.as_bytes(), &new(Kind::File)).unwrap();
                files.insert(name, Vec::new());
            }
            0 => {
                fs.unlink(directory, name.as_bytes(), NOW).unwrap();
                files.remove(&name);
            }
            1 => {
                let to = format!("{thread}-{}", random.below(12));
                fs.rename(directory, name.as_bytes(), directory, to.as_bytes(), 0, NOW)
                    .unwrap();
                if let Some(content) = files.remove(&name) {
                    files.insert(to, content);
                }
            }
            2 => {
                let other = format!("{}-{}", (thread + 1) % THREADS, random.below(12));
                // Somebody else's name: it may exist or not, and must never be harmed.
                let flags = rename::NO_REPLACE;
                let error = fs
                    .rename(directory, b"missing", directory, other.as_bytes(), flags, NOW)
                    .unwrap_err();
                assert_eq!(error.errno(), Errno::NoEntry.number());
            }
            3 => fs.flush().unwrap(),
            4 => {
                let size = random.below(300_000);
                let ino = fs.lookup(directory, name.as_bytes()).unwrap().ino;
                fs.truncate(ino, size, NOW).unwrap();
                files.get_mut(&name).unwrap().resize(usize::try_from(size).unwrap(), 0);
            }
            5 => {
                let ino = fs.lookup(directory, name.as_bytes()).unwrap().ino;
                assert_eq!(read_all(fs, ino), files[&name], "{name}");
            }
            6 => {
                let copy = format!("{thread}-copy-{}", random.below(3));
                let source = fs.lookup(directory, name.as_bytes()).unwrap().ino;
                if files.remove(&copy).is_some() {
                    fs.unlink(directory, copy.as_bytes(), NOW).unwrap();
                }
                fs.clone_tree(source, directory, copy.as_bytes(), NOW).unwrap();
                files.insert(copy, files[&name].clone());
            }
            7 => {
                let ino = fs.lookup(directory, name.as_bytes()).unwrap().ino;
                let (at, length) = (random.below(100_000), 1 + random.below(50_000));
                fs.preallocate(ino, Preallocation::Punch, at, length, NOW).unwrap();
                let content = files.get_mut(&name).unwrap();
                let end = usize::try_from(at + length).unwrap().min(content.len());
                let at = usize::try_from(at).unwrap().min(end);
                content[at..end].fill(0);
            }
            _ => {
                let ino = fs.lookup(directory, name.as_bytes()).unwrap().ino;
                let at = usize::try_from(random.below(150_000)).unwrap();
                let mut bytes = vec![0; 1 + usize::try_from(random.below(70_000)).unwrap()];
                random.fill(&mut bytes);
                assert_eq!(fs.write(ino, at as u64, &bytes, NOW).unwrap(), bytes.len());
                let content = files.get_mut(&name).unwrap();
                content.resize(content.len().max(at + bytes.len()), 0);
                content[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        }
    }
    files
}

/// A pool so small, with a journal so small, that changes wait for the checkpoint thread for every reason there is.
#[test]
fn changes_that_wait_for_the_checkpoint_thread_are_not_left_waiting() {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for journal_bytes in [256 << 10, 260 << 10, 512 << 10] {
            let disk: Arc<dyn Disk> = Arc::new(MemDisk::new(16 << 20));
            let options = FormatOptions {
                journal_bytes: Some(journal_bytes),
                ..FormatOptions::default()
            };
            format_disk(&*disk, &options, &Seeds::from_number(4), &Host::this()).unwrap();
            let fs = open(&disk);
            for round in 0..3_u64 {
                let mut names = Vec::new();
                loop {
                    let name = format!("{round}-{}", names.len());
                    let created = fs.create(Ino::ROOT, name.as_bytes(), &new(Kind::File));
                    let written = created.and_then(|file| {
                        names.push(name);
                        fs.write(file.ino, 0, &vec![7; 30_000], NOW)?;
                        fs.set_xattr(file.ino, b"user.long", &[1; 2000], 0, NOW)
                    });
                    if let Err(error) = written {
                        assert_eq!(error.errno(), Errno::NoSpace.number());
                        break;
                    }
                }
                assert!(names.len() > 50, "the pool was full after {} files", names.len());
                for name in names {
                    fs.unlink(Ino::ROOT, name.as_bytes(), NOW).unwrap();
                }
                fs.checkpoint().unwrap();
                fs.checkpoint().unwrap();
            }
            fs.close().unwrap();
            assert_sound(disk).unwrap();
        }
        done.send(()).unwrap();
    });
    finished
        .recv_timeout(Duration::from_secs(60))
        .expect("somebody waits, or failed");
}

#[test]
fn many_threads_find_what_each_of_them_left() {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new(256 << 20));
    let small_journal = FormatOptions {
        journal_bytes: Some(512 << 10),
        ..FormatOptions::default()
    };
    format_disk(&*disk, &small_journal, &Seeds::from_number(3), &Host::this()).unwrap();
    let fs = open(&disk);
    let shared = fs.create(Ino::ROOT, b"shared", &new(Kind::Directory)).unwrap().ino;
    let left: Vec<Files> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let fs = fs.clone();
                scope.spawn(move || work(&fs, shared, thread))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let expect = |fs: &Fs| {
        let names: usize = left.iter().map(BTreeMap::len).sum();
        assert_eq!(fs.list_all(shared).unwrap().len(), names);
        for (name, content) in left.iter().flatten() {
            let ino = fs.lookup(shared, name.as_bytes()).unwrap().ino;
            assert!(
                read_all(fs, ino) == *content,
                "{name} does not hold what its thread left"
            );
        }
    };
    expect(&fs);
    // As a crash of the process leaves it, then as closing does.
    drop(fs);
    assert_sound(Arc::clone(&disk)).unwrap();
    let fs = open(&disk);
    expect(&fs);
    fs.close().unwrap();
    assert_sound(Arc::clone(&disk)).unwrap();
    expect(&open(&disk));
}

#[test]
fn a_pool_that_rests_has_an_empty_journal() {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new(64 << 20));
    format_disk(&*disk, &FormatOptions::default(), &Seeds::from_number(5), &Host::this()).unwrap();
    let fs = open(&disk);
    for number in 0..100 {
        fs.create(Ino::ROOT, format!("f{number}").as_bytes(), &new(Kind::File))
            .unwrap();
    }
    let used = || fs.measure(LONG_ENOUGH).unwrap().journal.used;
    assert!(used() > 0);
    let begin = Instant::now();
    while used() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(30), "{} bytes are left", used());
        std::thread::sleep(Duration::from_millis(50));
    }
    fs.close().unwrap();
}
