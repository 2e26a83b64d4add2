// SPDX-License-Identifier: MIT OR Apache-2.0

//! Named parts of a pool are damaged, while nobody uses it and while it is mounted.
//!
//! Whatever is damaged, wrong bytes are never read. What is lost is told: by an error of the mount or of the call, or, of names
//! that are gone, by the check. What is not damaged is there.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Output;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use lab::suites::target::On;
use lab_guest::measure::{Promise, check};
use lab_scenarios::{Structure, When};
use nix::errno::Errno;
use vexfs::disk::{Access, FileDisk};
use vexfs::fs::{Fs, MountOptions};
use vexfs::pool::Survey;
use vexfs::pool::superblock::PLACES;
use vexfs::units::{BLOCK_SIZE, FileBlock};

use crate::work::{Book, Found, drop_caches};
use crate::world::{AT, BOUND, World, program};

/// Files in the pool.
const FILES: usize = 40;
/// Their length: several blocks.
const LENGTH: usize = 70_000;
/// The file whose bytes and name are damaged.
const VICTIM: u64 = 17;
/// In `book` of the mount.
const BOOK: &str = "book";

/// A stretch of the pool's file.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    at: u64,
    length: u64,
}

/// Where a structure lies in a pool that is not served.
fn locate(pool: &Path, structure: Structure) -> Result<Vec<Stretch>> {
    let disk = FileDisk::open(pool, Access::ReadOnly)?;
    let survey = Survey::of(&disk);
    let Ok(superblock) = survey.newest() else {
        bail!("the pool has no superblock");
    };
    let block = BLOCK_SIZE as u64;
    let journal = Stretch {
        at: superblock.journal.start.byte_at(),
        length: u64::from(superblock.journal.count) * block,
    };
    match structure {
        Structure::Superblock => Ok(PLACES
            .iter()
            .map(|place| Stretch {
                at: place.byte_at(),
                length: block,
            })
            .collect()),
        Structure::Journal => Ok(vec![journal]),
        Structure::Metadata => {
            let first = superblock.manifest.first.context("a pool with files has tables")?;
            Ok(vec![Stretch {
                at: first.byte_at(),
                length: block,
            }])
        }
        Structure::Directory => {
            drop(disk);
            let name = format!("promised-{VICTIM:04}");
            let found = places_of(pool, name.as_bytes())?;
            let inside = |at: &u64| (journal.at..journal.at + journal.length).contains(at);
            let pages: Vec<Stretch> = found
                .into_iter()
                .filter(|at| !inside(at))
                .map(|at| Stretch {
                    at: at / block * block,
                    length: block,
                })
                .collect();
            ensure!(!pages.is_empty(), "the name is nowhere outside the journal");
            Ok(pages)
        }
        Structure::Data => {
            drop(disk);
            let options = MountOptions {
                read_only: true,
                ..MountOptions::default()
            };
            let fs = Fs::open(pool, &options)?;
            let ino = fs.resolve(format!("{BOOK}/promised-{VICTIM:04}").as_bytes())?.ino;
            let extents = fs.extents(ino, FileBlock(3), 1)?;
            match extents.first().map(|extent| &extent.source) {
                Some(vexfs::fs::Source::Blocks(run, _)) => Ok(vec![Stretch {
                    at: run.start.byte_at(),
                    length: block,
                }]),
                other => bail!("the file's bytes are not in blocks: {other:?}"),
            }
        }
        Structure::Vectors => bail!("vectors are not among what is damaged here"),
    }
}

/// Where bytes occur in a file.
fn places_of(path: &Path, wanted: &[u8]) -> Result<Vec<u64>> {
    let bytes = fs::read(path)?;
    let found = bytes
        .windows(wanted.len())
        .enumerate()
        .filter(|(_, window)| *window == wanted);
    Ok(found.map(|(at, _)| at as u64).collect())
}

