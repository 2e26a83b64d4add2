// SPDX-License-Identifier: MIT OR Apache-2.0

//! From the bytes of a serial console to kernel messages.
//!
//! # Contract
//!
//! * [`LineSplitter`] depends on the byte stream alone, never on how reads happened to cut it, and holds at most
//!   [`LineSplitter::MAX_LINE`] bytes whatever arrives.
//! * [`messages`] takes the console prefix away: log level, timestamp, caller. The kernel writes one record at a time,
//!   but it does not wait for user space to end its line, so a record may begin in the middle of a line; it is found by
//!   its timestamp and becomes a message of its own.

use std::borrow::Cow;
use std::time::Duration;

/// Cuts a byte stream into lines.
///
/// Both `\n` and `\r` end a line and empty lines are not lines, so `\r\n`, `\r\r\n` and progress bars that redraw
/// themselves need no care. Bytes that are not UTF-8 become replacement characters.
#[derive(Debug, Default)]
pub struct LineSplitter {
    buffer: Vec<u8>,
}

impl LineSplitter {
    /// A longer line is cut. The cut is made in front of something that may be a timestamp, so that output without
    /// line ends cannot hide the kernel message that follows it.
    pub const MAX_LINE: usize = 4096;

    /// How far from the end of an over-long line a message start is looked for.
    const TAIL: usize = 512;

    /// A splitter with nothing pending.
    pub const fn new() -> Self {
        Self { buffer: Vec::new() }
    }

    /// Takes the next bytes and gives every line that they complete to `each`.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for &byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                self.finish(&mut each);
                continue;
            }
            self.buffer.push(byte);
            if self.buffer.len() == Self::MAX_LINE {
                let cut = self.cut_position();
                each(&String::from_utf8_lossy(&self.buffer[..cut]));
                self.buffer.drain(..cut);
            }
        }
    }

    /// Gives the line that has no end yet to `each`: a machine that died will not complete it.
    pub fn finish(&mut self, mut each: impl FnMut(&str)) {
        if !self.buffer.is_empty() {
            each(&String::from_utf8_lossy(&self.buffer));
            self.buffer.clear();
        }
    }

    fn cut_position(&self) -> usize {
        let from = self.buffer.len().saturating_sub(Self::TAIL).max(1);
        // A bracket right after another one is the caller field of the same prefix.
        (from..self.buffer.len())
            .rev()
            .find(|&i| self.buffer[i] == b'[' && self.buffer[i - 1] != b']')
            .unwrap_or(self.buffer.len())
    }
}

/// One message: what a kernel record or user space said, without console decoration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The message without its prefix; indentation is kept.
    pub text: &'a str,
    /// The message with its prefix, as a person wants to read it.
    pub line: &'a str,
    /// The kernel's own time, or nothing if the line has no kernel timestamp and may be from user space.
    pub stamp: Option<Duration>,
}

/// Splits a line free of control sequences into its messages, in order.
pub fn messages(line: &str) -> Vec<Message<'_>> {
    let mut stamps = line
        .match_indices('[')
        .filter_map(|(at, _)| Stamp::parse(line, at))
        .peekable();
    let mut found = Vec::new();
    let before = &line[..stamps.peek().map_or(line.len(), |stamp| stamp.start)];
    let user = strip_caller(strip_level(before)).trim_end();
    if !user.is_empty() {
        found.push(Message {
            text: user,
            line: before.trim_end(),
            stamp: None,
        });
    }
    while let Some(stamp) = stamps.next() {
        let end = stamps.peek().map_or(line.len(), |next| next.start);
        let text = strip_caller(&line[stamp.end.min(end)..end]);
        let text = text.strip_prefix(' ').unwrap_or(text).trim_end();
        found.push(Message {
            text,
            line: line[stamp.start..end].trim_end(),
            stamp: Some(stamp.time),
        });
    }
    found
}

