// SPDX-License-Identifier: MIT OR Apache-2.0

//! Median and range of repeated measurements.

use std::fmt;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spread {
    /// In the middle, or between the two that are.
    pub median: f64,
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

impl Spread {
    /// Of finite numbers, at least one.
    pub fn of(mut values: Vec<f64>) -> Result<Self> {
        ensure!(
            !values.is_empty() && values.iter().all(|value| value.is_finite()),
            "a measurement gave no number: {values:?}"
        );
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let last = values.len() - 1;
        let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
        Ok(Self {
            median,
            low: at(0),
            high: at(last),
        })
    }

    /// What was measured once.
    pub const fn once(value: f64) -> Self {
        Self {
            median: value,
            low: value,
            high: value,
        }
    }

    /// The median alone.
    pub fn short(&self) -> String {
        let digits = if self.median < 100.0 { 2 } else { 0 };
        format!("{:.digits$}", self.median)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.high < 100.0 { 2 } else { 0 };
        if self.low.total_cmp(&self.high).is_eq() {
            return write!(f, "{:.digits$}", self.median);
        }
        write!(
            f,
            "{:.digits$} ({:.digits$}–{:.digits$})",
            self.median, self.low, self.high
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_and_the_range() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.low, spread.high), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of(vec![4.0, 1.0]).unwrap().to_string(), "2.50 (1.00–4.00)");
        assert_eq!(Spread::of(vec![1000.0]).unwrap().to_string(), "1000");
        assert!(Spread::of(Vec::new()).is_err() && Spread::of(vec![f64::NAN]).is_err());
    }
}
