// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sealed images, mounted by the module without a server, in three of its variants.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::suites::tree;
use lab_guest::{kmod, sys};
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Whence, lseek};
use vexfs::disk::SplitMix64;
use vexfs::fs::{Fs, MountOptions};
use vexfs::sealed::layout::{BLOCK, HEAD_MAGIC};
use vexfs::sealed::write::{self, Options};
use vexfs::sealed::{check, forge, read};
use vexfs::units::Ino;

use crate::served::{AT, IMAGE, Server, at, drop_caches, program};
use crate::syscalls::{handle_of, open_handle};

const SEALED: &str = "/tmp/tree.sealed";

/// A file as a block device.
struct Loop(String);

impl Loop {
    fn of(file: &str) -> Result<Self> {
        Self::with(&["--find", "--show", "--read-only", file])
    }

    fn with(words: &[&str]) -> Result<Self> {
        kmod::modprobe("loop")?;
        let told = sys::output("losetup", words)?;
        Ok(Self(told.trim().to_owned()))
    }

    fn mount(&self, flags: MsFlags) -> nix::Result<Mounted> {
        mount(Some(self.0.as_str()), AT, Some("vexfs"), flags, None::<&str>)?;
        Ok(Mounted)
    }

    fn sysfs(&self, attribute: &str) -> Result<String> {
        sys::read(format!(
            "/sys/fs/vexfs/{}/{attribute}",
            self.0.trim_start_matches("/dev/")
        ))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Whoever fails has said more than this could.
        let _detached = sys::output("losetup", &["--detach", &self.0]);
    }
}

/// A mount at [`AT`].
struct Mounted;

impl Mounted {
    fn unmount(self) -> Result<()> {
        std::mem::forget(self);
        umount2(AT, MntFlags::empty()).context("unmounting")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone = umount2(AT, MntFlags::MNT_DETACH);
    }
}

/// Another variant takes the place of the module that is loaded. The default one has the plain name.
fn swap_for(module: &str) -> Result<()> {
    if kmod::is_loaded("vexfs") {
        kmod::unload("vexfs")?;
    }
    kmod::load(module, "")
}

/// Every kind of file, and what can be in one, made through a mount.
fn make_tree() -> Result<()> {
    fs::create_dir_all(at("directory/deep/empty"))?;
    fs::create_dir(at("many"))?;
    for number in 0..400_usize {
        fs::write(
            at(&format!("many/{number}-{}", "n".repeat(number % 200))),
            number.to_string(),
        )?;
    }
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 7 % 253) as u8).collect();
    fs::write(at("directory/long"), &bytes)?;
    sys::output(
        "cp",
        &[
            "--reflink=always",
            &format!("{AT}/directory/long"),
            &format!("{AT}/clone"),
        ],
    )?;
    fs::hard_link(at("directory/long"), at("another name"))?;
    fs::write(at("directory/short"), "a few bytes")?;
    fs::write(at("directory/nothing"), "")?;
    let holes = File::create(at("holes"))?;
    for number in 0..300_u64 {
        holes.write_all_at(&bytes[..5000], number * 3 * 4096)?;
    }
    holes.set_len(20_000_001)?;
    symlink("directory/short", at("link"))?;
    symlink("x".repeat(3000), at("long link"))?;
    let run = |program: &str, words: &[&str]| sys::output(program, words).map(drop);
    run("mkfifo", &["-m", "620", &format!("{AT}/fifo")])?;
    run("mknod", &[&format!("{AT}/character"), "c", "300", "70000"])?;
    run("mknod", &[&format!("{AT}/block"), "b", "8", "1"])?;
    let short = format!("{AT}/directory/short");
    run("chown", &["1234:4321", &short])?;
    run("chmod", &["4750", &short])?;
    xattr::set(&short, "user.some", b"value")?;
    xattr::set(&short, "trusted.some", b"trusted value")?;
    xattr::set(at("holes"), "user.big", &vec![b'v'; 20_000])?;
    // Capabilities, version 2: cap_net_raw, effective and permitted.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    xattr::set(at("clone"), "security.capability", &capability)?;
    run("setfacl", &["-m", "u:77:r,g:88:rw", &short])?;
    run("setfacl", &["-d", "-m", "u:77:rwx", &format!("{AT}/directory")])?;
    run("chattr", &["+d", &format!("{AT}/directory/nothing")])?;
    run(
        "touch",
        &[
            "-d",
            "1931-02-03 04:05:06.789",
            &format!("{AT}/link"),
            "--no-dereference",
        ],
    )?;
    Ok(())
}

