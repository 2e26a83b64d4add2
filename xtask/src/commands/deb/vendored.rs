// SPDX-License-Identifier: MIT OR Apache-2.0

//! The crates in a source package, with which it is built without network.
//!
//! Cargo wants every crate of `Cargo.lock` to be there, also those for tests and for other systems. Of what no program of
//! the packages contains, only its name stays: such a crate is replaced by an empty one. So everything in a source package
//! is used, is in `debian/copyright`, and comes with its source.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lab::host::cache;
use lab::host::progress::Step;
use lab::runner::discover::cargo;
use serde_json::{Value, json};

use super::copyright;

/// Where the crates are in the copy.
const FOLDER: &str = "vendor";

/// What cargo compares a crate with.
const SUMS: &str = ".cargo-checksum.json";

/// What has cargo take them from there.
const SETTINGS: &str = "[source.crates-io]\nreplace-with = \"copies\"\n\n[source.copies]\ndirectory = \"vendor\"\n";

/// Ends of names of programs that came without source; crates have them for tests on other systems.
const PREBUILT: [&str; 2] = ["dll", "exe"];

/// Parts of a manifest that name files of the crate.
const NAMES_FILES: [&str; 4] = ["bin", "example", "test", "bench"];

/// Puts the crates into a copy of the tree, and has cargo take them from there.
pub(super) fn add(stage: &Path) -> Result<()> {
    let step = Step::start("copying the crates");
    let used: BTreeSet<String> = copyright::crates(stage)?
        .into_iter()
        .map(|one| format!("{}-{}", one.name, one.version))
        .collect();
    cargo()
        .args(["vendor", "--quiet", "--locked", "--versioned-dirs", FOLDER])
        .dir(stage)
        .read()
        .context("cargo vendor")?;
    let path = stage.join(".cargo/config.toml");
    let own = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    fs::write(&path, format!("{own}\n{SETTINGS}")).with_context(|| path.display().to_string())?;
    let folder = stage.join(FOLDER);
    let mut kept = 0;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sums = sums_without_files(&path)?;
        if used.contains(&name) {
            kept += 1;
            remove_prebuilt(&path).with_context(|| path.display().to_string())?;
        } else {
            empty(&path).with_context(|| format!("emptying {}", path.display()))?;
        }
        fs::write(path.join(SUMS), sums).with_context(|| path.display().to_string())?;
    }
    ensure!(
        kept == used.len(),
        "cargo vendor brought {kept} of {} crates",
        used.len()
    );
    step.done();
    Ok(())
}

/// Takes programs that nobody can build again out of a crate.
fn remove_prebuilt(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if path.is_dir() {
            remove_prebuilt(&path)?;
        } else if ending.is_some_and(|ending| PREBUILT.contains(&ending)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Leaves of a crate what cargo looks at when it chooses versions.
fn empty(folder: &Path) -> Result<()> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
    cache::remove(folder)?;
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    fs::write(folder.join("Cargo.toml"), without_files(&manifest)?)?;
    Ok(())
}

/// What cargo is to compare a crate with: nothing but what `Cargo.lock` says of it. Source packages leave some files out
/// (`*.orig`, `.gitignore`), and have checksums of their own.
fn sums_without_files(folder: &Path) -> Result<String> {
    let path = folder.join(SUMS);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let sums: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(json!({ "files": {}, "package": sums["package"] }).to_string())
}

/// The manifest of a crate that is nothing but an empty library.
fn without_files(manifest: &str) -> Result<String> {
    let mut manifest: toml::Table = manifest.parse()?;
    for part in NAMES_FILES {
        manifest.remove(part);
    }
    let library = toml::Table::from_iter([("path".to_owned(), "src/lib.rs".into())]);
    manifest.insert("lib".into(), library.into());
    let package = manifest.get_mut("package").and_then(toml::Value::as_table_mut);
    let package = package.context("it has no package")?;
    package.insert("build".into(), false.into());
    for part in ["links", "readme", "license-file", "default-run"] {
        package.remove(part);
    }
    Ok(manifest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_crate_keeps_what_versions_are_chosen_by() {
        let manifest = "[package]\nname = \"a\"\nversion = \"1.0.0\"\nbuild = \"build.rs\"\nlinks = \"z\"\n\
            [lib]\nproc-macro = true\n[[bench]]\nname = \"b\"\npath = \"b.rs\"\n[features]\nf = [\"dep:c\"]\n\
            [dependencies.c]\nversion = \"2\"\noptional = true\n";
        let left: toml::Table = without_files(manifest).unwrap().parse().unwrap();
        let wanted: toml::Table = "[package]\nname = \"a\"\nversion = \"1.0.0\"\nbuild = false\n\
            [lib]\npath = \"src/lib.rs\"\n[features]\nf = [\"dep:c\"]\n\
            [dependencies.c]\nversion = \"2\"\noptional = true\n"
            .parse()
            .unwrap();
        assert_eq!(left, wanted);
    }
}
