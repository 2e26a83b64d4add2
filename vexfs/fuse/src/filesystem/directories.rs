// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading directories. A position is the engine's: it stays right while entries come and go.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use vexfs::units::Ino;

use super::VexFilesystem;
use super::convert::{FOREVER, file_attributes, file_type};
use crate::serve::{Failure, Outcome};

/// Entries asked for at once: as many as names of usual length fill a page of the kernel's buffer with.
const BATCH: usize = 128;

impl VexFilesystem {
    /// Fills a reply with entries from a position on.
    pub(super) fn fill(&self, directory: Ino, from: u64, reply: &mut ReplyDirectory) -> Outcome<()> {
        let mut from = from;
        if from == 0 {
            self.note_read(directory);
        }
        loop {
            let some = self.fs.list(directory, from, BATCH)?;
            let complete = some.len() < BATCH;
            for entry in some {
                let full = reply.add(
                    INodeNo(entry.ino.0),
                    entry.next,
                    file_type(entry.kind),
                    OsStr::from_bytes(&entry.name),
                );
                if full {
                    return Ok(());
                }
                from = entry.next;
            }
            if complete {
                return Ok(());
            }
        }
    }

    /// The same with attributes: each entry but `.` and `..` counts as a lookup.
    pub(super) fn fill_plus(&self, directory: Ino, from: u64, reply: &mut ReplyDirectoryPlus) -> Outcome<()> {
        let mut from = from;
        if from == 0 {
            self.note_read(directory);
        }
        loop {
            let some = self.fs.list(directory, from, BATCH)?;
            let complete = some.len() < BATCH;
            for entry in some {
                let next = entry.next;
                from = next;
                let itself = &*entry.name == b"." || &*entry.name == b"..";
                if !itself {
                    match self.lookups.add(&self.fs, entry.ino).map_err(Failure::from) {
                        // Removed since it was listed.
                        Err(failure) if failure.is_absent() => continue,
                        added => added?,
                    }
                }
                let found = self.fs.attributes(entry.ino);
                let full = match &found {
                    Ok(found) => reply.add(
                        INodeNo(entry.ino.0),
                        next,
                        OsStr::from_bytes(&entry.name),
                        &FOREVER,
                        &file_attributes(found),
                        Generation(0),
                    ),
                    Err(_) => true,
                };
                if full {
                    if !itself {
                        self.lookups.forget(&self.fs, entry.ino, 1)?;
                    }
                    found?;
                    return Ok(());
                }
            }
            if complete {
                return Ok(());
            }
        }
    }
}
