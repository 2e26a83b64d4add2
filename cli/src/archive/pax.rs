// SPDX-License-Identifier: MIT OR Apache-2.0

//! Records of a pax header: `LENGTH KEYWORD=VALUE\n`, where the length counts the whole record. Values may hold any bytes.

use std::collections::HashSet;

use vexfs::fs::record::Timestamp;

use super::ArchiveError;

/// Keywords and values in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    pub(crate) fn push(&mut self, keyword: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push((keyword.into(), value.into()));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(keyword, value)| (&**keyword, &**value))
    }

    /// The value that counts: the last one.
    pub(crate) fn get(&self, keyword: &str) -> Option<&[u8]> {
        let mut found = self.0.iter().rev();
        found
            .find(|(key, _)| key == keyword.as_bytes())
            .map(|(_, value)| &**value)
    }

    /// The same as a number.
    pub(crate) fn number(&self, keyword: &'static str) -> Result<Option<u64>, ArchiveError> {
        let Some(value) = self.get(keyword) else {
            return Ok(None);
        };
        number(value).map(Some).ok_or(ArchiveError::Number(keyword))
    }

    /// Replaces records of the same keywords, as a later header does.
    pub(crate) fn overlay(&mut self, later: Self) {
        let new: HashSet<&[u8]> = later.iter().map(|(keyword, _)| keyword).collect();
        self.0.retain(|(keyword, _)| !new.contains(keyword.as_slice()));
        drop(new);
        self.0.extend(later.0);
    }

    /// Bytes of all keywords and values.
    pub(crate) fn bytes(&self) -> u64 {
        self.iter()
            .map(|(keyword, value)| (keyword.len() + value.len()) as u64)
            .sum()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (keyword, value) in &self.0 {
            let rest = keyword.len() + value.len() + b" =\n".len();
            // The length counts its own digits.
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            out.extend_from_slice(length.to_string().as_bytes());
            out.push(b' ');
            out.extend_from_slice(keyword);
            out.push(b'=');
            out.extend_from_slice(value);
            out.push(b'\n');
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let mut records = Self::default();
        let mut rest = bytes;
        // Some programs fill up with zeros.
        while rest.first().is_some_and(|&byte| byte != 0) {
            let space = rest.iter().take(20).position(|&byte| byte == b' ');
            let space = space.ok_or(ArchiveError::Records)?;
            let (digits, _) = rest.split_at(space);
            let length = number(digits).and_then(|length| usize::try_from(length).ok());
            let length = length.ok_or(ArchiveError::Records)?;
            let record = rest.get(space + 1..length).ok_or(ArchiveError::Records)?;
            let Some((b'\n', record)) = record.split_last() else {
                return Err(ArchiveError::Records);
            };
            let equals = record.iter().position(|&byte| byte == b'=');
            let (keyword, value) = record.split_at(equals.ok_or(ArchiveError::Records)?);
            records.push(keyword, value.get(1..).unwrap_or_default());
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(records)
    }
}

/// A decimal number of digits alone.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// Seconds since 1970 with as many decimals as it takes.
pub(crate) fn time_text(time: Timestamp) -> String {
    const SECOND: u64 = 1_000_000_000;
    let magnitude = time.0.unsigned_abs();
    let sign = if time.0 < 0 { "-" } else { "" };
    let text = format!("{sign}{}.{:09}", magnitude / SECOND, magnitude % SECOND);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The reverse. Decimals beyond nanoseconds do not count; what is out of range becomes the nearest that is not.
pub(crate) fn time_value(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
    if seconds.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') || decimals.contains('.') {
        return None;
    }
    let mut nanos = 0;
    for index in 0..9 {
        nanos = nanos * 10 + i64::from(decimals.as_bytes().get(index).map_or(0, |digit| digit - b'0'));
    }
    let seconds = seconds.parse::<i64>().unwrap_or(i64::MAX);
    let magnitude = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Some(Timestamp(if negative { -magnitude } else { magnitude }))
}
