// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs that suites need: Debian packages, and pinned crates built once into the cache.
//!
//! All of it is made ready before the first case runs ([`ensure`]), so that a case's time is its own.

use std::path::PathBuf;

use anyhow::Result;

use super::{Case, target::On};
use crate::host::apt::{self, Package};
use crate::host::cache;
use crate::runner::discover::cargo;

/// A program from crates.io, in a version that does not change by itself.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Tests of POSIX calls: <https://github.com/saidsay-so/pjdfstest>.
pub const PJDFSTEST: Tool = Tool {
    name: "pjdfstest",
    version: "0.2.2",
};
/// The file system exerciser: <https://github.com/asomers/fsx-rs>.
pub const FSX: Tool = Tool {
    name: "fsx",
    version: "0.3.2",
};

const PJDFSTEST_BUILD: &[Package] = &[("libacl1-dev", "/usr/include/sys/acl.h"), ("acl", "/usr/bin/setfacl")];
const FIO: &[Package] = &[("fio", "/usr/bin/fio")];
const APPLICATIONS: &[Package] = &[
    ("git", "/usr/bin/git"),
    ("sqlite3", "/usr/bin/sqlite3"),
    ("postgresql", "/usr/share/doc/postgresql/copyright"),
    ("rsync", "/usr/bin/rsync"),
    ("tar", "/usr/bin/tar"),
    ("acl", "/usr/bin/setfacl"),
];
const REFERENCE: &[Package] = &[
    ("e2fsprogs", "/sbin/mkfs.ext4"),
    ("xfsprogs", "/sbin/mkfs.xfs"),
    ("btrfs-progs", "/usr/bin/btrfs"),
];

impl Tool {
    /// Where it is, built on first use.
    pub fn path(self) -> Result<PathBuf> {
        let Self { name, version } = self;
        let tool = cache::entry(&format!("tools/{name}-{version}"), |directory| {
            cargo()
                .args(["install", "--locked", "--version", version, name, "--root"])
                .arg(directory)
                .run_shown()
        })?;
        Ok(tool.join("bin").join(name))
    }
}

/// Makes ready what these cases need.
pub fn ensure(cases: &[Case], on: On) -> Result<()> {
    let wanted = |suite: &str| cases.iter().any(|case| case.suite == suite);
    if matches!(on, On::Reference(_)) {
        apt::ensure(REFERENCE)?;
    }
    if wanted("pjdfstest") {
        apt::ensure(PJDFSTEST_BUILD)?;
        PJDFSTEST.path()?;
    }
    if wanted("fsx") {
        FSX.path()?;
    }
    if wanted("fio") {
        apt::ensure(FIO)?;
    }
    if wanted("applications") {
        apt::ensure(APPLICATIONS)?;
    }
    Ok(())
}
