// SPDX-License-Identifier: MIT OR Apache-2.0

//! Applying the journal to what the tables tell: for opening a pool, and for checking one in memory.
//!
//! Opening ([`super::mount`]) takes contradictions for damage and gives up. A check wants to know as much as it can:
//! [`replay`] takes wrong or missing records of the accounts as they are, stops at the first transaction that cannot be
//! applied, and gives everything that changed as encoded records. It writes nothing.

use std::collections::BTreeMap;

use crate::disk::Disk;
use crate::error::{Damage, Error, Result};
use crate::journal::{self, Found, Log, Verdict};
use crate::meta::base::Base;
use crate::meta::{Key, Record, Table, encode_key, encoded};
use crate::pool::{Superblock, Tail};
use crate::space::Space;
use crate::space::shared::{References, SharedGroups};
use crate::units::{Block, Ino, Seq};

use super::apply::apply;
use super::arrival::{Arrivals, Cached};
use super::op::decode_transaction;
use super::record::{
    AttributeKey, BitmapRow, EntryKey, GroupKey, InodeKey, OrphanKey, PlaceKey, RowKey, SessionKey, SharedKey,
    Timestamp, Totals, TotalsKey,
};
use super::session::SessionRecord;
use super::state::{CacheLimits, State, Tables};

/// Encoded records that differ from the tables; without a value: removed.
pub(crate) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What the journal made of the tables.
pub(crate) struct Replayed {
    /// In encoded form.
    pub(crate) changes: Changes,
    /// Where the log goes on, once the changes are in the tables.
    pub(crate) end: Tail,
    /// Newest transaction known to have been durable.
    pub(crate) durable: Seq,
    /// Transactions applied.
    pub(crate) transactions: u64,
    /// The transaction that could not be applied, if one could not.
    pub(crate) contradiction: Option<(Seq, Error)>,
}

/// The log that a superblock tells of.
pub(super) const fn log_of(superblock: &Superblock) -> Log {
    Log {
        region: superblock.journal,
        tail: superblock.tail,
        resumed_at: superblock.resumed_at,
        epoch: superblock.epoch,
        durable: superblock.durable_seq,
        tolerant: false,
    }
}

/// Applies the log, transaction by transaction, as long as their data is there.
pub(super) struct Replay<'a> {
    arrivals: Arrivals<'a>,
    /// Operations applied so far.
    pub(super) operations: u64,
}

impl<'a> Replay<'a> {
    pub(super) const fn new(disk: &'a dyn Disk, pool_blocks: u64, cached: Cached) -> Self {
        Self {
            arrivals: Arrivals::new(disk, pool_blocks, cached),
            operations: 0,
        }
    }

    /// Applies one transaction, if its data is there.
    pub(super) fn one(&mut self, state: &mut State, found: &Found<'_>) -> Result<Verdict> {
        let operations = decode_transaction(found.bytes).map_err(|error| Error::undecodable(found.seq, error))?;
        if !found.durable && !self.arrivals.have(&operations)? {
            return Ok(Verdict::Ends);
        }
        apply(state, &operations, found.seq).map_err(|error| contradiction(found.seq, &error))?;
        self.operations += operations.len() as u64;
        Ok(Verdict::Applied)
    }

    /// All data that is to be written again is.
    pub(super) fn finish(self) -> Result<()> {
        self.arrivals.finish()
    }
}

/// See the module. The totals are those to begin with; `seed` is what differs from the tables already.
pub(crate) fn replay(
    disk: &dyn Disk,
    base: &Base,
    superblock: &Superblock,
    same_boot: bool,
    totals: Totals,
    seed: &Changes,
) -> Result<Replayed> {
    let mut replay = Replay::new(disk, superblock.total_blocks, Cached::of(same_boot, true));
    let mut state = load(base, superblock, totals, seed)?;
    let log = Log {
        tolerant: true,
        ..log_of(superblock)
    };
    let mut stopped = None;
    let found = journal::recover(disk, &log, |found| match replay.one(&mut state, &found) {
        Ok(verdict) => Ok(verdict),
        Err(error) => {
            stopped = Some((found.seq, error));
            Ok(Verdict::Stops)
        }
    })?;
    Ok(Replayed {
        changes: changes(state),
        end: Tail {
            seq: found.applied,
            ..found.end
        },
        durable: found.durable,
        transactions: found.transactions,
        contradiction: stopped,
    })
}

