// SPDX-License-Identifier: MIT OR Apache-2.0

//! A filesystem without space: written full by several writers, in several ways, emptied, and again.
//!
//! What was accepted is kept: whatever a write said it took reads back, and no fsync or close reports a loss afterwards.
//! Work that needs no space to stay still works on the full filesystem. What is deleted comes back as free space.
//!
//! Stores into mapped memory are left out: the kernel accepts them without asking anybody for space.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::sys::statvfs::statvfs;

use super::aligned::aligned;
use super::target::Target;
use super::{Case, Session};

/// The suite.
pub const CASES: &[Case] = &[Case {
    suite: "full",
    name: "a_full_filesystem_keeps_what_it_accepted_and_gives_back_what_is_deleted",
    quick: 180,
    full: 3600,
    body,
}];

const SIZE: (u64, u64) = (384 << 20, 2 << 30);
const LOOPS: u32 = 3;
const BLOCK: usize = 4096;
/// So often each writer must be refused before it believes that there is no space.
const REFUSALS: u32 = 5;
/// For how long deleted space may be on its way back.
const PATIENCE: Duration = Duration::from_secs(20);
/// What may stay taken after everything is deleted, in parts of the filesystem: first room that is kept for writing down
/// what changed, then, mounted anew, what the tables have grown by.
const KEPT_PARTS: [u64; 2] = [32, 100];

/// Bytes that were accepted: where, how many, and from which seed they follow.
#[derive(Debug, Clone, Copy)]
struct Piece {
    offset: u64,
    length: usize,
    seed: u64,
}

/// Writes until it believes that there is no space.
type Writer = fn(&Path, &mut fastrand::Rng, &mut Book) -> Result<()>;

/// What one writer left.
#[derive(Debug, Default)]
struct Book {
    files: Vec<(PathBuf, Vec<Piece>)>,
    refusals: u32,
}

fn body(session: &Session) -> Result<()> {
    let mut random = session.random();
    let size = session.pick(SIZE.0, SIZE.1);
    session.with_target(size, |target| {
        let mut first_free = None;
        for round in 1..=LOOPS {
            let root = target.directory().join("files");
            fs::create_dir(&root)?;
            let before = free(target)?;
            let books = fill(&root, &mut random)?;
            let left = free(target)?;
            let taken: u64 = books
                .iter()
                .flat_map(|book| &book.files)
                .map(|(_, pieces)| bytes(pieces))
                .sum();
            println!(
                "loop {round}: {} MiB free, {} MiB accepted, {} MiB left",
                before >> 20,
                taken >> 20,
                left >> 20
            );
            ensure!(
                taken > before / 2,
                "a filesystem with {before} bytes free accepted only {taken}"
            );
            verify(&books).context("before the filesystem was mounted anew")?;
            target.remount().context("mounting the full filesystem anew")?;
            verify(&books).context("after the filesystem was mounted anew")?;
            let begin = Instant::now();
            work_without_space(&root, &books).context("on the full filesystem")?;
            let worked = begin.elapsed();
            let begin = Instant::now();
            fs::remove_dir_all(&root).context("deleting everything from the full filesystem")?;
            println!("  worked there for {worked:?}, deleted for {:?}", begin.elapsed());
            let wanted = *first_free.get_or_insert(before);
            comes_back(target, wanted, size / KEPT_PARTS[0])?;
            target.unmount()?;
            target.check()?;
            target.mount()?;
            comes_back(target, wanted, size / KEPT_PARTS[1]).context("mounted anew")?;
        }
        Ok(())
    })
}

fn free(target: &dyn Target) -> Result<u64> {
    let stat = statvfs(target.directory()).context("asking for free space")?;
    Ok(stat.blocks_free() * stat.fragment_size())
}

fn comes_back(target: &dyn Target, wanted: u64, kept: u64) -> Result<()> {
    let start = Instant::now();
    loop {
        nix::unistd::sync();
        let now = free(target)?;
        if now + kept >= wanted {
            println!("  {} KiB did not come back", wanted.saturating_sub(now) >> 10);
            return Ok(());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{wanted} bytes were free at first; after everything was deleted {now} are"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// Writes until there is no space, all writers at once.
fn fill(root: &Path, random: &mut fastrand::Rng) -> Result<Vec<Book>> {
    let writers: [Writer; 6] = [
        large_file,
        small_files,
        random_writes,
        appends_with_fsync,
        preallocated,
        past_the_cache,
    ];
    thread::scope(|scope| {
        let working: Vec<_> = writers
            .into_iter()
            .enumerate()
            .map(|(number, writer)| {
                let mut random = random.fork();
                let directory = root.join(format!("w{number}"));
                scope.spawn(move || -> Result<Book> {
                    let mut book = Book::default();
                    match fs::create_dir(&directory) {
                        Err(error) if refused(&error) => return Ok(book),
                        made => made?,
                    }
                    writer(&directory, &mut random, &mut book).with_context(|| format!("writer {number}"))?;
                    Ok(book)
                })
            })
            .collect();
        let ended = working.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|book| book.unwrap_or_else(|_| bail!("a writer panicked")))
            .collect()
    })
}

fn refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOSPC as i32)
}

