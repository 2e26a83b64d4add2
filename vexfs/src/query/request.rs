// SPDX-License-Identifier: MIT OR Apache-2.0

//! The documents of requests. Members that are not known are refused.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Outcome, Refusal};
use crate::error::Errno;

/// Version of the language; a request may say it.
pub const VERSION: u64 = 1;

/// What is asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Request {
    Search(Search),
    Put(PutItems),
    Get(Get),
    Delete(Delete),
    Spaces(Nothing),
    CreateSpace(CreateSpace),
    AlterSpace(AlterSpace),
    DropSpace(DropSpace),
    Flush(Nothing),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    pub(super) space: String,
    /// One query…
    #[serde(default)]
    pub(super) query: Option<Query>,
    /// …or several.
    #[serde(default)]
    pub(super) queries: Vec<Query>,
    #[serde(default = "ten")]
    pub(super) k: usize,
    /// Results to leave out: those of earlier pages.
    #[serde(default)]
    pub(super) offset: usize,
    /// How hard to try, from 1 to 100; none: what the space says.
    #[serde(default)]
    pub(super) effort: Option<u16>,
    #[serde(default)]
    pub(super) exact: bool,
    /// Results are at most so far away.
    #[serde(default)]
    pub(super) threshold: Option<f32>,
    #[serde(default)]
    pub(super) filter: Option<Filter>,
    #[serde(default)]
    pub(super) hybrid: Option<Hybrid>,
    /// What to tell of each file.
    #[serde(default)]
    pub(super) attributes: Vec<String>,
}

const fn ten() -> usize {
    10
}

/// What to be near to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum Query {
    /// Numbers.
    Vector(Vec<f64>),
    /// A vector of a file.
    Like(Like),
    /// Text, by the lexical embedder.
    Text(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Like {
    pub(super) path: String,
    #[serde(default)]
    pub(super) ordinal: u32,
}

/// Likeness of text counts too.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hybrid {
    pub(super) text: String,
    /// From 0 (only the vector) to 1 (only the text).
    #[serde(default = "half")]
    pub(super) weight: f32,
    /// `name`, or an attribute that the space declares as text.
    #[serde(default = "name")]
    pub(super) field: String,
}

const fn half() -> f32 {
    0.5
}

fn name() -> String {
    "name".into()
}

/// Which files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    /// Below a directory, or the file itself.
    Under(String),
    Owner(u32),
    Group(u32),
    Mode(Mode),
    /// Nanoseconds since 1970.
    Modified(Range),
    /// Bytes.
    Size(Range),
    /// A pattern with `*`, `?` and `[…]` for the last name of a path.
    Name(String),
    Xattr(Xattr),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mode {
    pub(super) mask: u16,
    pub(super) is: u16,
}

/// Both ends included.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    #[serde(default)]
    pub(super) from: Option<i64>,
    #[serde(default)]
    pub(super) to: Option<i64>,
}

/// A declared attribute exists, or is this text.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Xattr {
    pub(super) name: String,
    #[serde(default)]
    pub(super) is: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutItems {
    pub(super) space: String,
    pub(super) items: Vec<PutItem>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutItem {
    pub(super) path: String,
    #[serde(default)]
    pub(super) ordinal: u32,
    /// The file has no others afterwards.
    #[serde(default)]
    pub(super) whole: bool,
    /// When the contents were modified that they are made of, in nanoseconds.
    #[serde(default)]
    pub(super) of: Option<i64>,
    pub(super) vectors: Vec<Vec<f64>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Get {
    pub(super) space: String,
    pub(super) paths: Vec<String>,
    /// Only when they were made, not the vectors.
    #[serde(default)]
    pub(super) brief: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delete {
    pub(super) space: String,
    pub(super) paths: Vec<String>,
    /// Only this one.
    #[serde(default)]
    pub(super) ordinal: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateSpace {
    pub(super) name: String,
    pub(super) dimensions: u32,
    #[serde(default = "float")]
    pub(super) element: String,
    #[serde(default = "cosine")]
    pub(super) metric: String,
    #[serde(default)]
    pub(super) effort: u16,
    #[serde(default)]
    pub(super) fields: Vec<FieldDocument>,
}

fn float() -> String {
    "f32".into()
}

fn cosine() -> String {
    "cosine".into()
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FieldDocument {
    pub(super) name: String,
    #[serde(rename = "use")]
    pub(super) used: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlterSpace {
    pub(super) name: String,
    #[serde(default)]
    pub(super) rename: Option<String>,
    #[serde(default)]
    pub(super) effort: Option<u16>,
    #[serde(default)]
    pub(super) fields: Option<Vec<FieldDocument>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DropSpace {
    pub(super) name: String,
}

impl Request {
    /// Whether it changes anything.
    pub(super) const fn changes(&self) -> bool {
        match self {
            Self::Put(_) | Self::Delete(_) | Self::CreateSpace(_) | Self::AlterSpace(_) | Self::DropSpace(_) => true,
            Self::Search(_) | Self::Get(_) | Self::Spaces(_) | Self::Flush(_) => false,
        }
    }
}

/// Whether a document may be a request that changes something, without looking at more of it than its operation.
pub(super) fn may_change(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Head {
        op: String,
    }
    let head = serde_json::from_slice::<Head>(bytes);
    !head.is_ok_and(|head| ["search", "get", "spaces", "flush"].contains(&head.op.as_str()))
}

/// Whether bytes are the beginning of a document and not all of it.
pub(super) fn is_incomplete(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err_and(|error| error.is_eof())
}

/// The request of a document.
pub(super) fn parse(bytes: &[u8]) -> Outcome<Request> {
    let wrong = |error: serde_json::Error| Refusal::new(Errno::Invalid, format!("the request: {error}"));
    let mut members: Map<String, Value> = serde_json::from_slice(bytes).map_err(wrong)?;
    if let Some(version) = members.remove("version")
        && version != VERSION
    {
        let message = format!("the request is of version {version}; this engine knows version {VERSION}");
        return Err(Refusal::new(Errno::NotSupported, message));
    }
    serde_json::from_value(Value::Object(members)).map_err(wrong)
}