/// Turns over some bits in each block of the stretches.
fn spoil(pool: &Path, stretches: &[Stretch]) -> Result<()> {
    let file = File::options().read(true).write(true).open(pool)?;
    for stretch in stretches {
        let mut bytes = vec![0; usize::try_from(stretch.length)?];
        file.read_exact_at(&mut bytes, stretch.at)?;
        for (at, byte) in bytes.iter_mut().enumerate() {
            if at % 512 == 100 {
                *byte ^= 0x41;
            }
        }
        file.write_all_at(&bytes, stretch.at)?;
    }
    Ok(file.sync_all()?)
}

/// What `check` says of the pool, and whether it finds an error.
fn checked(pool: &Path) -> Result<(bool, String)> {
    let output: Output = std::process::Command::new(program())
        .args(["check", "--scrub"])
        .arg(pool)
        .output()?;
    ensure!(output.status.code().is_some(), "the check ended with {}", output.status);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Ok((!output.status.success(), said))
}

/// Judges what is found in the mount.
fn judge(book: &Book, structure: Structure, told: bool) -> Result<()> {
    drop_caches()?;
    let start = Instant::now();
    let found = book.look();
    let took = start.elapsed();
    let with = |wanted: fn(&Found) -> bool| found.iter().filter(|(_, found)| wanted(found)).count();
    let (right, wrong, missing) = (
        with(|found| *found == Found::Right),
        with(|found| *found == Found::Wrong),
        with(|found| *found == Found::Missing),
    );
    let errors: Vec<Errno> = found
        .iter()
        .filter_map(|(_, found)| match found {
            Found::Error(number) => Some(Errno::from_raw(*number)),
            _ => None,
        })
        .collect();
    let words = format!("{structure:?}: {right} files right, {wrong} wrong, {missing} missing, errors {errors:?}");
    check(Promise::Integrity, wrong == 0 && (missing == 0 || told), words.clone())?;
    let known = errors.iter().all(|errno| matches!(errno, Errno::EIO | Errno::EUCLEAN));
    check(Promise::RightErrno, known && took < BOUND, words.clone())?;
    if structure == Structure::Data {
        let exactly = |number: u64| {
            found
                .iter()
                .find(|(found, _)| *found == number)
                .map(|(_, found)| *found)
        };
        check(
            Promise::RightErrno,
            right == FILES - 1 && exactly(VICTIM) == Some(Found::Error(Errno::EIO as i32)),
            format!("one block of one file is damaged: {words}"),
        )?;
    }
    Ok(())
}

/// Damage while nobody uses the pool; the journal counts only in one whose server was killed.
fn at_rest(on: On, structure: Structure) -> Result<()> {
    let mut world = World::with_file(on, 96 << 20)?;
    let mut book = Book::new(&Path::new(AT).join(BOOK))?;
    book.fill(FILES, LENGTH)?;
    let pool = World::pool();
    let (saved, sound) = (pool.with_file_name("saved.img"), pool.with_file_name("sound.img"));
    if structure == Structure::Journal {
        // As a machine that lost power leaves it: not closed, all that counts in the journal.
        fs::copy(&pool, &saved)?;
    }
    world.target()?.unmount()?;
    if structure != Structure::Journal {
        fs::copy(&pool, &saved)?;
    }
    fs::copy(&pool, &sound)?;
    let stretches = locate(&saved, structure)?;
    spoil(&saved, &stretches)?;
    let (told, said) = checked(&saved)?;
    check(
        Promise::GracefulError,
        told,
        format!("{structure:?}: the check says: {said:.200}"),
    )?;
    fs::rename(&saved, &pool)?;
    let start = Instant::now();
    let mounted = world.target()?.mount();
    let took = start.elapsed();
    match mounted {
        Ok(()) => judge(&book, structure, told)?,
        Err(error) => check(
            Promise::GracefulError,
            took < BOUND && structure != Structure::Data,
            format!("{structure:?}: the mount is refused after {took:.1?}: {error:#}"),
        )?,
    }
    // The pool as it was is mounted as ever.
    world.go_on_with(&sound)?;
    book.verify("on the sound pool, after the damaged one")?;
    world.finish()
}

