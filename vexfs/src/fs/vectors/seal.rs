// SPDX-License-Identifier: MIT OR Apache-2.0

//! From records of growing vectors into slabs, and out of slabs that are mostly dead; and the thread for that and for indexes.
//!
//! 1. Growing vectors are read, under the lock.
//! 2. Their slab is written behind everything else in the store.
//! 3. One transaction makes the blocks the store's and the vectors sealed. Those that went meanwhile are dead in the slab
//!    from the start; a crash before leaves everything growing.
//!
//! A slab of which less than half is alive is emptied the same way: what is alive goes into a new slab, in the same
//! transaction the old one goes. At most one slab's bytes are in memory. Without space nothing happens: vectors then stay
//! where they are, which is where they are found.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use crate::error::{Errno, Error, Result};
use crate::fs::engine::{Core, Fs, Mode, Shared};
use crate::fs::op::Op;
use crate::units::{BLOCK_SIZE, FileBlock, Ino};

use super::record::{Place, Slab, SpaceState};
use super::slab::{self, Sealed};
use super::space::Shape;
use crate::fs::write::Author;

/// So many growing vectors, or bytes of them, are moved into slabs.
const DUE_VECTORS: u64 = 4096;
const DUE_BYTES: u64 = 4 << 20;
/// With so many times as much growing, who brings more helps.
const BEHIND: u64 = 4;
/// Slabs that are looked at together for those that are mostly dead.
const LOOK: usize = 256;

/// A vector on its way into a slab.
struct Moving {
    number: u64,
    ino: Ino,
    ordinal: u32,
    bytes: Box<[u8]>,
}

/// What a space is due for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    Soon,
    Now,
}

impl Core {
    fn sealing_due(&mut self, space: Ino) -> Result<Due> {
        let Some(record) = self.state.space(space)? else {
            return Ok(Due::Nothing);
        };
        let bytes = record.growing * slab::stride(record.shape.vector_bytes()) as u64;
        let is_due = |times: u64| record.growing >= DUE_VECTORS * times || bytes >= DUE_BYTES * times;
        Ok(match () {
            () if is_due(BEHIND) => Due::Now,
            () if is_due(1) => Due::Soon,
            () => Due::Nothing,
        })
    }
}

impl Core {
    /// Whether there is something to do in the background.
    fn is_due(&mut self, space: Ino) -> Result<bool> {
        if self
            .state
            .space(space)?
            .is_none_or(|record| record.state == SpaceState::Dropped)
        {
            return Ok(false);
        }
        Ok(self.sealing_due(space)? != Due::Nothing || self.index_due(space)?.0)
    }
}

impl Fs {
    /// After vectors were put: sees to it that they are moved when there are enough of them.
    pub(in crate::fs) fn seal_if_due(&self, space: Ino) -> Result<()> {
        let (due, index, far_behind) = {
            let mut core = self.core();
            let (index, far_behind) = core.index_due(space)?;
            (core.sealing_due(space)?, index, far_behind)
        };
        if self.shared.background && (due == Due::Soon || index) {
            self.shared.sealing_wanted.notify_all();
        }
        let waits = self.shared.background;
        if due == Due::Now || due == Due::Soon && !waits {
            self.seal_space(space)?;
        }
        let kept = match (waits, index, far_behind) {
            (false, true, _) => self.keep_index(space, false),
            (true, _, true) => self.help_index(space),
            _ => Ok(()),
        };
        if let Err(error) = kept {
            // What was put is there; the index is nobody's answer.
            tracing::warn!(%error, space = space.0, "moving vectors into leaves");
        }
        Ok(())
    }

    /// Moves all growing vectors into slabs, and empties slabs that are mostly dead. Gives the number of vectors moved.
    pub fn seal_vectors(&self) -> Result<u64> {
        let spaces = self.core().state.spaces()?;
        let mut moved = 0;
        for (space, record) in spaces {
            if record.state == SpaceState::Active {
                moved += self.seal_space(space)?;
            }
        }
        Ok(moved)
    }

