// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which files a search is about: filters made ready for a caller, and looked at file by file.

use super::access::{Caller, SEARCH, Way};
use super::request::{Filter, Range};
use super::{Outcome, Refusal};
use crate::error::{Errno, Error, Result};
use crate::fs::Fs;
use crate::fs::record::Inode;
use crate::fs::vectors::record::Space;
use crate::fs::vectors::space::FieldKind;
use crate::units::Ino;

/// Filters inside one another.
const MAX_PARTS: usize = 256;

/// A filter whose paths are resolved.
#[derive(Debug)]
pub(super) enum Ready {
    And(Vec<Ready>),
    Or(Vec<Ready>),
    Not(Box<Ready>),
    Under(Ino),
    Owner(u32),
    Group(u32),
    Mode(u16, u16),
    Modified(i64, i64),
    Size(i64, i64),
    Name(Vec<char>),
    Xattr(String, Option<String>),
}

/// Makes a filter ready. What its paths name must be reachable by the caller.
pub(super) fn ready(fs: &Fs, caller: &Caller, space: &Space, filter: &Filter) -> Outcome<Ready> {
    let mut parts = 0;
    prepare(fs, caller, space, filter, &mut parts)
}

fn prepare(fs: &Fs, caller: &Caller, space: &Space, filter: &Filter, parts: &mut usize) -> Outcome<Ready> {
    *parts += 1;
    if *parts > MAX_PARTS {
        let message = format!("a filter has at most {MAX_PARTS} parts");
        return Err(Refusal::new(Errno::Invalid, message));
    }
    let ends = |range: &Range| (range.from.unwrap_or(i64::MIN), range.to.unwrap_or(i64::MAX));
    let mut all = |filters: &[Filter]| -> Outcome<Vec<Ready>> {
        let each = filters.iter().map(|filter| prepare(fs, caller, space, filter, parts));
        each.collect()
    };
    Ok(match filter {
        Filter::And(filters) => Ready::And(all(filters)?),
        Filter::Or(filters) => Ready::Or(all(filters)?),
        Filter::Not(filter) => Ready::Not(Box::new(prepare(fs, caller, space, filter, parts)?)),
        Filter::Under(path) => Ready::Under(caller.resolve(fs, path, SEARCH)?.ino),
        Filter::Owner(uid) => Ready::Owner(*uid),
        Filter::Group(gid) => Ready::Group(*gid),
        Filter::Mode(mode) => Ready::Mode(mode.mask, mode.is),
        Filter::Modified(range) => {
            let (from, to) = ends(range);
            Ready::Modified(from, to)
        }
        Filter::Size(range) => {
            let (from, to) = ends(range);
            Ready::Size(from, to)
        }
        Filter::Name(pattern) => Ready::Name(pattern.chars().collect()),
        Filter::Xattr(wanted) => {
            let declared = space
                .fields
                .iter()
                .any(|field| field.kind() == Some(FieldKind::Filter) && *field.name == *wanted.name.as_bytes());
            if !declared {
                let message = format!("the space does not declare {} for filters", wanted.name);
                return Err(Refusal::new(Errno::Invalid, message));
            }
            Ready::Xattr(wanted.name.clone(), wanted.is.clone())
        }
    })
}

impl Ready {
    /// Whether a file is meant, if its inode alone tells.
    pub(super) fn verdict(&self, inode: &Inode) -> Option<bool> {
        // One that decides, or all.
        let decided = |filters: &[Self], by: bool| {
            let mut verdict = Some(!by);
            for filter in filters {
                match filter.verdict(inode) {
                    Some(one) if one == by => return Some(by),
                    Some(_) => {}
                    None => verdict = None,
                }
            }
            verdict
        };
        match self {
            Self::And(filters) => decided(filters, false),
            Self::Or(filters) => decided(filters, true),
            Self::Not(filter) => filter.verdict(inode).map(|verdict| !verdict),
            Self::Owner(uid) => Some(inode.uid == *uid),
            Self::Group(gid) => Some(inode.gid == *gid),
            Self::Mode(mask, is) => Some(inode.mode & 0o7777 & mask == *is),
            Self::Modified(from, to) => Some((*from..=*to).contains(&inode.modified.0)),
            Self::Size(from, to) => Some((*from..=*to).contains(&i64::try_from(inode.size).unwrap_or(i64::MAX))),
            Self::Under(_) | Self::Name(_) | Self::Xattr(..) => None,
        }
    }

