// SPDX-License-Identifier: MIT OR Apache-2.0

//! The engine against kernel filesystems, on the same storage, interleaved: files of a pool in a file of a directory, the
//! same work on files of that directory, and of any others given.
//!
//! `cargo bench -p vexfs --bench host -- NAME=DIRECTORY [NAME=DIRECTORY…]`
//!
//! The pool lies in the first directory. `cargo xtask bench engine` prepares directories on ext4 and btrfs and runs this.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod support;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use support::{FILE, NOW, Numbers};
use vexfs::fs::{Fs, MountOptions};
use vexfs::pool::format::{FormatOptions, format_path};
use vexfs::units::Ino;

const ROUNDS: usize = 5;
const CREATES: u64 = 50_000;
const FILE_BYTES: u64 = 256 << 20;
const SEQUENTIAL_BYTES: u64 = 512 << 20;
const PIECE: usize = 1 << 20;

/// What is measured: its name, and how to read the figure.
const WORK: [(&str, &str); 6] = [
    ("create empty files in one directory", "files/s"),
    ("overwrite 4 KiB at random, fsync after each", "writes/s"),
    ("overwrite 4 KiB at random, fsync after 8", "writes/s"),
    ("overwrite 4 KiB at random, fsync after 64", "writes/s"),
    ("write 512 MiB in sequence, fsync at the end", "MiB/s"),
    ("read 512 MiB in sequence, nothing cached", "MiB/s"),
];

/// The same calls on a directory and on a pool.
trait Subject {
    fn create(&mut self, name: &str);
    /// Opens, and creates if need be, the file that the following calls are about.
    fn open(&mut self, name: &str);
    fn write(&mut self, at: u64, bytes: &[u8]);
    fn read(&mut self, at: u64, into: &mut [u8]);
    fn fsync(&mut self);
    fn remove_all(&mut self);
}

struct Directory {
    path: PathBuf,
    file: Option<File>,
}

impl Directory {
    fn file(&self) -> &File {
        self.file.as_ref().expect("opened before")
    }
}

impl Subject for Directory {
    fn create(&mut self, name: &str) {
        File::create_new(self.path.join(name)).expect("create");
    }

    fn open(&mut self, name: &str) {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path.join(name));
        self.file = Some(file.expect("open"));
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        self.file().write_all_at(bytes, at).expect("write");
    }

    fn read(&mut self, at: u64, into: &mut [u8]) {
        self.file().read_exact_at(into, at).expect("read");
    }

    fn fsync(&mut self) {
        self.file().sync_data().expect("fdatasync");
    }

    fn remove_all(&mut self) {
        self.file = None;
        std::fs::remove_dir_all(&self.path).expect("remove");
        std::fs::create_dir(&self.path).expect("create");
    }
}

struct PoolFile {
    path: PathBuf,
    fs: Option<Fs>,
    ino: Ino,
}

impl PoolFile {
    fn fs(&self) -> &Fs {
        self.fs.as_ref().expect("mounted before")
    }
}

impl Subject for PoolFile {
    fn create(&mut self, name: &str) {
        self.fs().create(Ino::ROOT, name.as_bytes(), &FILE).expect("create");
    }

    fn open(&mut self, name: &str) {
        let found = self.fs().lookup(Ino::ROOT, name.as_bytes());
        let found = found.or_else(|_| self.fs().create(Ino::ROOT, name.as_bytes(), &FILE));
        self.ino = found.expect("create").ino;
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        assert_eq!(self.fs().write(self.ino, at, bytes, NOW).expect("write"), bytes.len());
    }

    fn read(&mut self, at: u64, into: &mut [u8]) {
        assert_eq!(self.fs().read(self.ino, at, into).expect("read"), into.len());
    }

    fn fsync(&mut self) {
        self.fs().flush().expect("flush");
    }

    fn remove_all(&mut self) {
        self.fs = None;
        let options = FormatOptions {
            size_bytes: Some(4 << 30),
            force: true,
            ..FormatOptions::default()
        };
        format_path(&self.path, &options).expect("format");
        self.fs = Some(Fs::open(&self.path, &MountOptions::default()).expect("open"));
    }
}

