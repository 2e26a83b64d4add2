// SPDX-License-Identifier: MIT OR Apache-2.0

//! The initramfs: the agent as `/init`, the modules that reach the host's file system, and the boot plan.
//!
//! A "newc" cpio archive, uncompressed: QEMU copies it into guest memory, where decompressing it would cost emulated
//! instructions.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use lab_guest::protocol::BootPlan;

use crate::kernel::Kernel;
use crate::kernel::stock::read_module;

/// What the guest needs before it can load modules from the host's files. Absent ones are built in.
const EARLY: [&str; 6] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtio-rng",
    "9pnet_virtio",
    "overlay",
];
/// 9p does not depend on its transport, nor the transport on it.
const NINE_P: &str = "9p";

/// The archive for one boot.
pub(super) fn build(kernel: &Kernel, agent: &Path, sysctl: Vec<(String, String)>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys", "modules"] {
        archive.add(directory, 0o040_755, &[]);
    }
    // The kernel opens this node for PID 1's standard streams before devtmpfs is mounted.
    archive.add_node("dev/console", 0o020_600, (5, 1));
    archive.add(
        "init",
        0o100_755,
        &fs::read(agent).with_context(|| format!("reading {}", agent.display()))?,
    );
    let mut early_modules = Vec::new();
    if let Some(directory) = &kernel.modules {
        for file in loading_order(directory)? {
            let name = format!("modules/{}", early_modules.len());
            archive.add(&name, 0o100_644, &read_module(&directory.join(&file))?);
            early_modules.push(format!("/{name}"));
        }
    }
    let modules_tree = kernel.modules.as_ref().map(|path| path.to_string_lossy().into_owned());
    let plan = BootPlan {
        early_modules,
        modules_tree,
        sysctl,
    };
    archive.add(
        "lab.json",
        0o100_644,
        &serde_json::to_vec(&plan).context("writing the boot plan")?,
    );
    Ok(archive.finish())
}

/// Files of the early modules below `directory`, dependencies first.
fn loading_order(directory: &Path) -> Result<Vec<String>> {
    let index = directory.join("modules.dep");
    let text = fs::read_to_string(&index).with_context(|| format!("reading {}", index.display()))?;
    let mut dependencies: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((file, needs)) = line.split_once(':') {
            dependencies.insert(file, needs.split_ascii_whitespace().collect());
        }
    }
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    for wanted in EARLY.into_iter().chain([NINE_P]) {
        let file = dependencies
            .keys()
            .find(|file| module_name(file) == wanted.replace('-', "_"));
        if let Some(file) = file.copied() {
            // modules.dep lists all dependencies, the deepest last.
            let needs = dependencies.get(file).into_iter().flatten().rev().copied();
            order.extend(
                needs
                    .chain([file])
                    .filter(|file| seen.insert((*file).to_owned()))
                    .map(str::to_owned),
            );
        }
    }
    Ok(order)
}

/// `kernel/fs/9p/9p.ko.xz` is the module `9p`; `-` and `_` are the same in module names.
fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

/// Writer of newc archives.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.entry(name, mode, (0, 0), contents);
    }

    fn add_node(&mut self, name: &str, mode: u32, device: (u32, u32)) {
        self.entry(name, mode, device, &[]);
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(contents.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // inode, mode, uid, gid, links, mtime, size, device of the file (2), device it is (2), name size, checksum
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_only_once() {
        let directory = std::env::temp_dir().join(format!("lab-order-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let index = "kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz\n\
                     kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz\n\
                     kernel/net/9p/9pnet.ko.xz: kernel/fs/netfs/netfs.ko.xz\n\
                     kernel/fs/netfs/netfs.ko.xz:\nkernel/fs/overlayfs/overlay.ko.xz:\n";
        fs::write(directory.join("modules.dep"), index).unwrap();
        let order = loading_order(&directory).unwrap();
        let names: Vec<_> = order.iter().map(|file| module_name(file)).collect();
        assert_eq!(names, ["9pnet", "9pnet_virtio", "overlay", "netfs", "9p"]);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn an_archive_is_aligned_and_ends_with_its_trailer() {
        let mut archive = Archive::default();
        archive.add("init", 0o100_755, b"12345");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[110..115], b"init\0");
        assert_eq!(&bytes[116..121], b"12345");
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