impl Book {
    /// Whether the writer goes on after this refusal. Others may still free or take space in between.
    fn goes_on(&mut self) -> bool {
        self.refusals += 1;
        thread::sleep(Duration::from_millis(5));
        self.refusals < REFUSALS
    }
}

/// Writes one piece, and notes what was accepted of it. Says whether there was space.
fn put(file: &File, offset: u64, length: usize, seed: u64, pieces: &mut Vec<Piece>) -> Result<bool> {
    match file.write_at(&pattern(seed, length), offset) {
        Ok(length) => {
            pieces.push(Piece { offset, length, seed });
            Ok(true)
        }
        Err(error) if refused(&error) => Ok(false),
        Err(error) => Err(error).context("writing"),
    }
}

/// Syncs and closes; nothing that was accepted may be reported lost.
fn finish(file: File, path: PathBuf, pieces: Vec<Piece>, book: &mut Book) -> Result<()> {
    file.sync_all()
        .with_context(|| format!("fsync of {} after its writes were accepted", path.display()))?;
    nix::unistd::close(file).with_context(|| format!("closing {} after its writes were accepted", path.display()))?;
    book.files.push((path, pieces));
    Ok(())
}

fn large_file(directory: &Path, random: &mut fastrand::Rng, book: &mut Book) -> Result<()> {
    let path = directory.join("large");
    let Some(file) = create(&path)? else { return Ok(()) };
    let mut pieces: Vec<Piece> = Vec::new();
    loop {
        let end = pieces.last().map_or(0, |piece| piece.offset + piece.length as u64);
        if !put(&file, end, 1 << 20, random.u64(..), &mut pieces)? && !book.goes_on() {
            return finish(file, path, pieces, book);
        }
    }
}

fn small_files(directory: &Path, random: &mut fastrand::Rng, book: &mut Book) -> Result<()> {
    for number in 0.. {
        let path = directory.join(format!("small-{number}"));
        let Some(file) = create(&path)? else {
            if book.goes_on() {
                continue;
            }
            return Ok(());
        };
        let length = if random.bool() {
            random.usize(1..2000)
        } else {
            random.usize(1..60_000)
        };
        let mut pieces = Vec::new();
        let written = put(&file, 0, length, random.u64(..), &mut pieces)?;
        // Most programs close without fsync. What the kernel says then counts as well.
        nix::unistd::close(file).with_context(|| format!("closing {}", path.display()))?;
        book.files.push((path, pieces));
        if !written && !book.goes_on() {
            break;
        }
    }
    Ok(())
}

/// Blocks in any order, so that half of them go over others.
fn random_writes(directory: &Path, random: &mut fastrand::Rng, book: &mut Book) -> Result<()> {
    let path = directory.join("random");
    let Some(file) = create(&path)? else { return Ok(()) };
    let mut pieces: Vec<Piece> = Vec::new();
    loop {
        let slot = random.u64(..8192) * BLOCK as u64;
        let mut accepted = Vec::new();
        if put(&file, slot, BLOCK, random.u64(..), &mut accepted)? {
            pieces.retain(|piece| piece.offset != slot);
            pieces.append(&mut accepted);
        } else if !book.goes_on() {
            return finish(file, path, pieces, book);
        }
        // Enough went over others; from here on only the others take space.
        if pieces.len() > 6000 {
            return finish(file, path, pieces, book);
        }
    }
}

fn appends_with_fsync(directory: &Path, random: &mut fastrand::Rng, book: &mut Book) -> Result<()> {
    let path = directory.join("log");
    if create(&path)?.is_none() {
        return Ok(());
    }
    let mut file = File::options().append(true).open(&path)?;
    let mut pieces: Vec<Piece> = Vec::new();
    loop {
        let offset = pieces.last().map_or(0, |piece| piece.offset + piece.length as u64);
        let (length, seed) = (random.usize(1..30_000), random.u64(..));
        match file.write(&pattern(seed, length)) {
            Ok(length) => {
                pieces.push(Piece { offset, length, seed });
                file.sync_data().context("fdatasync after an accepted append")?;
            }
            Err(error) if refused(&error) => {
                if !book.goes_on() {
                    return finish(file, path, pieces, book);
                }
            }
            Err(error) => return Err(error).context("appending"),
        }
    }
}

