// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names the shared library by its interface: programs linked with it ask for `libdsmil.so.1`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libdsmil.so.1");
}
