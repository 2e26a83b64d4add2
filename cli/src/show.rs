// SPDX-License-Identifier: MIT OR Apache-2.0

//! Text for people, JSON for programs.
//!
//! With `--json` a command prints one document, an object with the member `version`. Within a version members are only
//! added. `docs/OPERATIONS.md` lists them.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::size::Size;

/// Version of the documents that `--json` prints.
pub(crate) const JSON_VERSION: u32 = 1;

/// Prints an object as the document of a command.
pub(crate) fn document(mut object: Value) {
    if let Value::Object(members) = &mut object {
        members.insert("version".into(), JSON_VERSION.into());
    }
    println!("{object:#}");
}

/// Prints rows of a name and a value, or the same as an object.
pub(crate) fn table(rows: &[(&str, Value)], json: bool) {
    if json {
        let object: serde_json::Map<String, Value> = rows
            .iter()
            .map(|(name, value)| (name.replace(' ', "_"), value.clone()))
            .collect();
        return document(Value::Object(object));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        match value {
            Value::String(text) => println!("{name:width$}  {text}"),
            other => println!("{name:width$}  {other}"),
        }
    }
}

/// Columns as wide as their widest word.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let words = rows.iter().filter_map(|row| row.get(column));
        words.map(|word| word.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (word, width) in row.iter().zip(&widths) {
            // Writing to a string does not fail.
            let _ = write!(line, "{word:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A bar for long work; nothing where there is no terminal.
pub(crate) fn bar(what: &'static str, total: Option<u64>) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total).with_style(style("{msg} {wide_bar} {bytes}/{total_bytes}")),
        None => ProgressBar::new_spinner().with_style(style("{spinner} {msg} {pos}")),
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_message(what)
}

/// The same, counting bytes also where the total is not known.
pub(crate) fn byte_bar(what: &'static str, total: Option<u64>) -> ProgressBar {
    if total.is_some() {
        return bar(what, total);
    }
    let bar = ProgressBar::new_spinner().with_style(style("{spinner} {msg} {bytes} {bytes_per_sec}"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_message(what)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Type and permissions as `ls -l` shows them.
pub(crate) fn mode(kind: Kind, mode: u16) -> String {
    let first = match kind {
        Kind::Fifo => 'p',
        Kind::Character => 'c',
        Kind::Directory => 'd',
        Kind::Block => 'b',
        Kind::File => '-',
        Kind::Symlink => 'l',
        Kind::Socket => 's',
    };
    let mut text = String::from(first);
    for (shift, special, letters) in [
        (6, 0o4000, ['s', 'S']),
        (3, 0o2000, ['s', 'S']),
        (0, 0o1000, ['t', 'T']),
    ] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letters[0],
            (true, false) => letters[1],
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// A time as `2026-11-21 09:15:07` in UTC.
pub(crate) fn time(time: Timestamp) -> String {
    let seconds = time.seconds();
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// A number of bytes, for people or for programs.
pub(crate) fn size(bytes: u64, json: bool) -> Value {
    if json {
        bytes.into()
    } else {
        Size(bytes).to_string().into()
    }
}

/// A type in one word.
pub(crate) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Fifo => "fifo",
        Kind::Character => "character device",
        Kind::Directory => "directory",
        Kind::Block => "block device",
        Kind::File => "file",
        Kind::Symlink => "symbolic link",
        Kind::Socket => "socket",
    }
}

/// A time for programs: RFC 3339 with nanoseconds.
pub(crate) fn exact_time(time: Timestamp) -> String {
    format!("{}.{:09}Z", self::time(time).replace(' ', "T"), time.nanos())
}

/// Bytes of an attribute or file as text, and how it is encoded: as it is where it is UTF-8, else in hexadecimal digits.
pub(crate) fn bytes(bytes: &[u8]) -> (String, &'static str) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return (text.to_owned(), "utf-8");
    }
    let mut text = String::new();
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    (text, "hex")
}

/// The date of a day since 1970 in the Gregorian calendar: years begin in March here, so that leap days come last.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    const FROM_MARCH_OF_YEAR_0: i64 = 719_468;
    let days = days + FROM_MARCH_OF_YEAR_0;
    let era = days.div_euclid(DAYS_OF_400_YEARS);
    let day = days.rem_euclid(DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + next, month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_795_252_507, "2026-11-21 09:15:07"),
            (-1, "1969-12-31 23:59:59"),
        ] {
            assert_eq!(time(Timestamp::new(seconds, 0)), text);
        }
    }

    #[test]
    fn modes_look_like_those_of_ls() {
        assert_eq!(mode(Kind::File, 0o4755), "-rwsr-xr-x");
        assert_eq!(mode(Kind::Directory, 0o1770), "drwxrwx--T");
    }
}
