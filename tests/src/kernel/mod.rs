// SPDX-License-Identifier: MIT OR Apache-2.0

//! Kernels the lab boots, and this project's modules built for each.
//!
//! A kernel is asked for by a name that stays ([`KernelId`]); which release that is today is found in the archive by
//! pattern ([`stock`]) or follows from the source package ([`debug`]). Both come from a Debian tree ([`tree`]) in which
//! modules are built too ([`modules`]), so that the host's own release and compiler do not matter.

pub mod debug;
pub mod modules;
pub mod stock;
pub mod tree;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};

/// A kernel by the name that users type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelId {
    /// Debian's long-term kernel, from bookworm-backports.
    Lts,
    /// The newest 7.x of trixie-backports.
    Newest,
    /// Built here with every checker on; see `tests/kernel/debug.config`.
    Debug,
}

impl KernelId {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lts, Self::Newest, Self::Debug];
    /// Those that Debian ships.
    pub const STOCK: [Self; 2] = [Self::Lts, Self::Newest];

    /// The name on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lts => "6.12",
            Self::Newest => "7.x",
            Self::Debug => "debug",
        }
    }

    /// How much longer things take than on a stock kernel.
    pub const fn slowness(self) -> u32 {
        match self {
            Self::Lts | Self::Newest => 1,
            Self::Debug => 6,
        }
    }

    /// Whether a test's `kernels` attribute names this kernel.
    pub fn is_named_by(self, kernels: &str) -> bool {
        kernels.split(',').map(str::trim).any(|word| match word {
            "all" => true,
            "stock" => self != Self::Debug,
            name => name == self.name(),
        })
    }
}

impl fmt::Display for KernelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KernelId {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|id| id.name() == name) {
            Some(id) => Ok(id),
            None => bail!("no kernel is called {name:?}: say 6.12, 7.x or debug"),
        }
    }
}

/// A kernel that is ready to boot.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The name it was asked for by.
    pub id: KernelId,
    /// What `uname -r` says in it.
    pub release: String,
    /// The image QEMU loads.
    pub image: PathBuf,
    /// Its modules, as `/lib/modules/<release>` holds them; none where everything is built in.
    pub modules: Option<PathBuf>,
    /// The tree that builds modules for it.
    pub tree: tree::Tree,
    /// The directory in that tree to build modules against, as seen from inside.
    pub headers: String,
}

impl Kernel {
    /// The compiler in its tree that modules for it are built with.
    pub fn gcc(&self) -> &'static str {
        match self.id {
            KernelId::Lts | KernelId::Debug => tree::Suite::BOOKWORM.gcc,
            KernelId::Newest => tree::Suite::TRIXIE.gcc,
        }
    }
}

/// Finds, fetches or builds a kernel. `refresh` looks for a newer release although one is cached.
pub fn ensure(id: KernelId, refresh: bool) -> Result<Kernel> {
    match id {
        KernelId::Lts => stock::ensure(id, tree::Suite::BOOKWORM, r"6\.12\.[0-9]", refresh),
        KernelId::Newest => stock::ensure(id, tree::Suite::TRIXIE, r"7\.[0-9]", refresh),
        KernelId::Debug => debug::ensure(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_names_its_kernels() {
        assert!(KernelId::ALL.iter().all(|id| id.is_named_by("all")));
        assert!(KernelId::Lts.is_named_by("stock") && !KernelId::Debug.is_named_by("stock"));
        assert!(KernelId::Debug.is_named_by("6.12, debug") && !KernelId::Newest.is_named_by("6.12, debug"));
        assert!(!KernelId::Lts.is_named_by(""));
    }

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for id in KernelId::ALL {
            assert_eq!(id.name().parse::<KernelId>().unwrap(), id);
        }
        assert!(
            "6.1"
                .parse::<KernelId>()
                .unwrap_err()
                .to_string()
                .contains("6.12, 7.x or debug")
        );
    }
}