fn load(base: &Base, superblock: &Superblock, totals: Totals, seed: &Changes) -> Result<State> {
    // The counter of inode numbers may be wrong: nothing is concluded from it.
    let mut tables = Tables::new(CacheLimits::default(), Ino(u64::MAX));
    if superblock.manifest.first.is_none() {
        let born = Timestamp::new(superblock.created.seconds, superblock.created.nanos);
        tables
            .inodes
            .set(&InodeKey { ino: Ino::ROOT }, Some(super::mount::root(born)));
    }
    for (key, value) in seed {
        plant(&mut tables, key, value.as_deref());
    }
    let mut space = Space::new(superblock.total_blocks)?;
    let mut shared = SharedGroups::default();
    for (key, value) in seed {
        take_account(&mut space, &mut shared, key, value.as_deref());
    }
    let accounts = encode_key(&GroupKey { group: 0 })..vec![SharedKey::TAG + 1];
    let mut scan = base.scan(&accounts.start, &accounts.end)?;
    while let Some((key, value)) = scan.next_readable()? {
        if !seed.contains_key(key) {
            take_account(&mut space, &mut shared, key, value.as_deref());
        }
    }
    space.reserve_again(totals.promised);
    let mut state = State::new(base.clone(), space, totals, superblock.name_hash_key, tables, shared);
    state.replaying = true;
    load_session(&mut state)?;
    Ok(state)
}

/// What the tables tell of a session: nothing, if it cannot be read. The check tells about that.
fn load_session(state: &mut State) -> Result<()> {
    let mut scan = state.base.scan(&[SessionKey::TAG], &[SessionKey::TAG + 1])?;
    let mut found = Vec::new();
    while let Some((key, value)) = scan.next_readable()? {
        if let (Some(key), Some(value)) = (key.get(1..), value)
            && let (Ok(key), Ok(record)) = (SessionKey::decode(key), SessionRecord::decode(&value))
        {
            found.push((key, record));
        }
    }
    for (key, record) in found {
        if let Err(error) = state.load_session(key, &record) {
            tracing::debug!(%error, "session");
        }
    }
    Ok(())
}

/// A row of the bitmap, or a row of references; what is nonsense is passed by, the check tells about it.
fn take_account(space: &mut Space, shared: &mut SharedGroups, key: &[u8], value: Option<&[u8]>) {
    let (Some((&tag, rest)), Some(value)) = (key.split_first(), value) else {
        return;
    };
    if tag == GroupKey::TAG
        && let Ok(key) = GroupKey::decode(rest)
        && let Err(error) = space.load_row(key.group, value)
    {
        tracing::debug!(%error, "bitmap");
    }
    if tag == SharedKey::TAG
        && let Ok(key) = SharedKey::decode(rest)
        && key.group <= References::group_of(Block(space.total_blocks()))
    {
        shared.insert_group(key.group);
    }
}

fn plant(tables: &mut Tables, key: &[u8], value: Option<&[u8]>) {
    fn set<K: Key, V: Record + Clone>(table: &mut Table<K, V>, key: &[u8], value: Option<&[u8]>) {
        if let (Ok(key), Ok(value)) = (K::decode(key), value.map(V::decode).transpose()) {
            table.set(&key, value);
        }
    }
    let Some((&tag, rest)) = key.split_first() else { return };
    match tag {
        InodeKey::TAG => set(&mut tables.inodes, rest, value),
        EntryKey::TAG => set(&mut tables.entries, rest, value),
        RowKey::TAG => set(&mut tables.rows, rest, value),
        AttributeKey::TAG => set(&mut tables.attributes, rest, value),
        GroupKey::TAG => set(&mut tables.groups, rest, value),
        SharedKey::TAG => set(&mut tables.shared, rest, value),
        OrphanKey::TAG => set(&mut tables.orphans, rest, value),
        SessionKey::TAG => set(&mut tables.sessions, rest, value),
        PlaceKey::TAG => set(&mut tables.places, rest, value),
        _ => tables.vectors.plant(tag, rest, value),
    }
}

fn changes(mut state: State) -> Changes {
    let totals = state.totals;
    for row in state.space.freeze_dirty_rows() {
        state
            .tables
            .groups
            .set(&GroupKey { group: row.group }, row.bytes.map(BitmapRow));
    }
    let tables = &mut state.tables;
    tables.totals.set(&TotalsKey {}, Some(totals));
    state.put_session();
    let tables = &mut state.tables;
    encoded(&tables.inodes.freeze())
        .chain(encoded(&tables.entries.freeze()))
        .chain(encoded(&tables.rows.freeze()))
        .chain(encoded(&tables.attributes.freeze()))
        .chain(encoded(&tables.groups.freeze()))
        .chain(encoded(&tables.shared.freeze()))
        .chain(encoded(&tables.orphans.freeze()))
        .chain(encoded(&tables.totals.freeze()))
        .chain(encoded(&tables.sessions.freeze()))
        .chain(encoded(&tables.places.freeze()))
        .chain(tables.vectors.freeze().records())
        .collect()
}

fn contradiction(seq: Seq, error: &Error) -> Error {
    match error {
        Error::Posix(_) => Damage::new(seq, format_args!("cannot be applied again: {error}")),
        Error::Damaged(damage) => Damage::new(format_args!("{seq}: {}", damage.place), &damage.what),
        Error::Io(failure) => {
            crate::error::IoFailure::new(format_args!("{seq}: {}", failure.what), failure.source.kind().into())
        }
    }
}