    /// Whether a file is meant, under one of the ways to it.
    pub(super) fn passes(&self, fs: &Fs, ino: Ino, inode: &Inode, ways: &[Way]) -> Result<bool> {
        Ok(match self {
            Self::And(filters) => {
                for filter in filters {
                    if !filter.passes(fs, ino, inode, ways)? {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Or(filters) => {
                for filter in filters {
                    if filter.passes(fs, ino, inode, ways)? {
                        return Ok(true);
                    }
                }
                false
            }
            Self::Not(filter) => !filter.passes(fs, ino, inode, ways)?,
            Self::Under(top) => ino == *top || ways.iter().any(|way| way.directory.above.contains(top)),
            Self::Owner(_) | Self::Group(_) | Self::Mode(..) | Self::Modified(..) | Self::Size(..) => {
                self.verdict(inode).unwrap_or(false)
            }
            Self::Name(pattern) => ways.iter().any(|way| {
                let name: Vec<char> = String::from_utf8_lossy(&way.name).chars().collect();
                matches(pattern, &name)
            }),
            Self::Xattr(name, is) => match fs.get_xattr(ino, name.as_bytes()) {
                Ok(value) => is.as_ref().is_none_or(|is| *value == *is.as_bytes()),
                Err(Error::Posix(Errno::NoAttribute)) => false,
                Err(error) => return Err(error),
            },
        })
    }
}

/// Whether a name is as a pattern says: `*` any letters, `?` any one, `[a-z]` or `[!a-z]` one of some. The pattern's last
/// `*` is tried again at the next letter when what follows does not fit, so the work is bounded by the product of lengths.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut letter) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while letter < name.len() {
        match one(pattern.get(at..).unwrap_or_default(), name[letter]) {
            Step::Star => {
                star = Some((at + 1, letter));
                at += 1;
            }
            Step::Fits(length) => {
                at += length;
                letter += 1;
            }
            Step::Differs => match star {
                Some((after, from)) => {
                    at = after;
                    letter = from + 1;
                    star = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern
        .get(at..)
        .unwrap_or_default()
        .iter()
        .all(|letter| *letter == '*')
}

enum Step {
    Star,
    /// So much of the pattern fits one letter.
    Fits(usize),
    Differs,
}

fn one(pattern: &[char], letter: char) -> Step {
    match pattern {
        ['*', ..] => Step::Star,
        ['?', ..] => Step::Fits(1),
        ['[', rest @ ..] => match rest.iter().skip(1).position(|letter| *letter == ']') {
            Some(end) => {
                let set = rest.get(..=end).unwrap_or_default();
                let (not, set) = match set {
                    ['!', set @ ..] if !set.is_empty() => (true, set),
                    set => (false, set),
                };
                if has(set, letter) == not {
                    Step::Differs
                } else {
                    Step::Fits(end + 3)
                }
            }
            None if letter == '[' => Step::Fits(1),
            None => Step::Differs,
        },
        [same, ..] if *same == letter => Step::Fits(1),
        _ => Step::Differs,
    }
}

fn has(set: &[char], letter: char) -> bool {
    let mut rest = set;
    while let [first, later @ ..] = rest {
        if let ['-', last, after @ ..] = later {
            if (*first..=*last).contains(&letter) {
                return true;
            }
            rest = after;
        } else {
            if *first == letter {
                return true;
            }
            rest = later;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #[test]
    fn patterns_are_those_of_the_shell() {
        let matches = |pattern: &str, name: &str| {
            let letters = |text: &str| text.chars().collect::<Vec<_>>();
            super::matches(&letters(pattern), &letters(name))
        };
        for (pattern, name) in [
            ("*.txt", "a.txt"),
            ("*", ""),
            ("a*b*c", "aXbXbYc"),
            ("?[a-c]x", "zbx"),
            ("[!a]b", "cb"),
            ("[]]", "]"),
            ("[", "["),
            ("ä?", "äö"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.txt", "a.txt2"),
            ("?", ""),
            ("[a-c]", "d"),
            ("[!a]b", "ab"),
            ("a", ""),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(50), &"a".repeat(49)));
    }
}
