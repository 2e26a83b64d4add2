// SPDX-License-Identifier: MIT OR Apache-2.0

//! Feature bits of a pool: what an older engine may do with a newer pool.
//!
//! | set | an engine that does not know a bit |
//! |---|---|
//! | `compat` | ignores and keeps it |
//! | `ro_compat` | opens the pool read-only |
//! | `incompat` | does not open the pool |
//!
//! A feature that gives meaning to reserved bytes of the superblock is `ro_compat` or `incompat`: an engine that does not
//! know it never writes the superblock then. Format version 1 needs no bit; a name gets its line here when a feature does.

use std::fmt;

/// One of the three sets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FeatureSet {
    /// May be ignored.
    Compat,
    /// Reading is safe.
    RoCompat,
    /// Not even reading is.
    Incompat,
}

/// Every bit this engine knows: set, bit, name.
const KNOWN: &[(FeatureSet, u32, &str)] = &[];

/// The three sets of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Features {
    /// See [`FeatureSet::Compat`].
    pub compat: u64,
    /// See [`FeatureSet::RoCompat`].
    pub ro_compat: u64,
    /// See [`FeatureSet::Incompat`].
    pub incompat: u64,
}

impl Features {
    /// What this engine does not know.
    #[must_use]
    pub fn unknown(self) -> Self {
        let without = |set, bits: u64| {
            KNOWN
                .iter()
                .filter(|known| known.0 == set)
                .fold(bits, |bits, known| bits & !(1 << known.1))
        };
        Self {
            compat: without(FeatureSet::Compat, self.compat),
            ro_compat: without(FeatureSet::RoCompat, self.ro_compat),
            incompat: without(FeatureSet::Incompat, self.incompat),
        }
    }

    /// No bit at all.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Names, or `incompat bit 5` for what has none; `none` if empty.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sets = [
            (FeatureSet::Compat, "compat", self.compat),
            (FeatureSet::RoCompat, "ro_compat", self.ro_compat),
            (FeatureSet::Incompat, "incompat", self.incompat),
        ];
        let mut separator = "";
        for (set, set_name, bits) in sets {
            for bit in (0..u64::BITS).filter(|bit| bits >> bit & 1 == 1) {
                match KNOWN.iter().find(|known| (known.0, known.1) == (set, bit)) {
                    Some((_, _, name)) => write!(f, "{separator}{name}")?,
                    None => write!(f, "{separator}{set_name} bit {bit}")?,
                }
                separator = ", ";
            }
        }
        if separator.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}
