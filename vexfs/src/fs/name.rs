// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names of directory entries and their place in a directory.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::error::Errno;

/// Longest name of an entry, in bytes.
pub const MAX_NAME: usize = 255;

/// Entries whose hashes are equal differ in this many low bits of their cookies.
pub const CHAIN: u64 = 0x100;

/// Largest cookie: positions in a directory are positive as signed numbers.
pub const LAST_COOKIE: u64 = i64::MAX as u64;

/// Whether bytes can name an entry.
pub fn check(name: &[u8]) -> Result<(), Errno> {
    if name.len() > MAX_NAME {
        return Err(Errno::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|&byte| byte == 0 || byte == b'/') {
        return Err(Errno::Invalid);
    }
    Ok(())
}

/// First cookie of a name's chain. Positive as a signed number, and at least [`CHAIN`], so that the cookies below are free
/// for the start, `.` and `..`. Keyed with the pool's secret: nobody can choose names that collide.
pub fn cookie(key: &[u8; 16], name: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key);
    hasher.write(name);
    let hash = hasher.finish() & 0x7fff_ffff_ffff_ff00;
    hash.max(CHAIN)
}
