// SPDX-License-Identifier: MIT OR Apache-2.0

//! The language of the kernel module, spoken with the real server core over a pool in memory.
//!
//! | module | job |
//! |---|---|
//! | `peer` | the client's end: requests, batches, replies |
//! | `bench` | a pool, a server, and a client with its slots; deaths of the server |
//! | `calls` | what each call does |
//! | `crash` | sequences of calls and posts, with deaths of the server and of the machine at any moment |
//! | `queries` | requests about vectors, in pieces, with deaths of the server |
//! | `hostile` | any bytes |
//! | `sessions` | one client after another |
//! | `model` | every order of events of a small client, by model checking |
//! | `room` | the same for the room that it was promised |

#![allow(missing_docs, unreachable_pub, reason = "a test has no users")]
#![expect(clippy::unwrap_used, reason = "a test: what cannot happen may panic")]

mod bench;
mod calls;
mod crash;
mod hostile;
mod model;
mod peer;
mod queries;
mod room;
mod sessions;
