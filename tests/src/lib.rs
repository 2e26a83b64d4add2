// SPDX-License-Identifier: MIT OR Apache-2.0

//! The VM lab: real kernels, booted in seconds, that run this project's modules, servers and tests.
//!
//! From the bottom up, each module knowing only those above it in this list:
//!
//! - [`markup`]: text in XML and HTML. [`transcript`]: examples in documents.
//! - [`host`]: the machine the lab runs on: its cache directory, commands, packages, progress shown to a person.
//! - [`crash`]: what a kernel's console means: patterns, classification, crash records, recovery metrics. Sans-IO.
//! - [`store`]: what runs found, one file each, kept and asked later.
//! - [`kernel`]: Debian's stock kernels, the debug kernel, the trees that build them, modules built for each.
//! - [`vm`]: one machine: boot, run a command, freeze, cut the power, boot again on the same disks, hold for a look.
//! - [`suites`]: conformance and torture suites against a mounted filesystem.
//! - [`runner`]: tests of all levels found, run, recovered from, reported.

pub mod crash;
pub mod host;
pub mod kernel;
pub mod markup;
pub mod runner;
pub mod store;
pub mod suites;
pub mod transcript;
pub mod vm;