/// What `tree::describe` leaves out: names, sizes, the other times, flags, and where a file has holes.
fn further(path: &Path) -> Result<String> {
    let about = fs::symlink_metadata(path)?;
    let mut told = format!(
        "{} {} {} {}.{} {}.{}",
        about.nlink(),
        about.size(),
        about.ino() == 0,
        about.atime(),
        about.atime_nsec(),
        about.ctime(),
        about.ctime_nsec()
    );
    if about.is_file() {
        let file = File::open(path)?;
        let mut position = 0;
        for whence in [Whence::SeekData, Whence::SeekHole].into_iter().cycle().take(40) {
            match lseek(&file, position, whence) {
                Ok(next) => position = next,
                Err(Errno::ENXIO) => break,
                Err(errno) => return Err(errno).with_context(|| format!("seeking in {}", path.display())),
            }
            write!(told, " {position}")?;
        }
        told += " ";
        told += sys::output("lsattr", &["-d", &path.display().to_string()])?
            .split(' ')
            .next()
            .unwrap_or_default();
    }
    Ok(told)
}

/// Everything below [`AT`], and the rest of it.
type Described = (BTreeMap<PathBuf, tree::Node>, Vec<(PathBuf, String)>);

fn describe() -> Result<Described> {
    let nodes = tree::describe(Path::new(AT))?;
    // A program is run for each of them: of the many files not one by one.
    let some = nodes.keys().filter(|path| !path.starts_with("many"));
    let more = some.map(|path| Ok((path.clone(), further(&Path::new(AT).join(path))?)));
    let more = more.collect::<Result<_>>()?;
    Ok((nodes, more))
}

fn seal(checksums: bool) -> Result<()> {
    let fs = Fs::open(Path::new(IMAGE), &MountOptions::default())?;
    let options = Options {
        label: "tree".to_owned(),
        checksums,
    };
    write::write(&fs, Ino::ROOT, &options, Path::new(SEALED), &mut |_| {})?;
    Ok(fs.close()?)
}

/// Every way to change something says that it cannot be.
fn nothing_can_be_changed() -> Result<()> {
    let refused = |what: &str, result: std::io::Result<()>| match result {
        Err(error) if error.raw_os_error() == Some(libc::EROFS) => Ok(()),
        other => bail!("{what}: {other:?}"),
    };
    let short = at("directory/short");
    refused("create", fs::write(at("new"), "x"))?;
    refused("open", File::options().write(true).open(&short).map(drop))?;
    refused("mkdir", fs::create_dir(at("new")))?;
    refused("unlink", fs::remove_file(&short))?;
    refused("rename", fs::rename(&short, at("new")))?;
    refused("link", fs::hard_link(&short, at("new")))?;
    refused("symlink", symlink("x", at("new")))?;
    refused("chmod", fs::set_permissions(&short, fs::Permissions::from_mode(0o777)))?;
    refused("rmdir", fs::remove_dir(at("directory/deep/empty")))?;
    refused("setxattr", xattr::set(at("clone"), "user.new", b"x"))?;
    let remounted = mount(None::<&str>, AT, None::<&str>, MsFlags::MS_REMOUNT, None::<&str>);
    ensure!(
        matches!(remounted, Err(Errno::EROFS | Errno::EACCES)),
        "remounting for writing: {remounted:?}"
    );
    Ok(())
}

