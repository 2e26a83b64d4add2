// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lock of a file or device, and who holds it.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};

use super::{Access, Kind};

/// How often, and how far apart, the lock of a device is tried. udev holds it for the time of a look.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// How often the list of locks is read for one that is known to be there.
const READINGS: usize = 10;
/// Room for a list of some hundred locks.
const LIST_BYTES: usize = 64 << 10;

/// Takes the lock, or says why not.
pub(super) fn take(mut file: File, kind: Kind, access: Access) -> Result<Flock<File>, Errno> {
    let how = match access {
        Access::ReadOnly => FlockArg::LockSharedNonblock,
        Access::ReadWrite => FlockArg::LockExclusiveNonblock,
    };
    let mut tries = if kind == Kind::Device { TRIES } else { 1 };
    loop {
        tries -= 1;
        match Flock::lock(file, how) {
            Ok(locked) => return Ok(locked),
            Err((again, Errno::EWOULDBLOCK)) if tries > 0 => file = again,
            Err((_, errno)) => return Err(errno),
        }
        thread::sleep(PAUSE);
    }
}

/// The locks of this machine. The kernel gives them out a page at a time and finds the next page's first by its number,
/// so that a lock that is released meanwhile hides another. Reads are as large as they can be, for few such moments.
fn all_locks() -> io::Result<String> {
    let mut list = String::with_capacity(LIST_BYTES);
    File::open("/proc/locks")?.read_to_string(&mut list)?;
    Ok(list)
}

/// A process that holds the lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Number of the process.
    pub process: u32,
    /// Name of its command, if it still runs.
    pub command: Option<String>,
}

impl Holder {
    /// Who holds a `flock` of this file, by `/proc/locks`. Nobody where the file system numbers its devices differently
    /// there (btrfs does) or the holder lives in another namespace.
    pub(super) fn of(found: &Metadata, kind: Kind) -> Option<Self> {
        let process = (0..READINGS).find_map(|_| locker(&all_locks().ok()?, found, kind))?;
        let command = fs::read_to_string(format!("/proc/{process}/comm")).ok();
        Some(Self {
            process,
            command: command.map(|name| name.trim_end().to_owned()),
        })
    }

    pub(super) fn phrase(holder: Option<&Self>) -> String {
        holder.map(|holder| format!(" by {holder}")).unwrap_or_default()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.process)?;
        match &self.command {
            Some(command) => write!(f, " ({command})"),
            None => Ok(()),
        }
    }
}

/// Finds the line `N: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> …`, with the device in hexadecimal.
fn locker(locks: &str, found: &Metadata, kind: Kind) -> Option<u32> {
    let place = |device: u64, inode: u64| format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let wanted = place(found.dev(), found.ino());
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[_, "FLOCK", _, _, process, at, ..] = words.as_slice() else {
            return None;
        };
        // A device node is locked by its own inode, in the file system that holds the node.
        let same = at == wanted || (kind == Kind::Device && at.ends_with(&format!(":{}", found.ino())));
        process.parse().ok().filter(|&process: &u32| same && process > 0)
    })
}
