// SPDX-License-Identifier: MIT OR Apache-2.0

//! Conformance and torture suites, run against a real mount.
//!
//! A suite knows only a [`target::Target`]: something that is mounted, may lose its server, is mounted again and checked.
//! What stands behind it is chosen with `--on`: our filesystem, or a filesystem of the kernel as the reference. A case that
//! fails on the reference too is wrong itself.
//!
//! Each case runs as a process of its own in its own mount and PID namespaces ([`crate::runner::suite`]). When that
//! process ends, however it ends, the kernel takes away every mount, loop device and process that the case made. So a case
//! may start what it likes and need not tidy up on its way out of an error.
//!
//! | module | suite |
//! |---|---|
//! | [`pjdfstest`] | POSIX calls and their errors, tests by others |
//! | [`fsx`] | random operations on one file, by others |
//! | [`ranges`] | the same for the calls that `fsx` does not know |
//! | [`fio`] | data under load, verified by checksums |
//! | [`applications`] | git, cargo, SQLite, PostgreSQL, rsync, tar |
//! | [`crash`] | the server is killed at any moment, over and over |
//! | [`full`] | a pool without space |
//!
//! The others are what suites are made of: [`tools`] (programs they need), [`tree`] (two trees compared bit by bit),
//! [`session`] (what a case is given).

pub mod aligned;
pub mod applications;
pub mod crash;
pub mod fio;
pub mod fsx;
pub mod full;
pub mod pjdfstest;
pub mod ranges;
pub mod session;
pub mod target;
pub mod tools;
pub mod tree;

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use anyhow::Result;
use lab_guest::registry::Verdict;

pub use session::{Session, Settings, Skipped};

/// One case of a suite.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The suite's name.
    pub suite: &'static str,
    /// What holds if it passes.
    pub name: &'static str,
    /// Bound of the quick run, in seconds.
    pub quick: u64,
    /// Bound of the full run, in seconds.
    pub full: u64,
    /// What is done.
    pub body: fn(&Session) -> Result<()>,
}

impl Case {
    /// `suite::case`, what filters are matched against.
    pub fn full_name(&self) -> String {
        format!("{}::{}", self.suite, self.name)
    }

    /// How long it may take. Machines differ, and others may use this one.
    pub fn limit(&self, full: bool) -> Duration {
        Duration::from_secs(if full { self.full } else { self.quick })
    }
}

/// All cases, in the order in which they are run: what says most in the least time comes first.
pub fn cases() -> Vec<Case> {
    [
        pjdfstest::CASES,
        fsx::CASES,
        ranges::CASES,
        full::CASES,
        crash::CASES,
        fio::CASES,
        applications::CASES,
    ]
    .concat()
}

/// Runs one case in this process, which must be alone in its namespaces.
pub fn run(name: &str, settings: Settings) -> Verdict {
    let Some(case) = cases().into_iter().find(|case| case.full_name() == name) else {
        return Verdict::Failed(format!("there is no case {name}"));
    };
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        let session = Session::open(settings)?;
        (case.body)(&session)
    }));
    match outcome {
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(error)) => match error.downcast_ref::<Skipped>() {
            Some(Skipped(reason)) => Verdict::Skipped(reason.clone()),
            None => Verdict::Failed(format!("{error:#}")),
        },
        Err(payload) => {
            let text = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied());
            Verdict::Failed(format!(
                "panicked: {}",
                text.unwrap_or("with something that is not text")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_more_time_in_the_full_run() {
        let names: BTreeSet<String> = cases().iter().map(Case::full_name).collect();
        assert_eq!(names.len(), cases().len());
        assert!(cases().iter().all(|case| case.quick <= case.full));
    }
}
