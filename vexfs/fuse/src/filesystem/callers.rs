// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is known of a caller besides the user and group that a request names: the groups it is in otherwise.
//!
//! They are asked for from `/proc`, which is opened once: the server later has no way to it by name. Where it does not
//! answer, the caller is in no other group, which can only cost it a set-group-ID bit.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

pub(crate) struct Callers {
    processes: Option<OwnedFd>,
}

impl Callers {
    pub(crate) fn new() -> Self {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Self {
            processes: nix::fcntl::open("/proc", flags, Mode::empty()).ok(),
        }
    }

    /// Whether a caller is in a group, or is the administrator and need not be.
    pub(crate) fn is_in_group(&self, uid: u32, gid: u32, process: u32, group: u32) -> bool {
        uid == 0 || gid == group || self.groups(process).is_some_and(|groups| groups.contains(&group))
    }

    /// The groups of a process, if they can be asked for.
    pub(super) fn groups(&self, process: u32) -> Option<Vec<u32>> {
        let processes = self.processes.as_ref()?;
        let path = format!("{process}/status");
        let status = openat(processes.as_fd(), path.as_str(), OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let mut text = String::new();
        File::from(status).take(1 << 16).read_to_string(&mut text).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Groups:"))?;
        Some(
            line.split_ascii_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_a_process_are_found() {
        let mine: Vec<u32> = nix::unistd::getgroups()
            .unwrap()
            .iter()
            .map(|group| group.as_raw())
            .collect();
        let found = Callers::new().groups(std::process::id()).unwrap();
        assert!(mine.iter().all(|group| found.contains(group)));
        assert!(!Callers::new().is_in_group(1, 1, 0, 2));
    }
}
