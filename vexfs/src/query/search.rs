// SPDX-License-Identifier: MIT OR Apache-2.0

//! The nearest vectors of a space, of files that the caller may find.
//!
//! The index of the space finds them. Without one, for an exact search, and where text counts too, all vectors are compared,
//! and several queries share one pass. Whether a vector still exists, whether its file passes the filter and whether the caller
//! may see it is only asked of those that are near enough to be results.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::access::{Caller, Walk, Way};
use super::distance::Near;
use super::filter::Ready;
use super::lexical;
use crate::error::{Errno, Error, Result};
use crate::fs::Fs;
use crate::fs::record::Inode;
use crate::fs::vectors::{Accept, Found, Sought};
use crate::units::Ino;

/// Files that are remembered while a request is answered, besides those that pass.
const REMEMBERED: usize = 65_536;

/// What to look for.
pub(super) struct Wanted<'a> {
    pub(super) space: Ino,
    pub(super) queries: Vec<Near>,
    /// Results of each query.
    pub(super) count: usize,
    pub(super) threshold: Option<f32>,
    pub(super) filter: Option<Ready>,
    pub(super) text: Option<Text<'a>>,
    /// How hard to try; 0: what the space says.
    pub(super) effort: u16,
    /// Compare all vectors.
    pub(super) exact: bool,
}

/// Likeness of text that counts too.
pub(super) struct Text<'a> {
    pub(super) query: &'a str,
    pub(super) weight: f32,
    /// The attribute; none: the name.
    pub(super) attribute: Option<&'a str>,
}

/// A file that may be a result.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) inode: Inode,
    pub(super) ways: Vec<Way>,
    /// Of its text.
    likeness: f32,
}

/// A result.
#[derive(Debug, Clone)]
pub(super) struct Hit {
    /// What results are ordered by.
    pub(super) score: f32,
    pub(super) distance: f32,
    pub(super) vector: u64,
    pub(super) ino: Ino,
    pub(super) ordinal: u32,
    pub(super) file: Rc<Candidate>,
}

/// Results of each query.
pub(super) struct Results {
    pub(super) hits: Vec<Vec<Hit>>,
    /// Nothing was left out because it could not be read.
    pub(super) complete: bool,
    /// All vectors were compared.
    pub(super) exact: bool,
}

