// SPDX-License-Identifier: MIT OR Apache-2.0

//! This project's kernel modules, built for one kernel with `W=1` and no warning.
//!
//! The sources are copied into the kernel's tree (keeping their relative places, because they include each other) and
//! built there. The result is cached by a fingerprint of the sources and the kernel.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Kernel;
use crate::host::command::privileged;
use crate::host::progress::Step;
use crate::host::{cache, workspace};

/// Folders with kernel modules, relative to the checkout.
pub const FOLDERS: [&str; 3] = ["vexfs/kernel", "dsmil/kernel", "tests/kernel"];

/// The folder whose module has variants.
const VARIED: &str = "vexfs/kernel";

/// Variants of it that tests load besides the default one, as `vexfs-<variant>`.
const VARIANTS: [&str; 2] = ["safe", "c-only"];

/// Modules whose crashes are this project's.
pub const WATCHED: [&str; 2] = ["vexfs", "uio_dsmil"];

/// Lines of a build that look like warnings and are none of ours.
const NOT_OURS: [&str; 2] = [
    "warning: the compiler differs from the one used to build the kernel",
    "Skipping BTF generation",
];

/// The directory with the modules built for `kernel`.
pub fn ensure(kernel: &Kernel) -> Result<PathBuf> {
    let sources = sources()?;
    let fingerprint = fingerprint(kernel, &sources);
    cache::entry(&format!("modules/{}-{fingerprint:016x}", kernel.release), |directory| {
        // One build at a time in a tree: parallel labs would make each other slower, not faster.
        let _lock = cache::lock(&format!("module-build-{}", kernel.id))?;
        build(kernel, &sources, fingerprint, directory)
    })
}

/// Sources of all modules: path in the checkout, contents.
fn sources() -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let directory = workspace::root().join(folder);
        for entry in fs::read_dir(&directory).with_context(|| format!("listing {}", directory.display()))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_source =
                [".c", ".h"].iter().any(|end| name.ends_with(end)) || ["Kbuild", "Makefile"].contains(&name);
            // The build leaves generated sources behind when somebody runs make in place.
            if is_source && !name.ends_with(".mod.c") {
                let contents = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                found.push((Path::new(folder).join(name), contents));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn fingerprint(kernel: &Kernel, sources: &[(PathBuf, Vec<u8>)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&kernel.release, &kernel.headers, VARIANTS, sources).hash(&mut hasher);
    hasher.finish()
}

/// Checks the modules with sparse; an error shows what it says.
pub fn sparse(kernel: &Kernel) -> Result<()> {
    let sources = sources()?;
    let fingerprint = fingerprint(kernel, &sources);
    let _lock = cache::lock(&format!("module-build-{}", kernel.id))?;
    if !kernel.tree.path("/usr/bin/sparse").exists() {
        kernel.tree.install(&["sparse"])?;
    }
    let step = Step::start(format!("sparse for {}", kernel.release));
    let inside = stage(kernel, &sources, &format!("lab-sparse-{fingerprint:016x}"))?;
    let mut findings = Vec::new();
    for folder in FOLDERS {
        make(kernel, &inside, folder, &["C=2", "modules"], |line| {
            if line.contains(&format!("{inside}/")) && (line.contains(": warning:") || line.contains(": error:")) {
                findings.push(line.replace(&format!("{inside}/"), ""));
            }
        })?;
    }
    cache::remove(&kernel.tree.path(&inside))?;
    if !findings.is_empty() {
        bail!("sparse, for {}:\n{}", kernel.release, findings.join("\n"));
    }
    step.done();
    Ok(())
}

/// Copies the sources into the kernel's tree; returns where they are, as seen from inside.
fn stage(kernel: &Kernel, sources: &[(PathBuf, Vec<u8>)], name: &str) -> Result<String> {
    let inside = format!("/var/tmp/{name}");
    let outside = kernel.tree.path(&inside);
    cache::remove(&outside)?;
    let staging = cache::path(name)?;
    for (path, contents) in sources {
        let target = staging.join(path);
        fs::create_dir_all(target.parent().unwrap_or(&staging))?;
        fs::write(&target, contents).with_context(|| format!("writing {}", target.display()))?;
    }
    privileged("cp").args(["-r", "--"]).args([&staging, &outside]).run()?;
    cache::remove(&staging)?;
    Ok(inside)
}

/// Runs make on one folder of the staged sources.
fn make(kernel: &Kernel, inside: &str, folder: &str, goals: &[&str], line: impl FnMut(&str)) -> Result<()> {
    kernel
        .tree
        .command("make")
        .args([
            "-C",
            &format!("{inside}/{folder}"),
            &format!("KDIR={}", kernel.headers),
            &format!("CC={}", kernel.gcc()),
        ])
        .args(goals)
        .arg(format!(
            "-j{}",
            std::thread::available_parallelism().map_or(1, usize::from)
        ))
        .lines(line)
        .with_context(|| format!("building {folder} for {}", kernel.release))
}

fn build(kernel: &Kernel, sources: &[(PathBuf, Vec<u8>)], fingerprint: u64, into: &Path) -> Result<()> {
    let step = Step::start(format!("building the kernel modules for {}", kernel.release));
    let inside = stage(kernel, sources, &format!("lab-modules-{fingerprint:016x}"))?;
    let outside = kernel.tree.path(&inside);
    let mut warnings = Vec::new();
    let mut seen = |line: &str| {
        step.now(line.trim().to_owned());
        if line.contains("warning:") && !NOT_OURS.iter().any(|known| line.contains(known)) {
            warnings.push(line.to_owned());
        }
    };
    for folder in FOLDERS {
        make(kernel, &inside, folder, &["W=1", "modules"], &mut seen)?;
        for entry in fs::read_dir(outside.join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "ko") {
                let name = path.file_name().context("a module file without a name")?;
                fs::copy(&path, into.join(name)).with_context(|| format!("copying {}", path.display()))?;
            }
        }
    }
    for variant in VARIANTS {
        // It is part of every object: each build starts from nothing.
        make(kernel, &inside, VARIED, &["clean"], |_| {})?;
        let goals = ["W=1", &format!("VEXFS_VARIANT={variant}"), "modules"];
        make(kernel, &inside, VARIED, &goals, &mut seen)?;
        let built = outside.join(VARIED).join("vexfs.ko");
        fs::copy(&built, into.join(format!("vexfs-{variant}.ko")))
            .with_context(|| format!("copying {}", built.display()))?;
    }
    cache::remove(&outside)?;
    if !warnings.is_empty() {
        bail!(
            "the modules build with warnings for {}:\n{}",
            kernel.release,
            warnings.join("\n")
        );
    }
    step.done();
    Ok(())
}
