// SPDX-License-Identifier: MIT OR Apache-2.0

//! `debian/copyright`, with a paragraph for each crate that programs of the packages contain.
//!
//! Cargo says which crates these are and their licences; who holds the copyright is in their files of licences. The texts of
//! licences that Debian does not install come from there too. One that is found nowhere is an error: packages without it
//! would not be allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use lab::runner::discover::cargo;
use serde_json::Value;

/// Packages of the workspace whose programs and libraries are in Debian packages.
const PACKAGED: [&str; 6] = [
    "ublk-server",
    "vexfs-cli",
    "dsmild",
    "dsmilctl",
    "dsmil-sim",
    "dsmil-capi",
];

/// Licences whose text `packaging/debian/copyright` has.
const KNOWN: [&str; 3] = ["Expat", "Apache-2.0", "GPL-2.0-only"];

/// Other licences, and words that only a file with their text has.
const FOUND: [(&str, &str); 9] = [
    ("BSD-2-Clause", "Redistributions of source code"),
    ("BSD-3-Clause", "Neither the name"),
    ("ISC", "Permission to use, copy, modify, and"),
    ("Zlib", "Altered source versions must be plainly marked"),
    ("Unicode-3.0", "UNICODE LICENSE V3"),
    ("BSL-1.0", "Boost Software License"),
    ("Unlicense", "free and unencumbered software"),
    ("Apache-2.0 with LLVM exception", EXCEPTION),
    ("0BSD", "with or without fee is hereby granted"),
];

/// Where the file of the Apache licence with an exception comes to the exception. Every Debian system has the rest.
const EXCEPTION: &str = "LLVM Exceptions";

/// Licences whose text every Debian system has.
const INSTALLED: [(&str, &str); 3] = [("MPL-2.0", "MPL-2.0"), ("MPL-2.0+", "MPL-2.0"), ("CC0-1.0", "CC0-1.0")];

/// What packages can be built for. A source package has the crates for all of it.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// A crate that programs contain.
#[derive(Debug, Clone)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: String,
    licence: String,
    authors: Vec<String>,
    /// Its files of licences: names and texts.
    texts: Vec<(PathBuf, String)>,
}

/// Adds the crates to the file of a copy of the tree.
pub(super) fn complete(stage: &Path) -> Result<()> {
    let path = stage.join("debian/copyright");
    let own = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let crates = crates(stage)?;
    ensure!(!crates.is_empty(), "cargo names no crates that programs contain");
    let text = with_crates(&own, &crates)?;
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// The file, with paragraphs for crates behind those for our own files, and licences at the end.
fn with_crates(own: &str, crates: &[Crate]) -> Result<String> {
    let (files, licences) = own
        .split_once("\n\nLicense: Expat\n")
        .context("debian/copyright has no paragraph 'License: Expat'")?;
    let mut text = format!("{files}\n\n");
    let mut wanted = BTreeSet::new();
    for one in crates {
        let expression = expression(&one.licence);
        wanted.extend(names(&expression));
        let holders = holders(one).join("\n           ");
        let (name, version) = (&one.name, &one.version);
        write!(
            text,
            "Files: vendor/{name}-{version}/*\nCopyright: {holders}\nLicense: {expression}\n\n"
        )?;
    }
    write!(text, "License: Expat\n{}", licences.trim_end())?;
    text.push('\n');
    for licence in wanted {
        if !KNOWN.contains(&licence.as_str()) {
            write!(text, "\nLicense: {licence}\n{}", paragraph(&licence, crates)?)?;
        }
    }
    Ok(text)
}

/// What cargo knows of the crates that are linked or help to build what is.
pub(super) fn crates(stage: &Path) -> Result<Vec<Crate>> {
    let text = cargo()
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(PLATFORMS.iter().flat_map(|platform| ["--filter-platform", platform]))
        .dir(stage)
        .read()
        .context("asking cargo for the crates")?;
    let metadata: Value = serde_json::from_str(&text).context("what cargo says of the crates")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> = list(&metadata["packages"])
        .into_iter()
        .map(|package| (word(&package["id"]), package))
        .collect();
    let needs: BTreeMap<String, Vec<String>> = list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| {
            let kept = |need: &&Value| list(&need["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
            let needs = list(&node["deps"]);
            (
                word(&node["id"]),
                needs.iter().filter(kept).map(|need| word(&need["pkg"])).collect(),
            )
        })
        .collect();
    let ours = |package: &&Value| PACKAGED.contains(&word(&package["name"]).as_str()) && package["source"].is_null();
    let mut waiting: Vec<String> = packages
        .values()
        .filter(ours)
        .map(|package| word(&package["id"]))
        .collect();
    ensure!(
        waiting.len() == PACKAGED.len(),
        "cargo does not know all of {PACKAGED:?}"
    );
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if seen.insert(id.clone()) {
            waiting.extend(needs.get(&id).cloned().unwrap_or_default());
        }
    }
    let mut found = Vec::new();
    for package in seen
        .iter()
        .filter_map(|id| packages.get(id))
        .filter(|package| !package["source"].is_null())
    {
        let manifest = PathBuf::from(word(&package["manifest_path"]));
        let directory = manifest.parent().context("a manifest is in a folder")?;
        found.push(Crate {
            name: word(&package["name"]),
            version: word(&package["version"]),
            licence: word(&package["license"]),
            authors: list(&package["authors"]).iter().map(word).collect(),
            texts: texts(directory)?,
        });
    }
    found.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    Ok(found)
}

/// The files of licences in a crate's folder, and in those in it: what a crate brings along has its own.
fn texts(directory: &Path) -> Result<Vec<(PathBuf, String)>> {
    let list = |directory: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
        Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
    };
    let mut paths = list(directory)?;
    for folder in paths.clone().iter().filter(|path| path.is_dir()) {
        paths.extend(list(folder)?);
    }
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let begins = ["LICEN", "COPY", "NOTICE", "UNLICENSE"];
        let is_text =
            begins.iter().any(|begin| name.starts_with(begin)) && path.extension().is_none_or(|end| end != "rs");
        if is_text && path.is_file() {
            let text = fs::read(&path).with_context(|| path.display().to_string())?;
            found.push((path, String::from_utf8_lossy(&text).into_owned()));
        }
    }
    Ok(found)
}