/// Where a printk timestamp (`[   12.345678]`, with `<4>` before it or not) lies in a line.
struct Stamp {
    start: usize,
    end: usize,
    time: Duration,
}

impl Stamp {
    fn parse(line: &str, bracket: usize) -> Option<Self> {
        let inner = line.get(bracket + 1..)?;
        let digits = inner.trim_start_matches(' ');
        let (seconds, rest) = digits.split_once('.')?;
        let micros = rest.get(..6)?;
        let numeric = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if seconds.len() > 10 || !numeric(seconds) || !numeric(micros) || !rest[6..].starts_with(']') {
            return None;
        }
        let time = Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse().ok()?);
        let before = &line[..bracket];
        let start = strip_trailing_level(before).len();
        Some(Self {
            start,
            end: line.len() - rest.len() + 7,
            time,
        })
    }
}

/// Takes a leading log level (`<4>`) away.
fn strip_level(text: &str) -> &str {
    text.strip_prefix('<')
        .and_then(|rest| rest.split_once('>'))
        .filter(|(level, _)| is_level(level))
        .map_or(text, |(_, rest)| rest)
}

fn strip_trailing_level(text: &str) -> &str {
    text.strip_suffix('>')
        .and_then(|rest| rest.rsplit_once('<'))
        .filter(|(_, level)| is_level(level))
        .map_or(text, |(before, _)| before)
}

fn is_level(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Takes the caller field (`[  T140]` or `[    C1]`) away.
fn strip_caller(text: &str) -> &str {
    text.strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .filter(|(caller, _)| {
            let caller = caller.trim_start_matches(' ');
            caller.len() > 1 && caller.starts_with(['T', 'C']) && caller.bytes().skip(1).all(|b| b.is_ascii_digit())
        })
        .map_or(text, |(_, rest)| rest)
}

/// Removes terminal escape sequences and control characters other than tabs.
pub fn strip_controls(line: &str) -> Cow<'_, str> {
    if !line.contains(|c: char| c.is_ascii_control() && c != '\t') {
        return Cow::Borrowed(line);
    }
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(next) = rest.chars().next() {
        let after = &rest[next.len_utf8()..];
        rest = if next == '\u{1b}' { after_escape(after) } else { after };
        if next == '\t' || !next.is_ascii_control() {
            clean.push(next);
        }
    }
    Cow::Owned(clean)
}

