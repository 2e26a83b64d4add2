// SPDX-License-Identifier: MIT OR Apache-2.0

//! One mapped chunk, and registers in it whose place is known when the program is compiled.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use super::mapping::{Mapping, Word};
use crate::error::{Error, Result};
use crate::layout::{CHUNK_SIZE, Registers};

/// A register of type `T` at byte `OFFSET` of a chunk. A place that does not fit or is not aligned does not compile.
#[derive(Debug, Clone, Copy, Default)]
pub struct Register<T: Word, const OFFSET: usize>(PhantomData<T>);

impl<T: Word, const OFFSET: usize> Register<T, OFFSET> {
    /// The register.
    pub const fn new() -> Self {
        const {
            assert!(OFFSET.is_multiple_of(size_of::<T>()), "a register is not aligned");
            assert!(OFFSET + size_of::<T>() <= CHUNK_SIZE, "a register does not fit a chunk");
        }
        Self(PhantomData)
    }
}

/// A chunk in use: it stays mapped, where it is, for as long as this value or a copy of it lives.
#[derive(Debug, Clone)]
pub struct Chunk {
    index: usize,
    mapping: Pin<Arc<Mapping>>,
}

impl Chunk {
    pub(super) fn new(index: usize, mapping: Pin<Arc<Mapping>>) -> Self {
        Self { index, mapping }
    }

    /// Which chunk of the region it is.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Reads a word at a place known only at run time.
    pub fn read<T: Word>(&self, offset: usize) -> Result<T> {
        self.mapping.read(offset).ok_or(Error::OutOfBounds {
            offset,
            length: size_of::<T>(),
        })
    }

    /// Writes a word at a place known only at run time.
    pub fn write<T: Word>(&self, offset: usize, value: T) -> Result<()> {
        self.mapping.write(offset, value).ok_or(Error::OutOfBounds {
            offset,
            length: size_of::<T>(),
        })
    }

    /// Borrows a register; what is borrowed cannot outlive the mapping.
    pub fn register<T: Word, const OFFSET: usize>(&self, register: Register<T, OFFSET>) -> Bound<'_, T, OFFSET> {
        Bound {
            mapping: &self.mapping,
            register,
        }
    }
}

/// A register of a mapped chunk.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a, T: Word, const OFFSET: usize> {
    mapping: &'a Mapping,
    #[expect(dead_code, reason = "carries the type and the proof that the place fits")]
    register: Register<T, OFFSET>,
}

impl<T: Word + Default, const OFFSET: usize> Bound<'_, T, OFFSET> {
    /// Reads it.
    pub fn get(&self) -> T {
        // `Register::new` proved that the place fits, so there is always a value.
        self.mapping.read(OFFSET).unwrap_or_default()
    }

    /// Writes it.
    pub fn set(&self, value: T) {
        let written = self.mapping.write(OFFSET, value);
        debug_assert!(written.is_some(), "proved by `Register::new`");
    }
}

/// The control block in its chunk. Places come from [`crate::layout`] and fit; another reads as gone.
impl Registers for Chunk {
    fn read(&self, offset: usize) -> u32 {
        self.mapping.read(offset).unwrap_or(crate::layout::GONE)
    }

    fn write(&self, offset: usize, value: u32) {
        let written = self.mapping.write(offset, value);
        debug_assert!(written.is_some(), "no register at {offset:#x}");
    }
}

/// Memory that stands for a whole region. As above.
impl Registers for Mapping {
    fn read(&self, offset: usize) -> u32 {
        Self::read(self, offset).unwrap_or(crate::layout::GONE)
    }

    fn write(&self, offset: usize, value: u32) {
        let written = Self::write(self, offset, value);
        debug_assert!(written.is_some(), "no register at {offset:#x}");
    }
}