    /// The same for one space.
    fn seal_space(&self, space: Ino) -> Result<u64> {
        // One at a time: two would move the same vectors.
        let _guard = self.shared.sealing.lock();
        let mut moved = 0;
        loop {
            let some = self.seal_some(space)?;
            moved += some;
            if some == 0 {
                break;
            }
        }
        self.empty_slabs(space)?;
        Ok(moved)
    }

    /// One slab of growing vectors.
    fn seal_some(&self, space: Ino) -> Result<u64> {
        let (shape, growing) = {
            let mut core = self.core();
            core.check_writable()?;
            let Some(record) = core.state.space(space)? else {
                return Ok(0);
            };
            let shape = record.shape;
            let bytes = core
                .state
                .growing_from(space, 0, slab::capacity(shape.vector_bytes()))?;
            let mut growing = Vec::with_capacity(bytes.len());
            for (number, bytes) in bytes {
                if let Some(vector) = core.state.vector(space, number)? {
                    growing.push(Moving {
                        number,
                        ino: vector.ino,
                        ordinal: vector.ordinal,
                        bytes,
                    });
                }
            }
            (shape, growing)
        };
        self.write_slab(space, shape, &growing, &[])
    }

    /// Writes a slab, and performs operations with it. Gives how many vectors moved: none without space for it.
    fn write_slab(&self, space: Ino, shape: Shape, moving: &[Moving], then: &[Op<'_>]) -> Result<u64> {
        if moving.is_empty() {
            return Ok(0);
        }
        let mut bytes = Vec::with_capacity(moving.len() * slab::stride(shape.vector_bytes()) + BLOCK_SIZE);
        for vector in moving {
            Sealed {
                space,
                vector: vector.number,
                ino: vector.ino,
                ordinal: vector.ordinal,
                bytes: &vector.bytes,
            }
            .encode(&mut bytes);
        }
        bytes.resize(bytes.len().next_multiple_of(BLOCK_SIZE), 0);
        let inode = self.attributes(space)?.inode;
        let at = FileBlock(inode.size.div_ceil(BLOCK_SIZE as u64));
        let mut operations = vec![Op::SealVectors {
            space,
            at,
            vectors: moving.iter().map(|vector| vector.number).collect(),
        }];
        operations.extend(then.iter().cloned());
        match self.write_piece(space, at.byte_at(), &bytes, Author::Writer(inode.modified), &operations) {
            Ok(()) => Ok(moving.len() as u64),
            Err(Error::Posix(Errno::NoSpace)) => {
                tracing::debug!(space = space.0, "no space for a slab: vectors stay where they are");
                Ok(0)
            }
            // The space was dropped meanwhile.
            Err(Error::Posix(Errno::NoEntry | Errno::Stale)) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Empties slabs of which less than half is alive.
    fn empty_slabs(&self, space: Ino) -> Result<()> {
        let mut from = 0;
        loop {
            let slabs = self.core().state.slabs_from(space, from, LOOK)?;
            let Some((last, _)) = slabs.last() else {
                return Ok(());
            };
            from = last + 1;
            for (at, slab) in slabs {
                if slab.alive * 2 < slab.vectors {
                    self.empty_slab(space, at, slab)?;
                }
            }
        }
    }

    fn empty_slab(&self, space: Ino, at: u64, slab: Slab) -> Result<()> {
        let drop = Op::DropSlab {
            space,
            at: FileBlock(at),
        };
        let Some(shape) = self.core().state.space(space)?.map(|record| record.shape) else {
            return Ok(());
        };
        let alive = self.alive_in(space, shape, at, slab)?;
        if alive.is_empty() {
            let dropped = self.transact_with(&[drop], |_| Ok(()));
            return match dropped {
                Err(Error::Posix(Errno::Busy | Errno::Stale)) => Ok(()),
                other => other,
            };
        }
        self.write_slab(space, shape, &alive, &[drop]).map(|_| ())
    }

    /// The vectors of a slab that files still have. If one of them cannot be read the slab stays as it is.
    fn alive_in(&self, space: Ino, shape: Shape, at: u64, slab: Slab) -> Result<Vec<Moving>> {
        let bytes = self.slab_bytes(space, at, slab)?;
        let stride = slab::stride(shape.vector_bytes());
        let start = FileBlock(at).byte_at();
        let mut alive = Vec::new();
        let mut core = self.core();
        let count = usize::try_from(slab.vectors).unwrap_or(0);
        for (index, record) in bytes.chunks_exact(stride).take(count).enumerate() {
            let Some(sealed) = Sealed::decode(record, shape.vector_bytes()) else {
                continue;
            };
            let place = Place::Sealed(start + (index * stride) as u64);
            let vector = core.state.vector(space, sealed.vector)?;
            if let Some(vector) = vector.filter(|vector| vector.place == place) {
                alive.push(Moving {
                    number: sealed.vector,
                    ino: vector.ino,
                    ordinal: vector.ordinal,
                    bytes: sealed.bytes.into(),
                });
            }
        }
        let now = core.state.slab(space, at)?;
        if now.is_some_and(|now| now.alive > alive.len() as u64) {
            return Err(crate::error::Damage::new(
                format_args!("slab {at} of space {}", space.0),
                "holds vectors that cannot be read",
            ));
        }
        Ok(alive)
    }

    /// The bytes of a slab.
    pub(in crate::fs) fn slab_bytes(&self, space: Ino, at: u64, slab: Slab) -> Result<Vec<u8>> {
        let length = usize::try_from(slab.blocks).unwrap_or(0) * BLOCK_SIZE;
        let mut bytes = vec![0; length.min(slab::MAX_BYTES + BLOCK_SIZE)];
        self.read(space, FileBlock(at).byte_at(), &mut bytes)?;
        Ok(bytes)
    }
}

/// The thread that moves vectors when there are enough of them.
pub(in crate::fs) struct Sealer {
    stop: Weak<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Sealer {
    pub(in crate::fs) fn start(shared: &Arc<Shared>) -> Self {
        let weak = Arc::downgrade(shared);
        let worker = weak.clone();
        let thread = std::thread::Builder::new()
            .name("vexfs-vectors".into())
            .spawn(move || run(&worker));
        // Without it who brings vectors moves them.
        let thread = thread.inspect_err(|error| tracing::warn!(%error, "starting the thread for vectors"));
        Self {
            stop: weak,
            thread: thread.ok(),
        }
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        if let Some(shared) = self.stop.upgrade() {
            shared.core.lock().sealing_stops = true;
            shared.sealing_wanted.notify_all();
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread for vectors panicked");
        }
    }
}

fn run(worker: &Weak<Shared>) {
    while let Some(shared) = worker.upgrade() {
        let fs = Fs::of_worker(shared);
        match fs.next_due() {
            Ok(None) => return,
            Ok(Some(space)) => match fs.work_on(space) {
                Ok(true) => continue,
                // There was no space.
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, space = space.0, "moving vectors into slabs and leaves"),
            },
            Err(error) => tracing::warn!(%error, "looking for vectors to move"),
        }
        // Not again at once; vectors are found where they are.
        if fs.rest() {
            return;
        }
    }
}

impl Fs {
    /// Does what a space is due for. False: it could not be done.
    fn work_on(&self, space: Ino) -> Result<bool> {
        self.seal_space(space)?;
        self.keep_index(space, false)?;
        self.core().is_due(space).map(|due| !due)
    }

    /// Waits until a space has enough growing vectors; nothing: it is time to end.
    fn next_due(&self) -> Result<Option<Ino>> {
        let mut core = self.shared.core.lock();
        loop {
            if core.sealing_stops {
                return Ok(None);
            }
            if core.mode == Mode::Writable {
                for (space, _) in core.state.spaces()? {
                    if core.is_due(space)? {
                        return Ok(Some(space));
                    }
                }
            }
            self.shared.sealing_wanted.wait(&mut core);
        }
    }

    /// Waits a little; true: it is time to end.
    fn rest(&self) -> bool {
        let mut core = self.shared.core.lock();
        if !core.sealing_stops {
            self.shared.sealing_wanted.wait_for(&mut core, REST);
        }
        core.sealing_stops
    }
}

/// How long after a failure.
const REST: std::time::Duration = std::time::Duration::from_secs(5);
