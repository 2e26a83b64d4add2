// SPDX-License-Identifier: MIT OR Apache-2.0

//! Vectors as records. All numbers are little-endian.
//!
//! | record | bytes |
//! |---|---|
//! | `VEXFS.space.NAME` | dimensions `u32`; number of the element `u8`, of the metric `u8`, as in the metadata of pools; effort `u16`; then each declared attribute: length `u16` of what follows, number of its use `u8`, name |
//! | `VEXFS.vectors.NAME` | runs of vectors under ordinals that follow each other: the first ordinal `u32`; when the contents were modified that they were made of, `i64` nanoseconds since 1970; length `u32`, and the vectors |
//!
//! A file with vectors has both; a space alone has none of the file's.

use vexfs::fs::record::Timestamp;
use vexfs::fs::vectors::Run;
use vexfs::fs::vectors::space::{Element, Field, Metric, Shape, is_name};

use super::ArchiveError;
use super::pax::Records;
use crate::copy::embeddings::{Described, Embeddings};

const SPACE: &str = "VEXFS.space.";
const VECTORS: &str = "VEXFS.vectors.";

/// The records of vectors.
pub(super) fn describe(embeddings: &Embeddings, records: &mut Records) {
    let Described {
        name,
        shape,
        effort,
        fields,
    } = &embeddings.space;
    let mut space = shape.dimensions.to_le_bytes().to_vec();
    space.extend([shape.element as u8, shape.metric as u8]);
    space.extend(effort.to_le_bytes());
    for field in fields {
        let field = field.encode();
        // Names of attributes are short.
        space.extend(u16::try_from(field.len()).unwrap_or(0).to_le_bytes());
        space.extend(field);
    }
    records.push([SPACE.as_bytes(), name].concat(), space);
    if embeddings.runs.is_empty() {
        return;
    }
    let mut vectors = Vec::new();
    for run in &embeddings.runs {
        vectors.extend(run.ordinal.to_le_bytes());
        vectors.extend(run.of.0.to_le_bytes());
        // A run is no longer than an attribute.
        vectors.extend(u32::try_from(run.bytes.len()).unwrap_or(0).to_le_bytes());
        vectors.extend(&run.bytes);
    }
    records.push([VECTORS.as_bytes(), name].concat(), vectors);
}

/// The vectors that records tell of.
pub(super) fn read(records: &Records) -> Result<Vec<Embeddings>, ArchiveError> {
    let mut found: Vec<Embeddings> = Vec::new();
    for (keyword, value) in records.iter() {
        let wrong = |name: &[u8]| ArchiveError::Vectors(String::from_utf8_lossy(name).into_owned());
        if let Some(name) = keyword.strip_prefix(SPACE.as_bytes()) {
            let space = space(name, value).ok_or_else(|| wrong(name))?;
            found.retain(|other| other.space.name != space.name);
            found.push(Embeddings {
                space,
                runs: Vec::new(),
            });
        } else if let Some(name) = keyword.strip_prefix(VECTORS.as_bytes()) {
            let embeddings = found.iter_mut().find(|embeddings| *embeddings.space.name == *name);
            let embeddings = embeddings.ok_or_else(|| wrong(name))?;
            embeddings.runs = runs(value).ok_or_else(|| wrong(name))?;
        }
    }
    Ok(found)
}

/// Takes bytes from the front.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    take(bytes, N)?.try_into().ok()
}

fn space(name: &[u8], mut bytes: &[u8]) -> Option<Described> {
    let dimensions = u32::from_le_bytes(take_array(&mut bytes)?);
    let [element, metric] = take_array(&mut bytes)?;
    let effort = u16::from_le_bytes(take_array(&mut bytes)?);
    let shape = Shape::new(dimensions, Element::of_number(element)?, Metric::of_number(metric)?).ok()?;
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let length = u16::from_le_bytes(take_array(&mut bytes)?);
        fields.push(Field::decode(take(&mut bytes, length.into())?)?);
    }
    is_name(name).then(|| Described {
        name: name.into(),
        shape,
        effort,
        fields,
    })
}

fn runs(mut bytes: &[u8]) -> Option<Vec<Run>> {
    let mut runs = Vec::new();
    while !bytes.is_empty() {
        let ordinal = u32::from_le_bytes(take_array(&mut bytes)?);
        let of = Timestamp(i64::from_le_bytes(take_array(&mut bytes)?));
        let length = u32::from_le_bytes(take_array(&mut bytes)?);
        runs.push(Run {
            ordinal,
            of,
            bytes: take(&mut bytes, usize::try_from(length).ok()?)?.to_vec(),
        });
    }
    Some(runs)
}
