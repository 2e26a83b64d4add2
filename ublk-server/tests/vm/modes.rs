// SPDX-License-Identifier: MIT OR Apache-2.0

//! Every way in which data is moved and requests are delivered, for every target: what the driver offers must work, and
//! what it does not offer must be refused.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use lab_guest::sys;
use ublk_server::features;
use vexfs::fs::record::FileFlags;

use crate::server::{FIO_JOBS, Server, fio, refusal};
use crate::volume::Pool;

/// Ways of moving data, and the features of the driver they need.
const TRANSFERS: [(&str, &[&str]); 4] = [
    ("copy", &[]),
    ("user-copy", &["USER_COPY"]),
    ("zero-copy", &["AUTO_BUF_REG", "SUPPORT_ZERO_COPY"]),
    ("zero-copy-by-hand", &["SUPPORT_ZERO_COPY"]),
];
/// Ways of delivering requests.
const DELIVERIES: [(&[&str], &[&str]); 3] = [
    (&["--batch", "no"], &[]),
    (&["--batch", "yes"], &["BATCH_IO"]),
    (&["--threads", "2"], &["PER_IO_DAEMON"]),
];

/// Tries all ways of a target, which knows so many of moving data. What was written is verified, if it is kept.
fn all_ways(target: &[&str], transfers: &[&str], job: &str) -> Result<()> {
    lab_guest::kmod::modprobe("ublk_drv")?;
    let features = features::names()?;
    let offered = |needed: &[&str]| needed.iter().all(|name| features.contains(name));
    for (transfer, needs) in TRANSFERS {
        for (delivery, needs_too) in DELIVERIES {
            let arguments = [target, &["--transfer", transfer], delivery].concat();
            if transfers.contains(&transfer) && offered(needs) && offered(needs_too) {
                (|| {
                    let server = Server::start(&arguments)?;
                    fio(&server.device, &[&format!("{FIO_JOBS}/{job}")])?;
                    server.stop()
                })()
                .with_context(|| format!("{arguments:?}"))?;
                println!("{transfer}, {delivery:?}: verified");
            } else {
                let text = refusal(&arguments)?;
                let expected = if transfers.contains(&transfer) {
                    "does not offer"
                } else {
                    "does not do"
                };
                ensure!(text.contains(expected), "{arguments:?}: {text:?}");
                println!("{transfer}, {delivery:?}: refused");
            }
        }
    }
    Ok(())
}

#[lab_guest::test(timeout = 240)]
fn the_null_target_takes_requests_in_every_way() -> Result<()> {
    let all: Vec<_> = TRANSFERS.iter().map(|(name, _)| *name).collect();
    all_ways(&["--target", "null", "--size", "8MiB"], &all, "mixed.fio")
}

#[lab_guest::test(timeout = 240)]
fn a_ram_disk_keeps_every_block_in_every_way() -> Result<()> {
    all_ways(
        &["--target", "mem", "--size", "8MiB"],
        &["copy", "user-copy"],
        "sizes.fio",
    )
}

#[lab_guest::test(disks = ["backing:16"], timeout = 400)]
fn a_disk_and_a_file_keep_every_block_in_every_way() -> Result<()> {
    let disk = sys::disk("backing")?;
    let disk = disk.to_str().context("a device's name is text")?;
    let transfers = ["copy", "zero-copy", "zero-copy-by-hand"];
    all_ways(&["--target", "loop", disk], &transfers, "sizes.fio")?;
    sys::output("mkfs.ext4", &["-q", disk])?;
    sys::output("mount", &[disk, "/mnt"])?;
    let tried = (|| {
        File::create("/mnt/file")?.set_len(4 << 20)?;
        let target = ["--target", "loop", "/mnt/file"];
        all_ways(&target, &transfers, "sizes.fio")?;
        all_ways(&[&target[..], &["--buffered"]].concat(), &transfers, "sizes.fio")
    })();
    sys::output("umount", &["/mnt"])?;
    tried
}

#[lab_guest::test(disks = ["pool:160"], timeout = 400)]
fn a_volume_keeps_every_block_in_every_way() -> Result<()> {
    for flags in [None, Some(FileFlags::NO_CHECKSUM), Some(FileFlags::COMPRESS)] {
        let pool = Pool::new("pool", 4, flags)?;
        // Whoever has to see the bytes needs them in memory.
        let transfers = if flags == Some(FileFlags::NO_CHECKSUM) {
            &["copy", "zero-copy", "zero-copy-by-hand"][..]
        } else {
            &["copy"]
        };
        all_ways(&pool.arguments(), transfers, "sizes.fio")?;
        pool.check()?;
    }
    Ok(())
}
