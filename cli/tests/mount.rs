// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mounting and unmounting as people and mount(8) do it. What a mount does otherwise is tested in `vexfs-fuse`.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A user without privileges.
const USER: u32 = 65_534;

struct Scene {
    directory: TempDir,
}

impl Scene {
    /// A pool and a directory to mount it on.
    fn new() -> Self {
        let scene = Self {
            directory: TempDir::new().unwrap(),
        };
        fs::create_dir(scene.at("mnt")).unwrap();
        scene.ok("vexfs-ublk", &["mkfs", "pool", "--size", "64MiB"]);
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, name: &str, words: &[&str]) -> Output {
        let program = self.at(name);
        if !program.exists() {
            symlink(env!("CARGO_BIN_EXE_vexfs-ublk"), &program).unwrap();
        }
        let here = self.directory.path();
        let mut command = Command::new(program);
        command.env("VEXFS_RUNTIME_DIR", here.join("run"));
        command.current_dir(here).args(words).output().unwrap()
    }

    fn ok(&self, name: &str, words: &[&str]) -> String {
        let output = self.run(name, words);
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The one line that a call that must fail says, and its exit code.
    fn fails(&self, name: &str, words: &[&str]) -> (i32, String) {
        let output = self.run(name, words);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{words:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
        (output.status.code().unwrap(), said)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if is_mounted(&self.at("mnt")) {
            self.run("vexfs-ublk", &["umount", "--lazy", "mnt"]);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_mounted(directory: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.contains(&format!(" {} ", directory.display()))
}

#[test]
#[cfg_attr(not(can_mount), ignore = "needs root and /dev/fuse")]
fn a_mount_answers_when_the_command_returns_and_an_unmount_leaves_the_pool_closed() {
    let scene = Scene::new();
    for _ in 0..5 {
        let said = scene.ok("vexfs-ublk", &["mount", "-v", "pool", "mnt"]);
        assert!(said.contains("pool is mounted on mnt through FUSE"), "{said}");
        fs::write(scene.at("mnt/file"), "here").unwrap();
        let (code, said) = scene.fails("vexfs-ublk", &["mount", "pool", "mnt"]);
        assert!(code == 1 && said.contains("is in use by process"), "{said}");
        let said = scene.ok("vexfs-ublk", &["umount", "-v", "mnt"]);
        assert!(said.contains("the pool is closed"), "{said}");
        assert_eq!(scene.ok("vexfs-ublk", &["cat", "pool:/file"]), "here");
    }
}

#[test]
#[cfg_attr(not(can_mount), ignore = "needs root and /dev/fuse")]
fn a_mounted_pool_is_watched_and_administered_by_its_mount_point() {
    let scene = Scene::new();
    scene.ok("vexfs-ublk", &["mount", "pool", "mnt"]);
    fs::create_dir(scene.at("mnt/photos")).unwrap();
    fs::write(scene.at("mnt/photos/one"), "a photo").unwrap();
    scene.ok("vexfs-ublk", &["snapshot", "mnt/photos", "mnt/before"]);
    fs::write(scene.at("mnt/photos/one"), "another").unwrap();
    assert_eq!(fs::read(scene.at("mnt/before/one")).unwrap(), b"a photo");
    let (_, said) = scene.fails("vexfs-ublk", &["snapshot", "mnt/photos", "elsewhere"]);
    assert!(said.contains("elsewhere is in no mounted pool"), "{said}");
    scene.ok("vexfs-ublk", &["label", "pool", "photos"]);
    assert!(scene.ok("vexfs-ublk", &["status", "mnt/photos"]).contains("photos"));
    assert!(
        scene
            .ok("vexfs-ublk", &["status", "--metrics", "mnt"])
            .contains("operation=\"mkdir\"")
    );
    assert!(
        scene
            .ok("vexfs-ublk", &["top", "--once", "-i", "0.05", "mnt"])
            .contains("photos")
    );
    scene.ok("vexfs-ublk", &["umount", "mnt"]);
    assert_eq!(scene.ok("vexfs-ublk", &["status"]), "no pool is served\n");
}

#[test]
#[cfg_attr(not(can_mount), ignore = "needs root and /dev/fuse")]
fn the_names_for_mount_have_its_exit_codes_and_switches() {
    let scene = Scene::new();
    let said = scene.ok("mount.vexfs", &["pool", "mnt", "-v", "-n", "-o", "rw,noatime,x-later"]);
    assert!(said.contains("FUSE is used"), "{said}");
    assert!(is_mounted(&scene.at("mnt")));
    let file = fs::File::create(scene.at("mnt/file")).unwrap();
    let (code, said) = scene.fails("umount.vexfs", &["mnt"]);
    assert!(code == 32 && said.contains("is in use by process"), "{said}");
    drop(file);
    scene.ok("umount.fuse.vexfs", &["mnt", "-n"]);
    assert!(!is_mounted(&scene.at("mnt")));
    let (code, said) = scene.fails("mount.vexfs", &["pool", "mnt", "-o", "fast"]);
    assert!(code == 1 && said.contains("unknown mount option \"fast\""), "{said}");
    scene.ok("mount.vexfs", &["pool", "mnt", "-s", "-f", "-o", "fast"]);
    assert!(!is_mounted(&scene.at("mnt")));
    let (code, _) = scene.fails("mount.vexfs", &["pool", "nowhere"]);
    assert_eq!(code, 32);
    let (code, said) = scene.fails("umount.vexfs", &["mnt"]);
    assert!(code == 32 && said.contains("not a mounted VexFS pool"), "{said}");
}

#[test]
#[cfg_attr(
    not(users_can_mount),
    ignore = "needs root, fusermount3, and a /dev/fuse that users may open"
)]
fn a_user_mounts_a_pool_of_its_own() {
    let scene = Scene::new();
    fs::set_permissions(scene.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(scene.at("mnt"), Some(USER), Some(USER)).unwrap();
    fs::create_dir(scene.at("own")).unwrap();
    chown(scene.at("own"), Some(USER), Some(USER)).unwrap();
    // Where the build is, a user may not be able to look.
    fs::copy(env!("CARGO_BIN_EXE_vexfs-ublk"), scene.at("program")).unwrap();
    let run = |words: &[&str]| {
        let here = scene.directory.path();
        let mut command = Command::new(scene.at("program"));
        command
            .current_dir(here)
            .args(words)
            .uid(USER)
            .gid(USER)
            .output()
            .unwrap()
    };
    let output = run(&["mkfs", "own/pool", "--size", "64MiB"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = run(&["mount", "-o", "auto_unmount", "own/pool", "mnt"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let script = "cp /bin/true mnt/t && mkdir mnt/d && mnt/t && stat -c %u mnt/t";
    let mut shell = Command::new("sh");
    let used = shell.current_dir(scene.directory.path()).args(["-c", script]);
    let used = used.uid(USER).gid(USER).output().unwrap();
    assert_eq!(text(&used.stdout), format!("{USER}\n"), "{}", text(&used.stderr));
    // Nobody else was let in, not even root.
    assert!(fs::read_dir(scene.at("mnt")).is_err());
    let output = run(&["umount", "-v", "mnt"]);
    assert!(
        text(&output.stdout).contains("the pool is closed"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(scene.ok("vexfs-ublk", &["ls", "own/pool:/"]), "d\nt\n");
}
