// SPDX-License-Identifier: MIT OR Apache-2.0

//! A systemd of our own, in namespaces of its own, that sees the programs and units as the package installs them.
//!
//! It is the first process of its namespace: when it dies, or this value is dropped, everything it started is killed, and its
//! mounts are gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const UNIT: &str = include_str!("../../../ublk-server/systemd/vexfs-ublk@.service");
/// A machine that is emulated, and has others beside it, needs a while.
const PATIENCE: Duration = Duration::from_secs(180);

/// `$1`: programs, `$2`: a scratch directory.
const SETUP: &str = r#"set -e
mount --make-rprivate /
mount -t proc proc /proc
# The programs may be below the place where the manager's own files are going to be.
mkdir -p "$2/run"
mount -t tmpfs tmpfs "$2/run"
cd "$2/run"
mkdir -p systemd/system bin bin.work sbin sbin.work
cp "$1"/vexfs-ublk "$1"/vexfs-ublkd bin
for name in mkfs.vexfs mount.vexfs umount.vexfs; do ln -s ../bin/vexfs-ublk sbin/$name; done
cd /
# There is no place yet for what it would note of that.
mount --no-mtab --move "$2/run" /run
for part in bin sbin; do
    mount -t overlay -o lowerdir=/usr/$part,upperdir=/run/$part,workdir=/run/$part.work overlay /usr/$part
done
# Version 1 may be mounted there, in any number of hierarchies.
umount --lazy --quiet /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
cp "$2/vexfs-ublk@.service" /run/systemd/system
printf '[Unit]\nDefaultDependencies=no\n' > /run/systemd/system/idle.target
# There is no journal here.
mkdir '/run/systemd/system/vexfs-ublk@.service.d'
printf "[Service]\nStandardOutput=append:$2/log\nStandardError=append:$2/log\n" \
    > '/run/systemd/system/vexfs-ublk@.service.d/log.conf'
export container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec /lib/systemd/systemd --system --unit=idle.target --show-status=no
"#;

pub(crate) struct Manager {
    unshare: Child,
    /// Its number outside.
    pub(crate) process: u32,
    log: PathBuf,
}

#[allow(dead_code, reason = "each test executable uses a part")]
impl Manager {
    /// Starts one; the programs are those in a directory, the log goes to another.
    pub(crate) fn start(programs: &Path, scratch: &Path) -> Self {
        fs::write(scratch.join("vexfs-ublk@.service"), UNIT).unwrap();
        let log = scratch.join("log");
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        let unshare = Command::new("unshare")
            .args([
                "--pid",
                "--fork",
                "--kill-child",
                "--mount",
                "--cgroup",
                "--uts",
                "--ipc",
            ])
            .args(["sh", "-c", SETUP, "sh"])
            .args([programs, scratch])
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut manager = Self {
            unshare,
            process: 0,
            log,
        };
        let children = format!("/proc/{0}/task/{0}/children", manager.unshare.id());
        manager.wait_for("systemd", |manager| {
            let text = fs::read_to_string(&children).unwrap_or_default();
            manager.process = text.trim().parse().unwrap_or(0);
            // Before it is that it is the shell, in whose namespaces not everything is there yet.
            let name = fs::read_to_string(format!("/proc/{}/comm", manager.process)).unwrap_or_default();
            name.trim() == "systemd"
                && manager
                    .output("systemctl is-active --quiet idle.target")
                    .status
                    .success()
        });
        manager
    }

    /// A line of shell where the manager is.
    pub(crate) fn output(&self, line: &str) -> Output {
        Command::new("nsenter")
            .args(["--target", &self.process.to_string()])
            .args(["--mount", "--pid", "--cgroup", "--uts", "--ipc", "sh", "-c", line])
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What a line of shell prints that must succeed.
    pub(crate) fn ok(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(
            output.status.success(),
            "{line}: {}{}\n{}",
            text(&output.stdout),
            text(&output.stderr),
            self.log()
        );
        text(&output.stdout).trim_end().to_owned()
    }

    /// What one says that must fail.
    pub(crate) fn fails(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(!output.status.success(), "{line}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// A property of a unit.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.ok(&format!("systemctl show --property={name} --value '{unit}'"))
    }

    /// What the manager and its services said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn wait_for(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what} did not come:\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for its end, when it was told to.
    pub(crate) fn ended(mut self) -> String {
        self.wait_for("the end of systemd", |manager| {
            manager.unshare.try_wait().unwrap().is_some()
        });
        self.log()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // It may have ended. What it started dies with it.
        let _ended = self.unshare.kill();
        let _status = self.unshare.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
