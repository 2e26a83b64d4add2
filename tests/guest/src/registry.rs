// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a lab test is: a function, its name, and what it needs from the machine it runs in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a test asks of its machine. Written as `#[lab_guest::test(key = value, …)]`.
#[derive(Debug, Clone, Copy)]
pub struct TestMeta {
    /// `"all"`, `"stock"` (not the debug kernel), or names separated by commas: `"6.12,debug"`.
    pub kernels: &'static str,
    /// Kernel modules of this project, loaded in this order before the test and unloaded in reverse after it.
    pub modules: &'static [&'static str],
    /// Bound on the test itself, in seconds on a stock kernel; the debug kernel gets a multiple.
    pub timeout: u64,
    /// Guest memory in MiB.
    pub memory: u64,
    /// Guest CPUs.
    pub cpus: u32,
    /// Scratch disks as `"name:MiB"`; the guest finds them with [`crate::sys::disk`].
    pub disks: &'static [&'static str],
    /// Whether the machine has the 512 MiB ivshmem PCI device.
    pub ivshmem: bool,
    /// Only run with `--stress`: too long for every run.
    pub stress: bool,
    /// Only run when the filter has this word: very long, or needs what a test must not need. What it prints is shown at
    /// once.
    pub filter_word: &'static str,
    /// The suite it runs in its machine, whose programs the host makes ready before.
    pub suite: &'static str,
}

impl TestMeta {
    /// What a test gets that asks for nothing.
    pub const DEFAULT: Self = Self {
        kernels: "all",
        modules: &[],
        timeout: 60,
        memory: 1536,
        cpus: 2,
        disks: &[],
        ivshmem: false,
        stress: false,
        filter_word: "",
        suite: "",
    };
}

/// A registered test.
#[derive(Debug)]
pub struct Test {
    /// The function's name.
    pub name: &'static str,
    /// The module that holds it; the test's full name is `module::name` without the executable's own name.
    pub module: &'static str,
    /// Its code.
    pub body: Body,
    /// Its needs.
    pub meta: TestMeta,
}

inventory::collect!(Test);

/// Where a test's code runs.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    /// Inside the guest.
    Guest(fn() -> Verdict),
    /// On the host; the argument names the kernel whose machines it shall boot.
    Host(fn(&str) -> Verdict),
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything held.
    Passed,
    /// Something did not; the text says what.
    Failed(String),
    /// It could not run here; the text says why.
    Skipped(String),
}

impl Verdict {
    /// The verdict that a test function's return value means.
    pub fn from_return(value: impl IntoVerdict) -> Self {
        value.into_verdict()
    }
}

/// Return types of test functions.
pub trait IntoVerdict {
    /// The verdict that this value means.
    fn into_verdict(self) -> Verdict;
}

impl IntoVerdict for () {
    fn into_verdict(self) -> Verdict {
        Verdict::Passed
    }
}

impl IntoVerdict for anyhow::Result<()> {
    fn into_verdict(self) -> Verdict {
        match self {
            Ok(()) => Verdict::Passed,
            Err(error) => match error.downcast_ref::<Skip>() {
                Some(Skip(reason)) => Verdict::Skipped(reason.clone()),
                None => Verdict::Failed(format!("{error:#}")),
            },
        }
    }
}

/// The error that means "skipped"; made by [`crate::skip!`].
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skip {}

/// Where a test's code runs, as told to the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Inside the guest.
    Guest,
    /// On the host, driving machines.
    Host,
}

/// A test as an executable lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestInfo {
    /// Path of the function below its executable, e.g. `lifecycle::survives_a_hundred_cycles`.
    pub name: String,
    /// Where it runs.
    pub place: Place,
    /// See [`TestMeta::kernels`].
    pub kernels: String,
    /// See [`TestMeta::modules`].
    pub modules: Vec<String>,
    /// See [`TestMeta::timeout`].
    pub timeout: u64,
    /// See [`TestMeta::memory`].
    pub memory: u64,
    /// See [`TestMeta::cpus`].
    pub cpus: u32,
    /// See [`TestMeta::disks`].
    pub disks: Vec<String>,
    /// See [`TestMeta::ivshmem`].
    pub ivshmem: bool,
    /// See [`TestMeta::stress`].
    pub stress: bool,
    /// See [`TestMeta::filter_word`].
    pub filter_word: String,
    /// See [`TestMeta::suite`].
    pub suite: String,
}

impl Test {
    /// The test's name as users see and filter it.
    pub fn full_name(&self) -> String {
        match self.module.split_once("::") {
            Some((_executable, inner)) => format!("{inner}::{}", self.name),
            None => self.name.to_owned(),
        }
    }

    /// The test's description for the runner.
    pub fn info(&self) -> TestInfo {
        let owned = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect();
        TestInfo {
            name: self.full_name(),
            place: match self.body {
                Body::Guest(_) => Place::Guest,
                Body::Host(_) => Place::Host,
            },
            kernels: self.meta.kernels.to_owned(),
            modules: owned(self.meta.modules),
            timeout: self.meta.timeout,
            memory: self.meta.memory,
            cpus: self.meta.cpus,
            disks: owned(self.meta.disks),
            ivshmem: self.meta.ivshmem,
            stress: self.meta.stress,
            filter_word: self.meta.filter_word.to_owned(),
            suite: self.meta.suite.to_owned(),
        }
    }
}

/// All tests of this executable, by name.
pub fn tests() -> Vec<&'static Test> {
    let mut tests: Vec<_> = inventory::iter::<Test>().collect();
    tests.sort_by_key(|test| test.full_name());
    tests
}