/// Damage below a mount that is used; then below the next one.
fn in_use(on: On, structure: Structure) -> Result<()> {
    let mut world = World::with_file(on, 96 << 20)?;
    let mut book = Book::new(&Path::new(AT).join(BOOK))?;
    book.fill(FILES, LENGTH)?;
    let pool = World::pool();
    world.target()?.unmount()?;
    let sound = pool.with_file_name("sound.img");
    fs::copy(&pool, &sound)?;
    let stretches = locate(&pool, structure)?;
    world.target()?.mount()?;
    ensure!(
        book.look().iter().all(|(_, found)| *found == Found::Right),
        "before the damage"
    );
    spoil(&pool, &stretches)?;
    judge(&book, structure, false)?;
    // Work beside the damage ends, well or with an error.
    let start = Instant::now();
    let made = fs::write(Path::new(AT).join("beside"), "beside")
        .and_then(|()| File::open(Path::new(AT).join("beside"))?.sync_all());
    let errno = made.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw);
    check(
        Promise::GracefulError,
        start.elapsed() < BOUND && matches!(errno, None | Some(Errno::EIO | Errno::EROFS | Errno::EUCLEAN)),
        format!(
            "{structure:?}: work beside it ends after {:.1?} with {errno:?}",
            start.elapsed()
        ),
    )?;
    world.target()?.kill_server()?;
    let again = world.target()?.remount();
    match again {
        Ok(()) => judge(&book, structure, checked_copy(&pool)?)?,
        Err(error) => check(
            Promise::GracefulError,
            structure != Structure::Data,
            format!("{structure:?}: the next mount is refused: {error:#}"),
        )?,
    }
    world.go_on_with(&sound)?;
    book.verify("on the sound pool, after the damaged one")?;
    world.finish()
}

/// Whether the check finds something wrong with a copy of a pool that is served.
fn checked_copy(pool: &Path) -> Result<bool> {
    let copy = pool.with_file_name("copy.img");
    fs::copy(pool, &copy)?;
    let told = checked(&copy)?.0;
    fs::remove_file(&copy)?;
    Ok(told)
}

fn each(on: On, when: When, structures: &[Structure]) -> Result<()> {
    for &structure in structures {
        let result = match when {
            When::AtRest => at_rest(on, structure),
            When::AtRunTime => in_use(on, structure),
        };
        result.with_context(|| format!("{structure:?}, {when:?}"))?;
    }
    Ok(())
}

const AT_REST: &[Structure] = &[
    Structure::Superblock,
    Structure::Journal,
    Structure::Metadata,
    Structure::Data,
    Structure::Directory,
];
const IN_USE: &[Structure] = &[Structure::Superblock, Structure::Data, Structure::Directory];

#[lab_guest::test(disks = ["disk:768"], timeout = 480, stress = true)]
fn damage_of_a_pool_at_rest_is_told_and_never_read_through_fuse() -> Result<()> {
    each(On::Fuse, When::AtRest, AT_REST)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 480, stress = true)]
fn damage_of_a_pool_at_rest_is_told_and_never_read_through_the_kernel_mount() -> Result<()> {
    each(On::Module, When::AtRest, AT_REST)
}

#[lab_guest::test(disks = ["disk:768"], timeout = 480, stress = true)]
fn damage_of_a_pool_in_use_is_told_and_never_read_through_fuse() -> Result<()> {
    each(On::Fuse, When::AtRunTime, IN_USE)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 480, stress = true)]
fn damage_of_a_pool_in_use_is_told_and_never_read_through_the_kernel_mount() -> Result<()> {
    each(On::Module, When::AtRunTime, IN_USE)
}
