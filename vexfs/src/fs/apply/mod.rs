// SPDX-License-Identifier: MIT OR Apache-2.0

//! What each operation does to the state: the one implementation of the filesystem's semantics.
//!
//! Applying an operation also checks it. A front end therefore makes an operation from what its caller wants, applies it,
//! and on an error rolls back and reports: nothing is decided in two places. In a replay the same code runs on the same
//! state, so an operation that fails there is damage.
//!
//! Permissions are not checked here: they belong to the process that asks, which only the front end knows.

mod attributes;
pub(super) mod content;
mod layout;
mod names;
mod session;

pub(super) use content::per_chunk;
pub(super) use names::{Chain, claim_number};

use crate::error::{Errno, Result};
use crate::units::{Ino, Seq};

use super::op::Op;
use super::record::Timestamp;
use super::state::State;

/// Applies the operations of a transaction. After an error the state is as it was.
pub fn apply(state: &mut State, operations: &[Op<'_>], seq: Seq) -> Result<()> {
    for operation in operations {
        if let Err(error) = apply_one(state, operation) {
            state.rollback();
            return Err(error);
        }
    }
    if let Err(error) = state.free_gathered(seq) {
        state.rollback();
        return Err(error);
    }
    state.commit();
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "one arm per operation")]
fn apply_one(state: &mut State, operation: &Op<'_>) -> Result<()> {
    match *operation {
        Op::Create { .. } => names::create(state, operation),
        Op::Link {
            ino,
            parent,
            time,
            name,
        } => names::link(state, ino, parent, name, time),
        Op::Adopt {
            ino,
            parent,
            time,
            name,
        } => names::adopt(state, ino, parent, name, time),
        Op::Unlink { parent, time, name } => names::unlink(state, parent, name, time),
        Op::RemoveDirectory { parent, time, name } => names::remove_directory(state, parent, name, time),
        Op::Rename {
            from,
            to,
            flags,
            whiteout,
            time,
            name,
            new_name,
        } => names::rename(
            state,
            &names::Move {
                from,
                to,
                flags,
                whiteout,
                time,
                name,
                new_name,
            },
        ),
        Op::SetAttributes { .. } => attributes::set(state, operation),
        Op::SetXattr {
            ino,
            flags,
            time,
            name,
            value,
        } => attributes::set_xattr(state, ino, flags, time, name, value),
        Op::RemoveXattr { ino, time, name } => attributes::remove_xattr(state, ino, time, name),
        Op::Truncate { ino, size, time } => content::truncate(state, ino, size, time),
        Op::Write {
            ino,
            at,
            end,
            time,
            ref runs,
            ref checksums,
        } => content::write(state, ino, at, end, time, runs, checksums),
        Op::WriteInline { ino, at, time, bytes } => content::write_inline(state, ino, at, time, bytes),
        Op::WritePacked { .. } => content::write_packed(state, operation),
        Op::Preallocate {
            ino,
            from,
            count,
            end,
            time,
        } => content::preallocate(state, ino, from, count, end, time),
        Op::Punch { ino, from, count, time } => content::punch(state, ino, from, count, time),
        Op::Collapse { ino, from, count, time } => layout::collapse(state, ino, from, count, time),
        Op::Insert { ino, from, count, time } => layout::insert(state, ino, from, count, time),
        Op::Clone {
            from,
            from_block,
            to,
            to_block,
            count,
            end,
            time,
        } => layout::clone(
            state,
            &layout::CloneRange {
                from,
                from_block,
                to,
                to_block,
                count,
                end,
                time,
            },
        ),
        Op::Purge { ino, until } => content::purge(state, ino, until),
        Op::Extend {
            ino,
            size,
            modified,
            changed,
        } => content::extend(state, ino, size, modified, changed),
        Op::Store {
            ino,
            at,
            reach,
            ref runs,
            ref checksums,
        } => content::store(state, ino, at, reach, runs, checksums),
        Op::StorePacked { .. } => content::store_packed(state, operation),
        Op::BeginSession {
            session,
            hello,
            slots,
            read_only,
        } => session::begin(state, session, hello, slots, read_only),
        Op::EndSession { session } => session::end(state, session),
        Op::Answered { slot, seq } => session::answered(state, slot, seq),
        Op::Posted { position } => session::posted(state, position),
        Op::Grant { count } => session::grant(state, count),
        Op::Map { ino, base, span } => session::map(state, ino, base, span),
        Op::Unmap { ino } => session::unmap(state, ino),
        Op::CreateSpace { .. }
        | Op::AlterSpace { .. }
        | Op::DropSpace { .. }
        | Op::DrainSpace { .. }
        | Op::PutVectors { .. }
        | Op::RemoveVectors { .. }
        | Op::SealVectors { .. }
        | Op::DropSlab { .. }
        | Op::SetIndex { .. }
        | Op::PutLeaves { .. }
        | Op::ForgetLeaves { .. } => super::vectors::change::apply(state, operation),
    }
}

/// Notes a change of the contents.
fn touch(state: &mut State, ino: Ino, time: Timestamp, change: impl FnOnce(&mut super::record::Inode)) -> Result<()> {
    let mut inode = state.inode(ino)?;
    inode.modified = time;
    inode.changed = time;
    change(&mut inode);
    state.put_inode(ino, Some(inode));
    Ok(())
}

/// A regular file.
fn file(state: &mut State, ino: Ino) -> Result<super::record::Inode> {
    let inode = state.inode(ino)?;
    match inode.kind() {
        super::record::Kind::File => Ok(inode),
        super::record::Kind::Directory => Err(Errno::IsDirectory.into()),
        _ => Err(Errno::Invalid.into()),
    }
}
