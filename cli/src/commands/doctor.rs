// SPDX-License-Identifier: MIT OR Apache-2.0

//! What this machine offers for mounting and serving pools, and how to get what it lacks.
//!
//! Nothing is changed, loaded or started: files are read, devices opened and closed again. All files are looked up below
//! [`Machine::root`], so that tests can make machines up.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use serde_json::json;
use vexfs::size::Size;

use crate::show;

/// Say what this machine offers for mounting pools, and how to get what it lacks.
///
/// Each line is one part: ok, limited (works, but not everything) or missing, what that means, and the command that helps on
/// Debian. Ends with 0 if pools can be mounted in at least one way, with 1 if not.
#[derive(Args)]
#[command(after_help = "Changes: nothing.

Examples:
  vexfs-ublk doctor
  vexfs-ublk --json doctor")]
pub(crate) struct Arguments {}

/// How good a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Limited,
    Missing,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

/// What was found about one part.
#[derive(Debug)]
struct Finding {
    part: &'static str,
    state: State,
    meaning: String,
    fix: Option<String>,
}

impl Finding {
    fn ok(part: &'static str, meaning: impl Into<String>) -> Self {
        Self {
            part,
            state: State::Ok,
            meaning: meaning.into(),
            fix: None,
        }
    }

    fn limited(part: &'static str, meaning: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            part,
            state: State::Limited,
            meaning: meaning.into(),
            fix: Some(fix.into()),
        }
    }

    fn missing(part: &'static str, meaning: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            state: State::Missing,
            ..Self::limited(part, meaning, fix)
        }
    }
}

pub(crate) fn run(_: &Arguments, json: bool) -> ExitCode {
    let machine = Machine {
        root: PathBuf::from("/"),
        release: nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default(),
        is_root: nix::unistd::geteuid().is_root(),
    };
    let mut findings = machine.findings();
    findings.insert(UBLK_FEATURES_AT.min(findings.len()), ublk_features());
    findings.push(memlock(machine.is_root));
    let mountable = machine.mounts_by_fuse() || machine.mounts_by_module();
    if json {
        let parts: Vec<_> = findings
            .iter()
            .map(|finding| {
                json!({
                    "part": finding.part,
                    "state": finding.state.name(),
                    "meaning": finding.meaning,
                    "fix": finding.fix,
                })
            })
            .collect();
        show::document(json!({"mountable": mountable, "parts": parts}));
    } else {
        for finding in &findings {
            println!("{:8} {:20} {}", finding.state.name(), finding.part, finding.meaning);
            if let Some(fix) = &finding.fix {
                println!("{:29} fix: {fix}", "");
            }
        }
        println!(
            "\n{}",
            if mountable {
                "Pools can be mounted on this machine."
            } else {
                "Pools cannot be mounted on this machine yet: FUSE is the shortest way."
            }
        );
    }
    ExitCode::from(u8::from(!mountable))
}

/// Where the features of the driver stand among the findings: behind the driver.
const UBLK_FEATURES_AT: usize = 7;
/// Memory below which the caches of a mounted pool are too large.
const LITTLE_MEMORY: u64 = 512 << 20;
/// Memory that a server locks for its buffers.
const LOCKED: u64 = 64 << 20;

/// A machine, as its files tell.
struct Machine {
    root: PathBuf,
    /// Of the kernel, as `uname -r` says.
    release: String,
    is_root: bool,
}

