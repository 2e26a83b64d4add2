// SPDX-License-Identifier: MIT OR Apache-2.0

//! The debug kernel: Debian's linux-source 6.12 with every checker that `tests/kernel/debug.config` asks for.
//!
//! Built in the bookworm tree from `allnoconfig` plus the fragment, with everything built in, so that only this
//! project's own modules are ever loaded into it. Cached by a fingerprint of the fragment and the source's version.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::tree::{Suite, Tree};
use super::{Kernel, KernelId};
use crate::host::command::privileged;
use crate::host::progress::Step;
use crate::host::{cache, workspace};

/// The Debian package with the source; it unpacks to `/usr/src/<this>.tar.xz`.
const SOURCE: &str = "linux-source-6.12";
/// What building a kernel needs on top of what building a module needs.
const BUILD_PACKAGES: [&str; 8] = [
    "bison",
    "flex",
    "bc",
    "cpio",
    "rsync",
    "libssl-dev",
    "libc6-dev",
    "python3-minimal",
];
/// Objects in a build, roughly: for the progress bar only.
const OBJECTS: u64 = 2300;

/// Builds the debug kernel, or finds it in the cache.
pub fn ensure() -> Result<Kernel> {
    let fragment_path = workspace::root().join("tests/kernel/debug.config");
    let fragment = fs::read(&fragment_path).with_context(|| format!("reading {}", fragment_path.display()))?;
    let tree = Tree::ensure(Suite::BOOKWORM)?;
    let mut hasher = DefaultHasher::new();
    fragment.hash(&mut hasher);
    let name = format!("debug-{:016x}", hasher.finish());
    // The build directory stays in the tree: modules are built against it, and it holds the vmlinux that explains
    // addresses.
    let inside = format!("/usr/src/{name}");
    let directory = cache::entry(&format!("kernels/{name}"), |directory| {
        let _lock = cache::lock("kernel-debug-build")?;
        build(&tree, &fragment, &inside, directory)
    })?;
    let release_file = directory.join("release");
    let release = fs::read_to_string(&release_file).with_context(|| format!("reading {}", release_file.display()))?;
    Ok(Kernel {
        id: KernelId::Debug,
        release,
        image: directory.join("bzImage"),
        modules: None,
        tree,
        headers: inside,
    })
}

fn build(tree: &Tree, fragment: &[u8], inside: &str, into: &Path) -> Result<()> {
    tree.update()?;
    tree.install(&BUILD_PACKAGES)?;
    tree.install(&[SOURCE])?;
    let source = format!("/usr/src/{SOURCE}");
    let step = Step::start("unpacking the kernel source");
    let unpack = "test -e \"$1/Makefile\" || tar -C /usr/src -xf \"$1.tar.xz\"; rm -rf \"$2\"; mkdir -p \"$2\"";
    tree.command("/bin/sh")
        .args(["-ec", unpack, "unpack", &source, inside])
        .run()?;
    step.done();

    let staged = into.join("debug.config");
    fs::write(&staged, fragment).with_context(|| format!("writing {}", staged.display()))?;
    privileged("cp").arg(&staged).arg(tree.path(inside)).run()?;
    let make = || {
        let gcc = Suite::BOOKWORM.gcc;
        tree.command("make")
            .args([
                "-C",
                &source,
                &format!("O={inside}"),
                &format!("CC={gcc}"),
                &format!("HOSTCC={gcc}"),
            ])
            .args(["KBUILD_BUILD_USER=lab", "KBUILD_BUILD_HOST=lab"])
    };
    make()
        .args([&format!("KCONFIG_ALLCONFIG={inside}/debug.config"), "allnoconfig"])
        .run()?;
    let config = fs::read_to_string(tree.path(inside).join(".config")).context("reading the kernel's .config")?;
    let asked = String::from_utf8_lossy(fragment);
    let lost = lost_options(&asked, &config);
    if !lost.is_empty() {
        bail!(
            "debug.config asks for what this source's Kconfig does not give:\n{}",
            lost.join("\n")
        );
    }

    let step = Step::start("building the debug kernel");
    step.length(OBJECTS);
    let mut objects = 0;
    make()
        .arg(format!(
            "-j{}",
            std::thread::available_parallelism().map_or(1, usize::from)
        ))
        // "modules" has none to build; it writes Module.symvers, which modules built later are linked against.
        .args(["bzImage", "modules"])
        .lines(|line| {
            let line = line.trim();
            if line.starts_with("CC ") || line.starts_with("AS ") || line.starts_with("AR ") {
                objects += 1;
                step.at(objects.min(OBJECTS));
            }
            step.now(line.to_owned());
        })
        .context("building the debug kernel")?;
    step.done();
    let release = make().args(["--silent", "kernelrelease"]).read()?;
    fs::write(into.join("release"), release.trim()).context("noting the kernel's release")?;
    let image = tree.path(inside).join("arch/x86/boot/bzImage");
    fs::copy(&image, into.join("bzImage")).with_context(|| format!("copying {}", image.display()))?;
    Ok(())
}

/// Options of the fragment that the configuration does not have as asked: a dependency is missing, or the name changed.
fn lost_options<'a>(fragment: &'a str, config: &str) -> Vec<&'a str> {
    let set: std::collections::HashSet<&str> = config.lines().collect();
    let asked = fragment.lines().filter(|line| line.starts_with("CONFIG_"));
    asked
        .filter(|line| match line.strip_suffix("=n") {
            Some(name) => config
                .lines()
                .any(|have| have.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))),
            None => !set.contains(line),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_kconfig_dropped_are_noticed() {
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_D=32\n";
        assert_eq!(
            lost_options("# text\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_D=32\n", config),
            Vec::<&str>::new()
        );
        assert_eq!(
            lost_options("CONFIG_A=n\nCONFIG_B=y\nCONFIG_D=16\n", config),
            ["CONFIG_A=n", "CONFIG_B=y", "CONFIG_D=16"]
        );
    }
}
