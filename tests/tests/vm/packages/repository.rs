// SPDX-License-Identifier: MIT OR Apache-2.0

//! Repositories of apt with the packages, and with what an upgrade brings.
//!
//! The next version is the same packages under another number, with all that a number is part of: the folders of DKMS sources
//! and what the modules say of themselves. So to dpkg, DKMS and the running daemons it is an upgrade like any other.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lab::host::command::command;

/// Of what is installed first.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `$1`: a package, `$2`: a scratch directory, `$3` and `$4`: versions, `$5`: where the other package goes.
const RENUMBER: &str = r#"rm -rf "$2"
dpkg-deb --raw-extract "$1" "$2"
cd "$2"
for sources in usr/src/*-"$3"; do
    if [ -d "$sources" ]; then mv "$sources" "${sources%-"$3"}-$4"; fi
done
pattern=$(printf %s "$3" | sed 's/\./\\./g')
for part in DEBIAN usr/src; do
    if [ -d $part ]; then
        grep --recursive --files-with-matches --fixed-strings "$3" $part | xargs --no-run-if-empty sed -i "s/$pattern/$4/g"
    fi
done
find . -type f ! -path './DEBIAN/*' -printf '%P\n' | sort | xargs --delimiter='\n' --no-run-if-empty md5sum > DEBIAN/md5sums
dpkg-deb --root-owner-group --build . "$5" > /dev/null"#;

/// Makes `one` and `two` in a directory, and says in the file `versions` what they have.
pub(super) fn make(packages: &Path, directory: &Path) -> Result<()> {
    let (one, two) = (directory.join("one"), directory.join("two"));
    for repository in [&one, &two] {
        fs::create_dir_all(repository).with_context(|| format!("making {}", repository.display()))?;
    }
    let (next, scratch) = (format!("{VERSION}+next"), directory.join("scratch"));
    let mut count = 0;
    for entry in fs::read_dir(packages).with_context(|| format!("listing {}", packages.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_none_or(|end| end != "deb") || name.contains("-dbgsym_") {
            continue;
        }
        fs::copy(&path, one.join(&name)).with_context(|| format!("copying {}", path.display()))?;
        command("/bin/sh")
            .args(["-ec", RENUMBER, "renumber"])
            .args([&path, &scratch])
            .args([VERSION, next.as_str()])
            .arg(two.join(name.replace(VERSION, &next)))
            .run()?;
        count += 1;
    }
    ensure!(count > 0, "there are no packages in {}", packages.display());
    fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
    for repository in [&one, &two] {
        let index = command("dpkg-scanpackages")
            .args(["--multiversion", "."])
            .dir(repository)
            .read()?;
        fs::write(repository.join("Packages"), index)?;
    }
    let versions = format!("one={VERSION}\ntwo={next}\n");
    Ok(fs::write(directory.join("versions"), versions)?)
}
