// SPDX-License-Identifier: MIT OR Apache-2.0

//! Before a tree is copied: has the kernel write what it holds back of the files in it, and waits for that.
//!
//! It may hold back bytes of any file that it knows, written under the option `writeback` or through a shared mapping; which
//! files those are it does not tell, nor what is open (see `filesystem::negotiate`). A sync of the whole mount starts these
//! writes and waits for none: up to Linux 6.15 a page counts as clean once it is copied into a request, and from 6.16 on the
//! wait passes over FUSE. Closing a file does wait for all writes of that file, whoever made them, and asks the server for
//! nothing. So after the sync the guardian, which can reach the mount, opens and closes every regular file of the tree
//! that the kernel knows. That costs far less than the copy, which makes each file anew.
//!
//! A file that cannot be opened, because the mount is a user's who may not, is taken out of the kernel's cache instead. From
//! Linux 6.16 on that waits too; before, it misses writes that are under way, and the log says so. What is moved inside the
//! tree meanwhile may be missed.

use std::collections::HashSet;
use std::io;

use fuser::{INodeNo, Notifier};
use vexfs::fs::Fs;
use vexfs::fs::record::Kind;
use vexfs::units::Ino;

use crate::batch::Batch;
use crate::filesystem::lookups::Lookups;
use crate::guardian::Guardian;
use crate::serve::Failure;

/// Entries of a directory asked for at once.
const LISTED: usize = 1024;

/// See the module's text.
pub(crate) struct WriteBack<'a> {
    pub(crate) fs: &'a Fs,
    pub(crate) lookups: &'a Lookups,
    pub(crate) guardian: &'a Guardian,
    pub(crate) notifier: Option<&'a Notifier>,
}

impl WriteBack<'_> {
    /// Returns once the engine has all that was written to a file or a tree before this was called. `path` leads to it.
    pub(crate) fn of(&self, path: &[u8], source: Ino) -> io::Result<()> {
        self.guardian.write_back().map_err(io::Error::other)?;
        if self.lookups.is_empty() {
            return Ok(());
        }
        let mut names = plain(path);
        let unreached = if self
            .fs
            .attributes(source)
            .map_err(io::Error::other)?
            .inode
            .is_directory()
        {
            self.tree(source, below(&names))?
        } else {
            let name = names.pop().unwrap_or_default();
            self.files(&below(&names), &[(source, name.into())])?
        };
        if unreached > 0 {
            tracing::warn!(
                files = unreached,
                "not permitted to open them: before Linux 6.16, the copy may lack what was written to them last"
            );
        }
        Ok(())
    }

    /// How many files could not be reached.
    fn tree(&self, top: Ino, path: Vec<u8>) -> io::Result<usize> {
        let mut unreached = 0;
        // Each once: in a damaged pool a directory may be below itself.
        let mut seen = HashSet::from([top]);
        let mut pending = vec![(top, path)];
        while let Some((directory, path)) = pending.pop() {
            // Behind `.` and `..`.
            let mut from = 2;
            loop {
                let some = match self.fs.list(directory, from, LISTED).map_err(Failure::from) {
                    // Removed since it was listed.
                    Err(failure) if failure.is_absent() => break,
                    listed => listed.map_err(io::Error::other)?,
                };
                let Some(last) = some.last() else { break };
                from = last.next;
                let mut known = Vec::new();
                for entry in some {
                    match entry.kind {
                        Kind::Directory if seen.insert(entry.ino) => {
                            pending.push((entry.ino, [&path[..], &entry.name, b"/"].concat()));
                        }
                        Kind::File if self.lookups.has(entry.ino) => known.push((entry.ino, entry.name)),
                        _ => {}
                    }
                }
                unreached += self.files(&path, &known)?;
            }
        }
        Ok(unreached)
    }

    /// Files of one directory.
    fn files(&self, directory: &[u8], files: &[(Ino, Box<[u8]>)]) -> io::Result<usize> {
        let mut unreached = 0;
        let mut rest = files;
        while !rest.is_empty() {
            let Some((batch, count)) = Batch::of(directory, rest.iter().map(|(_, name)| &**name)) else {
                unreached += rest.iter().filter(|(ino, _)| self.take_from_cache(*ino)).count();
                break;
            };
            let (some, later) = rest.split_at(count);
            rest = later;
            for at in self.guardian.close_once(&batch).map_err(io::Error::other)? {
                if let Some((ino, _)) = some.get(at) {
                    unreached += usize::from(self.take_from_cache(*ino));
                }
            }
        }
        Ok(unreached)
    }

    /// Whether the file still has a name: else it is in no tree.
    fn take_from_cache(&self, ino: Ino) -> bool {
        let told = self.notifier.map(|notifier| notifier.inval_inode(INodeNo(ino.0), 0, 0));
        if let Some(Err(error)) = told {
            tracing::debug!(%ino, %error, "not taken from the cache");
        }
        self.fs.attributes(ino).is_ok_and(|found| found.inode.links > 0)
    }
}

/// The names on a path, read as [`Fs::resolve`] does.
fn plain(path: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names
}

/// What paths of files in a directory begin with.
fn below(names: &[&[u8]]) -> Vec<u8> {
    names.iter().flat_map(|name| name.iter().chain(b"/")).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_the_engine_reads_it() {
        assert_eq!(below(&plain(b"/./a//b/../c/")), b"a/c/");
        assert_eq!(below(&plain(b"/../..")), b"");
    }
}