/// Cargo's expression in Debian's words, where `and` binds more than `or` and a comma less than both.
fn expression(cargo: &str) -> String {
    let spaced = cargo
        .replace('/', " OR ")
        .replace(") AND ", ", AND ")
        .replace(['(', ')'], "");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut text = words.join(" ").replace(" OR ", " or ").replace(" AND ", " and ");
    text = text.replace("Apache-2.0 WITH LLVM-exception", "Apache-2.0 with LLVM exception");
    let is_mit = |word: &str| word.trim_end_matches(',') == "MIT";
    let renamed: Vec<String> = text
        .split(' ')
        .map(|word| {
            if is_mit(word) {
                word.replace("MIT", "Expat")
            } else {
                word.to_owned()
            }
        })
        .collect();
    renamed.join(" ")
}

/// The licences that an expression names.
fn names(expression: &str) -> Vec<String> {
    let plain = expression.replace(", and ", " or ").replace(" and ", " or ");
    plain.split(" or ").map(|name| name.trim().to_owned()).collect()
}

/// Who holds the copyright: what the files of licences say, else who wrote it.
fn holders(one: &Crate) -> Vec<String> {
    let mut found = Vec::new();
    for (_, text) in &one.texts {
        for line in text.lines() {
            let line = line.trim().trim_start_matches(['/', '*', '#', '-']).trim();
            let Some(said) = line
                .strip_prefix("Copyright")
                .or_else(|| line.strip_prefix("COPYRIGHT"))
            else {
                continue;
            };
            let said = said.trim();
            let marks = ["(c)", "(C)", "©"];
            let marked = marks.iter().find_map(|mark| said.strip_prefix(mark)).map(str::trim);
            // Not sentences about copyright, nor the form that the Apache licence shows.
            let begins = |letter: char| letter.is_ascii_digit() || (marked.is_some() && letter.is_alphabetic());
            let said = marked.unwrap_or(said);
            let names_somebody = said.starts_with(begins) || said.starts_with("The ") || said.starts_with("the ");
            let said = said.to_owned();
            if names_somebody && !found.contains(&said) {
                found.push(said);
            }
        }
    }
    if found.is_empty() {
        found.clone_from(&one.authors);
    }
    if found.is_empty() {
        found.push(format!("The authors of {}", one.name));
    }
    found
}

