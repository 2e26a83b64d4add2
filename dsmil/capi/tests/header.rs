// SPDX-License-Identifier: MIT OR Apache-2.0

//! The header says what the sources say.

use std::path::Path;

#[test]
fn the_header_is_the_one_that_the_sources_make() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(folder.join("src/lib.rs"))
        .generate()
        .unwrap();
    let mut made = Vec::new();
    bindings.write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let header = folder.join("include/dsmil.h");
    if std::env::var_os("DSMIL_REGENERATE").is_some() {
        std::fs::write(&header, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&header).unwrap();
    assert!(
        kept == made,
        "include/dsmil.h is not what the sources make: run this with DSMIL_REGENERATE=1"
    );
}
