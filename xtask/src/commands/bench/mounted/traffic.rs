// SPDX-License-Identifier: MIT OR Apache-2.0

//! What reached the disk under a filesystem, as the block layer counts it.

use anyhow::{Context, Result};

/// In the file `stat` of a disk in sysfs, whatever the disk's own sectors are.
const SECTOR: f64 = 512.0;
/// Fields of that file, from 0; see Documentation/block/stat.rst of the kernel.
const SECTORS_WRITTEN: usize = 6;
const FLUSHES: usize = 15;

/// Since the machine was booted, or between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Traffic {
    pub(in super::super) flushes: f64,
    /// Written.
    pub(in super::super) bytes: f64,
}

impl Traffic {
    pub(super) fn parse(line: &str) -> Result<Self> {
        let field = |index: usize| -> Result<f64> {
            let word = line.split_whitespace().nth(index);
            let word = word.with_context(|| format!("a disk's counters lack field {index}: {line:?}"))?;
            word.parse().with_context(|| format!("{word:?} is no count"))
        };
        Ok(Self {
            flushes: field(FLUSHES)?,
            bytes: field(SECTORS_WRITTEN)? * SECTOR,
        })
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            flushes: self.flushes - before.flushes,
            bytes: self.bytes - before.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_s_counters_are_read_and_subtracted() {
        let before = "    100  0  800  5  20  1  160  9  0  12  14  0  0  0  0  7  3\n";
        let after = "    100  0  800  5  30  1  176  9  0  12  14  0  0  0  0  9  3\n";
        let traffic = Traffic::parse(after).unwrap().since(Traffic::parse(before).unwrap());
        assert_eq!(
            traffic,
            Traffic {
                flushes: 2.0,
                bytes: 8192.0
            }
        );
    }

    #[test]
    fn a_kernel_that_does_not_count_flushes_is_told() {
        let error = Traffic::parse("1 2 3 4 5 6 7 8 9 10 11").unwrap_err().to_string();
        assert!(error.contains("lack field 15"), "{error}");
        assert!(Traffic::parse("1 2 3 4 5 6 x 8 9 10 11 0 0 0 0 1").is_err());
    }
}
