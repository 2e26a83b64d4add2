// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask demo --fuse`: a pool, mounted on this machine; used, crashed, mounted again, checked.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use lab::host::command::{Cmd, command};
use lab::host::progress::Step;
use lab::host::{apt, workspace};
use lab::runner::discover::cargo;

/// What the demonstration shows things with.
const PACKAGES: &[apt::Package] = &[
    ("fuse3", "/usr/bin/fusermount3"),
    ("acl", "/usr/bin/setfacl"),
    ("attr", "/usr/bin/setfattr"),
];

pub(crate) fn run() -> Result<ExitCode> {
    ensure!(
        Path::new("/dev/fuse").exists(),
        "there is no /dev/fuse: this kernel has no FUSE"
    );
    apt::ensure(PACKAGES)?;
    let program = build()?;
    workspace::sweep_machines();
    let place = workspace::machine_directory("demo-fuse");
    std::fs::create_dir_all(place.join("mnt")).context("making the directory to mount on")?;
    let stage = Stage {
        place: &place,
        path: format!("{program}:{}", std::env::var("PATH").unwrap_or_default()),
        // The path of a socket must be short, and not every user has a directory for them.
        sockets: std::env::temp_dir().join(format!("vexfs-demo-{}", std::process::id())),
    };
    let result = stage.play();
    if result.is_err() {
        // Whatever went wrong is what should be told; a mount must not stay.
        let _ = stage.shell("vexfs-ublk umount --lazy mnt").read();
    }
    // Empty, unless the server was killed and not followed by another.
    let _ = std::fs::remove_dir_all(&stage.sockets);
    result.map(|()| ExitCode::SUCCESS)
}

/// Builds the program; returns the directory it is in.
fn build() -> Result<String> {
    let step = Step::start("building vexfs-ublk");
    cargo()
        .args(["build", "--package", "vexfs-cli", "--bin", "vexfs-ublk"])
        .lines(|line| step.now(line.trim().to_owned()))?;
    step.done();
    Ok(workspace::target().join("debug").to_string_lossy().into_owned())
}

struct Stage<'a> {
    place: &'a Path,
    path: String,
    sockets: PathBuf,
}

impl Stage<'_> {
    fn play(&self) -> Result<()> {
        heading("a pool in a file, mounted");
        self.show("vexfs-ublk mkfs pool --size 1GiB --label demo")?;
        self.show("vexfs-ublk mount pool mnt && findmnt -o SOURCE,FSTYPE,OPTIONS mnt && df -h mnt")?;

        heading("files, links, holes, attributes, access control lists");
        self.show("mkdir mnt/letters && echo 'dear reader' >mnt/letters/one && ln mnt/letters/one mnt/letters/two")?;
        self.show("truncate -s 1T mnt/sparse && echo end >>mnt/sparse && ls -lsh mnt mnt/letters")?;
        self.show("setfattr -n user.subject -v greeting mnt/letters/one && getfattr -d mnt/letters/two")?;
        self.show("setfacl -m u:nobody:r mnt/letters/one && getfacl mnt/letters/one")?;

        heading("64 MiB of noise, and a copy that shares its blocks");
        self.show("head -c 64M /dev/urandom >mnt/noise && cp mnt/noise mnt/copy && sync mnt/copy")?;
        self.show("sha256sum mnt/noise mnt/copy >sums && cat sums && df -h mnt | tail -1")?;

        heading("the server is killed in the middle of writing");
        self.show(
            "(i=0; while echo $i >>mnt/letters/list; do echo $i >>answered; i=$((i+1)); done) 2>/dev/null & sleep 1; \
             kill -9 $(vexfs-ublk status --json mnt | sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p'); wait; ! ls mnt",
        )?;

        heading("mounted again: everything that was answered is there");
        self.show("vexfs-ublk mount pool mnt && sha256sum -c sums && cat mnt/letters/two")?;
        self.show("tail -n 1 mnt/letters/list answered; [ $(tail -n 1 mnt/letters/list) -ge $(tail -n 1 answered) ]")?;

        heading(
            "files that are found by what is in them: each gets a vector of its text, committed like any other byte",
        );
        let texts = workspace::root().join("docs");
        self.show(&format!("cp -r {} mnt/library", texts.display()))?;
        self.show("vexfs-ublk space create mnt library --dimensions 384")?;
        self.show("vexfs-ublk embed mnt/library --space library && vexfs-ublk embed mnt/library --space library")?;
        self.show("vexfs-ublk search mnt --space library 'what happens to the journal after power loss' -k 3")?;
        self.show("getfattr -m vexfs mnt/library/FORMAT.md && rm mnt/library/FORMAT.md")?;
        self.show("vexfs-ublk search mnt --space library 'what happens to the journal after power loss' -k 3")?;

        heading("unmounted, and every block of it checked");
        self.show("vexfs-ublk umount -v mnt && vexfs-ublk check --scrub pool")
    }

    fn shell(&self, script: &str) -> Cmd {
        command("sh")
            .args(["-c", &format!("exec 2>&1; {script}")])
            .env("PATH", &self.path)
            .env("VEXFS_RUNTIME_DIR", &self.sockets)
            .dir(self.place)
    }

    /// Runs a command, with itself and its output shown.
    fn show(&self, script: &str) -> Result<()> {
        println!("  $ {script}");
        for line in self.shell(script).read()?.lines() {
            println!("  {line}");
        }
        Ok(())
    }
}

fn heading(text: &str) {
    println!("\n== {text}");
}