fn permissions_and_handles_work() -> Result<()> {
    // User 77 may read through the list what is 4750 and of others.
    let read_as = |user: &str| {
        let words = ["--reuid", user, "--regid", user, "--clear-groups", "cat"];
        sys::output("setpriv", &[&words[..], &[&format!("{AT}/directory/short")]].concat())
    };
    ensure!(read_as("77")? == "a few bytes");
    ensure!(read_as("78").is_err(), "a stranger reads what he may not");
    let handle = handle_of(&at("directory/deep"))?;
    drop_caches()?;
    let beside = File::open(AT)?;
    let found = open_handle(&beside, &handle, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let link = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    ensure!(link == at("directory/deep"), "{}", link.display());
    let copy = "/tmp/by-mmap-and-direct";
    sys::output(
        "dd",
        &[
            &format!("if={AT}/directory/long"),
            &format!("of={copy}"),
            "iflag=direct",
            "bs=64k",
        ],
    )?;
    ensure!(
        fs::read(copy)? == fs::read(at("directory/long"))?,
        "a direct read is another"
    );
    Ok(())
}

#[lab_guest::test(modules = ["vexfs"], timeout = 600)]
fn an_image_holds_what_the_pool_held_in_every_variant() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mounted = server.mount("")?;
    make_tree()?;
    // Of a fresh mount: what reading changed stays out.
    let mounted = mounted.again(&server)?;
    let (wanted, wanted_more) = describe()?;
    mounted.unmount()?;
    server.stop_and_check()?;
    for (module, checksums) in [("vexfs", true), ("vexfs-c-only", true), ("vexfs-safe", false)] {
        seal(checksums)?;
        swap_for(module)?;
        // One that can be written to, unless it was one before that could not: loop devices remember that.
        let device = Loop::with(&["--find", "--show", SEALED])?;
        let fixed = sys::read(format!("/sys/block/{}/ro", device.0.trim_start_matches("/dev/")))? == "1";
        let flags = if fixed { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        let mounted = device.mount(flags);
        let mounted = mounted.with_context(|| format!("mounting by {module}, fixed: {fixed}"))?;
        for round in ["at first", "with caches dropped"] {
            let (found, found_more) = describe().with_context(|| format!("{module}, {round}"))?;
            let differences = tree::differences(&wanted, &found);
            ensure!(differences.is_empty(), "{module}, {round}: {differences:#?}");
            for (one, other) in wanted_more.iter().zip(&found_more) {
                ensure!(one == other, "{module}, {round}: {one:?} became {other:?}");
            }
            drop_caches()?;
        }
        nothing_can_be_changed().context(module)?;
        permissions_and_handles_work().context(module)?;
        if module == "vexfs-c-only" {
            ensure!(!Path::new("/sys/fs/vexfs").exists());
        } else {
            let (health, damaged) = (device.sysfs("health")?, device.sysfs("damaged")?);
            ensure!(
                (health.as_str(), damaged.as_str()) == ("HEALTHY", "0"),
                "{health} {damaged}"
            );
            ensure!(sys::read("/sys/fs/vexfs/mounts")? == "1");
        }
        mounted.unmount()?;
    }
    swap_for("vexfs")
}

#[lab_guest::test(modules = ["vexfs"], timeout = 300)]
fn mount_8_mounts_an_image_that_was_exported() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mounted = server.mount("")?;
    fs::create_dir(at("below"))?;
    fs::write(at("below/file"), "sealed")?;
    mounted.unmount()?;
    server.stop()?;
    let command = program("vexfs-ublk")?.display().to_string();
    let _absent = fs::remove_file(SEALED);
    let place = format!("{IMAGE}:/below");
    sys::output(&command, &["export", "--image", &place, SEALED])?;
    ensure!(sys::output(&command, &["check", SEALED])?.contains("nothing is wrong"));
    sys::output(&command, &["mount", SEALED, AT])?;
    ensure!(fs::read_to_string(at("file"))? == "sealed");
    sys::output(&command, &["umount", AT])?;
    ensure!(!at("file").exists());
    sys::wait_for("the end of the loop device", Duration::from_secs(20), || {
        sys::output("losetup", &["--associated", SEALED]).is_ok_and(|loops| loops.is_empty())
    })?;
    Ok(())
}

