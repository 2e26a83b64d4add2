// SPDX-License-Identifier: MIT OR Apache-2.0

//! The volume target: a file of a pool as a device.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab_guest::sys;
use vexfs::check::assert_sound;
use vexfs::disk::{Access, FileDisk};
use vexfs::fs::record::{FileFlags, Kind, Timestamp};
use vexfs::fs::{Fs, MountOptions, NewFile, SetAttributes, Source};
use vexfs::pool::format::{FormatOptions, format_path};
use vexfs::units::{FileBlock, Ino};

use crate::server::{FIO_JOBS, SERVER, Server, fill, fio, refusal};

const NOW: Timestamp = Timestamp(1);
const NAME: &str = "/volume";

/// A pool with one volume in it.
pub(crate) struct Pool {
    pub(crate) path: String,
}

impl Pool {
    /// On a scratch disk.
    pub(crate) fn new(disk: &str, volume_mib: u64, flags: Option<FileFlags>) -> Result<Self> {
        let path = sys::disk(disk)?;
        let force = FormatOptions {
            force: true,
            ..FormatOptions::default()
        };
        format_path(&path, &force)?;
        let path = path.to_str().context("a path is text")?.to_owned();
        let pool = Self { path };
        let fs = pool.open()?;
        let new = NewFile {
            kind: Kind::File,
            permissions: 0o600,
            uid: 0,
            gid: 0,
            device: 0,
            target: b"",
            now: NOW,
        };
        let ino = fs.create(Ino::ROOT, b"volume", &new)?.ino;
        fs.truncate(ino, volume_mib << 20, NOW)?;
        if flags.is_some() {
            let set = SetAttributes {
                flags,
                ..SetAttributes::default()
            };
            fs.set_attributes(ino, &set)?;
        }
        fs.close()?;
        Ok(pool)
    }

    pub(crate) fn open(&self) -> Result<Fs> {
        Ok(Fs::open(Path::new(&self.path), &MountOptions::default())?)
    }

    pub(crate) fn arguments(&self) -> [&str; 3] {
        [&self.path, "--volume", NAME]
    }

    fn serve(&self) -> Result<Server> {
        Server::start(&self.arguments())
    }

    pub(crate) fn check(&self) -> Result<()> {
        let disk = FileDisk::open(Path::new(&self.path), Access::ReadOnly)?;
        Ok(assert_sound(Arc::new(disk))?)
    }
}

#[lab_guest::test(disks = ["pool:256"], timeout = 300)]
fn every_block_of_a_volume_is_kept_and_the_pool_stays_sound() -> Result<()> {
    for flags in [None, Some(FileFlags::COMPRESS), Some(FileFlags::NO_CHECKSUM)] {
        let pool = Pool::new("pool", 32, flags)?;
        let server = pool.serve()?;
        let name = server.device.trim_start_matches("/dev/").to_owned();
        ensure!(sys::read(format!("/sys/block/{name}/queue/logical_block_size"))? == "4096");
        fio(&server.device, &[&format!("{FIO_JOBS}/verify.fio")])?;
        // Larger than what one transaction takes, and with flushes in between.
        let large = [
            "--name=large",
            "--rw=randwrite",
            "--bs=512k",
            "--direct=1",
            "--fdatasync=4",
            "--verify=crc32c",
        ];
        fio(&server.device, &large)?;
        let text = refusal(&pool.arguments())?;
        ensure!(text.contains("in use"), "a second server of the pool says {text:?}");
        server.stop()?;
        pool.check()?;
        // The same bytes are there for the next server.
        let server = pool.serve()?;
        fio(
            &server.device,
            &[
                "--name=large",
                "--rw=read",
                "--bs=512k",
                "--verify=crc32c",
                "--verify_only",
            ],
        )?;
        server.stop()?;
    }
    Ok(())
}

#[lab_guest::test(disks = ["pool:1024"], timeout = 480)]
fn file_systems_live_on_a_volume() -> Result<()> {
    let pool = Pool::new("pool", 400, None)?;
    for (name, make, check) in [
        ("ext4", &["mkfs.ext4", "-q"][..], &["fsck.ext4", "-fn"][..]),
        ("xfs", &["mkfs.xfs", "-q", "-f"], &["xfs_repair", "-n"]),
        ("btrfs", &["mkfs.btrfs", "-q", "-f"], &["btrfs", "check"]),
    ] {
        let server = pool.serve()?;
        let device = server.device.clone();
        let run = |command: &[&str]| {
            let mut arguments = command[1..].to_vec();
            arguments.push(&device);
            sys::output(command[0], &arguments).with_context(|| format!("{command:?}"))
        };
        run(make)?;
        let mounted = sys::output("mount", &["-t", name, &device, "/mnt"]);
        mounted.with_context(|| format!("mounting {name}"))?;
        let used = sys::output("sh", &["-ec", USE]);
        sys::output("umount", &["/mnt"])?;
        used.with_context(|| format!("using {name}"))?;
        run(check)?;
        server.stop()?;
        pool.check()?;
    }
    Ok(())
}

