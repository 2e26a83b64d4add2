// SPDX-License-Identifier: MIT OR Apache-2.0

//! From the kernel's hand-over to a machine that looks like the host.
//!
//! The host's root comes over 9p, read-only, below an overlay in memory: the guest runs the host's own binaries at the
//! host's own paths, and whatever it writes is gone with it. What a machine must not share (`/proc`, `/sys`, `/dev`,
//! `/run`) is mounted afresh. `/tmp` is not: a checkout or a cache may be in it.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use lab_guest::protocol::{BootPlan, ROOT_TAG, SHARE_MOUNT, SHARE_TAG};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::utsname::uname;
use nix::unistd::{chdir, chroot, sethostname};

/// Options of the 9p mounts. `cache=loose` is right for the root, which nobody writes while the guest lives; the share
/// is written from both sides and must not be cached. The message size is what virtio takes in one request.
const ROOT_OPTIONS: &str = "trans=virtio,version=9p2000.L,msize=512000,cache=loose,access=any";
const SHARE_OPTIONS: &str = "trans=virtio,version=9p2000.L,msize=512000,cache=none,access=any";

/// Makes the machine: modules, root, kernel file systems, settings.
pub(crate) fn bring_up() -> Result<()> {
    // The kernel opens the console only where the initramfs has a node for it. Without it nothing said here is seen.
    mount_at("devtmpfs", "/dev", "devtmpfs", "")?;
    let plan: BootPlan =
        serde_json::from_slice(&fs::read("/lab.json").context("reading /lab.json")?).context("parsing /lab.json")?;
    for module in &plan.early_modules {
        insert_early(module)?;
    }
    enter_root()?;
    mount_kernel_file_systems()?;
    mount_at(SHARE_TAG, SHARE_MOUNT, "9p", SHARE_OPTIONS)?;
    if let Some(tree) = &plan.modules_tree {
        let release = uname()?.release().to_string_lossy().into_owned();
        bind(tree, &format!("/lib/modules/{release}"))?;
    }
    for (name, value) in &plan.sysctl {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        // A kernel built without a watchdog has no file to set it; the host learns what there is from the console.
        if path.exists() {
            fs::write(&path, value).with_context(|| format!("setting {name} to {value}"))?;
        }
    }
    sethostname("lab").context("setting the host name")?;
    bring_loopback_up()
}

fn insert_early(path: &str) -> Result<()> {
    let file = File::open(path).with_context(|| format!("opening {path}"))?;
    match finit_module(file, &CString::default(), ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("loading {path}")),
    }
}

/// Overlay over 9p, then chroot: an initramfs cannot be pivoted away from, only covered.
fn enter_root() -> Result<()> {
    for directory in ["/lower", "/memory", "/new"] {
        fs::create_dir_all(directory)?;
    }
    mount_with(ROOT_TAG, "/lower", "9p", MsFlags::MS_RDONLY, ROOT_OPTIONS)?;
    mount_at("tmpfs", "/memory", "tmpfs", "size=75%,mode=755")?;
    fs::create_dir("/memory/upper")?;
    fs::create_dir("/memory/work")?;
    mount_at(
        "overlay",
        "/new",
        "overlay",
        "lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work,xino=off,index=off",
    )?;
    chdir("/new").context("entering the new root")?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("moving the new root to /")?;
    chroot(".").context("chroot to the new root")?;
    chdir("/").context("entering the new root")
}

fn mount_kernel_file_systems() -> Result<()> {
    mount_at("proc", "/proc", "proc", "")?;
    mount_at("sysfs", "/sys", "sysfs", "")?;
    mount_at("devtmpfs", "/dev", "devtmpfs", "")?;
    mount_at("devpts", "/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666")?;
    mount_at("tmpfs", "/dev/shm", "tmpfs", "mode=1777")?;
    mount_at("tmpfs", "/run", "tmpfs", "mode=755")?;
    mount_at("cgroup2", "/sys/fs/cgroup", "cgroup2", "")?;
    for controllers in ["+memory", "+pids", "+cpu", "+io"] {
        // A controller the kernel lacks is not an error here; a test that needs it finds out by itself.
        let _absent = fs::write("/sys/fs/cgroup/cgroup.subtree_control", controllers);
    }
    for (name, target) in [
        ("debugfs", "/sys/kernel/debug"),
        ("tracefs", "/sys/kernel/tracing"),
        ("configfs", "/sys/kernel/config"),
    ] {
        if Path::new(target).exists() {
            mount_at(name, target, name, "")?;
        }
    }
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        match symlink(target, Path::new("/dev").join(link)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).context("linking /dev/fd");
            }
            _ => {}
        }
    }
    Ok(())
}

fn bind(source: &str, target: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("making {target}"))?;
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("binding {source} to {target}"))
}

fn mount_at(source: &str, target: &str, kind: &str, options: &str) -> Result<()> {
    mount_with(source, target, kind, MsFlags::empty(), options)
}

fn mount_with(source: &str, target: &str, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    if !Path::new(target).is_dir() {
        fs::create_dir_all(target).with_context(|| format!("making {target}"))?;
    }
    mount(Some(source), target, Some(kind), flags, Some(options))
        .with_context(|| format!("mounting {kind} at {target}"))
}

/// `ip link set lo up`, without needing `ip`.
fn bring_loopback_up() -> Result<()> {
    use nix::libc;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd;

    let socket = match socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None) {
        Ok(socket) => socket,
        Err(Errno::EAFNOSUPPORT) => return Ok(()),
        Err(error) => return Err(error).context("opening a socket"),
    };
    // SAFETY: an ifreq is plain data; all-zero is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
        .context("bringing the loopback interface up")?;
    Ok(())
}
