// SPDX-License-Identifier: MIT OR Apache-2.0

//! The client's end of the language: makes requests and batches, and takes replies apart. How they travel is the caller's.

use vexfs::checksum::Crc;
use vexfs::client::wire::{self, Opcode};
use vexfs::fs::op::Op;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A reply that was taken apart.
#[derive(Debug, Clone)]
pub struct Reply {
    pub fixed: wire::Reply,
    pub payload: Vec<u8>,
}

impl Reply {
    pub fn of(bytes: &[u8]) -> Result<Self, String> {
        let (fixed, rest) = wire::Reply::read_from_prefix(bytes).map_err(|_| "a reply is too short".to_owned())?;
        if fixed.magic.get() != wire::REPLY_MAGIC {
            return Err("not a reply".to_owned());
        }
        let payload = rest.get(..fixed.length.get() as usize).ok_or("a reply is cut off")?;
        let without = wire::Reply { crc: 0.into(), ..fixed };
        if Crc::of_all([without.as_bytes(), payload]).0 != fixed.crc.get() {
            return Err("a reply's checksum is wrong".to_owned());
        }
        Ok(Self {
            fixed,
            payload: payload.to_vec(),
        })
    }

    pub fn has(&self, flag: u16) -> bool {
        self.fixed.flags.get() & flag != 0
    }

    pub fn status(&self) -> i32 {
        self.fixed.status.get()
    }

    /// The payload's start as a structure, and the rest.
    pub fn take<T: FromBytes + KnownLayout + Immutable>(&self) -> (T, &[u8]) {
        T::read_from_prefix(&self.payload).expect("the payload holds what was asked for")
    }
}

/// A request without what names session, slot and number.
#[derive(Debug, Clone)]
pub struct Ask {
    pub opcode: u16,
    pub payload: Vec<u8>,
    pub after: u64,
    pub capacity: u32,
}

impl Ask {
    pub fn new(opcode: Opcode, payload: &(impl IntoBytes + Immutable + ?Sized)) -> Self {
        Self {
            opcode: opcode as u16,
            payload: payload.as_bytes().to_vec(),
            after: 0,
            capacity: 128 << 10,
        }
    }

    pub fn encode(&self, session: u64, slot: u16, seq: u64) -> Vec<u8> {
        let mut fixed = wire::Request {
            magic: wire::REQUEST_MAGIC.into(),
            session: session.into(),
            seq: seq.into(),
            after: self.after.into(),
            opcode: self.opcode.into(),
            slot: slot.into(),
            length: u32::try_from(self.payload.len()).expect("a small payload").into(),
            capacity: self.capacity.into(),
            ..wire::Request::default()
        };
        fixed.crc = Crc::of_all([fixed.as_bytes(), &self.payload]).0.into();
        [fixed.as_bytes(), &self.payload].concat()
    }

    pub fn hello(nonce: u64) -> Self {
        Self::new(
            Opcode::Hello,
            &wire::Hello {
                major: wire::ABI_MAJOR.into(),
                nonce: nonce.into(),
                ..wire::Hello::default()
            },
        )
    }

    pub fn named(opcode: Opcode, ino: u64, name: &[u8]) -> Self {
        let mut ask = Self::new(
            opcode,
            &wire::Named {
                ino: ino.into(),
                length: u16::try_from(name.len()).expect("a short name").into(),
                ..wire::Named::default()
            },
        );
        ask.payload.extend_from_slice(name);
        ask
    }

    pub fn inode(opcode: Opcode, ino: u64) -> Self {
        Self::new(
            opcode,
            &wire::InodeRef {
                ino: ino.into(),
                ..wire::InodeRef::default()
            },
        )
    }

    pub fn grant(inodes: u32, credits: u64, operations: u64, spent: u64) -> Self {
        Self::new(
            Opcode::Grant,
            &wire::Grant {
                inodes: inodes.into(),
                credits: credits.into(),
                meta_credits: operations.into(),
                spent: spent.into(),
                ..wire::Grant::default()
            },
        )
    }

    pub fn apply(operations: &[Op<'_>], want: [u64; 4]) -> Self {
        let bytes = encode(operations);
        let mut ask = Self::new(
            Opcode::Apply,
            &wire::Apply {
                want: want.map(Into::into),
                count: u32::try_from(operations.len()).expect("few").into(),
                length: u32::try_from(bytes.len()).expect("few").into(),
            },
        );
        ask.payload.extend_from_slice(&bytes);
        ask
    }

    pub fn readdir(ino: u64, cookie: u64, attributes: bool) -> Self {
        Self::new(
            Opcode::Readdir,
            &wire::Readdir {
                ino: ino.into(),
                cookie: cookie.into(),
                attributes: u32::from(attributes).into(),
                ..wire::Readdir::default()
            },
        )
    }
}

fn encode(operations: &[Op<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for operation in operations {
        operation.encode(&mut bytes);
    }
    bytes
}

/// A batch of posted operations.
pub fn batch(session: u64, position: u64, operations: &[Op<'_>]) -> Vec<u8> {
    let bytes = encode(operations);
    let mut fixed = wire::Batch {
        magic: wire::BATCH_MAGIC.into(),
        session: session.into(),
        position: position.into(),
        count: u32::try_from(operations.len()).expect("few").into(),
        length: u32::try_from(bytes.len()).expect("few").into(),
        ..wire::Batch::default()
    };
    fixed.crc = Crc::of_all([fixed.as_bytes(), &bytes]).0.into();
    [fixed.as_bytes(), &bytes].concat()
}

/// An entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub ino: u64,
    pub cookie: u64,
    pub kind: u8,
    pub name: Vec<u8>,
    /// Number and mode of the file, if attributes were asked for.
    pub attr: Option<(u64, u16)>,
}

/// The entries of a listing, and whether it is the end.
pub fn entries(reply: &Reply, attributes: bool) -> (Vec<Entry>, bool) {
    let (listing, mut rest) = reply.take::<wire::Listing>();
    let mut found = Vec::new();
    for _ in 0..listing.count.get() {
        let (entry, after) = wire::Dirent::read_from_prefix(rest).expect("an entry");
        let length = usize::from(entry.length.get());
        let (name, mut after) = after.split_at(length.next_multiple_of(8));
        let mut attr = None;
        if attributes {
            let (found, later) = wire::Attr::read_from_prefix(after).expect("attributes");
            attr = Some((found.ino.get(), found.mode.get()));
            after = later;
        }
        found.push(Entry {
            ino: entry.ino.get(),
            cookie: entry.cookie.get(),
            kind: entry.kind,
            name: name[..length].to_vec(),
            attr,
        });
        rest = after;
    }
    assert!(rest.is_empty(), "a listing has bytes that belong to no entry");
    (found, listing.end.get() == 1)
}
