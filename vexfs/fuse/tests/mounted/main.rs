// SPDX-License-Identifier: MIT OR Apache-2.0

//! A real mount, used by system calls. Each test has a pool of its own.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

/// Tests that mount: ignored, with the reason, where that cannot be done.
macro_rules! mounted_tests {
    ($($(#[doc = $doc:literal])* fn $name:ident() $body:block)*) => {$(
        $(#[doc = $doc])*
        #[test]
        #[cfg_attr(not(can_mount), ignore = "needs root and /dev/fuse")]
        fn $name() $body
    )*};
}

mod acls;
mod attributes;
mod coherence;
mod control;
mod data;
mod directories;
mod life;
mod names;
mod support;
mod vectors;
mod xattrs;
