// SPDX-License-Identifier: MIT OR Apache-2.0

//! Doing what a request says.

use std::fmt::Write as _;

use half::f16;
use serde_json::{Map, Value, json};

use super::access::{Caller, READ, WRITE};
use super::binary::Item;
use super::changes::Changes;
use super::distance::Near;
use super::request::{
    AlterSpace, CreateSpace, Delete, FieldDocument, Get, PutItem, PutItems, Query, Request, Search, VERSION,
};
use super::search::{self, Hit, Text, Wanted};
use super::{Outcome, Refusal, binary, filter, lexical, request};
use crate::error::{Errno, Error};
use crate::fs::record::Timestamp;
use crate::fs::vectors::space::{Element, Field, FieldKind, Metric, Shape};
use crate::fs::vectors::{Alteration, MAX_ORDINALS, NewSpace, Put, Removal, SpaceInfo};
use crate::fs::{Attributes, Fs, MAX_XATTR_VALUE, Patience};
use crate::units::Ino;

/// Results of one query, those left out included.
const MAX_RESULTS: usize = 10_000;
/// The hardest that a search can try.
const MOST_EFFORT: u16 = 100;
/// Queries of one request.
const MAX_QUERIES: usize = 1000;

/// An answer, and what a front end must know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// One JSON document, and a line feed.
    pub answer: Vec<u8>,
    /// Files whose attributes changed.
    pub changed: Vec<Ino>,
}

/// Answers a request.
pub fn answer(fs: &Fs, caller: &Caller, request: &[u8], now: Timestamp) -> Answered {
    answer_with(fs, caller, request, now, &Changes::Free)
}

/// Answers a request, which may change something or not.
pub fn answer_with(fs: &Fs, caller: &Caller, request: &[u8], now: Timestamp, allowed: &Changes) -> Answered {
    let mut changed = Vec::new();
    let doing = Doing {
        fs,
        caller,
        now,
        changes: allowed,
        changed: &mut changed,
    };
    let answer = match doing.run(request) {
        Ok(document) => written(document),
        Err(refusal) => failed(&refusal),
    };
    Answered { answer, changed }
}

/// The answer to a request that is refused.
pub fn failed(refusal: &Refusal) -> Vec<u8> {
    let name = nix::errno::Errno::from_raw(refusal.errno);
    let error = json!({"errno": refusal.errno, "name": format!("{name:?}"), "message": refusal.message});
    written(document([("error", error)]))
}

fn written(mut document: Document) -> Vec<u8> {
    document.insert("version".to_owned(), VERSION.into());
    let mut answer = Value::Object(document).to_string().into_bytes();
    answer.push(b'\n');
    answer
}

type Document = Map<String, Value>;

fn document<const N: usize>(members: [(&str, Value); N]) -> Document {
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Numbers as the bytes of a vector of a shape; why not, if they are none.
pub fn encode_numbers(shape: Shape, numbers: &[f64]) -> Result<Vec<u8>, String> {
    if numbers.len() != shape.dimensions as usize {
        let (given, wanted) = (numbers.len(), shape.dimensions);
        return Err(format!("{given} numbers are no vector of {wanted} dimensions"));
    }
    let mut bytes = Vec::with_capacity(shape.vector_bytes());
    match shape.element {
        #[expect(clippy::cast_possible_truncation, reason = "what becomes infinite is refused")]
        Element::F32 => numbers
            .iter()
            .for_each(|number| bytes.extend((*number as f32).to_le_bytes())),
        Element::F16 => {
            let halves = numbers.iter().map(|number| f16::from_f64(*number));
            halves.for_each(|half| bytes.extend(half.to_le_bytes()));
        }
        Element::I8 => {
            for number in numbers {
                if number.fract() != 0.0 || !(-128.0..=127.0).contains(number) {
                    return Err(format!("{number} is no signed byte"));
                }
                #[expect(clippy::cast_possible_truncation, reason = "looked at above")]
                bytes.push((*number as i8).cast_unsigned());
            }
        }
        Element::Binary => {
            bytes.resize(shape.vector_bytes(), 0);
            for (at, number) in numbers.iter().enumerate() {
                let bit = if number.total_cmp(&1.0).is_eq() {
                    1
                } else if *number == 0.0 {
                    0
                } else {
                    return Err(format!("{number} is no bit"));
                };
                if let Some(byte) = bytes.get_mut(at / 8) {
                    *byte |= bit << (at % 8);
                }
            }
        }
    }
    match shape.count(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

/// Bytes of a vector as numbers.
fn decode_numbers(shape: Shape, bytes: &[u8]) -> Vec<Value> {
    let number = |value: f64| serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number);
    match shape.element {
        Element::F32 => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|four| number(f64::from(f32::from_le_bytes(*four))))
            .collect(),
        Element::F16 => bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|two| number(f16::from_le_bytes(*two).to_f64()))
            .collect(),
        Element::I8 => bytes.iter().map(|byte| byte.cast_signed().into()).collect(),
        Element::Binary => {
            let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (at % 8) & 1);
            (0..shape.dimensions as usize).map(|at| bit(at).into()).collect()
        }
    }
}

