// SPDX-License-Identifier: MIT OR Apache-2.0

//! Applying the journal to what the tables tell: for opening a pool, and for checking one in memory.
//!
//! Opening ([`super::mount`]) takes contradictions for damage and gives up. A check wants to know as much as it can:
//! [`replay`] takes wrong or missing records of the accounts as they are, stops at the first transaction that cannot be
//! applied, and gives everything that changed as encoded records. It writes nothing.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::checksum::Crc;
use crate::data::CHUNK_BLOCKS;
use crate::disk::Disk;
use crate::error::{Damage, Error, Result};
use crate::journal::{self, Found, Log, Verdict};
use crate::meta::base::Base;
use crate::meta::{Key, Record, Table, encode_key, encoded};
use crate::pool::{Superblock, Tail};
use crate::space::Space;
use crate::space::shared::{References, SharedGroups};
use crate::units::{BLOCK_SIZE, Block, Ino, Run, Seq};

use super::apply::apply;
use super::op::{Op, decode_transaction};
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

/// What became of the system's cache since the pool was last written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cached {
    /// The machine was started anew: the disk is all there is.
    Lost,
    /// Everything written is there.
    Kept,
    /// The same, and is to be written again: whether it reached the disk is not known.
    WriteAgain,
}

/// What decides whether the data of a transaction arrived.
pub(super) struct Context<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) pool_blocks: u64,
    pub(super) cached: Cached,
    /// Operations applied so far.
    pub(super) operations: Cell<u64>,
}

/// Applies one transaction of the log, if its data is there.
pub(super) fn replay_one(state: &mut State, context: &Context<'_>, found: &Found<'_>) -> Result<Verdict> {
    let operations = decode_transaction(found.bytes).map_err(|error| Error::undecodable(found.seq, error))?;
    if !found.durable && !data_arrived(context.disk, &operations, context.pool_blocks, context.cached)? {
        return Ok(Verdict::Ends);
    }
    apply(state, &operations, found.seq).map_err(|error| contradiction(found.seq, &error))?;
    let applied = context.operations.get() + operations.len() as u64;
    context.operations.set(applied);
    Ok(Verdict::Applied)
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
    let context = Context {
        disk,
        pool_blocks: superblock.total_blocks,
        cached: Cached::of(same_boot, true),
        operations: Cell::new(0),
    };
    let mut state = load(base, superblock, totals, seed)?;
    let log = Log {
        tolerant: true,
        ..log_of(superblock)
    };
    let mut stopped = None;
    let found = journal::recover(disk, &log, |found| match replay_one(&mut state, &context, &found) {
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

impl Cached {
    pub(super) const fn of(same_boot: bool, read_only: bool) -> Self {
        match (same_boot, read_only) {
            (false, _) => Self::Lost,
            (true, true) => Self::Kept,
            (true, false) => Self::WriteAgain,
        }
    }
}

/// Whether the blocks that operations name hold what was written. Without checksums nobody can tell, but if the machine was
/// not started since, nothing was lost. What contradicts itself counts as arrived: applying it says in what way. Here it
/// must not decide how much is read.
fn data_arrived(disk: &dyn Disk, operations: &[Op<'_>], pool_blocks: u64, cached: Cached) -> Result<bool> {
    let named: u64 = operations.iter().map(Op::written_blocks).sum();
    if named > pool_blocks {
        return Ok(true);
    }
    for operation in operations {
        let arrived = match operation {
            Op::Write { runs, checksums, .. } | Op::Store { runs, checksums, .. } if checksums.is_empty() => {
                cached != Cached::Lost && blocks_match(disk, runs, pool_blocks, cached, |_| true)?
            }
            Op::Write { runs, checksums, .. } | Op::Store { runs, checksums, .. }
                if blocks_of(runs) == checksums.len() as u64 =>
            {
                let mut checksums = checksums.iter();
                blocks_match(disk, runs, pool_blocks, cached, |block| {
                    checksums.next().is_some_and(|crc| Crc::of(block) == *crc)
                })?
            }
            Op::WritePacked {
                runs, bytes, checksum, ..
            }
            | Op::StorePacked {
                runs, bytes, checksum, ..
            } if blocks_of(runs) < CHUNK_BLOCKS => {
                let mut packed = Vec::new();
                let read = blocks_match(disk, runs, pool_blocks, cached, |block| {
                    packed.extend_from_slice(block);
                    true
                })?;
                read && packed
                    .get(..*bytes as usize)
                    .is_some_and(|packed| Crc::of(packed) == *checksum)
            }
            _ => true,
        };
        if !arrived {
            return Ok(false);
        }
    }
    Ok(true)
}

fn blocks_of(runs: &[Run]) -> u64 {
    runs.iter().map(|run| u64::from(run.count)).sum()
}

/// Reads blocks and asks about each; false if one does not match or cannot be read.
fn blocks_match(
    disk: &dyn Disk,
    runs: &[Run],
    pool_blocks: u64,
    cached: Cached,
    mut matches: impl FnMut(&[u8]) -> bool,
) -> Result<bool> {
    const PIECE: u32 = 256;
    for run in runs {
        if !run.fits(pool_blocks) {
            return Err(Damage::new(run, "beyond the pool"));
        }
        let mut at = run.start;
        while at < run.end() {
            let count = PIECE.min(u32::try_from(run.end().0 - at.0).unwrap_or(PIECE));
            let mut bytes = vec![0; count as usize * BLOCK_SIZE];
            if disk.read(at.byte_at(), &mut bytes).is_err() {
                // What cannot be read did not arrive; if it was promised, the caller says so.
                return Ok(false);
            }
            if !bytes.chunks_exact(BLOCK_SIZE).all(&mut matches) {
                return Ok(false);
            }
            if cached == Cached::WriteAgain {
                disk.write(at.byte_at(), &bytes)?;
            }
            at = at.plus(u64::from(count));
        }
    }
    Ok(true)
}
