// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the mount offers besides files: freezing, handles, owners mapped by the mount, changes of the mount itself.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab_guest::sys;
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use vexfs::fs::{Fs, MountOptions};

use crate::served::{AT, IMAGE, Server, at, drop_caches};
use crate::syscalls::{handle_of, mount_mapped, open_handle};

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn a_frozen_mount_takes_no_writes_and_its_pool_can_be_copied() -> Result<()> {
    const COPY: &str = "/tmp/copy.img";
    let server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 7 % 253) as u8).collect();
    fs::write(at("before"), &bytes)?;
    sys::output("fsfreeze", &["--freeze", AT])?;
    let (done, news) = mpsc::channel();
    let writer = std::thread::spawn(move || {
        let written = fs::write(at("after"), "bytes");
        // Nobody listens any more if the test has failed.
        let _ = done.send(());
        written
    });
    let early = news.recv_timeout(Duration::from_secs(2));
    // The server goes on with work of its own, which a copy must not meet half done.
    server.signal("-STOP")?;
    let copied = sys::output("cp", &["--sparse=always", IMAGE, COPY]);
    server.signal("-CONT")?;
    let read = fs::read(at("before"));
    sys::output("fsfreeze", &["--unfreeze", AT])?;
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    copied?;
    ensure!(early.is_err(), "a frozen mount was written to");
    ensure!(read? == bytes, "what is frozen reads otherwise");
    ensure!(fs::read_to_string(at("after"))? == "bytes");
    mount.unmount()?;
    server.stop_and_check()?;

    let fs = Fs::open(Path::new(COPY), &MountOptions::default())?;
    let found = fs.resolve(b"before")?;
    let mut copy = vec![0; bytes.len()];
    ensure!(found.inode.size == bytes.len() as u64, "{:?}", found.inode);
    fs.read(found.ino, 0, &mut copy)?;
    ensure!(copy == bytes, "the copy of a frozen pool lacks what was written");
    ensure!(fs.resolve(b"after").is_err(), "the copy has what came later");
    Ok(fs.close()?)
}

