// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask doctor`: what this machine offers, and how to get what it lacks.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use lab::host::{apt, cache};
use lab::vm::Accelerator;
use nix::sys::statvfs::statvfs;

/// What a cold run downloads and builds, with room to spare.
const SPACE_NEEDED: u64 = 20 << 30;

#[derive(Args)]
pub(crate) struct Arguments {}

struct Finding {
    what: &'static str,
    fine: bool,
    text: String,
}

pub(crate) fn run(_: &Arguments) -> Result<ExitCode> {
    let mut findings = vec![architecture(), accelerator(), space()?, mirror()];
    for (what, packages) in [
        ("packages of the lab", apt::LAB),
        ("packages to build with", apt::UBLK_BUILD),
    ] {
        findings.push(installed(what, packages));
    }
    findings.push(node(
        "ublk on this machine itself",
        "/dev/ublk-control",
        "modprobe ublk_drv; without it, the lab's machines have it",
    ));
    findings.push(node("FUSE", "/dev/fuse", "modprobe fuse"));
    findings.extend(cached()?);
    for Finding { what, fine, text } in &findings {
        println!("{} {what:28} {text}", if *fine { "ok  " } else { "LACK" });
    }
    // The lab brings its own ublk and FUSE is for native use: only what the lab itself needs decides.
    let fit = findings.iter().take(4).all(|finding| finding.fine);
    Ok(if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn architecture() -> Finding {
    let fine = cfg!(all(target_arch = "x86_64", target_os = "linux"));
    let text = if fine {
        "x86_64 Linux"
    } else {
        "the lab's machines are x86_64 Linux: use such a host"
    };
    Finding {
        what: "architecture",
        fine,
        text: text.into(),
    }
}

fn accelerator() -> Finding {
    let text = match Accelerator::detect() {
        Accelerator::Kvm => "KVM",
        Accelerator::Tcg => "emulation (no usable KVM): machines boot in seconds all the same",
    };
    Finding {
        what: "lab machines run by",
        fine: true,
        text: text.into(),
    }
}

fn space() -> Result<Finding> {
    let cache = cache::root()?;
    let existing = cache.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let stat = statvfs(existing)?;
    let free = stat.blocks_available() * stat.fragment_size();
    let text = format!("{} GiB free for {}", free >> 30, cache.display());
    Ok(Finding {
        what: "disk space",
        fine: free >= SPACE_NEEDED,
        text: format!("{text}; a cold run wants {} GiB", SPACE_NEEDED >> 30),
    })
}

fn mirror() -> Finding {
    match apt::mirror() {
        Ok(_) => Finding {
            what: "Debian mirror",
            fine: true,
            text: "the one this machine's apt uses".into(),
        },
        Err(error) => Finding {
            what: "Debian mirror",
            fine: false,
            text: format!("{error:#}"),
        },
    }
}

fn installed(what: &'static str, packages: &[apt::Package]) -> Finding {
    let missing: Vec<_> = packages
        .iter()
        .filter(|(_, proof)| !Path::new(proof).exists())
        .map(|(name, _)| *name)
        .collect();
    let fine = missing.is_empty();
    let text = if fine {
        "installed".into()
    } else {
        format!("missing, installed on first use: {}", missing.join(" "))
    };
    Finding { what, fine, text }
}

fn node(what: &'static str, path: &str, fix: &str) -> Finding {
    match File::options().read(true).write(true).open(path) {
        Ok(_) => Finding {
            what,
            fine: true,
            text: path.into(),
        },
        Err(error) => Finding {
            what,
            fine: false,
            text: format!("{path}: {error}; {fix}"),
        },
    }
}

fn cached() -> Result<Vec<Finding>> {
    let list = |folder: &str| -> Result<String> {
        let directory = cache::path(folder)?;
        let entries = std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let whole = entries.filter(|path| cache::is_complete(path));
        let mut names: Vec<_> = whole
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(if names.is_empty() {
            "none yet: made on first use".into()
        } else {
            names.join(" ")
        })
    };
    Ok(vec![
        Finding {
            what: "cached kernels",
            fine: true,
            text: list("kernels")?,
        },
        Finding {
            what: "cached Debian trees",
            fine: true,
            text: list("trees")?,
        },
    ])
}
