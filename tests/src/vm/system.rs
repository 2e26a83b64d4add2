// SPDX-License-Identifier: MIT OR Apache-2.0

//! Debian 13 as people install it, on the image of a disk: its own kernel and initramfs, systemd, nothing of the host.
//!
//! mmdebstrap makes the image once. It is in the cache by what it is made of, and a machine boots a copy. There is no network
//! in it; what a machine is given, the agent among it, comes on a second disk, mounted at [`MEDIA`].

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Bounds, Disk, Medium, Root, Spec, agent};
use crate::host::command::{Cmd, command, privileged};
use crate::host::progress::Step;
use crate::host::{apt, cache};
use crate::kernel::tree::{Suite, Tree};
use crate::kernel::{self, Kernel, KernelId};

/// Where a machine finds what it was given.
pub const MEDIA: &str = "/media/lab";
/// What makes file systems.
const MAKE: &str = "/sbin/mkfs.ext4";
/// Serial number and label of the disk with the system.
const ROOT_DISK: &str = "lab-root";
/// The same of that with what is given.
const MEDIA_DISK: &str = "lab-media";
const MEDIA_SIZE: &str = "512M";
const SUITE: Suite = Suite::TRIXIE;
/// Of the root, sparse.
const SIZE: &str = "6G";

/// What is installed besides Debian's essential packages and the kernel. Nothing can be fetched later.
const PACKAGES: [&str; 19] = [
    "acl",
    "attr",
    "curl",
    "dbus",
    "dkms",
    "e2fsprogs",
    "fio",
    "fuse3",
    "initramfs-tools",
    "kmod",
    "libc6-dev",
    "linux-libc-dev",
    "mount",
    "openssl",
    "procps",
    "python3-minimal",
    "systemd-sysv",
    "udev",
    "xz-utils",
];

/// An initramfs with what finds the disk: one for all machines there are takes long to unpack in an emulated one.
const INITRAMFS: &str = r#"mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
printf 'MODULES=list\nCOMPRESS=gzip\nFSTYPE=ext4\n' > "$1/etc/initramfs-tools/conf.d/lab"
printf '%s\n' virtio_pci virtio_blk crc32c ext4 > "$1/usr/share/initramfs-tools/modules.d/lab""#;

/// Files that are added.
const FILES: [(&str, &str); 5] = [
    (
        "etc/fstab",
        "/dev/vda / ext4 defaults 0 0\nLABEL=lab-media /media/lab ext4 ro 0 0\n",
    ),
    ("etc/hostname", "lab\n"),
    // With one there is no first boot, at which questions would be asked.
    ("etc/machine-id", "6c61626c61626c61626c61626c61626c\n"),
    ("etc/modules-load.d/lab.conf", "virtio_console\n"),
    ("etc/systemd/system/lab-agent.service", AGENT),
];

/// It comes early and is there in emergency mode too: a machine that does not come up is to be looked into.
const AGENT: &str = "[Unit]
Description=Agent of the lab
DefaultDependencies=no
RequiresMountsFor=/media/lab
After=systemd-remount-fs.service systemd-udev-trigger.service
IgnoreOnIsolate=yes

[Service]
# The mount is not to be in use when the system goes down.
ExecStartPre=/usr/bin/install -D /media/lab/lab-agent /usr/local/sbin/lab-agent
ExecStart=/usr/local/sbin/lab-agent --service
Environment=HOME=/root
Restart=on-failure
RestartSec=1
OOMScoreAdjust=-1000
KillMode=process

[Install]
WantedBy=sysinit.target
";