/// Finds them.
pub(super) fn search(fs: &Fs, caller: &Caller, wanted: &Wanted<'_>) -> Result<Results> {
    let mut files = Files {
        fs,
        wanted,
        name: format!("{caller:?} {:?}", wanted.filter).into_bytes(),
        walk: Walk::new(fs, caller),
        known: FxHashMap::default(),
        complete: true,
    };
    if !wanted.exact && wanted.text.is_none() {
        let each = wanted.queries.iter().map(|query| files.nearest(query));
        let found: Option<Vec<Vec<Hit>>> = each.collect::<Result<_>>()?;
        if let Some(hits) = found {
            return Ok(Results {
                hits,
                complete: files.complete,
                exact: false,
            });
        }
    }
    let mut hits: Vec<Vec<Hit>> = vec![Vec::new(); wanted.queries.len()];
    let complete = fs.scan_vectors(wanted.space, &mut |found| {
        for (query, hits) in wanted.queries.iter().zip(&mut hits) {
            files.consider(query, &found, hits)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(Results {
        hits,
        complete: complete && files.complete,
        exact: true,
    })
}

/// Files that were looked at.
struct Files<'a> {
    fs: &'a Fs,
    wanted: &'a Wanted<'a>,
    /// Who asks for what files.
    name: Vec<u8>,
    walk: Walk<'a>,
    known: FxHashMap<Ino, Option<Rc<Candidate>>>,
    complete: bool,
}

impl Files<'_> {
    /// What the index finds, if there is one.
    ///
    /// Most callers may see everything near: files are looked at after the search at first, and in it only if one of those
    /// found must not be told.
    fn nearest(&mut self, query: &Near) -> Result<Option<Vec<Hit>>> {
        let (fs, wanted) = (self.fs, self.wanted);
        let name = self.name.clone();
        let mut looks = wanted.filter.is_some();
        loop {
            let files = RefCell::new(&mut *self);
            let passes = |ino: Ino| -> Result<bool> { Ok(files.borrow_mut().file(ino)?.is_some()) };
            let accept = Accept {
                name: &name,
                passes: &passes,
            };
            let sought = Sought {
                query: query.bytes(),
                count: wanted.count,
                effort: wanted.effort,
                below: wanted.threshold.map_or(f32::INFINITY, |most| query.above(most)),
                accept: looks.then_some(accept),
            };
            let Some(neighbours) = fs.nearest_vectors(wanted.space, &sought)? else {
                return Ok(None);
            };
            let mut hits = Vec::with_capacity(neighbours.found.len());
            let mut left_out = false;
            for neighbour in &neighbours.found {
                let distance = query.told(neighbour.distance);
                if wanted.threshold.is_some_and(|most| distance > most) {
                    continue;
                }
                match self.file(neighbour.ino)? {
                    Some(file) => hits.push(Hit {
                        score: distance,
                        distance,
                        vector: neighbour.vector,
                        ino: neighbour.ino,
                        ordinal: neighbour.ordinal,
                        file,
                    }),
                    None => left_out = true,
                }
            }
            if looks || !left_out {
                self.complete &= neighbours.complete;
                return Ok(Some(hits));
            }
            looks = true;
        }
    }

    /// Takes a vector among the hits if it is one of the nearest.
    fn consider(&mut self, query: &Near, found: &Found<'_>, hits: &mut Vec<Hit>) -> Result<()> {
        let distance = query.distance(found.bytes);
        if self.wanted.threshold.is_some_and(|most| distance > most) || distance.is_nan() {
            return Ok(());
        }
        let worst = hits
            .last()
            .map(|hit| hit.score)
            .filter(|_| hits.len() >= self.wanted.count);
        // With text, the least score that a vector at this distance can have.
        let least = self
            .wanted
            .text
            .as_ref()
            .map_or(distance, |text| score(text, distance, 1.0));
        if worst.is_some_and(|worst| least >= worst) || self.wanted.count == 0 {
            return Ok(());
        }
        let Some(file) = self.file(found.ino)? else {
            return Ok(());
        };
        let score = match &self.wanted.text {
            Some(text) => score(text, distance, file.likeness),
            None => distance,
        };
        if worst.is_some_and(|worst| score >= worst)
            || hits.iter().any(|hit| hit.vector == found.vector)
            || !self.fs.is_alive(self.wanted.space, found)?
        {
            return Ok(());
        }
        let at = hits.partition_point(|hit| (hit.score, hit.vector) < (score, found.vector));
        hits.insert(
            at,
            Hit {
                score,
                distance,
                vector: found.vector,
                ino: found.ino,
                ordinal: found.ordinal,
                file,
            },
        );
        hits.truncate(self.wanted.count);
        Ok(())
    }

    /// What there is to know of a file, if it may be a result.
    fn file(&mut self, ino: Ino) -> Result<Option<Rc<Candidate>>> {
        if let Some(known) = self.known.get(&ino) {
            return Ok(known.clone());
        }
        let looked = match self.look(ino) {
            Ok(looked) => looked,
            // It went meanwhile.
            Err(Error::Posix(Errno::Stale | Errno::NoEntry)) => None,
            Err(Error::Damaged(damage)) => {
                tracing::warn!(%ino, %damage, "left out of a search");
                self.complete = false;
                None
            }
            Err(error) => return Err(error),
        };
        let looked = looked.map(Rc::new);
        if looked.is_some() || self.known.len() < REMEMBERED {
            self.known.insert(ino, looked.clone());
        }
        Ok(looked)
    }

    fn look(&mut self, ino: Ino) -> Result<Option<Candidate>> {
        let inode = self.fs.attributes(ino)?.inode;
        let filter = self.wanted.filter.as_ref();
        if filter.is_some_and(|filter| filter.verdict(&inode) == Some(false)) {
            return Ok(None);
        }
        let ways = self.walk.ways(ino, &inode)?;
        if ways.is_empty() {
            return Ok(None);
        }
        if let Some(filter) = filter
            && !filter.passes(self.fs, ino, &inode, &ways)?
        {
            return Ok(None);
        }
        let likeness = match &self.wanted.text {
            None => 0.0,
            Some(text) => match text.attribute {
                None => ways.iter().map(|way| like(text.query, &way.name)).fold(0.0, f32::max),
                Some(attribute) => match self.fs.get_xattr(ino, attribute.as_bytes()) {
                    Ok(value) => like(text.query, &value),
                    Err(Error::Posix(Errno::NoAttribute)) => 0.0,
                    Err(error) => return Err(error),
                },
            },
        };
        Ok(Some(Candidate { inode, ways, likeness }))
    }
}

fn like(query: &str, text: &[u8]) -> f32 {
    lexical::likeness(query, &String::from_utf8_lossy(text))
}

/// Less is better: the distance, less what the text is like.
fn score(text: &Text<'_>, distance: f32, likeness: f32) -> f32 {
    (1.0 - text.weight) * distance - text.weight * likeness
}