/// Many small files, a large one, removal, trimming, and a look at what is left.
const USE: &str = "
cd /mnt
mkdir tree
for i in $(seq 200); do echo $i > tree/$i; done
dd if=/dev/urandom of=large bs=1M count=32 status=none
sum=$(md5sum < large)
sync
rm tree/*5
fstrim /mnt
echo 3 > /proc/sys/vm/drop_caches
test \"$(md5sum < large)\" = \"$sum\"
test $(ls tree | wc -l) = 180
test $(cat tree/77) = 77
";

#[lab_guest::test(disks = ["pool:128"], timeout = 240)]
fn a_full_pool_says_so_and_space_comes_back() -> Result<()> {
    let pool = Pool::new("pool", 256, None)?;
    let server = pool.serve()?;
    let full = fill(&server.device, 'x', 0, 256).map_err(|error| format!("{error:#}"));
    ensure!(
        matches!(&full, Err(text) if text.contains("No space left")),
        "writing more than there is: {full:?}"
    );
    // What is there can be read and written again.
    fill(&server.device, 'y', 0, 8)?;
    sys::output("blkdiscard", &["--offset", "0", "--length", "64MiB", &server.device])?;
    fill(&server.device, 'z', 128, 32)?;
    let mut buffer = vec![0; 1 << 20];
    let device = File::open(&server.device)?;
    for (mib, byte) in [(1, 0), (63, 0), (65, b'x'), (130, b'z')] {
        device.read_exact_at(&mut buffer, mib << 20)?;
        ensure!(
            buffer.iter().all(|&found| found == byte),
            "{mib} MiB do not hold {byte}"
        );
    }
    drop(device);
    server.stop()?;
    pool.check()
}

/// As on a machine that was paused, or too busy: the lease of the pool ends, and nobody takes it.
#[lab_guest::test(disks = ["pool:128"], timeout = 120)]
fn a_server_that_stood_still_for_longer_than_its_lease_goes_on() -> Result<()> {
    const LOG: &str = "/run/lease.log";
    let pool = Pool::new("pool", 16, None)?;
    let mut server = Server::spawn(
        Command::new(SERVER)
            .arg("serve")
            .args(pool.arguments())
            .stderr(Stdio::from(File::create(LOG)?)),
    )?;
    fill(&server.device, 'x', 0, 4)?;
    for _ in 0..3 {
        server.signal("-STOP")?;
        std::thread::sleep(Duration::from_secs(5));
        server.signal("-CONT")?;
        fill(&server.device, 'y', 2, 4)?;
    }
    let log = fs::read_to_string(LOG)?;
    ensure!(
        log.contains("the heartbeat is late") && log.contains("the pool is still ours"),
        "the server did not notice that it had stood still: {log}"
    );
    server.signal("-TERM")?;
    ensure!(server.wait(Duration::from_secs(20))?.success());
    pool.check()?;
    let fs = pool.open()?;
    let mut found = vec![0; 6 << 20];
    fs.read(fs.resolve(NAME.as_bytes())?.ino, 0, &mut found)?;
    ensure!(found[..2 << 20].iter().all(|&byte| byte == b'x') && found[2 << 20..].iter().all(|&byte| byte == b'y'));
    Ok(fs.close()?)
}

#[lab_guest::test(disks = ["pool:128"], timeout = 120)]
fn damage_below_a_volume_is_an_error_and_never_data() -> Result<()> {
    let pool = Pool::new("pool", 16, None)?;
    let server = pool.serve()?;
    fill(&server.device, 'x', 0, 16)?;
    server.stop()?;
    let fs = pool.open()?;
    let ino = fs.resolve(NAME.as_bytes())?.ino;
    let extents = fs.extents(ino, FileBlock(1024), 1)?;
    fs.close()?;
    let Some(Source::Blocks(run, _)) = extents.first().map(|extent| &extent.source) else {
        anyhow::bail!("no block is stored there: {extents:?}");
    };
    OpenOptions::new()
        .write(true)
        .open(&pool.path)?
        .write_all_at(b"?", run.start.byte_at() + 7)?;

    let log = fs::File::create("/run/volume.log")?;
    let mut server = Server::spawn(
        Command::new(SERVER)
            .arg("serve")
            .args(pool.arguments())
            .stderr(Stdio::from(log)),
    )?;
    let read = |mib: u32| {
        let (input, skip) = (format!("if={}", server.device), format!("skip={mib}"));
        sys::output(
            "dd",
            &[&input, "of=/dev/null", "bs=1M", "count=1", "iflag=direct", &skip],
        )
    };
    read(3)?;
    let damaged = read(4).map_err(|error| format!("{error:#}"));
    ensure!(
        matches!(&damaged, Err(text) if text.contains("Input/output error")),
        "reading a damaged block: {damaged:?}"
    );
    let log = fs::read_to_string("/run/volume.log")?;
    let place = format!("{}:{NAME}: reading at byte {}", pool.path, 4 << 20);
    ensure!(log.contains(&place), "the log says nothing of {place:?}: {log}");
    // Writing the block anew heals it.
    fill(&server.device, 'y', 4, 1)?;
    read(4)?;
    server.signal("-TERM")?;
    ensure!(server.wait(Duration::from_secs(20))?.success());
    Ok(())
}

#[lab_guest::test(disks = ["pool:64"])]
fn what_is_no_volume_is_refused_in_one_line() -> Result<()> {
    let pool = Pool::new("pool", 16, None)?;
    for (volume, expected) in [("/nothing", "no such file"), ("/", "not a regular file")] {
        let text = refusal(&[&pool.path, "--volume", volume])?;
        ensure!(text.contains(expected), "{volume}: {text:?}");
    }
    pool.check()
}