/// Room that was set aside must suffice, however full the rest is.
fn preallocated(directory: &Path, random: &mut fastrand::Rng, book: &mut Book) -> Result<()> {
    let path = directory.join("preallocated");
    let Some(file) = create(&path)? else { return Ok(()) };
    let blocks: u64 = 2048;
    match fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(blocks * BLOCK as u64)?) {
        Ok(()) => {}
        Err(Errno::ENOSPC) => return Ok(()),
        Err(error) => return Err(error).context("setting room aside"),
    }
    let mut pieces = Vec::new();
    for block in 0..blocks {
        if block % 64 == 0 {
            // The others have filled the rest before the last of these is written.
            thread::sleep(Duration::from_millis(40));
        }
        let written = put(&file, block * BLOCK as u64, BLOCK, random.u64(..), &mut pieces)?;
        ensure!(written, "no space for block {block} of room that was set aside");
    }
    finish(file, path, pieces, book)
}

/// Goes around the page cache, whose dirty pages have the room that is left.
fn past_the_cache(directory: &Path, random: &mut fastrand::Rng, book: &mut Book) -> Result<()> {
    let path = directory.join("direct");
    let Some(file) = create(&path)? else { return Ok(()) };
    let direct = File::options()
        .write(true)
        .custom_flags(OFlag::O_DIRECT.bits())
        .open(&path)
        .context("opening for direct I/O")?;
    let mut pieces: Vec<Piece> = Vec::new();
    loop {
        let offset = pieces.iter().map(|piece| piece.length as u64).sum();
        let (length, seed) = (random.usize(1..33) * BLOCK, random.u64(..));
        match aligned(&pattern(seed, length), |bytes| direct.write_at(bytes, offset)) {
            // Of a part that is no whole block the rest could not be written.
            Ok(length) if length % BLOCK == 0 => pieces.push(Piece { offset, length, seed }),
            Ok(length) => bail!("a direct write of whole blocks took {length} bytes"),
            Err(error) if refused(&error) => {
                if !book.goes_on() {
                    return finish(file, path, pieces, book);
                }
            }
            Err(error) => return Err(error).context("writing directly"),
        }
    }
}

fn create(path: &Path) -> Result<Option<File>> {
    match File::options().read(true).write(true).create_new(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if refused(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("creating {}", path.display())),
    }
}

fn verify(books: &[Book]) -> Result<()> {
    for (path, pieces) in books.iter().flat_map(|book| &book.files) {
        let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        for &Piece { offset, length, seed } in pieces {
            let start = usize::try_from(offset)?;
            let found = content.get(start..start + length);
            ensure!(
                found == Some(&pattern(seed, length)),
                "{}: {length} accepted bytes at {offset} read otherwise",
                path.display()
            );
        }
    }
    Ok(())
}

/// Overwrites, truncates and unlinks, which need no space that stays, must work.
fn work_without_space(root: &Path, books: &[Book]) -> Result<()> {
    let by_size = |largest: bool| {
        let files = books
            .iter()
            .flat_map(|book| &book.files)
            .filter(|(_, pieces)| !pieces.is_empty());
        let key = |(_, pieces): &&(PathBuf, Vec<Piece>)| bytes(pieces);
        if largest {
            files.max_by_key(key)
        } else {
            files.min_by_key(key)
        }
    };
    let (path, _) = by_size(true).context("nothing was written")?;
    let file = File::options().read(true).write(true).open(path)?;
    for block in 0..64 {
        file.write_all_at(&pattern(block, BLOCK), block * BLOCK as u64)
            .with_context(|| format!("overwriting block {block} of {}", path.display()))?;
    }
    file.sync_all().context("fsync after overwriting")?;
    let direct = File::options()
        .write(true)
        .custom_flags(OFlag::O_DIRECT.bits())
        .open(path)?;
    for block in 0..64 {
        let bytes = pattern(block + 64, BLOCK);
        aligned(&bytes, |bytes| direct.write_all_at(bytes, block * BLOCK as u64))
            .with_context(|| format!("overwriting block {block} of {} directly", path.display()))?;
    }
    let mut read = vec![0; BLOCK];
    file.read_exact_at(&mut read, 63 * BLOCK as u64)?;
    ensure!(read == pattern(127, BLOCK), "an overwritten block reads otherwise");
    let renamed = path.with_extension("renamed");
    let name = match fs::rename(path, &renamed) {
        Ok(()) => &renamed,
        // A new name may need room before the old one's comes back.
        Err(error) if refused(&error) => {
            println!("  no space to rename a file");
            path
        }
        Err(error) => return Err(error).context("renaming"),
    };
    let length = file.metadata()?.len();
    file.set_len(length / 2).context("truncating")?;
    file.set_len(0).context("truncating to nothing")?;
    fs::remove_file(name).context("unlinking")?;
    drop(file);
    let (small, _) = by_size(false).context("nothing was written")?;
    fs::remove_file(small).context("unlinking a small file")?;
    // Now there is space again, and it can be used.
    fs::write(root.join("after"), pattern(1, 1 << 20)).context("writing into space that a truncate gave back")?;
    ensure!(
        fs::read(root.join("after"))? == pattern(1, 1 << 20),
        "what was written into it reads otherwise"
    );
    Ok(())
}

fn bytes(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| piece.length as u64).sum()
}

fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}