fn measure(subject: &mut dyn Subject, work: usize) -> f64 {
    let mut numbers = Numbers(work as u64 + 1);
    match work {
        0 => {
            let names: Vec<String> = (0..CREATES).map(|number| format!("file-{number}")).collect();
            let start = Instant::now();
            for name in &names {
                subject.create(name);
            }
            CREATES as f64 / start.elapsed().as_secs_f64()
        }
        1..=3 => {
            let (every, count) = [(1, 400), (8, 3200), (64, 12_800)][work - 1];
            subject.open("overwritten");
            let piece = vec![3; PIECE];
            for at in 0..FILE_BYTES / PIECE as u64 {
                subject.write(at * PIECE as u64, &piece);
            }
            subject.fsync();
            let block = [5; 4096];
            let start = Instant::now();
            for number in 1..=count {
                subject.write(numbers.below(FILE_BYTES >> 12) << 12, &block);
                if number % every == 0 {
                    subject.fsync();
                }
            }
            f64::from(count) / start.elapsed().as_secs_f64()
        }
        4 => {
            subject.open("sequential");
            let piece = vec![7; PIECE];
            let start = Instant::now();
            for at in 0..SEQUENTIAL_BYTES / PIECE as u64 {
                subject.write(at * PIECE as u64, &piece);
            }
            subject.fsync();
            (SEQUENTIAL_BYTES >> 20) as f64 / start.elapsed().as_secs_f64()
        }
        _ => {
            // Follows writing.
            drop_caches();
            let mut piece = vec![0; PIECE];
            let start = Instant::now();
            for at in 0..SEQUENTIAL_BYTES / PIECE as u64 {
                subject.read(at * PIECE as u64, &mut piece);
            }
            (SEQUENTIAL_BYTES >> 20) as f64 / start.elapsed().as_secs_f64()
        }
    }
}

/// Needs root; without it, reading is measured from the page cache, and that is said.
fn drop_caches() {
    nix::unistd::sync();
    if let Err(error) = std::fs::write("/proc/sys/vm/drop_caches", "3") {
        eprintln!("caches are not dropped ({error}): what is read may be cached");
    }
}

fn main() {
    let named: Vec<(String, PathBuf)> = std::env::args()
        .filter_map(|word| {
            word.split_once('=')
                .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
        })
        .collect();
    let Some((_, first)) = named.first() else {
        println!("host: give directories to compare with, as NAME=DIRECTORY; the pool lies in the first");
        return;
    };
    let mut subjects: Vec<(String, Box<dyn Subject>)> = vec![("vexfs".into(), Box::new(pool_in(first)))];
    for (name, path) in &named {
        let path = path.join("compared");
        std::fs::create_dir_all(&path).expect("create");
        subjects.push((name.clone(), Box::new(Directory { path, file: None })));
    }
    let mut figures = vec![vec![Vec::new(); WORK.len()]; subjects.len()];
    for _ in 0..ROUNDS {
        for (index, (_, subject)) in subjects.iter_mut().enumerate() {
            for (work, figures) in figures[index].iter_mut().enumerate() {
                // Reading follows writing.
                if work != 5 {
                    subject.remove_all();
                }
                figures.push(measure(&mut **subject, work));
            }
            subject.remove_all();
        }
    }
    report(
        &subjects.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        &figures,
    );
    std::fs::remove_file(first.join("host.vexfs")).expect("remove the pool");
}

fn pool_in(directory: &Path) -> PoolFile {
    PoolFile {
        path: directory.join("host.vexfs"),
        fs: None,
        ino: Ino(0),
    }
}

/// A Markdown table: medians with their ranges, and the ratio of the first to each other, as the median of the rounds'.
fn report(names: &[&str], figures: &[Vec<Vec<f64>>]) {
    println!("| work | unit | {} |", names.join(" | "));
    println!("|---|---|{}", "---|".repeat(names.len()));
    for (work, (name, unit)) in WORK.iter().enumerate() {
        let cells: Vec<String> = figures
            .iter()
            .enumerate()
            .map(|(index, subject)| {
                let mut sorted = subject[work].clone();
                sorted.sort_by(f64::total_cmp);
                let (low, median, high) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
                let mut ratios: Vec<f64> = figures[0][work]
                    .iter()
                    .zip(&subject[work])
                    .map(|(ours, theirs)| ours / theirs)
                    .collect();
                ratios.sort_by(f64::total_cmp);
                let ratio = if index == 0 {
                    String::new()
                } else {
                    format!(", ours × {:.2}", ratios[ratios.len() / 2])
                };
                format!("{median:.0} ({low:.0}–{high:.0}){ratio}")
            })
            .collect();
        println!("| {name} | {unit} | {} |", cells.join(" | "));
    }
}
