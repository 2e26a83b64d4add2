// SPDX-License-Identifier: MIT OR Apache-2.0

//! QEMU's command line.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;

use lab_guest::protocol::{PORT_NAME, ROOT_TAG, SHARE_TAG};

use super::spec::{Ivshmem, Medium, Root, Spec};

/// How guest instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// By the host's CPU.
    Kvm,
    /// By emulation, one host thread per guest CPU.
    Tcg,
}

impl Accelerator {
    /// The best that works here. `/dev/kvm` alone proves nothing: machines that are guests themselves may offer it
    /// without a CPU that can run it.
    pub fn detect() -> Self {
        let openable = File::options().read(true).write(true).open("/dev/kvm").is_ok();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = cpuinfo
            .lines()
            .find(|line| line.starts_with("flags"))
            .unwrap_or_default();
        let capable = flags
            .split_ascii_whitespace()
            .any(|flag| flag == "vmx" || flag == "svm");
        if openable && capable { Self::Kvm } else { Self::Tcg }
    }
}

/// Paths of the sockets through which the lab talks to one QEMU.
pub(super) struct Sockets<'a> {
    pub(super) agent: &'a Path,
    pub(super) monitor: &'a Path,
}

/// Program and arguments. QEMU dies with the thread that starts it, so no machine outlives its lab.
pub(super) fn command_line(spec: &Spec, initramfs: &Path, sockets: &Sockets<'_>) -> Vec<OsString> {
    let mut line = Line::default();
    line.add("setpriv")
        .add("--pdeathsig")
        .add("KILL")
        .add("qemu-system-x86_64");
    line.add("-nodefaults")
        .add("-no-user-config")
        .add("-display")
        .add("none")
        .add("-no-reboot");
    line.option("-name", &[("guest=lab-", spec.kernel.id.name())]);
    match Accelerator::detect() {
        Accelerator::Kvm => line.add("-machine").add("q35,accel=kvm").add("-cpu").add("host"),
        Accelerator::Tcg => line
            .add("-machine")
            .add("q35")
            .add("-accel")
            .add("tcg,thread=multi")
            .add("-cpu")
            .add("max"),
    };
    line.add("-m")
        .add(format!("{}M", spec.memory))
        .add("-smp")
        .add(spec.cpus.to_string());

    line.add("-kernel")
        .add(&spec.kernel.image)
        .add("-initrd")
        .add(initramfs);
    // panic=0 keeps a panicked guest as it is: the lab sees the message and decides what becomes of it.
    let mut words = vec!["console=ttyS0 panic=0 loglevel=8".to_owned()];
    if let Root::Disk { .. } = spec.root {
        words.push("root=/dev/vda rw".to_owned());
        // The agent, which sets them elsewhere, comes late there.
        let settings = spec.bounds.sysctl().into_iter();
        words.extend(settings.map(|(name, value)| format!("sysctl.{name}={value}")));
    }
    words.push(spec.command_line.clone());
    line.add("-append").add(words.join(" ").trim_end());

    line.add("-chardev")
        .add("stdio,id=console,signal=off")
        .add("-serial")
        .add("chardev:console");
    line.option(
        "-chardev",
        &[("socket,id=agent,server=on,wait=off,path=", sockets.agent)],
    );
    line.add("-device").add("virtio-serial-pci");
    line.option("-device", &[("virtserialport,chardev=agent,name=", PORT_NAME)]);
    line.option(
        "-qmp",
        &[
            ("unix:", sockets.monitor.as_os_str()),
            (",server=on,wait=", "off".as_ref()),
        ],
    );
    line.add("-device").add("virtio-rng-pci");

    if let Root::Host = spec.root {
        // Mount points of the host's root may repeat inode numbers; remapping keeps them apart.
        line.option(
            "-virtfs",
            &[(
                "local,path=/,security_model=none,readonly=on,multidevs=remap,mount_tag=",
                ROOT_TAG,
            )],
        );
        let share = [
            ("local,path=", spec.directory.as_os_str()),
            (",security_model=none,multidevs=remap,mount_tag=", SHARE_TAG.as_ref()),
        ];
        line.option("-virtfs", &share);
    }

    for (number, disk) in spec.disks.iter().enumerate() {
        let drive = format!("if=none,format=raw,cache=writeback,discard=unmap,id=disk{number},file");
        match &disk.medium {
            Medium::File(path) => line.option("-drive", &[(&format!("{drive}="), path)]),
            Medium::Served(socket) => {
                let served = format!("{drive}.driver=nbd,file.server.type=unix,file.server.path=");
                line.option("-drive", &[(&served, socket)]);
            }
        }
        line.add("-device")
            .add(format!("virtio-blk-pci,drive=disk{number},serial={}", disk.name));
    }
    match &spec.ivshmem {
        None => {}
        Some(Ivshmem::Memory(memory)) => {
            let size = super::SharedMemory::SIZE;
            let backend = format!("memory-backend-file,id=ivshmem,share=on,size={size},mem-path=");
            line.option("-object", &[(&backend, memory.path())]);
            line.add("-device").add("ivshmem-plain,memdev=ivshmem,id=ivshmem0");
        }
        Some(Ivshmem::Server(socket)) => {
            line.option("-chardev", &[("socket,id=ivshmem,path=", socket)]);
            line.add("-device")
                .add("ivshmem-doorbell,chardev=ivshmem,vectors=1,id=ivshmem0");
        }
    }
    line.words
}

#[derive(Default)]
struct Line {
    words: Vec<OsString>,
}

impl Line {
    fn add(&mut self, word: impl Into<OsString>) -> &mut Self {
        self.words.push(word.into());
        self
    }

    /// An option with values appended to literal text. In values QEMU wants commas doubled.
    fn option<V: AsRef<std::ffi::OsStr>>(&mut self, name: &str, parts: &[(&str, V)]) {
        let mut value = String::new();
        for (text, data) in parts {
            value.push_str(text);
            value.push_str(&data.as_ref().to_string_lossy().replace(',', ",,"));
        }
        self.add(name).add(value);
    }
}
