// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files of records: one line of JSON each, only ever appended to.
//!
//! # Contract
//!
//! * One `write` per record, so that a reader or a second writer never sees two records mixed.
//! * The host can die in the middle of a write. A torn last line costs that record and no other: the next writer completes
//!   it with a line end before it appends, and [`read`] reports the damaged line and goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Appends records to a file.
#[derive(Debug)]
pub struct Appender {
    file: File,
}

impl Appender {
    /// Opens the file, creating it if need be. What a dead writer left unfinished is completed to a line of its own.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Self { file })
    }

    /// Appends one record. It is in the operating system's hands when this returns.
    pub fn append(&mut self, record: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.flush()
    }
}

/// A line that is no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedLine {
    /// Line number, counted from 1.
    pub line: usize,
    /// Whether it is the unfinished last line of the file.
    pub torn: bool,
    /// Why it could not be read.
    pub reason: String,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines<T> {
    /// The readable records, in order.
    pub records: Vec<T>,
    /// The lines that were lost.
    pub damaged: Vec<DamagedLine>,
}

/// Reads a file. Damaged lines are reported, not fatal; a missing file is an error like any other.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Lines<T>> {
    parse(BufReader::new(File::open(path)?))
}

/// The same of any bytes.
pub fn parse<T: DeserializeOwned>(mut from: impl BufRead) -> io::Result<Lines<T>> {
    let mut lines = Lines {
        records: Vec::new(),
        damaged: Vec::new(),
    };
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if from.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let torn = bytes.last() != Some(&b'\n');
        match serde_json::from_slice(&bytes) {
            Ok(record) => lines.records.push(record),
            Err(_) if bytes == b"\n" => {}
            Err(error) => lines.damaged.push(DamagedLine {
                line,
                torn,
                reason: error.to_string(),
            }),
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;

    type Record = BTreeMap<String, u64>;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("lab-lines-{}-{name}.jsonl", std::process::id()));
            let _ = std::fs::remove_file(&path);
            Self(path)
        }

        fn read(&self) -> Lines<Record> {
            read(&self.0).unwrap()
        }

        fn append(&self, record: &Record) {
            Appender::open(&self.0).unwrap().append(record).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn record(number: u64) -> Record {
        [("number".to_owned(), number), ("twice".to_owned(), 2 * number)].into()
    }

    #[test]
    fn what_is_appended_is_read_back_across_writers() {
        let scratch = Scratch::new("roundtrip");
        scratch.append(&record(1));
        scratch.append(&record(2));
        assert_eq!(scratch.read().records, [record(1), record(2)]);
        assert!(scratch.read().damaged.is_empty());
    }

    #[test]
    fn a_torn_last_line_costs_that_record_only() {
        let scratch = Scratch::new("torn");
        scratch.append(&record(1));
        let whole = std::fs::read(&scratch.0).unwrap();
        for cut in 1..whole.len() {
            std::fs::write(&scratch.0, [&whole, &whole[..cut]].concat()).unwrap();
            let before = scratch.read();
            // All of the record but its line end is still the whole record.
            let complete = cut == whole.len() - 1;
            assert_eq!(before.records.len(), 1 + usize::from(complete), "cut at {cut}");
            assert_eq!(
                before.damaged.iter().filter(|d| d.torn && d.line == 2).count(),
                usize::from(!complete)
            );

            scratch.append(&record(3));
            let after = scratch.read();
            assert_eq!(after.records.last(), Some(&record(3)), "cut at {cut}");
            assert_eq!(after.records.len(), before.records.len() + 1);
            assert!(after.damaged.iter().all(|d| !d.torn && d.line == 2));
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_a_damaged_line() {
        let lines: Lines<Record> = parse(&b"\xff\xfe\n\n{\"a\":\"b\"}\n"[..]).unwrap();
        assert!(lines.records.is_empty());
        assert_eq!(lines.damaged.iter().map(|d| d.line).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_missing_file_is_an_error_and_not_an_empty_one() {
        let error = read::<Record>(Path::new("/nonexistent/run.jsonl")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
