// SPDX-License-Identifier: MIT OR Apache-2.0

//! Doing steps, each so that it may be done again after a part of it was.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use lab::suites::aligned;
use nix::fcntl::OFlag;
use nix::unistd::syncfs;

use super::plan::{Piece, Step, Way};

/// The attribute of a file.
pub(super) const ATTRIBUTE: &str = "user.application";
/// Where a new file is written before it gets its name.
pub(super) const DRAFT: &str = "draft";

/// The name with this number.
pub(super) fn name_of(number: u8) -> String {
    format!("file-{number}")
}

/// The bytes of a piece. A piece that was cut has the first ones.
pub(super) fn bytes_of(piece: &Piece) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(piece.tag);
    let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
    // Drawn eight at a time.
    let mut bytes = vec![0; length.next_multiple_of(8)];
    random.fill(&mut bytes);
    bytes.truncate(length);
    bytes
}

/// The value of an attribute.
pub(super) fn attribute_of(tag: u64) -> Vec<u8> {
    // Of many lengths, short ones and such as do not fit beside the file's own record.
    tag.to_le_bytes().repeat(1 + usize::from(tag.to_le_bytes()[0]))
}

pub(super) fn perform(directory: &Path, step: &Step) -> io::Result<()> {
    let path = |number| directory.join(name_of(number));
    match *step {
        Step::Replace { name, piece } => {
            let draft = directory.join(DRAFT);
            // One that is left from before has attributes of before.
            match fs::remove_file(&draft) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = File::create_new(&draft)?;
            file.write_all_at(&bytes_of(&piece), 0)?;
            file.sync_all()?;
            fs::rename(&draft, path(name))?;
            File::open(directory)?.sync_all()
        }
        Step::Write { name, piece, way } => write(&path(name), piece, way),
        Step::Truncate { name, length } => {
            let file = OpenOptions::new().write(true).open(path(name))?;
            file.set_len(length)?;
            file.sync_all()
        }
        Step::SyncAll => Ok(syncfs(File::open(directory)?)?),
        Step::Attribute { name, tag } => xattr::set(path(name), ATTRIBUTE, &attribute_of(tag)),
        Step::Rename { from, to } => fs::rename(path(from), path(to)),
        Step::Remove { name } => fs::remove_file(path(name)),
    }
}

fn write(path: &Path, piece: Piece, way: Way) -> io::Result<()> {
    let flags = match way {
        Way::Synced => OFlag::empty(),
        Way::Synchronous => OFlag::O_DSYNC,
        Way::Direct => OFlag::O_DSYNC | OFlag::O_DIRECT,
    };
    let file = OpenOptions::new().write(true).custom_flags(flags.bits()).open(path)?;
    let bytes = bytes_of(&piece);
    match way {
        Way::Direct => aligned::aligned(&bytes, |bytes| file.write_all_at(bytes, piece.at)),
        Way::Synced | Way::Synchronous => file.write_all_at(&bytes, piece.at),
    }?;
    match way {
        Way::Synced => file.sync_data(),
        Way::Synchronous | Way::Direct => Ok(()),
    }
}
