// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tar archives that hold everything a pool holds, as GNU tar and bsdtar read and write them.
//!
//! The format is POSIX pax: a ustar header for each file, before it a header of records for what that cannot hold.
//!
//! | what | where |
//! |---|---|
//! | type, permissions, numeric owner, device | ustar header; `uid`, `gid` if they do not fit |
//! | long or non-ASCII names and targets, large sizes | `path`, `linkpath`, `size` |
//! | times with nanoseconds, before 1970 too | `mtime`, `atime` |
//! | extended attributes | `SCHILY.xattr.NAME`, with `%` and `=` in names as `%25` and `%3D` |
//! | access lists | `SCHILY.acl.access`, `SCHILY.acl.default`: text with numeric ids |
//! | holes | `GNU.sparse.*`, version 1.0: a map before the contents |
//! | creation time, flags, promised space, sockets | `VEXFS.born`, `VEXFS.flags`, `VEXFS.promised`, `VEXFS.type` |
//! | vectors in a space | `VEXFS.space.NAME`: what it is, `VEXFS.vectors.NAME`: see [`embeddings`] |
//!
//! A socket is an empty regular file with `VEXFS.type=socket`. The first directory of a whole pool tells of all its spaces,
//! also of those without vectors. Portable archives have vectors as the attribute that a mount shows. Other programs ignore
//! the `VEXFS` records.
//! Reading also knows GNU tar's older sparse forms, its long names, and names of users in access lists.
//!
//! **Bounds.** Contents pass through in pieces. Records of one member have at most [`MAX_RECORDS`] bytes, a name
//! [`MAX_NAME`], a sparse map [`MAX_REGIONS`] entries; an archive that wants more is refused, and none is written.
//!
//! | module | job |
//! |---|---|
//! | [`pax`] | records and their bytes |
//! | [`acl`] | access lists: the kernel's bytes and text |
//! | [`sparse`] | maps of files with holes |
//! | [`embeddings`] | bytes of vectors and what their spaces are |
//! | [`member`] | which record means what of a file |
//! | [`writer`], [`reader`] | the stream of headers and contents |
//!
//! The `tar` crate encodes and decodes the 512-byte headers. Its streams are not used: they split records at newlines, which
//! values of attributes may have, and read records of any length into memory.

pub(crate) mod acl;
pub(crate) mod embeddings;
pub(crate) mod member;
pub(crate) mod pax;
pub(crate) mod reader;
pub(crate) mod sparse;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

/// Bytes of records that a member may have.
pub(crate) const MAX_RECORDS: u64 = 32 << 20;
/// Bytes of records that are for all members.
pub(crate) const MAX_GLOBALS: u64 = 64 << 10;
/// Bytes of a member's name or link target.
pub(crate) const MAX_NAME: usize = 256 << 10;
/// Entries of a sparse map.
pub(crate) const MAX_REGIONS: usize = 1 << 20;

/// Everything in an archive is a multiple of this.
pub(crate) const BLOCK: u64 = BLOCK_BYTES as u64;
/// The same as a length in memory.
pub(crate) const BLOCK_BYTES: usize = 512;

/// Bytes up to the next whole block.
pub(crate) const fn padding(bytes: u64) -> u64 {
    (BLOCK - bytes % BLOCK) % BLOCK
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("the archive ends in the middle; it was cut short: get it again")]
    CutShort,
    #[error("the archive ends without its end mark; it may have been cut short: compare it with its source")]
    NoEndMark,
    #[error("this is no tar archive; check the file")]
    NotTar,
    #[error("the archive is compressed; decompress it on the way: {0} FILE | vexfs-ublk import - POOL")]
    Compressed(&'static str),
    #[error("a header is damaged (its checksum does not match); get the archive again")]
    Checksum,
    #[error("{0} of a header is no number that fits; get the archive again")]
    Number(&'static str),
    #[error("{what} of {bytes} bytes; an archive that needs more than {limit} is not read")]
    TooLong { what: &'static str, bytes: u64, limit: u64 },
    #[error("extended records are malformed; get the archive again")]
    Records,
    #[error("what it says of vectors in the space {0} makes no sense; get the archive again")]
    Vectors(String),
    #[error("the map of a sparse file is wrong: {0}; get the archive again")]
    Sparse(&'static str),
    #[error("a part of an archive of several volumes; join the volumes first")]
    Volumes,
}