/// Looks at everything; what cannot be read is counted.
fn look_everywhere(directory: &Path, depth: usize, errors: &mut u64) {
    let Ok(entries) = fs::read_dir(directory) else {
        *errors += 1;
        return;
    };
    for entry in entries {
        let Ok(entry) = entry else {
            *errors += 1;
            break;
        };
        let path = entry.path();
        let Ok(about) = fs::symlink_metadata(&path) else {
            *errors += 1;
            continue;
        };
        let names = xattr::list(&path).map(Iterator::collect::<Vec<_>>);
        let values = names.and_then(|names| names.iter().try_for_each(|name| xattr::get(&path, name).map(drop)));
        *errors += u64::from(values.is_err());
        if about.is_dir() && depth < 8 {
            look_everywhere(&path, depth + 1, errors);
        } else if about.is_symlink() {
            *errors += u64::from(fs::read_link(&path).is_err());
        } else if about.is_file() {
            // A size that is a lie is not read to its end.
            let read = File::open(&path).and_then(|file| file.take(4 << 20).read_to_end(&mut Vec::new()));
            *errors += u64::from(read.is_err());
            let sought = File::open(&path).map(|file| lseek(&file, 0, Whence::SeekHole));
            *errors += u64::from(!matches!(sought, Ok(Ok(_) | Err(Errno::ENXIO))));
        }
    }
}

/// A small tree with everything in it, sealed.
fn small_image() -> Result<Vec<u8>> {
    let server = Server::of_new_pool()?;
    let mounted = server.mount("")?;
    fs::create_dir_all(at("directory/deep"))?;
    for number in 0..60 {
        fs::write(
            at(&format!("directory/{number}-{}", "n".repeat(100))),
            number.to_string(),
        )?;
    }
    let holes = File::create(at("holes"))?;
    for number in 0..200_u64 {
        holes.write_all_at(&[7; 5000], number * 3 * 4096)?;
    }
    drop(holes);
    symlink("x".repeat(300), at("link"))?;
    xattr::set(at("holes"), "user.big", &[b'v'; 9000])?;
    mounted.unmount()?;
    server.stop()?;
    seal(true)?;
    Ok(fs::read(SEALED)?)
}

/// Mounts the bytes and looks at everything. Tells whether that was refused, and how many errors there were.
fn try_image(bytes: &[u8]) -> Result<(bool, u64)> {
    fs::write(SEALED, bytes)?;
    let device = Loop::of(SEALED)?;
    let Ok(mounted) = device.mount(MsFlags::MS_RDONLY) else {
        return Ok((true, 0));
    };
    let mut errors = 0;
    look_everywhere(Path::new(AT), 0, &mut errors);
    mounted.unmount()?;
    Ok((false, errors))
}

#[lab_guest::test(modules = ["vexfs"], timeout = 300)]
fn damaged_images_give_errors_and_nothing_else() -> Result<()> {
    damaged_images(20, 4)
}

#[lab_guest::test(modules = ["vexfs"], timeout = 1800, stress = true)]
fn many_damaged_images_give_errors_and_nothing_else() -> Result<()> {
    damaged_images(500, 1)
}

