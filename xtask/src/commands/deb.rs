// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask deb`: the Debian packages, built as Debian builds them and judged by lintian.
//!
//! The build sees a copy of the tree below `target/deb`: every file that git tracks or would track, as it is now, with
//! `packaging/debian` at the place where Debian's tools look for it. Ignored files never get in, so that a checkout
//! gives the same packages whatever was built in it before.

mod copyright;
mod vendored;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use lab::host::command::command;
use lab::host::progress::Step;
use lab::host::{apt, cache, workspace};

/// The version of the workspace, and so of everything in it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The name of the source package.
const SOURCE: &str = "vexfs-ublk";

/// Folders of the kernel modules that are packaged.
const MODULES: [&str; 2] = ["vexfs/kernel", "dsmil/kernel"];

/// What a run leaves beside its copy of the tree. It starts by removing it: old packages would pass for new ones.
const RESULTS: [&str; 6] = ["deb", "buildinfo", "changes", "log", "dsc", "xz"];

/// Files handed to one command.
const BATCH: usize = 500;

/// The packages, and what was printed while they were built, are in target/deb.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Build them once more, elsewhere and from nothing, and compare: the same sources give the same packages
    #[arg(long)]
    twice: bool,
    /// Make the source package too, with the crates in it: it is built without network
    #[arg(long)]
    source: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    apt::ensure(apt::UBLK_BUILD)?;
    apt::ensure(apt::DEB)?;
    let results = workspace::target().join("deb");
    fs::create_dir_all(&results).with_context(|| format!("making {}", results.display()))?;
    for old in built(&results, &RESULTS)? {
        fs::remove_file(&old).with_context(|| format!("removing {}", old.display()))?;
    }
    let stage = results.join(format!("{SOURCE}-{VERSION}"));
    prepare(&stage, arguments.source)?;
    build(&stage, &results, &results.join("cargo"), arguments.source)?;
    let verdict = judge(&results)?;
    print!("{verdict}");
    for package in built(&results, &["deb"])? {
        let size = package.metadata()?.len();
        println!("{:>10} {}", kib(size), package.display());
    }
    if arguments.twice {
        compare(&results, arguments.source)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A copy of the tree that the packages can be built in.
fn prepare(stage: &Path, with_crates: bool) -> Result<()> {
    copy_tree(stage)?;
    check_versions(stage)?;
    copyright::complete(stage)?;
    if with_crates {
        vendored::add(stage)?;
    }
    Ok(())
}

/// Builds the packages again in another place, from nothing; an error if one of them is not the same. Both builds take
/// the crates from the same place: programs tell where their sources lay.
fn compare(results: &Path, with_crates: bool) -> Result<()> {
    let again = results.join("again");
    cache::remove(&again)?;
    let stage = again.join(format!("{SOURCE}-{VERSION}"));
    prepare(&stage, with_crates)?;
    build(&stage, &again, &again.join("cargo"), false)?;
    let packages = built(results, &["deb"])?;
    let mut different = Vec::new();
    for package in &packages {
        let name = package.file_name().context("a package has a name")?;
        let other = again.join(name);
        let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
        if read(package)? != read(&other)? {
            different.push(name.to_string_lossy().into_owned());
        }
    }
    ensure!(
        different.is_empty(),
        "not the same when built again: {}; diffoscope shows how those in {} and {} differ",
        different.join(", "),
        results.display(),
        again.display()
    );
    cache::remove(&again)?;
    println!("{} packages are the same when they are built again", packages.len());
    Ok(())
}

/// Copies the tree to `stage`, with the folder `debian` at its top.
fn copy_tree(stage: &Path) -> Result<()> {
    let step = Step::start("copying the sources");
    let listing = command("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .dir(workspace::root())
        .read()
        .context("listing the sources, for which this must be a git checkout")?;
    // A file that was deleted but not yet from git's index is not part of the tree; a dangling link is.
    let files: Vec<&str> = listing
        .split_terminator('\0')
        .filter(|file| workspace::root().join(file).symlink_metadata().is_ok())
        .collect();
    cache::remove(stage)?;
    fs::create_dir_all(stage).with_context(|| format!("making {}", stage.display()))?;
    for batch in files.chunks(BATCH) {
        // With the times of the originals, the next run compiles only what changed.
        command("cp")
            .args(["--parents", "--no-dereference", "--preserve=mode,timestamps", "--"])
            .args(batch)
            .arg(stage)
            .dir(workspace::root())
            .run()?;
    }
    fs::rename(stage.join("packaging/debian"), stage.join("debian"))
        .context("placing packaging/debian, which the checkout must have, at the top of the copy")?;
    step.done();
    Ok(())
}

/// Cargo.toml says the version; what must repeat it says the same.
fn check_versions(stage: &Path) -> Result<()> {
    let said = command("dpkg-parsechangelog")
        .args(["--show-field", "Version"])
        .dir(stage)
        .read()?;
    let (said, wanted) = (said.trim(), debian_version(VERSION));
    ensure!(
        said == wanted,
        "packaging/debian/changelog is at version {said}, Cargo.toml at {VERSION}: \
         add an entry for {wanted} at the top of the changelog"
    );
    for folder in MODULES {
        let directory = stage.join(folder);
        for entry in fs::read_dir(&directory).with_context(|| format!("listing {}", directory.display()))? {
            let path = entry?.path();
            if path.extension().is_none_or(|end| end != "c" && end != "h") {
                continue;
            }
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            if let Some((name, said)) = version_macros(&text).find(|&(_, said)| said != VERSION) {
                let shown = path.strip_prefix(stage).unwrap_or(&path).display();
                bail!("{shown}: {name} is {said:?}, the version in Cargo.toml is {VERSION:?}: make them equal");
            }
        }
    }
    Ok(())
}

/// How Debian writes a version: `1.0.0-rc.1` comes before `1.0.0`, so it is `1.0.0~rc.1`.
fn debian_version(version: &str) -> String {
    version.replacen('-', "~", 1)
}

/// `#define …_VERSION "…"` of a C source: names and texts.
fn version_macros(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("#define ")?.split_once([' ', '\t'])?;
        let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
        name.ends_with("_VERSION").then_some((name, value))
    })
}