/// The vector of a text in a space, by the lexical embedder.
fn encode_text(shape: Shape, text: &str) -> Result<Vec<u8>, String> {
    let numbers = lexical::embed(text, shape.dimensions as usize)
        .into_iter()
        .map(f64::from);
    let numbers: Vec<f64> = match shape.element {
        Element::F32 | Element::F16 => numbers.collect(),
        Element::I8 => numbers.map(|number| (number * 127.0).round()).collect(),
        Element::Binary => numbers.map(|number| f64::from(u8::from(number > 0.0))).collect(),
    };
    encode_numbers(shape, &numbers)
}

/// A path in an answer: as text, and in hexadecimal digits if it is none.
fn path_document(path: &[u8]) -> Value {
    if let Ok(text) = std::str::from_utf8(path) {
        return text.into();
    }
    let mut hex = String::with_capacity(2 * path.len());
    for byte in path {
        // Writing into a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    json!({ "hex": hex })
}

/// What an answer says of an item that was not put.
fn failed_item(index: usize, errno: i32, message: &str) -> Value {
    json!({"item": index, "errno": errno, "message": message})
}

struct Doing<'a> {
    fs: &'a Fs,
    caller: &'a Caller,
    now: Timestamp,
    changes: &'a Changes,
    changed: &'a mut Vec<Ino>,
}

