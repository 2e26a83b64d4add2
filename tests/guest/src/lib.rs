// SPDX-License-Identifier: MIT OR Apache-2.0

//! The guest's half of the VM lab.
//!
//! - [`protocol`]: what the host and the agent say to each other over a virtio port. Sans-IO.
//! - [`registry`] and [`harness`]: a lab test is one function marked [`macro@test`]; the executable that holds it lists
//!   and runs its tests on demand. Inside the guest or, for tests that drive whole machines, on the host.
//! - [`kmod`], [`lifecycle`], [`sys`], [`mapper`]: what tests need again and again: modules, their state, disks by name,
//!   commands, disks that fail.
//! - [`measure`]: what a test measured, told to the runner.
//! - [`work`] and [`service`]: what benchmarks do to files, here and on the host, and to servers in a machine.
//!
//! The agent itself, PID 1 of every lab machine, is the binary `lab-agent` of this crate.
//!
//! A test executable is an integration test named `vm` with `harness = false` and this content:
//!
//! ```ignore
//! #[lab_guest::test(modules = ["vexfs"])]
//! fn the_module_reports_its_version() -> anyhow::Result<()> { … }
//!
//! lab_guest::main!();
//! ```

pub mod harness;
pub mod kmod;
pub mod lifecycle;
pub mod mapper;
pub mod measure;
pub mod protocol;
pub mod registry;
pub mod service;
pub mod sys;
pub mod work;

pub use inventory;
pub use lab_macros::test;

/// Defines `main` of a test executable that holds lab tests.
#[macro_export]
macro_rules! main {
    () => {
        fn main() -> ::std::process::ExitCode {
            $crate::harness::main()
        }
    };
}

/// Ends a test as skipped, with the reason. For what a machine cannot offer, never for what fails.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {
        return Err($crate::registry::Skip(format!($($reason)*)).into())
    };
}