/// Runs the build; all it prints is kept in a log. Packages come to the folder that the copy is in, which is `results`.
fn build(stage: &Path, results: &Path, compiled: &Path, with_source: bool) -> Result<()> {
    let step = Step::start("building the packages");
    let log = results.join("build.log");
    let mut output = String::new();
    let ended = command("dpkg-buildpackage")
        .arg(if with_source { "--build=full" } else { "--build=binary" })
        .args(["--unsigned-source", "--unsigned-changes"])
        // This program runs under the cargo that the build is to use, wherever that came from.
        .arg("--build-profiles=pkg.vexfs-ublk.own-cargo")
        .env("CARGO_TARGET_DIR", compiled)
        .dir(stage)
        .lines(|line| {
            step.now(line.trim().to_owned());
            output.push_str(line);
            output.push('\n');
        });
    fs::write(&log, output).with_context(|| format!("writing {}", log.display()))?;
    ended.with_context(|| format!("building the packages; all of it is in {}", log.display()))?;
    step.done();
    Ok(())
}

/// What lintian says about the packages; an error if it finds one, or warns.
fn judge(results: &Path) -> Result<String> {
    let step = Step::start("lintian");
    let changes = built(results, &["changes"])?;
    let mut said = String::new();
    command("lintian")
        .args([
            "--fail-on",
            "error,warning",
            "--tag-display-limit",
            "0",
            "--pedantic",
            "--allow-root",
        ])
        .args(&changes)
        .lines(|line| {
            said.push_str(line);
            said.push('\n');
        })
        .context("the packages are built, but not fit to be used")?;
    step.done();
    Ok(said)
}

/// The files in `directory` with one of these endings, by name.
fn built(directory: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| endings.contains(&ending)) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_before_a_release_sorts_before_it() {
        assert_eq!(debian_version("0.1.0"), "0.1.0");
        assert_eq!(debian_version("1.0.0-rc.1"), "1.0.0~rc.1");
    }

    #[test]
    fn versions_in_c_are_found_and_nothing_else() {
        let text =
            "#define VEXFS_VERSION \"0.1.0\"\n#define ABI_VERSION 3\n#define NAME \"x\"\n#define A_VERSION\t\"2\"\n";
        let found: Vec<_> = version_macros(text).collect();
        assert_eq!(found, [("VEXFS_VERSION", "0.1.0"), ("A_VERSION", "2")]);
    }
}