/// What is done in the finished tree: `$1`.
const FINISH: &str = r#"cd "$1"
rm -rf etc/apt/sources.list etc/apt/sources.list.d/* var/lib/apt/lists/* var/cache/apt/*.bin
mkdir -p media/lab var/log/journal
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer getty@tty1.service serial-getty@ttyS0.service; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
mkdir -p etc/systemd/system/sysinit.target.wants
ln -sf ../lab-agent.service etc/systemd/system/sysinit.target.wants/"#;

/// A system in the cache.
#[derive(Debug, Clone)]
pub struct System {
    directory: PathBuf,
    kernel: Kernel,
}

impl System {
    /// The system with this kernel, made if it is not there.
    pub fn ensure(id: KernelId) -> Result<Self> {
        // What is in the archive under a name that stays, or, of backports, what the lab found there.
        let release = match id {
            KernelId::Lts => String::new(),
            KernelId::Newest => format!("{}-", kernel::ensure(id, false)?.release.trim_end_matches("-amd64")),
            KernelId::Debug => bail!("Debian has no package of the debug kernel: say 6.12 or 7.x"),
        };
        let mut kernel = ["image", "headers"]
            .map(|kind| format!("linux-{kind}-{release}amd64"))
            .to_vec();
        if id == KernelId::Newest {
            // They want a newer one than the suite has, and apt takes from backports only what is asked for.
            kernel.push(format!("linux-base/{}-backports", SUITE.name));
        }
        let mut hasher = DefaultHasher::new();
        (&kernel, SUITE.name, PACKAGES, INITRAMFS, FILES, FINISH, SIZE).hash(&mut hasher);
        let name = format!("systems/{id}-{:016x}", hasher.finish());
        let directory = cache::entry(&name, |directory| make(directory, &kernel))?;
        let read = fs::read_to_string(directory.join("release"));
        let release = read.with_context(|| format!("reading {}", directory.join("release").display()))?;
        Ok(Self {
            kernel: Kernel {
                id,
                image: directory.join("vmlinuz"),
                modules: None,
                tree: Tree::ensure(SUITE)?,
                headers: format!("/usr/src/linux-headers-{release}"),
                release,
            },
            directory,
        })
    }

    /// What `uname -r` says in it.
    pub fn release(&self) -> &str {
        &self.kernel.release
    }

    /// A machine with a copy of it, and with what is in the directory `given`, which gets the agent too. Its files and its
    /// console are in `directory`.
    pub fn machine(&self, directory: &Path, given: &Path) -> Result<Spec> {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let root = directory.join("root.img");
        command("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .args([&self.directory.join("root.img"), &root])
            .run()?;
        let program = agent::ensure()?;
        fs::copy(&program, given.join("lab-agent")).with_context(|| format!("copying {}", program.display()))?;
        let media = directory.join("media.img");
        file_system(command(MAKE), MEDIA_DISK, MEDIA_SIZE, given, &media)?;
        let disk = |name: &str, path| Disk {
            name: name.to_owned(),
            medium: Medium::File(path),
        };
        Ok(Spec {
            root: Root::Disk {
                initramfs: self.directory.join("initramfs"),
            },
            memory: 3072,
            // What they cost emulated processors is time, and they protect nobody here.
            command_line: "mitigations=off".to_owned(),
            disks: vec![disk(ROOT_DISK, root), disk(MEDIA_DISK, media)],
            bounds: Bounds {
                boot: Duration::from_secs(15 * 60),
                boot_quiet: Duration::from_secs(4 * 60),
                power_off: Duration::from_secs(5 * 60),
                // A compiler in an emulated machine leaves little to others.
                silence: Duration::from_secs(3 * 60),
                hung_task: Duration::from_secs(2 * 60),
                soft_lockup: Duration::from_secs(60),
            },
            ..Spec::new(&self.kernel, directory)
        })
    }
}

/// Makes the image in a directory that is empty, with these packages for the kernel.
fn make(directory: &Path, kernel: &[String]) -> Result<()> {
    let mirror = apt::mirror()?;
    let root = directory.join("root");
    let step = Step::start(format!("Debian {} on a disk", SUITE.name));
    privileged("mmdebstrap")
        .args(["--variant=minbase", "--mode=root"])
        .arg(format!("--include={},{}", PACKAGES.join(","), kernel.join(",")))
        .arg(format!("--essential-hook={INITRAMFS}"))
        .arg(SUITE.name)
        .arg(&root)
        .args(["", "-updates", "-backports"].map(|part| format!("deb {mirror} {}{part} main", SUITE.name)))
        .lines(|line| step.now(line.to_owned()))
        .with_context(|| format!("making Debian {}", SUITE.name))?;
    step.now("files".to_owned());
    let files = directory.join("files");
    for (path, contents) in FILES {
        let path = files.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&files))?;
        fs::write(&path, contents).with_context(|| format!("writing {}", path.display()))?;
    }
    privileged("cp")
        .args(["--recursive", "--no-preserve=ownership", "--"])
        .args([&files.join("."), &root])
        .run()?;
    privileged("/bin/sh").args(["-ec", FINISH, "finish"]).arg(&root).run()?;

    let modules = root.join("usr/lib/modules");
    let found = fs::read_dir(&modules).with_context(|| format!("listing {}", modules.display()))?;
    let found: Vec<_> = found.collect::<std::io::Result<_>>()?;
    let [release] = found.as_slice() else {
        bail!("{} kernels were installed, not one", found.len());
    };
    let release = release.file_name().to_string_lossy().into_owned();
    let image = [
        root.join(format!("boot/vmlinuz-{release}")),
        modules.join(&release).join("vmlinuz"),
    ];
    let image = image.into_iter().find(|path| path.exists());
    let image = image.with_context(|| format!("the packages of {release} hold no kernel image"))?;
    let copy = |from: &Path, name: &str| {
        privileged("install")
            .args(["--mode=644", "--"])
            .arg(from)
            .arg(directory.join(name))
            .run()
    };
    copy(&image, "vmlinuz")?;
    copy(&root.join(format!("boot/initrd.img-{release}")), "initramfs")?;
    fs::write(directory.join("release"), &release)?;
    file_system(privileged(MAKE), ROOT_DISK, SIZE, &root, &directory.join("root.img"))?;
    cache::remove(&root)?;
    step.done();
    Ok(())
}

/// Makes an ext4 file system of this label and size with what is in a directory, in a file.
fn file_system(make: Cmd, label: &str, size: &str, contents: &Path, file: &Path) -> Result<()> {
    make.args(["-q", "-F", "-L", label, "-d"])
        .args([contents, file])
        .arg(size)
        .run()
        .with_context(|| format!("making a disk of {}", contents.display()))
}
