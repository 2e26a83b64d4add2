// SPDX-License-Identifier: MIT OR Apache-2.0

//! rsync and tar: a tree with everything a file can have goes into the filesystem, out of it, and within it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, chown};

use super::super::Session;
use super::super::session::ROOMY;
use super::super::tree;
use crate::host::command::command;

/// Length of the sparse file, of which a few blocks hold data.
const SPARSE: u64 = 128 << 20;

pub(super) fn rsync_and_tar_copy_every_property(session: &Session) -> Result<()> {
    let source = session.scratch().join("source");
    make(&source, session)?;
    session.with_target(ROOMY, |target| {
        let inside = target.directory().to_owned();
        let wanted = tree::describe(&source)?;
        let same = |copy: &Path| -> Result<()> {
            let differences = tree::differences(&wanted, &tree::describe(copy)?);
            ensure!(
                differences.is_empty(),
                "{}:\n{}",
                copy.display(),
                differences.join("\n")
            );
            let taken = fs::metadata(copy.join("sparse"))?.blocks() * 512;
            ensure!(
                taken < SPARSE / 8,
                "the sparse file takes {taken} bytes in {}",
                copy.display()
            );
            Ok(())
        };
        // Otherwise rsync leaves a time alone that is right to the second.
        let exactly = "--modify-window=-1";
        let rsync = |from: &Path, to: &Path| {
            command("rsync")
                .args(["-aHAX", "--sparse", "--numeric-ids", exactly])
                .arg(from.join(""))
                .arg(to)
                .run()
        };
        rsync(&source, &inside.join("rsync"))?;
        same(&inside.join("rsync")).context("rsync into it")?;
        target.remount()?;
        same(&inside.join("rsync")).context("mounted anew")?;
        rsync(&inside.join("rsync"), &session.scratch().join("rsync-out"))?;
        same(&session.scratch().join("rsync-out")).context("rsync out of it")?;
        // Nothing is left to be copied: rsync sees no difference either.
        let changes = command("rsync")
            .args(["-aHAX", "--numeric-ids", exactly, "--dry-run", "--itemize-changes"])
            .arg(source.join(""))
            .arg(inside.join("rsync"))
            .read()?;
        ensure!(changes.is_empty(), "rsync would copy again:\n{changes}");
        let tar = [
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "--sparse",
            "--numeric-owner",
            "--format=posix",
        ];
        let archive = inside.join("archive.tar");
        command("tar")
            .args(tar)
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(inside.join("rsync"))
            .arg(".")
            .run()?;
        for place in [inside.join("tar"), session.scratch().join("tar-out")] {
            fs::create_dir(&place)?;
            command("tar")
                .args(tar)
                .arg("-xpf")
                .arg(&archive)
                .arg("-C")
                .arg(&place)
                .run()?;
            same(&place).context("through tar")?;
        }
        println!("{} files, six copies", wanted.len());
        Ok(())
    })
}

/// A tree with files of every kind and property, on the host's own filesystem.
fn make(root: &Path, session: &Session) -> Result<()> {
    let mut random = session.random();
    fs::create_dir(root)?;
    for directory in 0..session.pick(6, 40) {
        let directory = root.join(format!("directory-{directory}"));
        fs::create_dir(&directory)?;
        for number in 0..session.pick(20, 100) {
            let path = directory.join(format!("file-{number} ü"));
            let mut bytes = vec![
                0;
                if number % 10 == 0 {
                    random.usize(..600_000)
                } else {
                    random.usize(..5_000)
                }
            ];
            random.fill(&mut bytes);
            fs::write(&path, bytes)?;
            if number % 5 == 0 {
                xattr::set(&path, "user.note", &vec![b'x'; random.usize(1..1000)])?;
                xattr::set(&path, "trusted.note", b"\0binary\xff")?;
            }
            if number % 7 == 0 {
                fs::hard_link(&path, directory.join(format!("link-{number}")))?;
            }
            chown(
                &path,
                Some(Uid::from_raw(random.u32(..70_000))),
                Some(Gid::from_raw(random.u32(..70_000))),
            )?;
            fs::set_permissions(
                &path,
                fs::Permissions::from_mode(0o4000 * u32::from(number % 9 == 0) + random.u32(..0o1000)),
            )?;
            let time = UNIX_EPOCH + Duration::new(random.u64(1..4_000_000_000), random.u32(..1_000_000_000));
            File::options().write(true).open(&path)?.set_modified(time)?;
        }
        command("setfacl")
            .args(["-m", "u:1234:rw,g:4321:r,m::rwx", "-m", "d:u:1234:rwx"])
            .arg(&directory)
            .run()?;
    }
    let sparse = File::create(root.join("sparse"))?;
    sparse.set_len(SPARSE)?;
    for block in [0_u64, 1000, 30_000] {
        sparse.write_all_at(&[7; 4096], block * 4096)?;
    }
    symlink("directory-0/file-1", root.join("symlink"))?;
    symlink("x".repeat(4000), root.join("long-symlink"))?;
    command("setfacl")
        .args(["-m", "u:1234:rwx"])
        .arg(root.join("sparse"))
        .run()?;
    mknod(
        &root.join("device"),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o600),
        makedev(1, 300),
    )?;
    mknod(&root.join("pipe"), SFlag::S_IFIFO, Mode::from_bits_truncate(0o640), 0)?;
    fs::write(root.join("empty"), "")?;
    Ok(())
}
