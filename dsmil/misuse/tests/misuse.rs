// SPDX-License-Identifier: MIT OR Apache-2.0

//! What must not compile: outliving a mapping, leaving a chunk, timeouts out of range, steps that a state does not allow.

#[test]
fn misuse_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/cases/*.rs");
}
