// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sealed images: a tree of files in one file that is only read, and is mounted by the kernel module without a server.
//!
//! The bytes are those of `docs/FORMAT-SEALED.md`. The same tree gives the same bytes.
//!
//! | module | job |
//! |---|---|
//! | [`layout`] | structures and constants, as in `vexfs/kernel/vexfs_sealed.h` |
//! | [`write`] | from a pool to an image |
//! | [`read`] | looking into an image, whatever its bytes are |
//! | [`check`] | everything that must hold in one |
//! | [`forge`] | images that lie, for tests |

pub mod check;
#[doc(hidden)]
pub mod forge;
pub mod layout;
pub mod read;
#[cfg(test)]
mod tests;
pub mod write;

use zerocopy::IntoBytes;

/// Whether these first bytes of a file are those of a sealed image.
pub fn is_sealed(start: &[u8]) -> bool {
    start.starts_with(layout::MAGIC.to_le_bytes().as_bytes())
}
