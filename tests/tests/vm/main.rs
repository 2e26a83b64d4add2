// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lab's tests of itself, with real machines: that it sees what it must see, in time, and recovers. And the Debian
//! [`packages`], in a Debian of their own.

mod fixtures;
mod machine;
mod packages;
mod provoked;
mod recovery;

use anyhow::Result;
use lab::host::workspace;
use lab::kernel::{self, Kernel, modules};
use lab::vm::Spec;

/// A machine for one test: its kernel, a directory of its own, this project's modules in `$LAB_MODULES`'s place.
struct Bench {
    kernel: Kernel,
    modules: std::path::PathBuf,
    spec: Spec,
}

impl Bench {
    fn new(kernel: &str, test: &str) -> Result<Self> {
        let kernel = kernel::ensure(kernel.parse()?, false)?;
        let modules = modules::ensure(&kernel)?;
        let directory =
            workspace::results()
                .join("machines")
                .join(format!("{test}-{}-{}", kernel.id, std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let mut spec = Spec::new(&kernel, directory);
        // What these tests break on purpose is theirs.
        spec.watched
            .extend(["lab_null_deref", "lab_uaf", "lab_gpf", "lab_bug"].map(str::to_owned));
        Ok(Self { kernel, modules, spec })
    }

    /// The shell command that loads one of this project's modules.
    fn insmod(&self, module: &str) -> String {
        format!("insmod {}/{module}.ko", self.modules.display())
    }
}

lab_guest::main!();
