// SPDX-License-Identifier: MIT OR Apache-2.0

//! On what benchmarks were made: the machine, and versions of what took part.

use std::thread::available_parallelism;

use anyhow::Result;
use lab::host::command::command;
use lab::vm::Accelerator;

/// This machine in a line.
pub(super) fn host() -> String {
    let field = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    let processors = available_parallelism().map_or(1, std::num::NonZero::get);
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "of an unknown model".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_else(|| "an unknown amount".to_owned());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{processors} processors, {model}; {memory} of memory; Linux {}; machines {}",
        kernel.trim(),
        match Accelerator::detect() {
            Accelerator::Kvm => "virtualised by KVM",
            Accelerator::Tcg => "emulated by QEMU, without KVM",
        }
    )
}

/// Of Debian packages; those that are not installed are left out.
pub(super) fn versions(packages: &[&str]) -> Result<Vec<(String, String)>> {
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let installed = command("dpkg-query")
        .args([
            "--show",
            "--showformat",
            "${db:Status-Abbrev}${Package} ${Version}\\n",
            "*",
        ])
        .read()?;
    let installed = installed
        .lines()
        .filter_map(|line| line.strip_prefix("ii ")?.split_once(' '));
    Ok(installed
        .filter(|(name, _)| packages.contains(name))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect())
}
