// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations on what is remembered of a client.

use crate::error::{Errno, Result};
use crate::units::Ino;

use super::super::record::Totals;
use super::super::session::{ADDRESS_LIMIT, MAX_SLOTS, Session, Window};
use super::super::state::State;

pub(super) fn begin(state: &mut State, session: u64, hello: u64, slots: u16, read_only: u8) -> Result<()> {
    if session == 0 || state.session.is_live() || slots > MAX_SLOTS || read_only > 1 {
        return Err(Errno::Invalid.into());
    }
    state.set_session(Session {
        ordinal: state.session.ordinal + 1,
        id: session,
        hello,
        read_only: read_only == 1,
        answered: vec![0; usize::from(slots)],
        ..Session::default()
    });
    Ok(())
}

pub(super) fn end(state: &mut State, session: u64) -> Result<()> {
    check_live(state)?;
    if session != state.session.id {
        return Err(Errno::Invalid.into());
    }
    let bases: Vec<u64> = state.windows.all().map(|(base, _)| base).collect();
    for base in bases {
        state.put_window(base, None);
    }
    state.set_session(Session {
        ordinal: state.session.ordinal,
        ..Session::default()
    });
    Ok(())
}

fn check_live(state: &State) -> Result<()> {
    if state.session.is_live() {
        Ok(())
    } else {
        Err(Errno::Invalid.into())
    }
}

pub(super) fn answered(state: &mut State, slot: u16, seq: u64) -> Result<()> {
    check_live(state)?;
    state.note_answered(slot, seq)
}

pub(super) fn posted(state: &mut State, position: u64) -> Result<()> {
    check_live(state)?;
    if position <= state.session.posted {
        return Err(Errno::Invalid.into());
    }
    state.note_posted(position);
    Ok(())
}

pub(super) fn grant(state: &mut State, count: u32) -> Result<()> {
    check_live(state)?;
    let from = state.totals.next_ino;
    let end = from.0.saturating_add(u64::from(count));
    if count == 0 || end >= Totals::LAST_INO {
        return Err(Errno::Invalid.into());
    }
    if state.session.unused.is_full() {
        return Err(Errno::Busy.into());
    }
    let mut session = state.session.clone();
    session.unused.add(from, u64::from(count));
    session.grant_from = from;
    session.grant_count = count;
    state.set_session(session);
    state.set_totals(Totals {
        next_ino: Ino(end),
        ..state.totals
    });
    Ok(())
}

pub(super) fn map(state: &mut State, ino: Ino, base: u64, span: u64) -> Result<()> {
    check_live(state)?;
    super::file(state, ino)?;
    let inside = base > 0 && span > 0 && base.checked_add(span).is_some_and(|end| end <= ADDRESS_LIMIT);
    if !inside || !state.windows.is_free(base, span) {
        return Err(Errno::Invalid.into());
    }
    state.put_window(base, Some(Window { ino, span }));
    Ok(())
}

pub(super) fn unmap(state: &mut State, ino: Ino) -> Result<()> {
    check_live(state)?;
    for base in state.windows.bases(ino) {
        state.put_window(base, None);
    }
    Ok(())
}
