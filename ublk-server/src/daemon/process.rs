// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the process of a daemon is, beyond its threads.
//!
//! | what | why |
//! |---|---|
//! | a mount namespace of its own, with only the mounts it needs | nobody takes a mount away from below it, and it holds none of theirs, least of all one on a device of its own |
//! | writes out dirty memory (`PR_SET_IO_FLUSHER`) | its own allocations must not wait for memory whose way out leads through it |
//! | `oom_score_adj` −1000 | killing it frees little and stops all who wait for it |
//! | limits on descriptors and locked memory lifted as far as they may be | a queue is a ring, a volume some threads |
//! | umask 077, working directory `/` | what it makes is its own; no file system is held by accident |
//! | memory locked, if asked for | under memory pressure none of its pages must be read back first |
//!
//! What is not permitted is said in the log, and done without: the daemon works all the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use libublk::ctrl::UblkCtrl;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, setsid};

/// Places that the daemon and the program that comes after it need beside those of its own.
const NEEDED: [&str; 8] = ["/proc", "/sys", "/dev", "/run", "/usr/lib", "/lib", "/lib64", "/etc"];

/// Sets up this process, which has one thread. Of mounts only those stay that lead to `needed` paths; paths that are not
/// absolute lead elsewhere afterwards.
pub(super) fn prepare(needed: &[&Path], lock_memory: bool) {
    umask(Mode::from_bits_truncate(0o077));
    note("changing to /", chdir("/"));
    note("a mount namespace of its own", own_mounts(needed));
    // The thread is this one, and all those it starts.
    UblkCtrl::init_queue_thread();
    note("oom_score_adj of -1000", fs::write("/proc/self/oom_score_adj", "-1000"));
    for resource in [Resource::RLIMIT_NOFILE, Resource::RLIMIT_MEMLOCK] {
        note("lifting a limit", lift(resource));
    }
    if lock_memory {
        // Pages that are not there yet are locked when they come: buffers are mostly never used.
        let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
        note(
            "locking memory",
            mlockall(flags | MlockAllFlags::from_bits_retain(MCL_ONFAULT)),
        );
    }
}

/// `MCL_ONFAULT` of mlockall(2).
const MCL_ONFAULT: i32 = 4;

/// Leaves the session of whoever started the process. Fails if it leads one, as under a service manager.
pub fn leave_session() {
    if let Err(errno) = setsid() {
        tracing::debug!("stays in its session: {errno}");
    }
}

fn own_mounts(needed: &[&Path]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?;
    let mut mounts: Vec<PathBuf> = mount_points(&fs::read_to_string("/proc/self/mountinfo")?);
    // What is mounted on others first.
    mounts.reverse();
    for point in mounts {
        if !is_needed(&point, needed) {
            // One that stays is no worse than before.
            let _ = umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        }
    }
    Ok(())
}

/// Whether a path leads through a mount.
fn is_needed(point: &Path, needed: &[&Path]) -> bool {
    let mut all = needed.iter().copied().chain(NEEDED.iter().map(Path::new));
    all.any(|path| path.starts_with(point))
}

/// Where something is mounted, in the order of mounting. Names with spaces and the like are written with octal numbers.
fn mount_points(table: &str) -> Vec<PathBuf> {
    let words = table.lines().filter_map(|line| line.split(' ').nth(4));
    let plain = |word: &str| {
        word.replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\")
    };
    words.map(|word| PathBuf::from(plain(word))).collect()
}

fn lift(resource: Resource) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    setrlimit(resource, hard, hard)
}

fn note<E: Into<io::Error>>(what: &str, result: Result<(), E>) {
    if let Err(error) = result {
        let error: io::Error = error.into();
        tracing::warn!("done without {what}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_that_lead_somewhere_stay() {
        let table =
            "1 0 0:1 / / rw - overlay x rw\n2 1 0:2 / /proc rw - proc x rw\n3 1 0:3 / /mnt/a\\040b rw - ext4 x rw\n";
        let points = mount_points(table);
        assert_eq!(points, ["/", "/proc", "/mnt/a b"].map(PathBuf::from));
        let stays = |needed: &str| -> Vec<bool> {
            points
                .iter()
                .map(|point| is_needed(point, &[Path::new(needed)]))
                .collect()
        };
        assert_eq!(stays("/srv/pool"), [true, true, false]);
        assert_eq!(stays("/mnt/a b/pool"), [true, true, true]);
        assert_eq!(stays("/mnt/a bc"), [true, true, false]);
    }
}
