// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests about spaces and vectors: one language for the query file, the control socket and the command line.
//!
//! A request is one JSON document, or the compact form of [`binary`]; the answer is one JSON document. `docs/VECTORS.md`
//! describes both. A request that is wrong changes nothing, and its answer says what is wrong.
//!
//! # Permissions
//!
//! Every request is made by a [`Caller`]. What it names by path it must be able to reach, and to read or write, as with any
//! system call. A search finds what the caller could find by walking the tree: every directory on the way lets it search
//! and list, and the file lets it read. Of everything else it learns nothing: not from results, counts, or errors.
//!
//! | module | job |
//! |---|---|
//! | `request` | the documents |
//! | `access` | who asks, and what they may reach |
//! | `changes` | whether a request may change something, and changes that were made before |
//! | `filter` | which files a search is about |
//! | `distance` | how far vectors are apart |
//! | [`lexical`] | vectors and likeness of text, without a model |
//! | `search` | the nearest |
//! | `run` | doing what a request says |
//! | [`binary`] | many vectors in few bytes |
//! | [`transaction`] | what is written to and read from one descriptor |

mod access;
pub mod binary;
mod changes;
mod distance;
mod filter;
pub mod lexical;
mod request;
mod run;
mod search;
#[cfg(test)]
mod tests;
pub mod transaction;

pub use access::Caller;
pub use changes::{Changes, Steps};
pub use request::VERSION;
pub use run::{Answered, answer, answer_with, encode_numbers, failed};

use crate::error::{Errno, Error};

/// Longest request.
pub const MAX_REQUEST: usize = 16 << 20;

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub errno: i32,
    /// For people.
    pub message: String,
}

impl Refusal {
    fn new(errno: Errno, message: impl Into<String>) -> Self {
        Self {
            errno: errno.number(),
            message: message.into(),
        }
    }

    fn of(what: &str, error: &Error) -> Self {
        Self {
            errno: error.errno(),
            message: format!("{what}: {error}"),
        }
    }
}

type Outcome<T> = Result<T, Refusal>;

/// Whether bytes are the beginning of a request and not all of it.
pub fn is_incomplete(request: &[u8]) -> bool {
    if binary::is_binary(request) {
        binary::is_incomplete(request)
    } else {
        request::is_incomplete(request)
    }
}

/// Whether a request may change something. It does not if this says so; one that is wrong may.
pub fn may_change(request: &[u8]) -> bool {
    binary::is_binary(request) || request::may_change(request)
}
