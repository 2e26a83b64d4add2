// SPDX-License-Identifier: MIT OR Apache-2.0

//! Replies, and what is in them.

use zerocopy::{Immutable, IntoBytes};

use super::{addresses, wire};
use crate::checksum::Crc;
use crate::error::Errno;
use crate::fs::record::Marks;
use crate::fs::{Extent, Seen, SeenEntry, Source};

/// What a call came to.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: i32,
    pub(super) flags: u16,
    pub(super) payload: Vec<u8>,
}

impl Answer {
    pub(super) fn failed(errno: i32) -> Self {
        Self {
            status: -errno,
            ..Self::default()
        }
    }

    pub(super) fn again() -> Self {
        Self {
            flags: wire::REPLY_AGAIN,
            ..Self::default()
        }
    }

    pub(super) fn no_session() -> Self {
        Self {
            flags: wire::REPLY_NO_SESSION,
            ..Self::default()
        }
    }

    pub(super) fn of(payload: &(impl IntoBytes + Immutable)) -> Self {
        Self {
            payload: payload.as_bytes().to_vec(),
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, more: &(impl IntoBytes + Immutable)) {
        self.payload.extend_from_slice(more.as_bytes());
    }

    /// The bytes of the reply. One that is longer than what will be read says so instead.
    pub(super) fn encode(&self, mut fixed: wire::Reply, capacity: usize) -> Vec<u8> {
        let room = capacity.saturating_sub(size_of::<wire::Reply>());
        let mut payload = self.payload.as_slice();
        if payload.len() > room {
            payload = &[];
            fixed.status = (-Errno::Range.number()).into();
        }
        fixed.length = u32::try_from(payload.len()).unwrap_or(0).into();
        fixed.crc = Crc::of_all([fixed.as_bytes(), payload]).0.into();
        [fixed.as_bytes(), payload].concat()
    }
}

/// A file as the client sees it.
pub(super) fn attr(seen: &Seen) -> wire::Attr {
    let (ino, inode) = (seen.attributes.ino, &seen.attributes.inode);
    let own = addresses::own_window(ino).map(|base| (base, addresses::SPAN));
    let asked = seen.window.map(|(base, window)| (base, window.span));
    let (base, span) = asked.or(own).unwrap_or_default();
    wire::Attr {
        ino: ino.0.into(),
        size: inode.size.into(),
        sectors: seen.attributes.sectors().into(),
        accessed: inode.accessed.0.into(),
        modified: inode.modified.0.into(),
        changed: inode.changed.0.into(),
        born: inode.born.0.into(),
        device: inode.device.into(),
        parent: inode.parent.0.into(),
        uid: inode.uid.into(),
        gid: inode.gid.into(),
        links: inode.links.into(),
        flags: inode.flags.0.into(),
        mode: inode.mode.into(),
        hints: hints(inode.marks).into(),
        generation: seen.attributes.generation().into(),
        data_base: base.into(),
        data_span: span.into(),
        ..wire::Attr::default()
    }
}

fn hints(marks: Marks) -> u16 {
    // The same bits, as the assertions below make sure.
    u16::from(marks.0)
}

const _: () = assert!(
    Marks::XATTRS.0 as u16 == wire::HINT_XATTRS
        && Marks::ACL.0 as u16 == wire::HINT_ACL
        && Marks::DEFAULT_ACL.0 as u16 == wire::HINT_DEFAULT_ACL
        && Marks::SECURITY.0 as u16 == wire::HINT_SECURITY
);

/// Bytes of an entry in a listing.
pub(super) fn entry_bytes(name: usize, attributes: bool) -> usize {
    let attr = if attributes { size_of::<wire::Attr>() } else { 0 };
    size_of::<wire::Dirent>() + name.next_multiple_of(8) + attr
}

/// An entry of a listing.
pub(super) fn push_entry(answer: &mut Answer, found: &SeenEntry, attributes: bool) {
    let entry = &found.entry;
    answer.push(&wire::Dirent {
        ino: entry.ino.0.into(),
        cookie: entry.next.into(),
        length: u16::try_from(entry.name.len()).unwrap_or(0).into(),
        kind: entry.kind as u8,
        reserved: [0; 5],
    });
    answer.payload.extend_from_slice(&entry.name);
    answer.payload.resize(answer.payload.len().next_multiple_of(8), 0);
    if attributes {
        answer.push(&found.seen.as_ref().map(attr).unwrap_or_default());
    }
}

/// What a stretch of a file consists of; nothing for a hole.
pub(super) fn extent(found: &Extent, shared: bool) -> Option<wire::Extent> {
    let (place, flags) = match &found.source {
        Source::Hole => return None,
        Source::Promised => (0, wire::EXTENT_PROMISED),
        Source::Inline(_) => (0, wire::EXTENT_INLINE),
        Source::Blocks(run, _) => (run.start.byte_at(), 0),
        Source::Packed(unit, _) => {
            let first = unit.runs.first().map_or(0, |run| run.start.byte_at());
            (first, wire::EXTENT_ENCODED)
        }
        Source::Lost => (0, 0),
    };
    let shared = if shared { wire::EXTENT_SHARED } else { 0 };
    Some(wire::Extent {
        from: found.at.byte_at().into(),
        length: (found.count * u64::from(wire::ABI_BLOCK)).into(),
        place: place.into(),
        flags: (flags | shared).into(),
        reserved: 0.into(),
    })
}
