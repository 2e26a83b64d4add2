// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sealed images in place of pools: which file is one, what is in it, is it whole, and mounting it without a server.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use uuid::Uuid;
use vexfs::disk::{Access, FileDisk};
use vexfs::sealed::check::Report;
use vexfs::sealed::layout::{BLOCK, SUMS_NONE};
use vexfs::sealed::read::Image;
use vexfs::sealed::{check, is_sealed};

use crate::failure::failed;
use crate::{kernel_mount, show};

/// Whether a file or device is a sealed image. What cannot be read is none: who opens it as a pool tells why.
pub(crate) fn is_image(path: &Path) -> bool {
    let mut start = [0; 8];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && is_sealed(&start)
}

fn open(path: &Path) -> Result<Image> {
    let shown = || path.display().to_string();
    let disk = FileDisk::open(path, Access::ReadOnly).with_context(shown)?;
    Image::open(Box::new(disk)).with_context(shown)
}

/// What an image is.
pub(crate) fn about(path: &Path, json: bool) -> Result<Vec<(&'static str, Value)>> {
    let image = open(path)?;
    let head = image.head();
    let bytes = head.blocks.get() * BLOCK as u64;
    Ok(vec![
        ("kind", json!("sealed image")),
        ("label", json!(image.label())),
        ("uuid", json!(Uuid::from_bytes(head.uuid).to_string())),
        ("size", show::size(bytes, json)),
        ("files", json!(head.inodes.get())),
        ("checksums", json!(head.sums_kind.get() != SUMS_NONE)),
    ])
}

/// Looks for damage.
pub(crate) fn examine(path: &Path) -> Result<Report> {
    let image = open(path)?;
    let bar = show::bar(
        "looking at blocks",
        Some(image.head().body_end.get() + image.head().inodes.get()),
    );
    let report = check::check(&image, &mut || bar.inc(1));
    bar.finish_and_clear();
    report.with_context(|| path.display().to_string())
}

/// Prints what was found.
pub(crate) fn tell(report: &Report, json: bool) {
    if json {
        let problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
        show::document(json!({"sound": report.is_sound(), "found": report.found, "issues": problems}));
        return;
    }
    for problem in &report.problems {
        println!("{problem}");
    }
    match report.found {
        0 => println!("nothing is wrong"),
        found => println!("{found} issues; a sealed image is not mended: export it again"),
    }
}

/// Mounts an image, read-only; mount(8) makes the loop device of one that is in a file, which goes with the mount.
pub(crate) fn mount(path: &Path, directory: &Path, options: &str) -> Result<()> {
    let is_file = path.metadata().is_ok_and(|about| about.is_file());
    if is_file {
        kernel_mount::load("loop");
    }
    let mut words = vec!["ro"];
    words.extend(is_file.then_some("loop"));
    words.extend((!options.is_empty()).then_some(options));
    let mut mount = Command::new("mount");
    // This program is what mount(8) would call for the type.
    mount.args(["--internal-only", "-t", "vexfs", "-o", &words.join(",")]);
    let ended = mount.arg(path).arg(directory).status().context("starting mount(8)")?;
    if !ended.success() {
        return Err(failed(
            format!(
                "mounting {} on {}: mount(8) refused",
                path.display(),
                directory.display()
            ),
            "the kernel log may say more; vexfs-ublk check says whether the image is whole",
        ));
    }
    Ok(())
}
