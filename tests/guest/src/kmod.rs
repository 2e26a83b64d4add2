// SPDX-License-Identifier: MIT OR Apache-2.0

//! Kernel modules inside the guest: this project's own by file, the distribution's by `modprobe`.

use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};

use crate::sys;

/// Environment variable that names the directory of this project's modules, built for the running kernel.
pub const MODULES_ENV: &str = "LAB_MODULES";

/// Loads one of this project's modules. `parameters` as on insmod's command line.
pub fn load(name: &str, parameters: &str) -> Result<()> {
    let path = path_of(name)?;
    insert(&path, parameters).with_context(|| format!("loading {}", path.display()))
}

/// Loads the module in a file.
pub fn insert(path: &Path, parameters: &str) -> Result<()> {
    let file = File::open(path)?;
    let parameters = CString::new(parameters).context("module parameters hold a NUL byte")?;
    finit_module(file, &parameters, ModuleInitFlags::empty())?;
    Ok(())
}

/// Unloads a module; fails when it is in use.
pub fn unload(name: &str) -> Result<()> {
    let c_name = CString::new(name).context("module name holds a NUL byte")?;
    delete_module(&c_name, DeleteModuleFlags::O_NONBLOCK).with_context(|| format!("unloading {name}"))
}

/// Whether the running kernel has a module loaded.
pub fn is_loaded(name: &str) -> bool {
    Path::new("/sys/module").join(name).join("initstate").exists()
}

/// Loads a module of the distribution with its dependencies. One that is built in counts as loaded; a kernel that came
/// without modules has everything built in.
pub fn modprobe(name: &str) -> Result<()> {
    let output = Command::new("modprobe")
        .arg(name)
        .output()
        .context("running modprobe")?;
    let modules = Path::new("/lib/modules").join(sys::output("uname", &["-r"])?.trim());
    if !output.status.success() && modules.exists() && !Path::new("/sys/module").join(name).exists() {
        bail!("modprobe {name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The file of one of this project's modules.
pub fn path_of(name: &str) -> Result<PathBuf> {
    let directory = std::env::var_os(MODULES_ENV)
        .with_context(|| format!("{MODULES_ENV} is not set: lab tests run inside the lab's machines only"))?;
    Ok(Path::new(&directory).join(format!("{name}.ko")))
}
