// SPDX-License-Identifier: MIT OR Apache-2.0

//! Numbers as people read them: three digits and a unit.

use std::time::Duration;

/// `1.5 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        // Else 1023.9 of a unit would become 1024.
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{} {unit}", three_digits(value))
}

/// `12.3 k`; what is less than one keeps two decimals.
pub(crate) fn number(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 999_500_000.0 => (value / 1e9, " G"),
        value if value >= 999_500.0 => (value / 1e6, " M"),
        value if value >= 9999.5 => (value / 1e3, " k"),
        value if value >= 999.5 || value == 0.0 => return format!("{value:.0}"),
        value => (value, ""),
    };
    format!("{}{unit}", three_digits(value))
}

/// `1.25 ms`.
pub(crate) fn latency(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (value, unit) = match seconds {
        seconds if seconds < 999.5e-9 => return format!("{} ns", time.as_nanos()),
        seconds if seconds < 999.5e-6 => (seconds * 1e6, "µs"),
        seconds if seconds < 0.9995 => (seconds * 1e3, "ms"),
        seconds => (seconds, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// `3 h 12 min`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// `12 %`; nothing of nothing is 0.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    format!("{:.0} %", ratio(part, whole) * 100.0)
}

/// Between 0 and 1.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let ratio = part as f64 / whole as f64;
    ratio.clamp(0.0, 1.0)
}

/// A text of somebody else, without anything that moves the cursor.
pub(crate) fn plain(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
    text.chars().map(plain).collect()
}

fn three_digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit_at_every_size() {
        let sizes = [0, 1023, 1024, 1 << 20, (1 << 20) - 1, 15 << 29, u64::MAX];
        let texts = [
            "0 B", "1023 B", "1.00 KiB", "1.00 MiB", "1.00 MiB", "7.50 GiB", "16.0 EiB",
        ];
        assert_eq!(sizes.map(bytes), texts);
        let numbers = [0.0, 0.25, 12.0, 999.4, 1234.0, 12_345.0, 999_999.0, 2e9];
        let texts = ["0", "0.25", "12.0", "999", "1234", "12.3 k", "1.00 M", "2.00 G"];
        assert_eq!(numbers.map(number), texts);
        let times = [17, 1500, 999_600, 12_345_678, 1_000_000_000].map(Duration::from_nanos);
        assert_eq!(times.map(latency), ["17 ns", "1.50 µs", "1.00 ms", "12.3 ms", "1.00 s"]);
        let spans = [59, 61, 7300, 200_000].map(Duration::from_secs);
        assert_eq!(spans.map(span), ["59 s", "1 min 1 s", "2 h 1 min", "2 d 7 h"]);
        assert_eq!((percent(0, 0), percent(1, 3)), ("0 %".into(), "33 %".into()));
    }

    #[test]
    fn a_text_cannot_move_the_cursor() {
        assert_eq!(plain("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