/// The text of a licence, as a paragraph has it.
fn paragraph(licence: &str, crates: &[Crate]) -> Result<String> {
    if let Some((_, file)) = INSTALLED.iter().find(|(name, _)| *name == licence) {
        return Ok(format!(
            " On Debian systems, the complete text of this licence is in\n /usr/share/common-licenses/{file}.\n"
        ));
    }
    let Some((_, words)) = FOUND.iter().find(|(name, _)| *name == licence) else {
        bail!(
            "the licence {licence} of a crate is new: xtask/src/commands/deb/copyright.rs must say where its text is"
        );
    };
    let has = |text: &str| text.contains(words) && (licence != "BSD-2-Clause" || !text.contains("Neither the name"));
    let text = crates
        .iter()
        .filter(|one| names(&expression(&one.licence)).iter().any(|name| name == licence))
        .flat_map(|one| &one.texts)
        .find(|(_, text)| has(text));
    let (_, text) = text.with_context(|| format!("no crate has the text of its licence {licence}"))?;
    let mut paragraph = String::new();
    let mut pause = false;
    let text = match text.find(EXCEPTION) {
        Some(at) if licence.contains("exception") => {
            let own =
                " The Apache License, Version 2.0, is in /usr/share/common-licenses/Apache-2.0. In addition:\n .\n";
            paragraph.push_str(own);
            text.get(at..).unwrap_or_default()
        }
        _ => text.as_str(),
    };
    for line in text.lines().map(str::trim_end) {
        // The holders are named with their crates.
        if line.trim_start().starts_with("Copyright (c)") || line.trim_start().starts_with("Copyright 2") {
            continue;
        }
        if line.trim().is_empty() {
            pause = !paragraph.is_empty();
            continue;
        }
        if pause {
            paragraph.push_str(" .\n");
            pause = false;
        }
        writeln!(paragraph, " {line}")?;
    }
    Ok(paragraph)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(licence: &str, text: &str) -> Crate {
        Crate {
            name: "a".into(),
            version: "1.0.0".into(),
            licence: licence.into(),
            authors: vec!["Ada <ada@example.org>".into()],
            texts: vec![("LICENSE".into(), text.into())],
        }
    }

    #[test]
    fn expressions_are_put_into_the_words_of_debian() {
        for (cargo, debian) in [
            ("MIT OR Apache-2.0", "Expat or Apache-2.0"),
            ("Apache-2.0 / MIT", "Apache-2.0 or Expat"),
            ("MIT/Apache-2.0", "Expat or Apache-2.0"),
            (
                "(MIT OR Apache-2.0) AND Unicode-3.0",
                "Expat or Apache-2.0, and Unicode-3.0",
            ),
            (
                "Apache-2.0 WITH LLVM-exception OR MIT",
                "Apache-2.0 with LLVM exception or Expat",
            ),
        ] {
            assert_eq!(expression(cargo), debian);
        }
        assert_eq!(
            names("Expat or Apache-2.0, and Unicode-3.0"),
            ["Expat", "Apache-2.0", "Unicode-3.0"]
        );
    }

    #[test]
    fn holders_are_those_whom_files_name_else_the_authors() {
        let named = example(
            "MIT",
            "Copyright (c) 2015 The Somebody\nCopyright (c) Individual contributors\nCopyright [yyyy] [name of copyright owner]\n  copyright notice\nCopyright 2016 Eve",
        );
        assert_eq!(
            holders(&named),
            ["2015 The Somebody", "Individual contributors", "2016 Eve"]
        );
        assert_eq!(holders(&example("MIT", "no names")), ["Ada <ada@example.org>"]);
    }

    #[test]
    fn each_crate_has_a_paragraph_and_each_licence_its_text() {
        let own = "Format: x\n\nFiles: *\nLicense: Expat\n\nLicense: Expat\n Permission\n";
        let isc = example(
            "ISC",
            "Copyright (c) 2020 X\n\nPermission to use, copy, modify, and distribute\n\nTHE END\n",
        );
        let text = with_crates(own, &[isc]).unwrap();
        let expected = "Format: x\n\nFiles: *\nLicense: Expat\n\nFiles: vendor/a-1.0.0/*\nCopyright: 2020 X\nLicense: ISC\n\n\
             License: Expat\n Permission\n\nLicense: ISC\n Permission to use, copy, modify, and distribute\n .\n THE END\n";
        assert_eq!(text, expected);
        let unknown = with_crates(own, &[example("Beerware", "")]).unwrap_err().to_string();
        assert!(unknown.contains("Beerware"), "{unknown}");
        assert!(with_crates(own, &[example("ISC", "nothing")]).is_err());
    }
}
