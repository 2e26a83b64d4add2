// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where things are in this checkout.

use std::path::{Path, PathBuf};

/// The checkout's top folder.
pub fn root() -> &'static Path {
    // The crate is the folder `tests` of the workspace, so its parent is the top.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Results and logs of the lab: reports, consoles, crash records.
pub fn results() -> PathBuf {
    target().join("lab")
}
