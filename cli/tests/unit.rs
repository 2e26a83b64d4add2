// SPDX-License-Identifier: MIT OR Apache-2.0

//! The unit vexfs-ublk@.service under a real systemd. Devices need the ublk driver: what is done with them is tested in
//! `vm/unit.rs`.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

#[path = "common/systemd.rs"]
mod systemd;

use std::path::{Path, PathBuf};
use std::process::Command;

use systemd::Manager;
use tempfile::TempDir;

struct Scene {
    manager: Manager,
    scratch: TempDir,
}

impl Scene {
    /// A pool whose path has letters that systemd escapes, and `$`, which it takes for a variable.
    fn new() -> Self {
        let scratch = TempDir::new().unwrap();
        let own = Path::new(env!("CARGO_BIN_EXE_vexfs-ublk"));
        let scene = Self {
            manager: Manager::start(own.parent().unwrap(), scratch.path()),
            scratch,
        };
        let made = Command::new(own)
            .args(["mkfs", "--size", "64MiB"])
            .arg(scene.pool())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        scene
    }

    fn pool(&self) -> PathBuf {
        self.scratch.path().join("my-$HOME pool.img")
    }

    fn unit(&self) -> String {
        let pool = self.pool();
        let escaped = self
            .manager
            .ok(&format!("systemd-escape --path -- '{}'", pool.display()));
        format!("vexfs-ublk@{escaped}.service")
    }

    /// Has the unit serve the pool alone.
    fn without_devices(&self) {
        self.manager.ok("mkdir -p '/run/systemd/system/vexfs-ublk@.service.d'
            printf '[Service]\\nEnvironment=OPTIONS=\\n' > '/run/systemd/system/vexfs-ublk@.service.d/x.conf'
            systemctl daemon-reload");
    }

    fn status(&self) -> String {
        self.manager
            .ok(&format!("vexfs-ublk status '{}'", self.pool().display()))
    }
}

/// Whether this process has `CAP_SYS_RESOURCE`.
fn may_lift_limits() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(bits.trim(), 16).unwrap() >> 24 & 1 == 1
}

/// Tests that need root and systemd: ignored, with the reason, where that is not there.
macro_rules! unit_tests {
    ($(fn $name:ident() $body:block)*) => {$(
        #[test]
        #[cfg_attr(not(can_manage), ignore = "needs root and systemd")]
        fn $name() $body
    )*};
}

unit_tests! {
    fn a_daemon_is_replaced_when_it_dies_and_when_it_is_asked_and_closes_its_pool_when_it_is_stopped() {
        let mut scene = Scene::new();
        let unit = scene.unit();
        scene.without_devices();
        scene.manager.ok(&format!("systemctl start '{unit}'"));
        scene.status();
        let first = scene.manager.property(&unit, "MainPID");
        assert_eq!(scene.manager.property(&unit, "StatusText"), "no devices");

        // A handover keeps the process, and the manager does not take it for the end.
        scene.manager.ok(&format!("systemctl reload '{unit}'"));
        scene.status();
        assert_eq!(scene.manager.property(&unit, "MainPID"), first);
        scene.manager.ok("vexfs-ublk handover --all");
        scene.manager.wait_for("readiness after the handover", |manager| {
            manager.property(&unit, "SubState") == "running"
        });
        scene.status();

        scene.manager.ok(&format!("kill -KILL {first}"));
        scene.manager.wait_for("another daemon", |manager| {
            let process = manager.property(&unit, "MainPID");
            process != "0" && process != first && manager.property(&unit, "SubState") == "running"
        });
        scene.status();
        assert_eq!(scene.manager.property(&unit, "NRestarts"), "1");

        scene.manager.ok(&format!("systemctl stop '{unit}'"));
        assert_eq!(scene.manager.property(&unit, "Result"), "success");
        scene.manager.ok(&format!("vexfs-ublk check '{}'", scene.pool().display()));
        let log = scene.manager.log();
        // The unit forbids nothing that the daemon needs; root of a container may lack that one.
        let lacks = |line: &&str| line.contains("done without") && (may_lift_limits() || !line.contains("oom_score_adj"));
        assert_eq!(log.lines().find(lacks), None);
    }

    fn who_starts_a_unit_that_cannot_serve_is_told_why_and_nothing_stays_behind() {
        let scene = Scene::new();
        let unit = scene.unit();
        let said = scene.manager.fails(&format!("vexfs-ublk add --id 4000000 '{}'", scene.pool().display()));
        assert!(!said.contains("journalctl") && said.lines().count() == 1, "{said}");
        assert_eq!(scene.manager.property(&unit, "ActiveState"), "inactive");
        assert_eq!(scene.manager.ok("ls /run/vexfs-ublk/units"), "");

        // The pool is not there; nothing is asked for. It is tried again until it is.
        std::fs::remove_file(scene.pool()).unwrap();
        scene.without_devices();
        scene.manager.fails(&format!("systemctl start '{unit}'"));
        let status = scene.manager.property(&unit, "StatusText");
        assert!(status.contains("No such file"), "{status}");
        scene.manager.ok(&format!("systemctl stop '{unit}'"));
    }

    fn the_end_of_the_system_ends_the_daemon_in_order() {
        let scene = Scene::new();
        let unit = scene.unit();
        scene.without_devices();
        scene.manager.ok(&format!("systemctl start '{unit}'"));
        scene.manager.ok("systemctl poweroff --no-wall");
        let Scene { manager, scratch } = scene;
        let log = manager.ended();
        let checked = Command::new(env!("CARGO_BIN_EXE_vexfs-ublk"))
            .args(["info", "--json"])
            .arg(scratch.path().join("my-$HOME pool.img"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&checked.stdout);
        assert!(text.contains("clean"), "{text}\n{log}");
    }
}