/// What follows an escape sequence whose escape character is already gone.
///
/// A sequence that does not end loses its first characters only: garbage must not swallow the message behind it.
fn after_escape(text: &str) -> &str {
    if let Some(parameters) = text.strip_prefix('[') {
        let rest = parameters.trim_start_matches(|c: char| (' '..='?').contains(&c));
        return rest
            .strip_prefix(|c: char| ('@'..='~').contains(&c))
            .unwrap_or(parameters);
    }
    if let Some(command) = text.strip_prefix(']') {
        return match command.find(['\u{7}', '\u{1b}']) {
            Some(end) => command[end..].strip_prefix("\u{1b}\\").unwrap_or(&command[end + 1..]),
            None => command,
        };
    }
    text.strip_prefix(|c: char| (' '..='~').contains(&c)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = LineSplitter::new();
        let mut found = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |line| found.push(line.to_owned()));
        }
        splitter.finish(|line| found.push(line.to_owned()));
        found
    }

    fn texts(line: &str) -> Vec<&str> {
        messages(line).iter().map(|m| m.text).collect()
    }

    #[test]
    fn all_line_ends_end_a_line_and_an_unfinished_line_is_kept() {
        assert_eq!(lines(&[b"a\r\nb\r\r\n\n10%\r20%\nc"]), ["a", "b", "10%", "20%", "c"]);
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(lines(&[b"a\xffb\n"]), ["a\u{fffd}b"]);
    }

    #[test]
    fn output_without_line_ends_does_not_hide_a_message_at_the_cut() {
        let message = "[   12.345678][  T140] Kernel panic - not syncing: sysrq triggered crash";
        for noise in LineSplitter::MAX_LINE - 100..LineSplitter::MAX_LINE + 10 {
            let stream = "x".repeat(noise) + message;
            let found = lines(&[stream.as_bytes()]);
            let seen = found
                .iter()
                .any(|l| texts(l).iter().any(|t| t.starts_with("Kernel panic - not syncing")));
            assert!(seen, "{noise} bytes of noise: {found:?}");
        }
    }

    #[test]
    fn prefixes_are_taken_away() {
        assert_eq!(texts("[   12.345678] BUG: x"), ["BUG: x"]);
        assert_eq!(texts("<0>[   12.345678][    C1] BUG: x"), ["BUG: x"]);
        assert_eq!(
            texts("[123456.345678] [ BUG: Invalid wait context ]"),
            ["[ BUG: Invalid wait context ]"]
        );
        assert_eq!(texts("<4>BUG: x"), ["BUG: x"]);
        assert_eq!(texts("[  T140] BUG: x"), [" BUG: x"]);
        assert_eq!(
            texts("[    1.000000]  vexfs_iget+0x1/0x2 [vexfs]"),
            [" vexfs_iget+0x1/0x2 [vexfs]"]
        );
        assert_eq!(
            messages("[   12.345678] x")[0].stamp,
            Some(Duration::from_micros(12_345_678))
        );
        assert_eq!(texts("[    1.000000] "), [""]);
    }

    #[test]
    fn what_only_looks_like_a_prefix_stays() {
        for line in [
            "[ 12.34] x",
            "[12.3456789] x",
            "[a.123456] x",
            "[   12.345678 x",
            "[  OK  ] Started x",
            "<x>y",
        ] {
            assert_eq!(texts(line), [line]);
        }
    }

    #[test]
    fn a_record_in_the_middle_of_user_output_is_a_message_of_its_own() {
        let line = "test reads ... <1>[   12.345678] BUG: x[   12.345690] Oops: y";
        assert_eq!(texts(line), ["test reads ...", "BUG: x", "Oops: y"]);
    }

    #[test]
    fn escape_sequences_disappear() {
        let line = "\u{1b}[?7l\u{1b}[1;31m[    1.000000]\u{1b}[0m \u{1b}]0;title\u{7}BUG:\tx\u{8}\u{1b}c";
        assert_eq!(strip_controls(line), "[    1.000000] BUG:\tx");
        assert_eq!(strip_controls("\u{1b}]0;title\u{1b}\\BUG: x"), "BUG: x");
    }

    #[test]
    fn an_escape_sequence_without_end_swallows_nothing_else() {
        assert!(strip_controls("\u{1b}]0;[    1.000000] BUG: x").ends_with("[    1.000000] BUG: x"));
        assert!(strip_controls("\u{1b}[12;é BUG: x").ends_with("BUG: x"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn lines_do_not_depend_on_how_reads_cut_the_stream(
            bytes in prop::collection::vec(prop_oneof![4 => any::<u8>(), 1 => Just(b'\n'), 1 => Just(b'[')], 0..9_000),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
            at.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in at.into_iter().chain([bytes.len()]) {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(lines(&chunks), lines(&[&bytes]));
        }

        #[test]
        fn no_line_is_longer_than_the_bound(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
            let mut splitter = LineSplitter::new();
            let mut longest = 0;
            splitter.push(&bytes, |line| longest = longest.max(line.chars().count()));
            prop_assert!(longest <= LineSplitter::MAX_LINE && splitter.buffer.len() < LineSplitter::MAX_LINE);
        }

        #[test]
        fn any_text_is_taken_apart_without_a_panic(line in "\\PC*|[\\[\\]<>0-9. \u{1b}T;a]{0,60}") {
            let clean = strip_controls(&line);
            let parts = messages(&clean);
            prop_assert!(parts.iter().map(|m| m.text.len()).sum::<usize>() <= clean.len());
        }
    }
}
