// SPDX-License-Identifier: MIT OR Apache-2.0

//! Are kernel module and C library what they should be? Only their files are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use object::read::elf::{ElfFile64, FileHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol};

use crate::report::Report;

#[derive(Args)]
#[expect(clippy::doc_markdown, reason = "shown on the command line as it is")]
pub(crate) struct Arguments {
    /// The kernel module, uio_dsmil.ko
    #[arg(long, required_unless_present = "library")]
    module: Option<PathBuf>,
    /// The C library, libdsmil.so.1
    #[arg(long)]
    library: Option<PathBuf>,
}

/// What the module must say of itself.
const PARAMETERS: [&str; 5] = ["base", "debug", "irq", "ports", "size"];
const ALIASES: [&str; 2] = ["dsmil-84dev", "dsmil-72dev"];
/// Modules that it may depend on.
const DEPENDENCIES: [&str; 1] = ["uio"];
/// Functions of the kernel that it cannot do without.
const NEEDS: [&str; 4] = [
    "__uio_register_device",
    "uio_unregister_device",
    "__pci_register_driver",
    "unmap_mapping_range",
];

/// What the library must offer, and nothing else.
const FUNCTIONS: [&str; 8] = [
    "rust_dsmil_cleanup",
    "rust_dsmil_create_device",
    "rust_dsmil_get_total_active_devices",
    "rust_dsmil_init",
    "rust_dsmil_smi_read_token",
    "rust_dsmil_smi_unlock_region",
    "rust_dsmil_smi_verify",
    "rust_dsmil_smi_write_token",
];
const SONAME: &str = "libdsmil.so.1";
/// Libraries that it may depend on: those of the C library.
const LIBRARIES: [&str; 4] = ["libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux"];

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<ExitCode> {
    let mut report = Report::default();
    if let Some(path) = &arguments.module {
        module(path, &mut report)?;
    }
    if let Some(path) = &arguments.library {
        library(path, &mut report)?;
    }
    Ok(report.finish(json))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn module(path: &Path, report: &mut Report) -> Result<()> {
    let bytes = read(path)?;
    let file = object::File::parse(&*bytes).with_context(|| format!("{} is no ELF file", path.display()))?;
    let info = modinfo(&file).with_context(|| format!("{} is no kernel module", path.display()))?;
    let values = |key: &str| info.get(key).cloned().unwrap_or_default();
    let only = |key: &str, wanted: &str| {
        let found = values(key);
        ensure!(found == [wanted], "{found:?}, not {wanted:?}");
        Ok(wanted.to_owned())
    };
    report.check("module: licence", only("license", "GPL"));
    report.check("module: name", only("name", "uio_dsmil"));
    report.check("module: version", only("version", env!("CARGO_PKG_VERSION")));
    for key in ["description", "author", "vermagic"] {
        let found = values(key);
        let text = found.first().filter(|text| !text.is_empty()).cloned();
        report.check(format!("module: {key}"), text.context("there is none"));
    }
    report.check("module: parameters", parameters(&values("parm"), &values("parmtype")));
    let aliases = values("alias");
    for alias in ALIASES {
        let there = aliases.iter().any(|one| one == alias);
        report.check(
            format!("module: alias {alias}"),
            presence(there, "it is not among the aliases"),
        );
    }
    let depends = values("depends");
    let depends: BTreeSet<&str> = depends
        .iter()
        .flat_map(|list| list.split(','))
        .filter(|one| !one.is_empty())
        .collect();
    report.check("module: dependencies", nothing_else(&depends, &DEPENDENCIES));
    let undefined: BTreeSet<&str> = file
        .symbols()
        .filter(ObjectSymbol::is_undefined)
        .filter_map(|symbol| symbol.name().ok())
        .collect();
    for symbol in NEEDS {
        let there = undefined.contains(symbol);
        report.check(format!("module: uses {symbol}"), presence(there, "it does not"));
    }
    Ok(())
}

/// Everything that `modinfo` shows, by key.
fn modinfo(file: &object::File<'_>) -> Result<BTreeMap<String, Vec<String>>> {
    let section = file.section_by_name(".modinfo").context("it has no section .modinfo")?;
    let mut info: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in section.data()?.split(|&byte| byte == 0) {
        if let Some((key, value)) = String::from_utf8_lossy(entry).split_once('=') {
            info.entry(key.to_owned()).or_default().push(value.to_owned());
        }
    }
    Ok(info)
}

/// The five parameters, each described and typed.
fn parameters(described: &[String], typed: &[String]) -> Result<String> {
    let names = |entries: &[String]| -> BTreeSet<String> {
        entries
            .iter()
            .filter_map(|entry| Some(entry.split_once(':')?.0.to_owned()))
            .collect()
    };
    let wanted: BTreeSet<String> = PARAMETERS.map(str::to_owned).into();
    ensure!(names(typed) == wanted, "it has {:?}, not {wanted:?}", names(typed));
    ensure!(names(described) == wanted, "described are {:?} only", names(described));
    Ok(PARAMETERS.join(" "))
}

fn library(path: &Path, report: &mut Report) -> Result<()> {
    let bytes = read(path)?;
    let parse = || format!("{} is no shared library of 64 bits", path.display());
    let file = ElfFile64::<Endianness>::parse(&*bytes).with_context(parse)?;
    let defined: BTreeSet<&str> = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.is_global())
        .filter_map(|symbol| symbol.name().ok())
        .collect();
    for function in FUNCTIONS {
        let there = defined.contains(function);
        report.check(format!("library: {function}"), presence(there, "it is not there"));
    }
    report.check("library: offers nothing else", nothing_else(&defined, &FUNCTIONS));
    let (soname, needed) = dynamic(&file)?;
    let name = soname.context("it has none").and_then(|name| {
        ensure!(name == SONAME, "{name}, not {SONAME}");
        Ok(name)
    });
    report.check("library: soname", name);
    let needed: BTreeSet<&str> = needed
        .iter()
        .map(String::as_str)
        .filter(|name| !name.starts_with("ld-linux"))
        .collect();
    report.check("library: dependencies", nothing_else(&needed, &LIBRARIES));
    Ok(())
}

