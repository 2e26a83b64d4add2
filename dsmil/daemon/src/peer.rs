// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who is at the other end of a connection, as the kernel knows it, and what they may do.
//!
//! Root and the user that runs `dsmild` may do everything. Others by their groups: those they had when they connected.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use dsmil_client::protocol::Access;
use nix::libc;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Group, geteuid};
use serde::Serialize;

use crate::settings::Settings;

/// Groups that a process may be in, as Linux bounds them.
const GROUPS_MAX: usize = 65536;

/// The other end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) pid: i32,
    #[serde(skip)]
    groups: Vec<libc::gid_t>,
}

impl Peer {
    pub(crate) fn of(socket: &impl AsFd) -> io::Result<Self> {
        let credentials = getsockopt(socket, PeerCredentials)?;
        Ok(Self {
            uid: credentials.uid(),
            gid: credentials.gid(),
            pid: credentials.pid(),
            groups: groups(socket)?,
        })
    }
}

/// The other end's supplementary groups.
fn groups(socket: &impl AsFd) -> io::Result<Vec<libc::gid_t>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `bytes` bytes to the buffer, which has that many, and the length it has
        // written or would need to `bytes`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = usize::try_from(bytes).unwrap_or(usize::MAX) / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > GROUPS_MAX {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// Which groups may do what.
#[derive(Debug)]
pub(crate) struct Rights {
    owner: u32,
    read: Option<u32>,
    operate: Option<u32>,
}

impl Rights {
    /// Looks the groups up; one that does not exist has no members.
    pub(crate) fn look_up(settings: &Settings) -> Result<Self> {
        let find = |name: &str| -> Result<Option<u32>> {
            let group = Group::from_name(name).with_context(|| format!("looking up the group {name}"))?;
            if group.is_none() {
                tracing::warn!(name, "there is no such group: nobody is in it");
            }
            Ok(group.map(|group| group.gid.as_raw()))
        };
        Ok(Self {
            owner: geteuid().as_raw(),
            read: find(&settings.read_group)?,
            operate: find(&settings.operator_group)?,
        })
    }

    /// What a peer may do, if anything.
    pub(crate) fn of(&self, peer: &Peer) -> Option<Access> {
        let is_in = |group: Option<u32>| group.is_some_and(|group| peer.gid == group || peer.groups.contains(&group));
        if peer.uid == 0 || peer.uid == self.owner || is_in(self.operate) {
            Some(Access::Operate)
        } else if is_in(self.read) {
            Some(Access::Read)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer {
            uid,
            gid,
            pid: 1,
            groups: groups.to_vec(),
        }
    }

    #[test]
    fn rights_follow_from_user_and_groups() {
        let rights = Rights {
            owner: 500,
            read: Some(10),
            operate: Some(20),
        };
        for (peer, access) in [
            (peer(0, 0, &[]), Some(Access::Operate)),
            (peer(500, 7, &[]), Some(Access::Operate)),
            (peer(1000, 20, &[]), Some(Access::Operate)),
            (peer(1000, 7, &[1, 20, 10]), Some(Access::Operate)),
            (peer(1000, 10, &[]), Some(Access::Read)),
            (peer(1000, 7, &[10]), Some(Access::Read)),
            (peer(1000, 7, &[1, 2, 3]), None),
        ] {
            assert_eq!(rights.of(&peer), access, "{peer:?}");
        }
    }

    #[test]
    fn groups_that_do_not_exist_have_no_members() {
        let rights = Rights {
            owner: 500,
            read: None,
            operate: None,
        };
        assert_eq!(rights.of(&peer(1000, 0, &[0])), None);
    }

    #[test]
    fn the_kernel_tells_who_we_are_ourselves() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.uid, geteuid().as_raw());
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        let mut ours: Vec<u32> = nix::unistd::getgroups()
            .unwrap()
            .iter()
            .map(|group| group.as_raw())
            .collect();
        let mut theirs = peer.groups;
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(theirs, ours);
    }
}
