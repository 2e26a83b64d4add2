// SPDX-License-Identifier: MIT OR Apache-2.0

//! Debian's own kernels, found by pattern in a suite's backports.
//!
//! The newest release counts for which both the image and the headers are there: an archive in the middle of an update
//! has one before the other. Since 7.x an image package is a shell around `linux-binary-…` and `linux-modules-…`.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::tree::{Suite, Tree};
use super::{Kernel, KernelId};
use crate::host::cache;
use crate::host::command::{command, privileged};

/// Fetches the kernel, or finds it in the cache.
pub fn ensure(id: KernelId, suite: Suite, version: &str, refresh: bool) -> Result<Kernel> {
    let tree = Tree::ensure(suite)?;
    let choice = cache::path(&format!("kernels/{id}.release"))?;
    let _lock = cache::lock(&format!("kernel-{id}"))?;
    let cached = if refresh {
        None
    } else {
        fs::read_to_string(&choice).ok()
    };
    let release = match cached {
        Some(release) if cache::is_complete(&cache::path(&format!("kernels/{release}"))?) => release,
        _ => {
            tree.update()?;
            newest(&tree, version).with_context(|| format!("looking for kernel {id} in {}-backports", suite.name))?
        }
    };
    let directory = cache::entry(&format!("kernels/{release}"), |directory| {
        fetch(&tree, &release, directory)
    })?;
    fs::write(&choice, &release).with_context(|| format!("writing {}", choice.display()))?;
    let modules = modules_directory(&directory, &release);
    let image = [
        directory.join(format!("boot/vmlinuz-{release}")),
        modules.join("vmlinuz"),
    ];
    let image = image
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("the packages of {release} hold no kernel image"))?;
    Ok(Kernel {
        id,
        image,
        modules: Some(modules),
        tree,
        headers: format!("/usr/src/linux-headers-{release}"),
        release,
    })
}

fn newest(tree: &Tree, version: &str) -> Result<String> {
    let search = |kind: &str| {
        let pattern = format!("^linux-{kind}-{version}[^-]*-amd64$");
        tree.command("apt-cache")
            .args(["search", "--names-only", &pattern])
            .read()
    };
    let prefix = |kind: &str| format!("linux-{kind}-");
    let names = |listing: &str, kind: &str| -> Vec<String> {
        let names = listing.lines().filter_map(|line| line.split_ascii_whitespace().next());
        names
            .filter_map(|name| name.strip_prefix(&prefix(kind)).map(str::to_owned))
            .collect()
    };
    let images = names(&search("image")?, "image");
    let headers = names(&search("headers")?, "headers");
    images
        .into_iter()
        .filter(|release| headers.contains(release))
        .max_by(|a, b| compare_releases(a, b))
        .context("no release has both an image and headers")
}

/// Compares `7.2.9+deb13` and `7.2.12+deb13` by their numbers, as people do.
fn compare_releases(a: &str, b: &str) -> Ordering {
    let numbers = |release: &str| -> Vec<u64> {
        // The architecture has a number too, which would outrank a missing last part.
        let version = release.split('-').next().unwrap_or(release);
        version
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|part| part.parse().ok())
            .collect()
    };
    numbers(a).cmp(&numbers(b)).then_with(|| a.cmp(b))
}

/// Images and headers are unpacked, never installed: their packages' scripts would build initramfses nobody boots.
fn fetch(tree: &Tree, release: &str, directory: &Path) -> Result<()> {
    let image = format!("linux-image-{release}");
    let mut packages = vec![image.clone()];
    packages.extend(
        depends(tree, &image)?
            .into_iter()
            .filter(|name| name.ends_with(release)),
    );
    tree.unpack(&packages, directory)?;
    let modules = modules_directory(directory, release);
    // depmod looks for lib/modules below its base, and the 7.x packages have it in usr/lib.
    let base = modules.ancestors().nth(3).context("the module directory has no base")?;
    privileged("depmod")
        .arg("-b")
        .arg(base)
        .arg(release)
        .run()
        .context("indexing the kernel's modules")?;

    let headers = format!("linux-headers-{release}");
    let mut packages = vec![headers.clone()];
    let build_parts = |name: &String| name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-");
    packages.extend(depends(tree, &headers)?.into_iter().filter(build_parts));
    tree.unpack(&packages, &tree.path("/"))
}

/// Names of the packages that a package depends on.
fn depends(tree: &Tree, package: &str) -> Result<Vec<String>> {
    let record = tree
        .command("apt-cache")
        .args(["show", "--no-all-versions", package])
        .read()?;
    let line = record
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))
        .unwrap_or_default();
    Ok(line
        .split([',', '|'])
        .filter_map(|part| part.split_ascii_whitespace().next())
        .map(str::to_owned)
        .collect())
}

fn modules_directory(directory: &Path, release: &str) -> PathBuf {
    let merged = directory.join("usr/lib/modules").join(release);
    if merged.exists() {
        merged
    } else {
        directory.join("lib/modules").join(release)
    }
}

/// Decompresses a module file as packages ship it into plain ELF.
pub fn read_module(path: &Path) -> Result<Vec<u8>> {
    let tool = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| format!("reading {}", path.display())),
    };
    command(tool).arg("-dc").arg(path).read_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_their_numbers() {
        let mut releases = vec![
            "7.2.9+deb13-amd64",
            "7.10.1+deb13-amd64",
            "7.2.12+deb13-amd64",
            "7.2.12+deb13.1-amd64",
        ];
        releases.sort_by(|a, b| compare_releases(a, b));
        assert_eq!(
            releases,
            [
                "7.2.9+deb13-amd64",
                "7.2.12+deb13-amd64",
                "7.2.12+deb13.1-amd64",
                "7.10.1+deb13-amd64"
            ]
        );
    }
}
