// SPDX-License-Identifier: MIT OR Apache-2.0

//! Uses of a file or device that its locks do not show, or that deserve a better answer than "busy": mounts and loop
//! devices.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};

/// How the path is used, or nothing if no use is known.
pub(super) fn of(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    if found.file_type().is_block_device() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let canonical = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        return mount_point(&mounts, &found, &canonical).map(|point| format!("mounted at {point}"));
    }
    let loops = fs::read_dir("/sys/block").ok()?.filter_map(Result::ok);
    loops
        .filter(|entry| {
            let backing = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            let other = fs::metadata(backing.trim_end_matches('\n'));
            other.is_ok_and(|other| (other.dev(), other.ino()) == (found.dev(), found.ino()))
        })
        .map(|entry| format!("attached as {}", entry.file_name().to_string_lossy()))
        .next()
}

/// Finds `<id> <parent> <major>:<minor> <root> <mount point> <options>… - <type> <source> <options>`. The source helps
/// with file systems whose device numbers are invented, as btrfs's are.
fn mount_point(mounts: &str, device: &Metadata, path: &Path) -> Option<String> {
    let number = format!("{}:{}", major(device.rdev()), minor(device.rdev()));
    mounts.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let source = source.split(' ').nth(1)?;
        let same = *mount.get(2)? == number || Path::new(source) == path;
        same.then(|| mount.get(4).map_or_else(String::new, ToString::to_string))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::scratch::Scratch;

    #[test]
    fn a_mount_is_found_by_number_or_by_source() {
        // The numbers of /dev/null, which every machine has.
        let device = fs::metadata("/dev/null").unwrap();
        let mounts = "24 1 0:22 / /proc rw - proc proc rw\n\
                      36 35 1:3 / /mnt/one rw,noatime shared:1 - ext4 /dev/x rw\n";
        let other = "37 35 0:50 /sub /mnt/two rw - btrfs /dev/null rw\n";
        let path = Path::new("/dev/null");
        assert_eq!(mount_point(mounts, &device, path), Some("/mnt/one".into()));
        assert_eq!(mount_point(other, &device, path), Some("/mnt/two".into()));
        assert_eq!(mount_point("nonsense\n1 2 3 - \n - a b c\n", &device, path), None);
    }

    #[test]
    fn an_ordinary_file_is_not_in_use() {
        let path = Scratch::new();
        assert_eq!(of(path.path()), None);
        fs::write(path.path(), b"x").unwrap();
        assert_eq!(of(path.path()), None);
    }
}
