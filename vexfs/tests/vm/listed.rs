// SPDX-License-Identifier: MIT OR Apache-2.0

//! Directories that the mount has not made: the server is asked for pieces of them, not for each name, and what the caches
//! say then is true.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::served::{Mount, Server, at, drop_caches};

const FILES: usize = 3000;
/// Pieces of the directory are of some 380 names.
const PIECES: u64 = 10;
/// Names come and go for so long at most; 6000 of them take minutes where every access to memory is checked.
const LONG: Duration = Duration::from_secs(120);

fn name(number: usize) -> String {
    format!("many/file with a name-{number}")
}

/// A pool with a directory of many files, of which a new mount knows nothing.
fn a_mount_of_many_files() -> Result<(Server, Mount)> {
    let server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    fs::create_dir(at("many"))?;
    for number in 0..FILES {
        let file = File::create_new(at(&name(number)))?;
        file.set_len(number as u64)?;
    }
    let mount = mount.again(&server)?;
    Ok((server, mount))
}

fn look(number: usize) -> Result<()> {
    let seen = fs::symlink_metadata(at(&name(number)))?;
    ensure!(seen.len() == number as u64, "{}: {seen:?}", name(number));
    Ok(())
}

/// What somebody does costs at most so many calls.
fn costs(mount: &Mount, at_most: u64, what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = mount.counter("calls")?;
    work().context(what.to_owned())?;
    let cost = mount.counter("calls")? - before;
    println!("{what}: {cost} calls");
    ensure!(cost <= at_most, "{what} took {cost} calls");
    Ok(())
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn a_listed_directory_is_known() -> Result<()> {
    let (server, mount) = a_mount_of_many_files()?;
    let looks = PIECES * 8;
    costs(&mount, 2 * PIECES + looks, "listing, then all attributes", || {
        ensure!(fs::read_dir(at("many"))?.count() == FILES);
        (0..FILES).try_for_each(look)
    })?;
    costs(&mount, 0, "names that are not there", || {
        (0..100).try_for_each(|number| {
            let found = fs::symlink_metadata(at(&format!("many/none-{number}")));
            ensure!(found.is_err_and(|error| error.kind() == ErrorKind::NotFound));
            Ok(())
        })
    })?;
    drop_caches()?;
    costs(&mount, 2 * PIECES + looks, "attributes in another order", || {
        (0..FILES).try_for_each(|number| look(number * 1009 % FILES))
    })?;
    // A name that left the cache is asked for again.
    drop_caches()?;
    (0..FILES).try_for_each(look)?;
    mount.unmount()?;
    server.stop_and_check()
}

/// Names come and go while others list the directory, look names up and drop the caches.
#[lab_guest::test(modules = ["vexfs"], timeout = 600, memory = 2048)]
fn what_is_listed_is_true_while_names_come_and_go() -> Result<()> {
    let (server, mount) = a_mount_of_many_files()?;
    let stop = AtomicBool::new(false);
    // Numbers divisible by 3 stay as they are.
    let stays = |number: usize| number.is_multiple_of(3);
    let working = || !stop.load(Ordering::Relaxed);
    let mut present: BTreeSet<usize> = (0..FILES).collect();
    thread::scope(|scope| -> Result<()> {
        let list = scope.spawn(|| -> Result<()> {
            while working() {
                let mut found = BTreeSet::new();
                for entry in fs::read_dir(at("many"))? {
                    let name = entry?.file_name();
                    let number: usize = name.to_string_lossy().rsplit('-').next().unwrap_or_default().parse()?;
                    found.insert(number);
                }
                let missing: Vec<usize> = (0..FILES).filter(|n| stays(*n) && !found.contains(n)).collect();
                ensure!(missing.is_empty(), "a listing lacks {missing:?}");
            }
            Ok(())
        });
        let looking = scope.spawn(|| -> Result<()> {
            while working() {
                (0..FILES).filter(|number| stays(*number)).try_for_each(look)?;
            }
            Ok(())
        });
        let dropping = scope.spawn(|| -> Result<()> {
            while working() {
                drop_caches()?;
                thread::sleep(Duration::from_millis(300));
            }
            Ok(())
        });
        let mut random = fastrand::Rng::with_seed(7);
        let begun = Instant::now();
        let in_time = |_: &usize| begun.elapsed() < LONG;
        let worked = (0..6000).take_while(in_time).try_for_each(|_| -> Result<()> {
            let number = random.usize(..FILES);
            let path = at(&name(number));
            if stays(number) {
                return Ok(());
            }
            if present.remove(&number) {
                return fs::remove_file(&path).with_context(|| format!("removing {number}"));
            }
            let found = fs::symlink_metadata(&path);
            ensure!(
                found.is_err_and(|error| error.kind() == ErrorKind::NotFound),
                "{number} is there again"
            );
            File::create_new(&path)
                .and_then(|file| file.set_len(number as u64))
                .with_context(|| format!("making {number}"))?;
            present.insert(number);
            look(number)
        });
        stop.store(true, Ordering::Relaxed);
        for thread in [list, looking, dropping] {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        worked
    })?;
    let check = || -> Result<()> {
        ensure!(fs::read_dir(at("many"))?.count() == present.len());
        for number in 0..FILES {
            let found = fs::symlink_metadata(at(&name(number)));
            let right = found.as_ref().map_or(!present.contains(&number), |seen| {
                present.contains(&number) && seen.size() == number as u64
            });
            ensure!(right, "{number}: {found:?}");
        }
        Ok(())
    };
    check().context("in the end")?;
    drop_caches()?;
    check().context("without caches")?;
    ensure!(mount.counter("hostile")? == 0 && mount.counter("degraded")? == 0);
    mount.unmount()?;
    server.stop_and_check()
}