impl Machine {
    fn findings(&self) -> Vec<Finding> {
        vec![
            self.kernel(),
            self.fuse(),
            self.fusermount(),
            self.allow_other(),
            self.fuse_uring(),
            self.fuse_pages(),
            self.ublk(),
            self.module(),
            self.uio(),
            self.io_uring(),
            self.journald(),
            self.memory(),
        ]
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The content of a small file without the white space around it.
    fn read(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    fn open(&self, path: &str) -> io::Result<File> {
        File::options().read(true).write(true).open(self.path(path))
    }

    /// Major and minor version of the kernel.
    fn version(&self) -> (u32, u32) {
        let mut numbers = self.release.split(['.', '-']).map_while(|part| part.parse().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// Where a kernel module is: loaded or built in, or a file that can be loaded.
    fn has_module(&self, name: &str) -> Option<&'static str> {
        if self.path(&format!("/sys/module/{name}")).exists() {
            return Some("loaded");
        }
        // Both spellings are used: of files with `-` and `_`.
        let files = [format!("/{name}.ko"), format!("/{}.ko", name.replace('_', "-"))];
        let lists = |list: &str| {
            let text = self.read(&format!("/lib/modules/{}/{list}", self.release));
            text.is_some_and(|text| files.iter().any(|file| text.contains(file)))
        };
        if lists("modules.builtin") {
            Some("built in")
        } else if lists("modules.dep") {
            Some("can be loaded")
        } else {
            None
        }
    }

    fn mounts_by_fuse(&self) -> bool {
        self.open("/dev/fuse").is_ok() && (self.is_root || self.has_fusermount())
    }

    fn mounts_by_module(&self) -> bool {
        let filesystems = self.read("/proc/filesystems").unwrap_or_default();
        let registered = filesystems
            .lines()
            .any(|line| line.split_whitespace().last() == Some("vexfs"));
        registered && self.open("/dev/ublk-control").is_ok()
    }

    fn kernel(&self) -> Finding {
        let meaning = format!("Linux {}", self.release);
        let newer = "apt install -t bookworm-backports linux-image-amd64, or a newer Debian; then reboot";
        match self.version() {
            (0, _) => Finding::limited("kernel", "its version is not told", "uname -r"),
            version if version >= (6, 14) => Finding::ok("kernel", format!("{meaning}: FUSE over io_uring, ublk")),
            version if version >= (6, 12) => Finding::ok("kernel", format!("{meaning}: FUSE, ublk")),
            version if version >= (6, 0) => Finding::limited(
                "kernel",
                format!("{meaning}: too old for vexfs.ko, which wants 6.12"),
                newer,
            ),
            _ => Finding::limited("kernel", format!("{meaning}: too old for ublk, which wants 6.0"), newer),
        }
    }

    fn fuse(&self) -> Finding {
        match self.open("/dev/fuse") {
            Ok(_) => Finding::ok("/dev/fuse", "can be opened: pools can be mounted through FUSE"),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Finding::missing(
                "/dev/fuse",
                "is not for this user: only root can mount",
                "chmod 666 /dev/fuse, as udev does; or run it as root",
            ),
            Err(error) => Finding::missing(
                "/dev/fuse",
                format!("{error}: nothing can be mounted through FUSE"),
                "modprobe fuse",
            ),
        }
    }

    fn has_fusermount(&self) -> bool {
        ["/usr/bin", "/bin", "/usr/local/bin"]
            .iter()
            .any(|folder| self.path(&format!("{folder}/fusermount3")).exists())
    }

    fn fusermount(&self) -> Finding {
        if self.has_fusermount() {
            Finding::ok("fusermount3", "users other than root can mount")
        } else {
            Finding::limited("fusermount3", "only root can mount", "apt install fuse3")
        }
    }

    fn allow_other(&self) -> Finding {
        let text = self.read("/etc/fuse.conf").unwrap_or_default();
        if text.lines().any(|line| line.trim() == "user_allow_other") {
            Finding::ok("user_allow_other", "users may let others see what they mounted")
        } else {
            Finding::limited(
                "user_allow_other",
                "what a user other than root mounts is for that user alone",
                "echo user_allow_other >> /etc/fuse.conf",
            )
        }
    }

    fn fuse_uring(&self) -> Finding {
        match self.read("/sys/module/fuse/parameters/enable_uring").as_deref() {
            Some("Y" | "1") => Finding::ok("FUSE over io_uring", "is allowed"),
            Some(_) => Finding::limited(
                "FUSE over io_uring",
                "the kernel has it, but it is off: requests cost more switches",
                "echo 1 > /sys/module/fuse/parameters/enable_uring",
            ),
            None => Finding::limited(
                "FUSE over io_uring",
                "the kernel does not have it (Linux 6.14): requests cost more switches",
                "a newer kernel: apt install -t trixie-backports linux-image-amd64",
            ),
        }
    }

    fn fuse_pages(&self) -> Finding {
        match self.read("/proc/sys/fs/fuse/max_pages_limit") {
            Some(pages) if pages.parse::<u32>().is_ok_and(|pages| pages >= 256) => {
                Finding::ok("FUSE request size", format!("up to {pages} pages at once"))
            }
            Some(pages) => Finding::limited(
                "FUSE request size",
                format!("at most {pages} pages at once"),
                "sysctl fs.fuse.max_pages_limit=256",
            ),
            None => Finding::ok(
                "FUSE request size",
                "up to 256 pages at once; this kernel has no switch for it",
            ),
        }
    }

    fn ublk(&self) -> Finding {
        let part = "ublk driver";
        match (self.open("/dev/ublk-control"), self.has_module("ublk_drv")) {
            (Ok(_), _) => Finding::ok(part, "/dev/ublk-control can be opened: pools can be block devices"),
            (Err(error), _) if error.kind() == io::ErrorKind::PermissionDenied => {
                Finding::limited(part, "is there, but not for this user", "run it as root")
            }
            (Err(_), Some("can be loaded")) => Finding::limited(
                part,
                "is there, but not loaded",
                "modprobe ublk_drv; at each boot: echo ublk_drv > /etc/modules-load.d/ublk.conf",
            ),
            (Err(error), Some(_)) => Finding::missing(
                part,
                format!("/dev/ublk-control: {error}"),
                "modprobe -r ublk_drv && modprobe ublk_drv",
            ),
            (Err(_), None) => Finding::missing(
                part,
                "this kernel has none: pools cannot be block devices",
                "a Debian kernel from 6.12 on: apt install -t bookworm-backports linux-image-amd64",
            ),
        }
    }

    fn module(&self) -> Finding {
        let part = "vexfs.ko";
        let version = self.read("/sys/module/vexfs/version");
        match (self.has_module("vexfs"), version) {
            (Some("loaded"), version) if self.mounts_by_module() => {
                Finding::ok(part, format!("version {} mounts pools", version.unwrap_or_default()))
            }
            (Some("loaded"), version) => Finding::limited(
                part,
                format!(
                    "version {} is loaded, but registers no filesystem",
                    version.unwrap_or_default()
                ),
                "mount through FUSE",
            ),
            (Some(_), _) => Finding::limited(part, "is installed, but not loaded", "modprobe vexfs"),
            (None, _) => Finding::missing(
                part,
                "is not installed for this kernel; FUSE needs none",
                format!("apt install linux-headers-{} vexfs-dkms", self.release),
            ),
        }
    }

    fn uio(&self) -> Finding {
        match self.has_module("uio") {
            Some("loaded" | "built in") => Finding::ok("UIO", "hardware drivers in user space can run"),
            Some(_) => Finding::limited("UIO", "is there, but not loaded", "modprobe uio"),
            None => Finding::limited(
                "UIO",
                "this kernel has none: no hardware drivers in user space; pools need none",
                "a Debian kernel: apt install linux-image-amd64",
            ),
        }
    }

    fn io_uring(&self) -> Finding {
        let part = "io_uring";
        let all = "sysctl kernel.io_uring_disabled=0";
        match self.read("/proc/sys/kernel/io_uring_disabled").as_deref() {
            Some("0") => Finding::ok(part, "is allowed"),
            Some("1") if self.is_root => Finding::ok(part, "is allowed for root"),
            Some("1") => Finding::limited(part, "is allowed for root and one group only", all),
            Some(_) => Finding::missing(part, "is forbidden: ublk cannot work", all),
            None if self.version() >= (5, 1) => Finding::ok(part, "this kernel has no switch for it"),
            None => Finding::missing(part, "this kernel has none", "a newer kernel"),
        }
    }

    fn journald(&self) -> Finding {
        if self.path("/run/systemd/journal/socket").exists() {
            Finding::ok("journald", "runs: messages of mounted pools are in journalctl")
        } else {
            Finding::limited(
                "journald",
                "does not run: messages go to the standard error only",
                "apt install systemd, and boot with it",
            )
        }
    }

    fn memory(&self) -> Finding {
        let text = self.read("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        match kib.map(|kib| kib.saturating_mul(1024)) {
            Some(bytes) if bytes >= LITTLE_MEMORY => Finding::ok("free memory", Size(bytes >> 20 << 20).to_string()),
            Some(bytes) => Finding::limited(
                "free memory",
                format!("{}: caches will be small", Size(bytes >> 20 << 20)),
                "end other programs, or add memory",
            ),
            None => Finding::limited("free memory", "is not told", "mount -t proc proc /proc"),
        }
    }
}

/// What the driver says it can do.
fn ublk_features() -> Finding {
    let part = "ublk features";
    match ublk_server::features::names() {
        Ok(names) if names.contains(&"USER_RECOVERY") => Finding::ok(part, names.join(" ")),
        Ok(names) => Finding::limited(
            part,
            format!(
                "no USER_RECOVERY, so a server that ends takes its device with it: {}",
                names.join(" ")
            ),
            "a newer kernel: apt install -t bookworm-backports linux-image-amd64",
        ),
        Err(_) => Finding::missing(part, "cannot be asked without the driver", "see ublk driver"),
    }
}

fn memlock(is_root: bool) -> Finding {
    let part = "locked memory";
    let fix = "LimitMEMLOCK=infinity in the unit, or a line 'USER - memlock unlimited' in /etc/security/limits.conf";
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((RLIM_INFINITY, _)) => Finding::ok(part, "no limit"),
        Ok((soft, _)) if soft >= LOCKED || is_root => Finding::ok(part, format!("{} are enough", Size(soft))),
        Ok((soft, _)) => Finding::limited(part, format!("{} are little for a server's buffers", Size(soft)), fix),
        Err(error) => Finding::limited(part, format!("is not told: {error}"), fix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let directory = tempfile::TempDir::new().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let machine = Machine {
            root: directory.path().to_owned(),
            release: "6.12.5-amd64".to_owned(),
            is_root: false,
        };
        (directory, machine)
    }

    fn state(machine: &Machine, part: &str) -> State {
        let findings = machine.findings();
        findings.iter().find(|finding| finding.part == part).unwrap().state
    }

    #[test]
    fn a_bare_machine_lacks_everything_and_each_lack_has_a_remedy() {
        let (_directory, machine) = machine(&[]);
        assert!(!machine.mounts_by_fuse() && !machine.mounts_by_module());
        for finding in machine.findings() {
            assert_eq!(finding.state == State::Ok, finding.fix.is_none(), "{finding:?}");
        }
        assert_eq!(state(&machine, "/dev/fuse"), State::Missing);
        assert_eq!(state(&machine, "ublk driver"), State::Missing);
        assert_eq!(state(&machine, "kernel"), State::Ok);
    }

    #[test]
    fn one_way_to_mount_is_enough() {
        let (_directory, mut fuse) = machine(&[("dev/fuse", "")]);
        assert!(!fuse.mounts_by_fuse(), "a user needs fusermount3");
        fuse.is_root = true;
        assert!(fuse.mounts_by_fuse());
        let (_directory, user) = machine(&[("dev/fuse", ""), ("usr/bin/fusermount3", "")]);
        assert!(user.mounts_by_fuse());
        let (_directory, module) = machine(&[("dev/ublk-control", ""), ("proc/filesystems", "nodev\tproc\n\tvexfs\n")]);
        assert!(module.mounts_by_module() && !module.mounts_by_fuse());
    }

    #[test]
    fn modules_are_found_loaded_built_in_or_as_files() {
        let (_directory, machine) = machine(&[
            ("sys/module/vexfs/version", "0.1.0\n"),
            (
                "lib/modules/6.12.5-amd64/modules.builtin",
                "kernel/drivers/uio/uio.ko\n",
            ),
            (
                "lib/modules/6.12.5-amd64/modules.dep",
                "kernel/drivers/block/ublk_drv.ko.xz:\n",
            ),
        ]);
        assert_eq!(machine.has_module("vexfs"), Some("loaded"));
        assert_eq!(machine.has_module("uio"), Some("built in"));
        assert_eq!(machine.has_module("ublk_drv"), Some("can be loaded"));
        assert_eq!(machine.has_module("loop"), None);
        assert_eq!(state(&machine, "ublk driver"), State::Limited);
    }

    #[test]
    fn switches_of_the_kernel_are_read() {
        let (_directory, machine) = machine(&[
            ("proc/sys/kernel/io_uring_disabled", "2\n"),
            ("sys/module/fuse/parameters/enable_uring", "Y\n"),
            ("etc/fuse.conf", "# text\nuser_allow_other\n"),
            ("proc/meminfo", "MemAvailable:  100000 kB\n"),
        ]);
        assert_eq!(state(&machine, "io_uring"), State::Missing);
        assert_eq!(state(&machine, "FUSE over io_uring"), State::Ok);
        assert_eq!(state(&machine, "user_allow_other"), State::Ok);
        assert_eq!(state(&machine, "free memory"), State::Limited);
    }
}