/// Since 6.19 such writes end where their last bio does, in a context that must not wait; others hold what they would
/// wait for.
#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn overwrites_past_the_cache_end_while_others_tell_the_server_of_the_file() -> Result<()> {
    const SIZE: usize = 16 << 20;
    let server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    let path = at("overwritten");
    fs::write(&path, vec![7; SIZE])?;
    let file = File::options().write(true).open(&path)?;
    file.sync_all()?;
    let enough = AtomicBool::new(false);
    let (name, size) = (format!("--filename={}", path.display()), format!("--size={SIZE}"));
    std::thread::scope(|scope| {
        let tellers: Vec<_> = (0..3_u64)
            .map(|number| {
                let (file, enough) = (&file, &enough);
                scope.spawn(move || -> Result<()> {
                    let mut at = number;
                    while !enough.load(Ordering::Relaxed) {
                        file.set_modified(std::time::UNIX_EPOCH + Duration::from_millis(at))?;
                        file.sync_all()?;
                        at += 3;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut fio = Command::new("fio");
        fio.args([&name, &size]).args([
            "--name=overwrite",
            "--ioengine=libaio",
            "--direct=1",
            "--rw=randwrite",
            "--bs=4k",
            "--iodepth=32",
            "--numjobs=3",
            "--group_reporting",
            "--time_based",
            "--runtime=15",
        ]);
        let written = fio.output();
        enough.store(true, Ordering::Relaxed);
        for teller in tellers {
            teller.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        let written = written?;
        ensure!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
        println!("{}", String::from_utf8_lossy(&written.stdout));
        Ok(())
    })?;
    drop(file);
    mount.unmount()?;
    server.stop_and_check()
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn handles_name_files_across_renames_caches_and_mounts_until_they_are_gone() -> Result<()> {
    let mut server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    fs::create_dir_all(at("one/two"))?;
    fs::create_dir(at("three"))?;
    fs::write(at("one/two/file"), "by its handle")?;
    fs::write(at("doomed"), "for a while")?;
    let file = handle_of(&at("one/two/file"))?;
    let directory = handle_of(&at("one/two"))?;
    let doomed = handle_of(&at("doomed"))?;
    fs::rename(at("one/two/file"), at("three/other name"))?;
    fs::rename(at("one/two"), at("three/directory"))?;
    fs::write(at("three/directory/inside"), "")?;

    let look = || -> Result<()> {
        let beside = File::open(AT)?;
        let mut text = String::new();
        open_handle(&beside, &file, libc::O_RDONLY)?.read_to_string(&mut text)?;
        ensure!(text == "by its handle", "{text:?}");
        // Its way up is found although no directory above it is cached.
        let found = open_handle(&beside, &directory, libc::O_RDONLY | libc::O_DIRECTORY)?;
        let link = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found)))?;
        ensure!(link == at("three/directory"), "{}", link.display());
        Ok(())
    };
    look()?;
    drop_caches()?;
    look().context("after dropping caches")?;
    mount.unmount()?;
    server.replace()?;
    let mount = server.mount("")?;
    look().context("after another mount by another server")?;

    fs::remove_file(at("doomed"))?;
    let beside = File::open(AT)?;
    for when in ["at once", "after dropping caches"] {
        let Err(error) = open_handle(&beside, &doomed, libc::O_RDONLY) else {
            bail!("a file that was removed was opened {when}");
        };
        ensure!(error.raw_os_error() == Some(libc::ESTALE), "{when}: {error}");
        drop_caches()?;
    }
    // Its number may be used again, its handle never means another file.
    for number in 0..200 {
        fs::write(at(&format!("new {number}")), "")?;
    }
    ensure!(open_handle(&beside, &doomed, libc::O_RDONLY).is_err());
    drop(beside);
    mount.unmount()?;
    server.stop_and_check()
}

/// A process in a user namespace in which owners 0 to 999 are 100000 to 100999 outside.
pub(crate) struct Namespace(Child);

impl Namespace {
    pub(crate) fn new() -> Result<(Self, File)> {
        let own = fs::read_link("/proc/self/ns/user")?;
        let child = Command::new("unshare").args(["--user", "sleep", "100"]).spawn()?;
        let held = Self(child);
        let place = format!("/proc/{}", held.0.id());
        sys::wait_for("a user namespace", Duration::from_secs(20), || {
            fs::read_link(format!("{place}/ns/user")).is_ok_and(|namespace| namespace != own)
        })?;
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("{place}/{map}"), "0 100000 1000")?;
        }
        let file = File::open(format!("{place}/ns/user"))?;
        Ok((held, file))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn a_mount_that_maps_owners_shows_and_stores_them_mapped() -> Result<()> {
    const MAPPED: &str = "/run/mapped";
    let server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    fs::write(at("of 7"), "bytes")?;
    chown(at("of 7"), Some(7), Some(8))?;
    fs::create_dir(at("shared"))?;
    fs::set_permissions(at("shared"), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;

    let (_held, namespace) = Namespace::new()?;
    fs::create_dir_all(MAPPED)?;
    mount_mapped(Path::new(AT), Path::new(MAPPED), namespace.as_fd()).context("mounting with owners mapped")?;
    let mapped = |name: &str| Path::new(MAPPED).join(name);
    let owner = |path: &Path| fs::metadata(path).map(|found| (found.uid(), found.gid()));
    ensure!(owner(&mapped("of 7"))? == (100_007, 100_008));
    // By somebody outside who is 5 in the pool: made, given away, and protected by an ACL.
    let script = format!("cd {MAPPED}/shared && touch new && mkdir dir && ln -s new link && setfacl -m u:100009:r new");
    let user = [
        "--reuid",
        "100005",
        "--regid",
        "100006",
        "--clear-groups",
        "sh",
        "-ec",
        &script,
    ];
    sys::output("setpriv", &user)?;
    for name in ["shared/new", "shared/dir"] {
        ensure!(owner(&at(name))? == (5, 6), "{name}: {:?}", owner(&at(name)));
        ensure!(owner(&mapped(name))? == (100_005, 100_006));
    }
    let acl = sys::output(
        "getfacl",
        &[
            "--omit-header",
            "--numeric",
            "--absolute-names",
            &format!("{AT}/shared/new"),
        ],
    )?;
    ensure!(acl.contains("user:9:r--"), "{acl}");
    chown(mapped("shared/new"), Some(100_011), None)?;
    ensure!(owner(&at("shared/new"))?.0 == 11);
    // Who is nobody in the pool makes no files there.
    let stranger = [
        "--reuid",
        "5",
        "--regid",
        "6",
        "--clear-groups",
        "touch",
        &format!("{MAPPED}/shared/no"),
    ];
    ensure!(sys::output("setpriv", &stranger).is_err(), "a stranger made a file");
    umount2(MAPPED, MntFlags::empty())?;
    drop_caches()?;
    ensure!(owner(&at("shared/new"))? == (11, 6) && owner(&at("of 7"))? == (7, 8));
    mount.unmount()?;
    server.stop_and_check()
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn a_mount_becomes_read_only_and_writable_again_and_shows_its_options() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mounted = server.mount("timeout=3000,retries=2")?;
    let options = || -> Result<String> {
        let table = fs::read_to_string("/proc/mounts")?;
        let line = table.lines().find(|line| line.contains(" vexfs "));
        Ok(line.context("it is not among the mounts")?.to_owned())
    };
    ensure!(
        options()?.contains("rw,") && options()?.contains("timeout=3000,retries=2"),
        "{}",
        options()?
    );
    let mut file = File::create(at("file"))?;
    file.write_all(b"bytes")?;
    let remount =
        |flags: MsFlags, data: &str| mount(None::<&str>, AT, None::<&str>, MsFlags::MS_REMOUNT | flags, Some(data));
    ensure!(
        remount(MsFlags::MS_RDONLY, "") == Err(Errno::EBUSY),
        "a file is open for writing"
    );
    drop(file);
    remount(MsFlags::MS_RDONLY, "")?;
    ensure!(options()?.contains(" ro,"), "{}", options()?);
    let Err(refused) = fs::write(at("other"), "") else {
        bail!("a read-only mount was written to");
    };
    ensure!(refused.raw_os_error() == Some(libc::EROFS), "{refused}");
    ensure!(fs::read_to_string(at("file"))? == "bytes");
    remount(MsFlags::empty(), "timeout=4000")?;
    ensure!(options()?.contains("timeout=4000,retries=2"), "{}", options()?);
    fs::OpenOptions::new()
        .write(true)
        .open(at("file"))?
        .write_all_at(b"more bytes", 0)?;
    ensure!(remount(MsFlags::empty(), "nonsense=1").is_err());
    mounted.unmount()?;
    server.stop_and_check()
}
