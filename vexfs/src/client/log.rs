// SPDX-License-Identifier: MIT OR Apache-2.0

//! Posted operations: batches, in order, each once.
//!
//! A batch is applied in transactions, each with the position behind it. So what of a batch was applied is known after any
//! crash, and a batch that comes again goes on there. A batch that comes before its time waits a little.
//!
//! The client has checked what it posts. An operation that cannot be applied means that client and server disagree about
//! the state: nothing that follows makes sense, and the session ends.

use std::time::Instant;

use zerocopy::{FromBytes, IntoBytes};

use super::order::{Turn, turn};
use super::{Handled, LATE, Server, wire};
use crate::checksum::Crc;
use crate::codec::Reader;
use crate::error::{Errno, Error, IoFailure, Result};
use crate::fs::op::Op;
use crate::fs::{Mark, Patience};

/// Bytes of operations in one transaction.
const TRANSACTION: usize = 48 << 10;

/// A batch that was taken apart.
struct Batch<'a> {
    session: u64,
    position: u64,
    count: u32,
    operations: &'a [u8],
}

impl Server {
    /// Whether a batch, if it is one, asks to be made durable once it is applied.
    pub fn wants_commit(bytes: &[u8]) -> bool {
        wire::Batch::read_from_prefix(bytes).is_ok_and(|(batch, _)| batch.flags.get() & wire::BATCH_COMMIT != 0)
    }

    /// Takes a batch. With [`Handled::Done`] all of it is applied and journalled.
    pub fn post(&self, bytes: &[u8], patience: Patience) -> Result<Handled> {
        let batch = parse(bytes).ok_or(Error::Posix(Errno::Invalid))?;
        let order = match patience {
            Patience::Refuse => self.log.try_lock(),
            Patience::Wait => Some(self.log.lock()),
        };
        let Some(mut order) = order else {
            return Ok(Handled::Wait);
        };
        let begin = Instant::now();
        loop {
            let Some(session) = self.in_session(patience) else {
                return Ok(Handled::Wait);
            };
            let view = self.fs.session_view(0);
            if view.id == 0 || view.id != batch.session || view.read_only {
                return Err(Errno::Invalid.into());
            }
            if let Turn::Now(skip) = turn(batch.position, view.posted) {
                let applied = self.apply(&batch, skip, patience);
                drop((session, order));
                self.applied.notify_all();
                return self.applied_batch(&batch, applied, patience);
            }
            drop(session);
            if patience == Patience::Refuse {
                return Ok(Handled::Wait);
            }
            let left = LATE.saturating_sub(begin.elapsed());
            if left.is_zero() {
                let what = format_args!("operations from {} on are missing", view.posted);
                let late = std::io::Error::from_raw_os_error(nix::libc::ETIMEDOUT);
                return Err(IoFailure::new(what, late));
            }
            self.applied.wait_for(&mut order, left);
        }
    }

    fn applied_batch(&self, batch: &Batch<'_>, applied: Result<()>, patience: Patience) -> Result<Handled> {
        match applied {
            Ok(()) => Ok(Handled::Done),
            Err(Error::Posix(_)) if patience == Patience::Refuse => Ok(Handled::Wait),
            Err(Error::Posix(errno)) if errno != Errno::Failed => {
                tracing::error!(%errno, "a posted operation cannot be applied: the session ends");
                self.end_this_session(batch.session)?;
                Err(errno.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Applies what follows the first operations of a batch.
    fn apply(&self, batch: &Batch<'_>, skip: u64, patience: Patience) -> Result<()> {
        let undecodable = |error| Error::undecodable("posted operation", error);
        let mut reader = Reader::new(batch.operations);
        let mut position = batch.position;
        let end = batch.position.saturating_add(u64::from(batch.count));
        let first = position.saturating_add(skip);
        while position < first.min(end) {
            Op::decode(&mut reader).map_err(undecodable)?;
            position += 1;
        }
        let mut operations = Vec::new();
        let mut start = reader.remaining();
        while position < end {
            let operation = Op::decode(&mut reader).map_err(undecodable)?;
            position += 1;
            let alone = moves_bytes(&operation);
            if alone && !operations.is_empty() {
                self.fs.submit(&operations, Mark::Posted(position - 1), patience)?;
                operations.clear();
                start = reader.remaining();
            }
            operations.push(operation);
            let large = start - reader.remaining() > TRANSACTION;
            if alone || large || position == end {
                self.fs.submit(&operations, Mark::Posted(position), patience)?;
                operations.clear();
                start = reader.remaining();
            }
        }
        reader.end().map_err(undecodable)
    }
}

/// Whether work of its own comes before an operation.
const fn moves_bytes(operation: &Op<'_>) -> bool {
    matches!(
        operation,
        Op::Truncate { .. }
            | Op::Preallocate { .. }
            | Op::Insert { .. }
            | Op::Collapse { .. }
            | Op::Clone { .. }
            | Op::Purge { .. }
    )
}

fn parse(bytes: &[u8]) -> Option<Batch<'_>> {
    let (header, rest) = wire::Batch::read_from_prefix(bytes).ok()?;
    let operations = rest.get(..usize::try_from(header.length.get()).ok()?)?;
    let without = wire::Batch {
        crc: 0.into(),
        ..header
    };
    let right = header.magic.get() == wire::BATCH_MAGIC
        && Crc::of_all([without.as_bytes(), operations]).0 == header.crc.get()
        && header.flags.get() & !wire::BATCH_COMMIT == 0;
    right.then(|| Batch {
        session: header.session.get(),
        position: header.position.get(),
        count: header.count.get(),
        operations,
    })
}