impl Doing<'_> {
    fn run(self, bytes: &[u8]) -> Outcome<Document> {
        if bytes.len() > super::MAX_REQUEST {
            return Err(Refusal::new(Errno::AttributeTooLarge, "the request is too long"));
        }
        if binary::is_binary(bytes) {
            self.must_change()?;
            return self.put_binary(bytes);
        }
        let request = request::parse(bytes)?;
        if request.changes() {
            self.must_change()?;
        }
        match request {
            Request::Search(search) => self.search(&search),
            Request::Put(put) => self.put(&put),
            Request::Get(get) => self.get(&get),
            Request::Delete(delete) => self.delete(&delete),
            Request::Spaces(_) => self.spaces(),
            Request::CreateSpace(create) => self.create_space(&create),
            Request::AlterSpace(alter) => self.alter_space(&alter),
            Request::DropSpace(drop) => self.drop_space(&drop.name),
            Request::Flush(_) => {
                self.fs.flush().map_err(|error| Refusal::of("flushing", &error))?;
                Ok(Document::new())
            }
        }
    }

    fn must_change(&self) -> Outcome<()> {
        match self.changes {
            Changes::Free | Changes::Once(_) => Ok(()),
            Changes::Refused => {
                let message = "the mount is read-only or frozen: nothing can be changed through it";
                Err(Refusal::new(Errno::ReadOnly, message))
            }
        }
    }

    fn space(&self, name: &str) -> Outcome<SpaceInfo> {
        let found = self.fs.space(name.as_bytes());
        found.map_err(|error| Refusal::of(&format!("space {name:?}"), &error))
    }

    /// Spaces are the affair of the administrator and of the owner of the root.
    fn administers(&self) -> Outcome<bool> {
        let root = self.fs.attributes(Ino::ROOT);
        let root = root.map_err(|error| Refusal::of("the root", &error))?;
        Ok(self.caller.may_all || self.caller.uid == root.inode.uid)
    }

    fn must_administer(&self) -> Outcome<()> {
        if self.administers()? {
            return Ok(());
        }
        let message = "only the administrator and the owner of the root change spaces";
        Err(Refusal::new(Errno::NotPermitted, message))
    }

    fn spaces(&self) -> Outcome<Document> {
        let spaces = self.fs.spaces().map_err(|error| Refusal::of("spaces", &error))?;
        let tells_counts = self.administers()?;
        let spaces: Vec<Value> = spaces.iter().map(|info| space_document(info, tells_counts)).collect();
        Ok(document([("spaces", spaces.into())]))
    }

    fn create_space(&self, new: &CreateSpace) -> Outcome<Document> {
        self.must_administer()?;
        let wrong = |message: String| Refusal::new(Errno::Invalid, message);
        let element = Element::of_text(&new.element);
        let element = element.ok_or_else(|| wrong(format!("{:?}: f32, f16, i8 or binary", new.element)))?;
        let metric = Metric::of_text(&new.metric);
        let metric = metric.ok_or_else(|| wrong(format!("{:?}: cosine, l2, dot, l1 or hamming", new.metric)))?;
        let shape = Shape::new(new.dimensions, element, metric).map_err(|error| wrong(error.to_string()))?;
        if new.effort > MOST_EFFORT {
            return Err(wrong("effort is from 0 to 100".to_owned()));
        }
        let fields = fields(&new.fields)?;
        let space = NewSpace {
            name: new.name.as_bytes(),
            shape,
            effort: new.effort,
            fields: &fields,
            now: self.now,
        };
        let made = if self.changes.has(1) {
            self.fs.space(new.name.as_bytes()).map(|info| info.id)
        } else {
            let create = || self.fs.create_space_marked(&space, self.changes.mark(1));
            self.fs.with_room(Patience::Wait, create)
        };
        let id = made.map_err(|error| Refusal::of(&format!("space {:?}", new.name), &error))?;
        Ok(document([("id", id.0.into())]))
    }

    fn alter_space(&self, alter: &AlterSpace) -> Outcome<Document> {
        self.must_administer()?;
        if alter.effort.is_some_and(|effort| effort > MOST_EFFORT) {
            return Err(Refusal::new(Errno::Invalid, "effort is from 0 to 100"));
        }
        let fields = alter.fields.as_deref().map(fields).transpose()?;
        let alteration = Alteration {
            name: alter.rename.as_deref().map(str::as_bytes),
            effort: alter.effort,
            fields: fields.as_deref(),
            now: self.now,
        };
        if !self.changes.has(1) {
            let mark = self.changes.mark(1);
            let change = || self.fs.alter_space(alter.name.as_bytes(), &alteration, mark);
            let altered = self.fs.with_room(Patience::Wait, change);
            altered.map_err(|error| Refusal::of(&format!("space {:?}", alter.name), &error))?;
        }
        Ok(Document::new())
    }

    fn drop_space(&self, name: &str) -> Outcome<Document> {
        self.must_administer()?;
        // What a server left of it that died meanwhile went when the pool was opened.
        if !self.changes.has(1) {
            let mark = self.changes.mark(1);
            let dropped = self.fs.drop_space_marked(name.as_bytes(), self.now, mark);
            dropped.map_err(|error| Refusal::of(&format!("space {name:?}"), &error))?;
        }
        Ok(Document::new())
    }

    fn put(mut self, put: &PutItems) -> Outcome<Document> {
        let info = self.space(&put.space)?;
        let encode = |item: &PutItem| -> Result<Vec<u8>, String> {
            let vectors = item
                .vectors
                .iter()
                .map(|numbers| encode_numbers(info.space.shape, numbers));
            Ok(vectors.collect::<Result<Vec<_>, _>>()?.concat())
        };
        let mut errors = Vec::new();
        let mut encoded = Vec::new();
        for (index, item) in put.items.iter().enumerate() {
            match encode(item) {
                Ok(bytes) => encoded.push((index, item, bytes)),
                Err(message) => errors.push(failed_item(index, Errno::Invalid.number(), &message)),
            }
        }
        let items = encoded.iter().map(|(index, item, bytes)| {
            let item = Item {
                path: &item.path,
                ordinal: item.ordinal,
                whole: item.whole,
                of: item.of,
                bytes,
            };
            (*index, item)
        });
        let items: Vec<(usize, Item<'_>)> = items.collect();
        self.put_all(&info, &items, errors)
    }

    fn put_binary(mut self, bytes: &[u8]) -> Outcome<Document> {
        let parsed = binary::parse(bytes)?;
        let info = self.space(parsed.space)?;
        let items: Vec<(usize, Item<'_>)> = parsed.items.into_iter().enumerate().collect();
        self.put_all(&info, &items, Vec::new())
    }

    /// Puts what can be put; tells what became of the others.
    fn put_all(&mut self, info: &SpaceInfo, items: &[(usize, Item<'_>)], mut errors: Vec<Value>) -> Outcome<Document> {
        let mut puts = Vec::new();
        let mut indices = Vec::new();
        let mut done = 0;
        // More than one operation takes: in parts, the first of which says what becomes of the others.
        let vector = info.space.shape.vector_bytes();
        let part = (MAX_XATTR_VALUE / vector).max(1) * vector;
        // Parts are numbered whether they can be put or not: the numbers follow from the request alone.
        let mut next = 0;
        for &(index, item) in items {
            let mut step = next;
            next += item.bytes.len().div_ceil(part) as u64;
            let found = match self.caller.resolve(self.fs, item.path, WRITE) {
                Ok(found) => found,
                Err(refusal) => {
                    errors.push(failed_item(index, refusal.errno, &refusal.message));
                    continue;
                }
            };
            if let Err(error) = info.space.shape.count(item.bytes) {
                errors.push(failed_item(index, Errno::Invalid.number(), &error.to_string()));
                continue;
            }
            let mut at = item.ordinal;
            for (number, bytes) in item.bytes.chunks(part).enumerate() {
                let put = Put {
                    ino: found.ino,
                    space: info.id,
                    ordinal: at,
                    whole: item.whole && number == 0,
                    of: item.of.map(Timestamp),
                    bytes,
                    now: self.now,
                };
                step += 1;
                at = at.saturating_add(u32::try_from(bytes.len() / vector).unwrap_or(u32::MAX));
                if !self.changes.has(step) {
                    puts.push(put);
                    indices.push((index, step));
                } else if self.is_put(&put)? {
                    done += bytes.len() / vector;
                    self.changed.push(found.ino);
                } else {
                    // It was refused, or others have changed it since: doing it again could undo what they did.
                    let message = "the server was replaced meanwhile, and the file has other vectors: put them again";
                    errors.push(failed_item(index, Errno::Failed.number(), message));
                }
            }
        }
        let mark = |number: usize| indices.get(number).and_then(|(_, step)| self.changes.mark(*step));
        let results = self.fs.put_many_vectors_marked(&puts, mark);
        let results = results.map_err(|error| Refusal::of("putting", &error))?;
        for ((put, (index, _)), result) in puts.iter().zip(indices).zip(results) {
            match result {
                Ok(()) => {
                    done += put.bytes.len() / info.space.shape.vector_bytes().max(1);
                    self.changed.push(put.ino);
                }
                Err(error) => errors.push(failed_item(index, error.errno(), &error.to_string())),
            }
        }
        Ok(document([("vectors", done.into()), ("errors", errors.into())]))
    }

    /// Whether a file has exactly these vectors, under these ordinals.
    fn is_put(&self, put: &Put<'_>) -> Outcome<bool> {
        let found = self.fs.vectors_of(put.ino, put.space);
        let found = found.map_err(|error| Refusal::of("putting", &error))?;
        let from = found.iter().skip_while(|vector| vector.ordinal < put.ordinal);
        let bytes = from.flat_map(|vector| vector.bytes.iter());
        Ok(bytes.take(put.bytes.len()).eq(put.bytes.iter()))
    }

    fn get(&self, get: &Get) -> Outcome<Document> {
        let info = self.space(&get.space)?;
        let mut files = Vec::new();
        for path in &get.paths {
            let found = self.caller.resolve(self.fs, path, READ)?;
            let refuse = |error: Error| Refusal::of(path, &error);
            let inode = found.inode;
            let mut file = document([("path", path.as_str().into()), ("modified", inode.modified.0.into())]);
            if get.brief {
                let of = self.fs.vectors_made_of(found.ino, info.id).map_err(refuse)?;
                file.insert("of".into(), of.map(|of| of.0).into());
            } else {
                let vectors = self.fs.vectors_of(found.ino, info.id).map_err(refuse)?;
                let vectors: Vec<Value> = vectors
                    .iter()
                    .map(|vector| {
                        let numbers = decode_numbers(info.space.shape, &vector.bytes);
                        json!({"ordinal": vector.ordinal, "of": vector.of.0, "vector": numbers})
                    })
                    .collect();
                file.insert("vectors".into(), vectors.into());
            }
            files.push(Value::Object(file));
        }
        Ok(document([("files", files.into())]))
    }

    fn delete(self, delete: &Delete) -> Outcome<Document> {
        let info = self.space(&delete.space)?;
        let (from, count) = delete.ordinal.map_or((0, MAX_ORDINALS), |ordinal| (ordinal, 1));
        let mut deleted = 0;
        for (path, step) in delete.paths.iter().zip(1..) {
            let found = self.caller.resolve(self.fs, path, WRITE)?;
            if self.changes.has(step) {
                deleted += 1;
                self.changed.push(found.ino);
                continue;
            }
            let removal = Removal {
                ino: found.ino,
                space: info.id,
                from,
                count,
                now: self.now,
            };
            match self.fs.remove_vectors_marked(&removal, self.changes.mark(step)) {
                Ok(()) => {
                    deleted += 1;
                    self.changed.push(found.ino);
                }
                Err(Error::Posix(Errno::NoAttribute)) => {}
                Err(error) => return Err(Refusal::of(path, &error)),
            }
        }
        Ok(document([("files", deleted.into())]))
    }

    fn search(&self, search: &Search) -> Outcome<Document> {
        let info = self.space(&search.space)?;
        let wrong = |message: &str| Refusal::new(Errno::Invalid, message);
        let queries: Vec<&Query> = search.query.iter().chain(&search.queries).collect();
        if queries.is_empty() || queries.len() > MAX_QUERIES {
            return Err(wrong("a search has 1 to 1000 queries: `query` or `queries`"));
        }
        let count = search.k.saturating_add(search.offset);
        if search.k == 0 || count > MAX_RESULTS {
            return Err(wrong("a search has 1 to 10000 results, those left out included"));
        }
        if search.effort.is_some_and(|effort| !(1..=MOST_EFFORT).contains(&effort)) {
            return Err(wrong("effort is from 1 to 100"));
        }
        let near = |query: &&Query| self.near(&info, query);
        let queries = queries.iter().map(near).collect::<Outcome<Vec<_>>>()?;
        let ready = search.filter.as_ref();
        let ready = ready
            .map(|wanted| filter::ready(self.fs, self.caller, &info.space, wanted))
            .transpose()?;
        let text = match &search.hybrid {
            None => None,
            Some(hybrid) => {
                if !(0.0..=1.0).contains(&hybrid.weight) {
                    return Err(wrong("the weight of text is from 0 to 1"));
                }
                let attribute = (hybrid.field != "name").then_some(hybrid.field.as_str());
                let declared = attribute.is_none_or(|attribute| {
                    let mut texts = info
                        .space
                        .fields
                        .iter()
                        .filter(|field| field.kind() == Some(FieldKind::Text));
                    texts.any(|field| *field.name == *attribute.as_bytes())
                });
                if !declared {
                    return Err(wrong(&format!("the space does not declare {} as text", hybrid.field)));
                }
                Some(Text {
                    query: &hybrid.text,
                    weight: hybrid.weight,
                    attribute,
                })
            }
        };
        let wanted = Wanted {
            space: info.id,
            queries,
            count,
            threshold: search.threshold,
            filter: ready,
            text,
            effort: search.effort.unwrap_or(0),
            exact: search.exact,
        };
        let found = search::search(self.fs, self.caller, &wanted).map_err(|error| Refusal::of("searching", &error))?;
        let mut results = Vec::with_capacity(found.hits.len());
        for hits in &found.hits {
            let page = hits.iter().skip(search.offset);
            let page = page.map(|hit| self.hit(hit, search)).collect::<Outcome<Vec<_>>>()?;
            results.push(Value::Array(page));
        }
        let partial = !found.complete;
        Ok(document([
            ("results", results.into()),
            ("partial", partial.into()),
            ("exact", found.exact.into()),
        ]))
    }

    fn near(&self, info: &SpaceInfo, query: &Query) -> Outcome<Near> {
        let shape = info.space.shape;
        let wrong = |message: String| Refusal::new(Errno::Invalid, message);
        let bytes = match query {
            Query::Vector(numbers) => encode_numbers(shape, numbers).map_err(wrong)?,
            Query::Text(text) => encode_text(shape, text).map_err(wrong)?,
            Query::Like(like) => {
                let found = self.caller.resolve(self.fs, &like.path, READ)?;
                let vectors = self.fs.vectors_of(found.ino, info.id);
                let vectors = vectors.map_err(|error| Refusal::of(&like.path, &error))?;
                let vector = vectors.into_iter().find(|vector| vector.ordinal == like.ordinal);
                let missing = || {
                    let (path, ordinal) = (&like.path, like.ordinal);
                    Refusal::new(
                        Errno::NoAttribute,
                        format!("{path} has no vector {ordinal} in this space"),
                    )
                };
                vector.ok_or_else(missing)?.bytes.into_vec()
            }
        };
        Ok(Near::new(shape, bytes))
    }

    fn hit(&self, hit: &Hit, search: &Search) -> Outcome<Value> {
        let mut paths = hit.file.ways.iter().map(|way| path_document(&way.path()));
        let mut result = document([
            ("path", paths.next().unwrap_or_default()),
            ("ordinal", hit.ordinal.into()),
            ("distance", hit.distance.into()),
        ]);
        let others: Vec<Value> = paths.collect();
        if !others.is_empty() {
            result.insert("other_paths".into(), others.into());
        }
        if search.hybrid.is_some() {
            result.insert("score".into(), hit.score.into());
        }
        if !search.attributes.is_empty() {
            let found = Attributes {
                ino: hit.ino,
                inode: hit.file.inode,
            };
            let mut told = Document::new();
            for name in &search.attributes {
                told.insert(name.clone(), self.attribute(&found, name)?);
            }
            result.insert("attributes".into(), told.into());
        }
        Ok(Value::Object(result))
    }

    fn attribute(&self, found: &Attributes, name: &str) -> Outcome<Value> {
        let inode = &found.inode;
        Ok(match name {
            "ino" => found.ino.0.into(),
            "size" => inode.size.into(),
            "mode" => inode.mode.into(),
            "uid" => inode.uid.into(),
            "gid" => inode.gid.into(),
            "links" => inode.links.into(),
            "modified" => inode.modified.0.into(),
            "changed" => inode.changed.0.into(),
            name if name.starts_with("user.") => match self.fs.get_xattr(found.ino, name.as_bytes()) {
                Ok(value) => path_document(&value),
                Err(Error::Posix(Errno::NoAttribute | Errno::Stale)) => Value::Null,
                Err(error) => return Err(Refusal::of(name, &error)),
            },
            _ => {
                let message = format!("{name}: ino, size, mode, uid, gid, links, modified, changed or user.…");
                return Err(Refusal::new(Errno::Invalid, message));
            }
        })
    }
}

fn fields(documents: &[FieldDocument]) -> Outcome<Vec<Field>> {
    let field = |document: &FieldDocument| {
        let kind = FieldKind::of_text(&document.used);
        let name_fits = document.name.starts_with("user.");
        let wrong = || Refusal::new(Errno::Invalid, "a field is a user. attribute, used for filter or text");
        let field = kind
            .filter(|_| name_fits)
            .map(|kind| Field::new(kind, document.name.as_bytes()));
        field.ok_or_else(wrong)
    };
    documents.iter().map(field).collect()
}

fn space_document(info: &SpaceInfo, tells_counts: bool) -> Value {
    let space = &info.space;
    let fields: Vec<FieldDocument> = space
        .fields
        .iter()
        .map(|field| FieldDocument {
            name: String::from_utf8_lossy(&field.name).into_owned(),
            used: field.kind().map_or_else(String::new, |kind| kind.to_string()),
        })
        .collect();
    let mut told = document([
        ("name", String::from_utf8_lossy(&space.name).into()),
        ("dimensions", space.shape.dimensions.into()),
        ("element", space.shape.element.text().into()),
        ("metric", space.shape.metric.text().into()),
        ("effort", space.effort.into()),
        ("fields", json!(fields)),
    ]);
    if tells_counts {
        told.extend(document([
            ("id", info.id.0.into()),
            ("vectors", space.vectors.into()),
            ("growing", space.growing.into()),
            ("slabs", info.slabs.into()),
            ("dead", info.dead.into()),
            ("blocks", info.blocks.into()),
        ]));
    }
    Value::Object(told)
}
