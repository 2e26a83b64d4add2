// SPDX-License-Identifier: MIT OR Apache-2.0

//! What udev is to know of a block device: as properties, a line each, for `IMPORT{program}`.
//!
//! A device with a pool is known by its superblock, which is read beside whoever has the pool. The device that presents a pool
//! to the kernel module is asked nothing, since who answers may wait for udev: its record says which pool that is.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use ublk_server::daemon::protocol::TargetSpec;
use vexfs::disk::Disk;
use vexfs::error::IoFailure;
use vexfs::pool::Survey;

use crate::{show, ublk};

/// Print what a block device with a pool is, as properties of udev.
///
/// Fails where there is no pool, without a word of why.
#[derive(Args)]
#[command(after_help = "Changes: nothing.

Examples:
  vexfs-ublk identify /dev/sdb")]
pub(crate) struct Arguments {
    /// Block device, or a file
    device: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let device = &arguments.device;
    let (pool, links) = source(device)?;
    let (uuid, label) = pool_in(&pool).with_context(|| pool.display().to_string())?;
    let mut properties = vec![
        ("ID_FS_TYPE", "vexfs".to_owned()),
        ("ID_FS_USAGE", "filesystem".to_owned()),
        ("ID_FS_UUID", uuid.clone()),
        ("ID_FS_UUID_ENC", uuid),
    ];
    if !label.is_empty() {
        properties.push(("ID_FS_LABEL", safe(&label)));
        properties.push(("ID_FS_LABEL_ENC", encoded(&label)));
    }
    if links {
        properties.push(("ID_VEXFS_LINKS", "1".to_owned()));
    }
    if json {
        let members = properties
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)));
        show::document(serde_json::Value::Object(members.collect()));
        return Ok(());
    }
    for (name, value) in properties {
        println!("{name}={value}");
    }
    Ok(())
}

/// Where the pool is, and whether the device is to be found by its UUID. What presents a pool on a block device is not: that
/// device is found by it, and stays when this one goes.
fn source(device: &Path) -> Result<(PathBuf, bool)> {
    let Some(id) = device
        .to_str()
        .filter(|path| path.contains("ublkb"))
        .and_then(|path| ublk::id(path).ok())
    else {
        return Ok((device.to_owned(), true));
    };
    // A volume, a file or memory may hold a pool like any other device.
    let Some(record) = ublk::records()?.find(id) else {
        return Ok((device.to_owned(), true));
    };
    match (&record.spec.target, record.backing.path()) {
        (TargetSpec::Filesystem {}, Some(pool)) => {
            let kind = pool.metadata().with_context(|| pool.display().to_string())?.file_type();
            Ok((pool.to_owned(), !kind.is_block_device()))
        }
        _ => Ok((device.to_owned(), true)),
    }
}

/// UUID and label of the pool in a file or device.
fn pool_in(path: &Path) -> Result<(String, String)> {
    let seen = Seen::open(path)?;
    let survey = Survey::of(&seen);
    match survey.newest() {
        Ok(found) => Ok((found.uuid.to_string(), found.label.clone())),
        Err(_) => bail!("there is no pool"),
    }
}

/// As udev takes values: no control characters, no spaces at the ends, no two beside each other.
fn safe(label: &str) -> String {
    let plain: Vec<&str> = label.split_whitespace().collect();
    plain.join("_").replace(|letter: char| letter.is_control(), "_")
}

/// As names of links have it: like libblkid, which escapes all but these.
fn encoded(label: &str) -> String {
    let mut text = String::new();
    for letter in label.chars() {
        if letter.is_ascii_alphanumeric() || "#+-.:=@_".contains(letter) || !letter.is_ascii() {
            text.push(letter);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{:02x}", u32::from(letter));
        }
    }
    text
}

/// A disk that is read whoever has it locked.
struct Seen {
    file: File,
    size: u64,
}

impl Seen {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        // Of a device the metadata know no size.
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size })
    }
}

impl Disk for Seen {
    fn size_bytes(&self) -> u64 {
        self.size
    }

    fn read(&self, at: u64, into: &mut [u8]) -> vexfs::error::Result<()> {
        let read = self.file.read_exact_at(into, at);
        read.map_err(|error| IoFailure::new(format_args!("reading at byte {at}"), error))
    }

    fn write(&self, at: u64, _: &[u8]) -> vexfs::error::Result<()> {
        Err(looks_only(at))
    }

    fn sync(&self) -> vexfs::error::Result<()> {
        Ok(())
    }

    fn discard(&self, range: Range<u64>) -> vexfs::error::Result<()> {
        Err(looks_only(range.start))
    }
}

fn looks_only(at: u64) -> vexfs::error::Error {
    IoFailure::new(
        format_args!("changing byte {at}"),
        io::ErrorKind::ReadOnlyFilesystem.into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_what_udev_and_names_of_links_can_hold() {
        assert_eq!(safe("my  data\t"), "my_data");
        assert_eq!(encoded("my data/x"), "my\\x20data\\x2fx");
        assert_eq!(encoded("a-b_c.d"), "a-b_c.d");
    }
}
