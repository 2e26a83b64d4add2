// SPDX-License-Identifier: MIT OR Apache-2.0

//! Everything that must hold in an image: every block matches its checksum, every file can be read, has the number of names
//! it says, and is reached from the root exactly as often.

use std::fmt;

use super::layout;
use super::read::{Image, damage_of};
use crate::error::{Damage, Result};
use crate::fs::record::Kind;

/// Problems told one by one; the rest is counted.
const MOST: usize = 1000;

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// The first problems.
    pub problems: Vec<Problem>,
    /// How many there are.
    pub found: u64,
    /// Files that were looked at.
    pub inodes: u64,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub enum Problem {
    /// Bytes are not what they were, or contradict each other.
    Damaged(Damage),
    /// A name says another type than the file.
    WrongKind {
        /// The file.
        ino: u64,
        /// The directory.
        directory: u64,
    },
    /// A directory is named by another than the one it says it is in.
    WrongParent {
        /// The directory.
        ino: u64,
        /// By whom.
        directory: u64,
    },
    /// A file has another number of names than it says.
    WrongLinks {
        /// The file.
        ino: u64,
        /// What it says.
        told: u32,
        /// Names there are; of a directory with those that every directory has.
        found: u64,
    },
    /// A file has another number of blocks than it says.
    WrongBlocks {
        /// The file.
        ino: u64,
        /// What it says.
        told: u64,
        /// Blocks there are.
        found: u64,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(damage) => damage.fmt(f),
            Self::WrongKind { ino, directory } => {
                write!(f, "inode {ino}: directory {directory} says that it is of another type")
            }
            Self::WrongParent { ino, directory } => {
                write!(
                    f,
                    "directory {ino}: is named in directory {directory}, and says that it is in another"
                )
            }
            Self::WrongLinks { ino, told, found } => write!(f, "inode {ino}: has {found} names and says {told}"),
            Self::WrongBlocks { ino, told, found } => write!(f, "inode {ino}: has {found} blocks and says {told}"),
        }
    }
}

/// Looks at everything. An error is one of the device. `progress` is told of each block and file.
///
/// Takes four bytes of memory for each inode of the image, whose number the image's size bounds.
pub fn check(image: &Image, progress: &mut dyn FnMut()) -> Result<Report> {
    let mut report = Report::default();
    for at in 1..image.head().body_end.get() {
        report.note(image.block(at))?;
        progress();
    }
    let inodes = image.head().inodes.get();
    let mut names = vec![0_u32; usize::try_from(inodes).unwrap_or(0)];
    let mut count = |ino: u64| {
        let place = usize::try_from(ino - 1).ok().and_then(|index| names.get_mut(index));
        if let Some(place) = place {
            *place = place.saturating_add(1);
        }
    };
    for ino in 1..=inodes {
        progress();
        let Some(inode) = report.note(image.inode(ino))? else {
            continue;
        };
        report.inodes += 1;
        report.note(image.xattrs(&inode))?;
        match Kind::of_mode(inode.mode.get()) {
            Some(Kind::File) => {
                let mut found = 0;
                let read = image.extents(&inode, |extent| {
                    found += u64::from(extent.count.get());
                    Ok(())
                });
                let told = inode.blocks.get();
                if report.note(read)?.is_some() && told != found {
                    report.add(Problem::WrongBlocks { ino, told, found });
                }
            }
            Some(Kind::Symlink) => {
                report.note(image.target(&inode))?;
            }
            Some(Kind::Directory) => {
                // Its own, and one of each directory in it.
                let mut found = 2;
                let listed = image.list(&inode, |name| {
                    let child = match image.inode(name.ino) {
                        Ok(child) => child,
                        // Told when its turn comes.
                        Err(error) => return damage_of(error).map(drop),
                    };
                    if Kind::of_mode(child.mode.get()) != Some(name.kind) {
                        report.add(Problem::WrongKind {
                            ino: name.ino,
                            directory: ino,
                        });
                    }
                    if name.kind == Kind::Directory {
                        found += 1;
                        if child.parent.get() != ino || name.ino == layout::ROOT {
                            report.add(Problem::WrongParent {
                                ino: name.ino,
                                directory: ino,
                            });
                        }
                    }
                    count(name.ino);
                    Ok(())
                });
                let told = inode.links.get();
                if report.note(listed)?.is_some() && u64::from(told) != found {
                    report.add(Problem::WrongLinks { ino, told, found });
                }
            }
            _ => {}
        }
    }
    for (ino, found) in (1..).zip(names) {
        let Ok(inode) = image.inode(ino) else {
            continue;
        };
        let told = match Kind::of_mode(inode.mode.get()) {
            _ if ino == layout::ROOT => 0,
            Some(Kind::Directory) => 1,
            _ => inode.links.get(),
        };
        if told != found {
            report.add(Problem::WrongLinks {
                ino,
                told,
                found: u64::from(found),
            });
        }
    }
    Ok(report)
}

impl Report {
    /// Whether nothing is wrong.
    pub const fn is_sound(&self) -> bool {
        self.found == 0
    }

    fn add(&mut self, problem: Problem) {
        self.found += 1;
        if self.problems.len() < MOST {
            self.problems.push(problem);
        }
    }

    /// The value, or a problem.
    fn note<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.add(Problem::Damaged(damage_of(error)?));
                Ok(None)
            }
        }
    }
}
