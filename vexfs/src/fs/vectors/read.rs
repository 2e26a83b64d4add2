// SPDX-License-Identifier: MIT OR Apache-2.0

//! Getting vectors back: those of a file, and all of a space.
//!
//! Vectors move while they are read, from records into slabs and from slab to slab. One is looked up again when it is not
//! where it was; a scan goes through growing vectors, then slabs in order, then what was put meanwhile. Slabs are only made
//! behind all others, so it meets every vector that exists all the while, some twice.

use std::ops::ControlFlow;

use crate::error::{Damage, Errno, Error, Result};
use crate::fs::engine::Fs;
use crate::fs::file::ATTEMPTS;
use crate::units::Ino;

use super::calls::Embedded;
use super::record::{Place, Vector};
use super::slab::{self, Sealed};
use super::space::Shape;

/// Growing vectors that are taken at once.
const STEP: usize = 512;

/// A vector that a scan met. It may be dead, unless it is growing: see [`Fs::is_alive`].
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Its number in the space.
    pub vector: u64,
    /// The file.
    pub ino: Ino,
    /// Which of the file's.
    pub ordinal: u32,
    /// The vector.
    pub bytes: &'a [u8],
}

impl Fs {
    /// The vectors of a file in a space, by ordinal.
    pub fn vectors_of(&self, ino: Ino, space: Ino) -> Result<Vec<Embedded>> {
        let (shape, wanted) = {
            let mut core = self.core();
            core.state.inode(ino)?;
            let record = core.state.space(space)?;
            let shape = record.ok_or(Error::Posix(Errno::NoEntry))?.shape;
            (shape, core.state.embeddings_in(ino, space, usize::MAX)?)
        };
        let mut found = Vec::with_capacity(wanted.len());
        for (_, number) in wanted {
            if let Some((vector, bytes)) = self.vector_bytes(space, shape, number)? {
                found.push(Embedded {
                    ordinal: vector.ordinal,
                    of: vector.of,
                    bytes,
                });
            }
        }
        Ok(found)
    }

    /// A vector and its bytes; none if it is gone.
    pub(super) fn vector_bytes(&self, space: Ino, shape: Shape, number: u64) -> Result<Option<(Vector, Box<[u8]>)>> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let (vector, at) = {
                let mut core = self.core();
                let Some(vector) = core.state.vector(space, number)? else {
                    return Ok(None);
                };
                match vector.place {
                    Place::Growing => {
                        let bytes = core.state.growing(space, number)?;
                        let bytes = bytes.ok_or_else(|| lost(space, number, "its bytes are missing"))?;
                        return Ok(Some((vector, bytes.0.clone())));
                    }
                    Place::Sealed(at) => (vector, at),
                }
            };
            let mut record = vec![0; slab::stride(shape.vector_bytes())];
            let read = self.read(space, at, &mut record);
            let sealed = Sealed::decode(&record, shape.vector_bytes());
            let whose = sealed.map(|sealed| (sealed.space, sealed.vector, sealed.ino, sealed.ordinal));
            match (read, sealed) {
                (Ok(_), Some(sealed)) if whose == Some((space, number, vector.ino, vector.ordinal)) => {
                    return Ok(Some((vector, sealed.bytes.into())));
                }
                // Moved since it was looked up; if not, it is damaged.
                (Ok(_), _) if last == Some(at) => {
                    return Err(lost(space, number, "its slab holds something else"));
                }
                (Err(error), _) if last == Some(at) => return Err(error),
                _ => last = Some(at),
            }
        }
        Err(Errno::Busy.into())
    }

    /// Calls `each` with every vector of a space; returns whether all could be read. See the module.
    pub fn scan_vectors(&self, space: Ino, each: &mut dyn FnMut(Found<'_>) -> Result<ControlFlow<()>>) -> Result<bool> {
        let (shape, next) = {
            let mut core = self.core();
            let record = core.state.space(space)?;
            let record = record.ok_or(Error::Posix(Errno::NoEntry))?;
            (record.shape, record.next)
        };
        if self.scan_growing(space, 0, each)?.is_break() {
            return Ok(true);
        }
        let mut complete = true;
        let mut from = 0;
        loop {
            let slab = self.core().state.slabs_from(space, from, 1)?.pop();
            let Some((at, slab)) = slab else { break };
            from = at + 1;
            let bytes = match self.slab_bytes(space, at, slab) {
                Ok(bytes) => bytes,
                Err(error @ (Error::Damaged(_) | Error::Io(_))) => {
                    tracing::warn!(space = space.0, slab = at, %error, "vectors cannot be read");
                    complete = false;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let stride = slab::stride(shape.vector_bytes());
            let count = usize::try_from(slab.vectors).unwrap_or(0);
            for record in bytes.chunks_exact(stride).take(count) {
                let Some(sealed) = Sealed::decode(record, shape.vector_bytes()) else {
                    // A slab that went since is zeros now.
                    complete &= self.core().state.slab(space, at)?.is_none();
                    continue;
                };
                let found = Found {
                    vector: sealed.vector,
                    ino: sealed.ino,
                    ordinal: sealed.ordinal,
                    bytes: sealed.bytes,
                };
                if sealed.space == space && each(found)?.is_break() {
                    return Ok(complete);
                }
            }
        }
        self.scan_growing(space, next, each).map(|_| complete)
    }

    fn scan_growing(
        &self,
        space: Ino,
        from: u64,
        each: &mut dyn FnMut(Found<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let mut from = from;
        loop {
            let mut some = Vec::new();
            {
                let mut core = self.core();
                let growing = core.state.growing_from(space, from, STEP)?;
                let Some((last, _)) = growing.last() else {
                    return Ok(ControlFlow::Continue(()));
                };
                from = last + 1;
                for (number, bytes) in growing {
                    if let Some(vector) = core.state.vector(space, number)? {
                        some.push((number, vector, bytes));
                    }
                }
            }
            for (number, vector, bytes) in &some {
                let found = Found {
                    vector: *number,
                    ino: vector.ino,
                    ordinal: vector.ordinal,
                    bytes,
                };
                if each(found)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
    }

    /// Whether a vector that a scan met is still a file's.
    pub fn is_alive(&self, space: Ino, found: &Found<'_>) -> Result<bool> {
        let vector = self.core().state.vector(space, found.vector)?;
        Ok(vector.is_some_and(|vector| (vector.ino, vector.ordinal) == (found.ino, found.ordinal)))
    }
}

fn lost(space: Ino, number: u64, what: &str) -> Error {
    Damage::new(format_args!("vector {number} of space {}", space.0), what)
}
