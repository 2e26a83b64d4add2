// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the kernel and we agree on when a mount begins.
//!
//! | asked for | because |
//! |---|---|
//! | parallel lookups and listings, asynchronous reads, direct and not | the engine serves any number of callers |
//! | listings with attributes, when the kernel expects to need them | one request instead of one per file |
//! | access control lists, the umask | the kernel checks lists; we apply the umask, unless a default list replaces it |
//! | taking set-ID bits away ourselves | else the kernel asks for `security.capability` before every write |
//! | no open, no opendir | an open file needs no state here, see `lookups` |
//! | cached symbolic links | they never change |
//! | forgetting bytes only when told | nobody changes them behind the kernel's back |
//! | ioctls on directories | `chattr` and `lsattr` |
//! | export | file numbers are never used again, so they can be handles |
//!
//! Locks of files are left to the kernel, which knows all who can take them. Truncating when opening is left to it too:
//! it sends a request of its own, because we are not told of opening.

use fuser::{InitFlags, KernelConfig};

/// Bytes of the largest read or write.
pub(super) const MAX_TRANSFER: usize = 1 << 20;

/// Requests that nobody waits for, such as reading ahead, that may be under way.
const BACKGROUND: u16 = 64;

const WANTED: &[InitFlags] = &[
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_MAX_PAGES,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_NO_OPEN_SUPPORT,
    InitFlags::FUSE_NO_OPENDIR_SUPPORT,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_EXPORT_SUPPORT,
    InitFlags::FUSE_HAS_IOCTL_DIR,
];

pub(super) fn negotiate(config: &mut KernelConfig, writeback: bool) {
    let mut lacking = InitFlags::empty();
    for &flag in WANTED {
        if let Err(flag) = config.add_capabilities(flag) {
            lacking |= flag;
        }
    }
    if writeback && let Err(flag) = config.add_capabilities(InitFlags::FUSE_WRITEBACK_CACHE) {
        lacking |= flag;
    }
    if !lacking.is_empty() {
        tracing::info!(?lacking, "an older kernel: this goes another way");
    }
    // Each is bounded by what the other side allows; the nearest that it allows is as good.
    let transfer = u32::try_from(MAX_TRANSFER).unwrap_or(1 << 20);
    if let Err(nearest) = config.set_max_write(transfer) {
        let _ = config.set_max_write(nearest);
    }
    if let Err(nearest) = config.set_max_readahead(transfer) {
        let _ = config.set_max_readahead(nearest);
    }
    let _ = config.set_max_background(BACKGROUND);
}