/// The soname and the libraries that are needed.
fn dynamic(file: &ElfFile64<'_, Endianness>) -> Result<(Option<String>, Vec<String>)> {
    let (endian, data) = (file.endian(), file.data());
    let sections = file.elf_header().sections(endian, data)?;
    let (mut soname, mut needed) = (None, Vec::new());
    let Some((entries, link)) = sections.dynamic(endian, data)? else {
        return Ok((soname, needed));
    };
    let strings = sections.strings(endian, data, link)?;
    for entry in entries {
        use object::read::elf::Dyn;
        let is = |tag: u32| entry.tag32(endian) == Some(tag);
        if is(object::elf::DT_SONAME) || is(object::elf::DT_NEEDED) {
            let text = String::from_utf8_lossy(entry.string(endian, strings)?).into_owned();
            if is(object::elf::DT_SONAME) {
                soname = Some(text);
            } else {
                needed.push(text);
            }
        }
    }
    Ok((soname, needed))
}

fn presence(there: bool, otherwise: &str) -> Result<String> {
    ensure!(there, "{otherwise}");
    Ok(String::new())
}

fn nothing_else(found: &BTreeSet<&str>, allowed: &[&str]) -> Result<String> {
    let unexpected: Vec<&str> = found.iter().copied().filter(|one| !allowed.contains(one)).collect();
    ensure!(unexpected.is_empty(), "unexpected: {}", unexpected.join(" "));
    Ok(found.iter().copied().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(list: &[&str]) -> Vec<String> {
        list.iter().map(|&one| one.to_owned()).collect()
    }

    #[test]
    fn five_parameters_with_type_and_description_are_asked_for() {
        let typed = owned(&[
            "base:ullong",
            "size:ullong",
            "irq:int",
            "ports:array of ushort",
            "debug:uint",
        ]);
        let described = owned(&["base:a", "size:b", "irq:c", "ports:d", "debug:e"]);
        parameters(&described, &typed).unwrap();
        assert!(parameters(&described[1..], &typed).is_err());
        assert!(parameters(&described, &typed[1..]).is_err());
        let six = [typed, owned(&["more:int"])].concat();
        assert!(parameters(&described, &six).is_err());
    }

    #[test]
    fn what_was_not_expected_is_named() {
        let found: BTreeSet<&str> = ["uio", "nvme"].into();
        let error = nothing_else(&found, &DEPENDENCIES).unwrap_err();
        assert_eq!(error.to_string(), "unexpected: nvme");
    }
}
