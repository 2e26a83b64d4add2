// SPDX-License-Identifier: MIT OR Apache-2.0

//! Times, sorted.

use std::time::Duration;

use serde_json::{Value, json};

/// Quantiles of times, in microseconds.
pub(crate) fn of(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let at = |permille: usize| {
        let index = (times.len().saturating_sub(1) * permille).div_ceil(1000);
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    let rounded = |value: f64| (value * 10.0).round() / 10.0;
    json!({
        "count": times.len(),
        "p50_us": rounded(at(500)), "p99_us": rounded(at(990)), "p999_us": rounded(at(999)), "max_us": rounded(at(1000)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let value = of((1..=1000).rev().map(Duration::from_micros).collect());
        assert_eq!(value["p50_us"], 501.0);
        assert_eq!(value["p99_us"], 991.0);
        assert_eq!(value["max_us"], 1000.0);
        assert_eq!(of(Vec::new())["count"], 0);
    }
}
