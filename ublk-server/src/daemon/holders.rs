// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who uses a block device: mounts in any mount namespace, swap, devices stacked on it, and processes that have it open.
//!
//! What is found is a snapshot. Processes are those whose descriptors this process may look at, and that opened the device
//! by its name in `/dev`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each user in a few words; nothing if nobody is found.
pub fn of(id: u32) -> Vec<String> {
    of_disk(id, Path::new("/sys/block"), Path::new("/proc"))
}

fn of_disk(id: u32, sysfs: &Path, proc: &Path) -> Vec<String> {
    let disk = format!("ublkb{id}");
    let directory = sysfs.join(&disk);
    let mut parts = vec![(disk.clone(), directory.clone())];
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&disk) {
            parts.push((name, entry.path()));
        }
    }
    let mut users = BTreeSet::new();
    for (name, directory) in parts {
        let number = fs::read_to_string(directory.join("dev")).unwrap_or_default();
        let node = format!("/dev/{name}");
        users.extend(mounts(proc, number.trim(), &node));
        users.extend(swap(proc, &node));
        let holders = fs::read_dir(directory.join("holders")).into_iter().flatten().flatten();
        users.extend(holders.map(|holder| format!("/dev/{} is made of {node}", holder.file_name().to_string_lossy())));
        users.extend(openers(proc, &node));
    }
    users.into_iter().collect()
}

fn processes(proc: &Path) -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// Mounts of a device, in every namespace that a process is in.
fn mounts(proc: &Path, number: &str, node: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (_, process) in processes(proc) {
        let namespace = fs::read_link(process.join("ns/mnt")).unwrap_or_default();
        if !seen.insert(namespace) {
            continue;
        }
        let table = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        found.extend(mount_points(&table, number, node).map(|point| format!("{node} is mounted on {point}")));
    }
    found
}

/// Of `<id> <parent> <major>:<minor> <root> <mount point> <options>… - <type> <source> <options>`. The source helps with
/// file systems whose device numbers are invented, as btrfs's are.
fn mount_points<'a>(table: &'a str, number: &'a str, node: &'a str) -> impl Iterator<Item = &'a str> {
    table.lines().filter_map(move |line| {
        let (mount, source) = line.split_once(" - ")?;
        let mut words = mount.split(' ').skip(2);
        let same = words.next()? == number || source.split(' ').nth(1)? == node;
        words.nth(1).filter(|_| same)
    })
}

fn swap(proc: &Path, node: &str) -> Option<String> {
    let table = fs::read_to_string(proc.join("swaps")).unwrap_or_default();
    let used = table.lines().any(|line| line.split_whitespace().next() == Some(node));
    used.then(|| format!("{node} is swap space"))
}

fn openers(proc: &Path, node: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (pid, process) in processes(proc) {
        if pid == std::process::id() {
            continue;
        }
        let mut descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        if descriptors.any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(node))) {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            found.push(format!("process {pid} ({}) has {node} open", name.trim()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn every_kind_of_user_is_found_and_named() {
        let root = TempDir::new().unwrap();
        let (sysfs, proc) = (root.path().join("sys"), root.path().join("proc"));
        let put = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(sysfs.join("ublkb1/dev"), "259:1\n");
        put(sysfs.join("ublkb1/ublkb1p1/dev"), "259:2\n");
        put(sysfs.join("ublkb1/holders/dm-0"), "");
        put(sysfs.join("ublkb11/dev"), "259:9\n");
        put(
            proc.join("10/mountinfo"),
            "1 2 259:2 / /mnt/part rw - ext4 /dev/x rw\n3 2 0:40 / /mnt/b rw - btrfs /dev/ublkb1 rw\n4 2 259:9 / /mnt/other rw - ext4 /dev/ublkb11 rw\n",
        );
        put(proc.join("10/comm"), "dd\n");
        put(
            proc.join("swaps"),
            "Filename Type\n/dev/ublkb1p1 partition\n/dev/ublkb11 partition\n",
        );
        fs::create_dir_all(proc.join("10/ns")).unwrap();
        symlink("mnt:[1]", proc.join("10/ns/mnt")).unwrap();
        fs::create_dir_all(proc.join("10/fd")).unwrap();
        symlink("/dev/ublkb1", proc.join("10/fd/3")).unwrap();
        symlink("/dev/ublkb11", proc.join("10/fd/4")).unwrap();
        assert_eq!(
            of_disk(1, &sysfs, &proc),
            [
                "/dev/dm-0 is made of /dev/ublkb1",
                "/dev/ublkb1 is mounted on /mnt/b",
                "/dev/ublkb1p1 is mounted on /mnt/part",
                "/dev/ublkb1p1 is swap space",
                "process 10 (dd) has /dev/ublkb1 open",
            ]
        );
        assert_eq!(of_disk(2, &sysfs, &proc), Vec::<String>::new());
    }
}