/// So many that lie; of those that lost a bit, one block of `step`.
fn damaged_images(lies: usize, step: usize) -> Result<()> {
    let whole = small_image()?;
    let image = read::Image::open(Box::new(vexfs::disk::MemDisk::from_bytes(&whole)))?;
    ensure!(check::check(&image, &mut || {})?.is_sound());
    let blocks = whole.len() / BLOCK;
    let metadata: Vec<usize> = (1..blocks)
        .filter(|block| whole[block * BLOCK..].starts_with(&HEAD_MAGIC.to_le_bytes()))
        .collect();
    for module in ["vexfs", "vexfs-c-only"] {
        swap_for(module)?;
        ensure!(
            try_image(&whole)? == (false, 0),
            "{module}: the image that is whole has errors"
        );
        // One block after the other loses a bit: somebody finds it.
        let worth = |block: &usize| *block == 0 || metadata.contains(block) || block.is_multiple_of(20);
        for block in (0..blocks).filter(worth).step_by(step) {
            let mut bytes = whole.clone();
            bytes[block * BLOCK + 40 + block % 50] ^= 1;
            let (refused, errors) = try_image(&bytes)?;
            ensure!(
                refused || errors > 0,
                "{module}: nobody found the damage of block {block}"
            );
            ensure!(
                refused || block > 0,
                "{module}: an image without its first block was mounted"
            );
        }
        for length in [0, 1, BLOCK, whole.len() / 2 / BLOCK * BLOCK, whole.len() - BLOCK] {
            ensure!(
                try_image(&whole[..length])?.0,
                "{module}: {length} bytes of an image were mounted"
            );
        }
        // Lies under right checksums: whatever comes of them, the kernel lives.
        let mut random = SplitMix64::new(7);
        let mut below = |limit: usize| usize::try_from(random.below(limit as u64)).unwrap_or(0);
        for _ in 0..lies {
            let mut bytes = whole.clone();
            for _ in 0..=below(4) {
                let block = if below(5) == 0 {
                    0
                } else {
                    metadata[below(metadata.len())]
                };
                let place = block * BLOCK + 8 + below(400);
                let length = 1 + below(8);
                let value = [0, 1, 0xff, 0x7f][below(4)];
                bytes[place..place + length].fill(value);
            }
            forge::make_right(&mut bytes);
            try_image(&bytes)?;
        }
    }
    swap_for("vexfs")
}

#[lab_guest::test(modules = ["vexfs"], timeout = 300)]
fn damage_is_counted_and_too_much_of_it_ends_a_mount() -> Result<()> {
    let mut bytes = small_image()?;
    let image = read::Image::open(Box::new(vexfs::disk::MemDisk::from_bytes(&bytes)))?;
    let mut at_block = 0;
    image.extents(&image.resolve(b"holes")?, |extent| {
        at_block = usize::try_from(extent.at.get()).unwrap_or(0);
        Ok(())
    })?;
    bytes[at_block * BLOCK] ^= 1;
    fs::write(SEALED, &bytes)?;
    swap_for("vexfs-safe")?;
    ensure!(sys::read("/sys/fs/vexfs/variant")? == "safe");
    let device = Loop::of(SEALED)?;
    let mounted = device.mount(MsFlags::MS_RDONLY)?;
    ensure!(device.sysfs("health")? == "HEALTHY");
    let read = fs::read(at("holes"));
    ensure!(
        read.as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(libc::EIO)),
        "{:?}",
        read.map(|_| ())
    );
    ensure!(device.sysfs("health")? == "DEGRADED" && device.sysfs("damaged")? != "0");
    fs::symlink_metadata(at("link"))?;
    sys::write("/sys/module/vexfs/parameters/damage_limit", "1")?;
    ensure!(device.sysfs("health")? == "LOST");
    let refused = fs::metadata(at("directory")).map(drop);
    ensure!(
        refused
            .as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(libc::EIO)),
        "{refused:?}"
    );
    mounted.unmount()?;
    // A pool needs more than this variant has.
    drop(device);
    let device = Loop::of(IMAGE)?;
    let refused = device.mount(MsFlags::MS_RDONLY).map(drop);
    ensure!(refused == Err(Errno::EINVAL), "{refused:?}");
    drop(device);
    swap_for("vexfs")
}
