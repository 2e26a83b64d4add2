// SPDX-License-Identifier: MIT OR Apache-2.0

//! Giving files vectors: of their text, of a command's output, or from files that hold vectors.
//!
//! Every vector is put with the time its contents were modified. A later run looks at these times, and leaves alone what
//! has not changed since: so a run that was interrupted goes on where it was.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::fs::{Attributes, Fs};
use vexfs::query::lexical;

use crate::failure::failed;
use crate::npy;
use crate::show;
use crate::vectors::{Source, Target};

/// Bytes of requests, about; files whose state is asked for at once.
const REQUEST_BYTES: usize = 512 << 10;
const ASK_AT_ONCE: usize = 500;
/// Bytes of a file that its text is taken from.
const MAX_TEXT: u64 = 4 << 20;

/// Give files vectors.
///
/// By default a file's vector is made of the letters of its text, without a model: files with the same words become near.
/// With --cmd a command makes the vectors: it gets the contents on its standard input, the path in VEXFS_PATH, and prints a
/// JSON list of numbers, or a list of such lists for several passages. Files that have not changed are left alone.
#[derive(Args)]
#[command(after_help = "Changes: the vectors of the files in the space.

Examples:
  vexfs-ublk embed pool.img:/notes.txt --space notes
  vexfs-ublk embed /mnt/notes --space notes --cmd ./model.py
  vexfs-ublk embed /mnt --space notes --jsonl vectors.jsonl
  vexfs-ublk embed /mnt --space notes --npy vectors.npy --paths paths.txt")]
pub(crate) struct Arguments {
    /// POOL, POOL:/path or a path below a mount point: a file, or all files below
    place: OsString,
    /// The space
    #[arg(long)]
    space: String,
    /// A command that turns contents into vectors
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["npy", "jsonl"])]
    cmd: Option<String>,
    /// An array of numpy, a row for each line of --paths
    #[arg(long, requires = "paths", conflicts_with = "jsonl")]
    npy: Option<PathBuf>,
    /// Paths in the pool, one a line
    #[arg(long, requires = "npy")]
    paths: Option<PathBuf>,
    /// Lines as {"path": "/a", "vectors": [[…]], "ordinal": 0}
    #[arg(long)]
    jsonl: Option<PathBuf>,
    /// Also files that have not changed
    #[arg(long)]
    all: bool,
}

/// What was done.
#[derive(Default)]
struct Done {
    files: u64,
    vectors: u64,
    unchanged: u64,
    skipped: u64,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let target = Target::open(&arguments.place, true)?;
    let done = embed(&target, arguments);
    let closed = target.close();
    let done = done?;
    closed?;
    if json {
        show::document(
            json!({"files": done.files, "vectors": done.vectors, "unchanged": done.unchanged,
            "skipped": done.skipped}),
        );
    } else {
        let Done {
            files,
            vectors,
            unchanged,
            skipped,
        } = done;
        println!("{vectors} vectors of {files} files; {unchanged} unchanged, {skipped} without a vector");
    }
    Ok(())
}

fn embed(target: &Target, arguments: &Arguments) -> Result<Done> {
    let spaces = target.ask(&json!({"op": "spaces"}))?;
    let space = spaces.get("spaces").and_then(Value::as_array).into_iter().flatten();
    let mut space = space.filter(|space| space.get("name").and_then(Value::as_str) == Some(&arguments.space));
    let Some(space) = space.next() else {
        let what = format!("there is no space {:?}", arguments.space);
        return Err(failed(what, "make it with `vexfs-ublk space create`"));
    };
    let mut batch = Batch::new(target, &arguments.space);
    if let Some(path) = &arguments.jsonl {
        from_lines(path, &mut batch)?;
    } else if let (Some(array), Some(paths)) = (&arguments.npy, &arguments.paths) {
        from_array(array, paths, &mut batch)?;
    } else {
        let dimensions = space.get("dimensions").and_then(Value::as_u64);
        let dimensions = usize::try_from(dimensions.unwrap_or(0))?;
        let element = space.get("element").and_then(Value::as_str).unwrap_or_default();
        let maker = Maker {
            dimensions,
            element: element.to_owned(),
            command: arguments.cmd.clone(),
        };
        from_contents(target, arguments, &maker, &mut batch)?;
    }
    batch.send()?;
    target.ask(&json!({"op": "flush"}))?;
    Ok(batch.done)
}

/// Vectors on their way.
struct Batch<'a> {
    target: &'a Target,
    space: &'a str,
    items: Vec<Value>,
    bytes: usize,
    done: Done,
}

impl<'a> Batch<'a> {
    fn new(target: &'a Target, space: &'a str) -> Self {
        Self {
            target,
            space,
            items: Vec::new(),
            bytes: 0,
            done: Done::default(),
        }
    }

    fn add(&mut self, item: Value) -> Result<()> {
        let bytes = item.to_string().len();
        if self.bytes + bytes > REQUEST_BYTES {
            self.send()?;
        }
        self.bytes += bytes;
        self.items.push(item);
        self.done.files += 1;
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        if self.items.is_empty() {
            return Ok(());
        }
        let items = std::mem::take(&mut self.items);
        self.bytes = 0;
        let answer = self
            .target
            .ask(&json!({"op": "put", "space": self.space, "items": items}))?;
        if let Some(error) = answer.pointer("/errors/0") {
            let index = error.get("item").and_then(Value::as_u64).unwrap_or(0);
            let item = usize::try_from(index).ok().and_then(|index| items.get(index));
            let path = item
                .and_then(|item| item.get("path"))
                .and_then(Value::as_str)
                .unwrap_or("?");
            let message = error.get("message").and_then(Value::as_str).unwrap_or("refused");
            bail!("{path}: {message}");
        }
        self.done.vectors += answer.get("vectors").and_then(Value::as_u64).unwrap_or(0);
        Ok(())
    }
}

fn from_lines(path: &Path, batch: &mut Batch<'_>) -> Result<()> {
    let shown = || path.display().to_string();
    let file = BufReader::new(File::open(path).with_context(shown)?);
    for (number, line) in (1..).zip(file.lines()) {
        let line = line.with_context(shown)?;
        if line.trim().is_empty() {
            continue;
        }
        let item: Value = serde_json::from_str(&line).with_context(|| format!("{}, line {number}", shown()))?;
        batch.add(item)?;
    }
    Ok(())
}

fn from_array(array: &Path, paths: &Path, batch: &mut Batch<'_>) -> Result<()> {
    let array = npy::read(array)?;
    let shown = || paths.display().to_string();
    let lines = BufReader::new(File::open(paths).with_context(shown)?).lines();
    let lines: Vec<String> = lines.collect::<std::io::Result<_>>().with_context(shown)?;
    if lines.len() != array.rows() {
        bail!("{}: {} paths for {} rows", shown(), lines.len(), array.rows());
    }
    for (path, row) in lines.iter().zip(array.iter()) {
        batch.add(json!({"path": path, "whole": true, "vectors": [row]}))?;
    }
    Ok(())
}

/// What makes vectors of contents.
struct Maker {
    dimensions: usize,
    element: String,
    command: Option<String>,
}

impl Maker {
    /// The vectors of a file; none of one without text.
    fn vectors(&self, path: &str, contents: &[u8]) -> Result<Vec<Value>> {
        if let Some(command) = &self.command {
            return run_command(command, path, contents).with_context(|| path.to_owned());
        }
        let text = String::from_utf8_lossy(contents);
        // Bytes that are no text have no words.
        if contents.contains(&0) {
            return Ok(Vec::new());
        }
        let vector = lexical::embed(&text, self.dimensions);
        if vector.iter().all(|value| *value == 0.0) {
            return Ok(Vec::new());
        }
        Ok(vec![match self.element.as_str() {
            "i8" => vector
                .iter()
                .map(|value| (value * 127.0).round())
                .collect::<Vec<f32>>()
                .into(),
            "binary" => vector
                .iter()
                .map(|value| u8::from(*value > 0.0))
                .collect::<Vec<u8>>()
                .into(),
            _ => vector.into(),
        }])
    }
}

fn run_command(command: &str, path: &str, contents: &[u8]) -> Result<Vec<Value>> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("VEXFS_PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("sh")?;
    let input = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // A command need not read everything.
        scope.spawn(|| input.map(|mut input| input.write_all(contents)));
        child.wait_with_output()
    })?;
    if !output.status.success() {
        bail!("the command failed: {}", output.status);
    }
    let printed: Value = serde_json::from_slice(&output.stdout).context("what the command printed")?;
    Ok(match printed {
        Value::Array(rows) if rows.first().is_some_and(Value::is_array) => rows,
        Value::Array(row) if !row.is_empty() => vec![Value::Array(row)],
        Value::Null | Value::Array(_) => Vec::new(),
        _ => bail!("the command must print a list of numbers, or a list of such lists"),
    })
}

fn from_contents(target: &Target, arguments: &Arguments, maker: &Maker, batch: &mut Batch<'_>) -> Result<()> {
    let files: Vec<Text> = match &target.source {
        Source::Pool(fs) => files_of_pool(fs, &target.path)?,
        Source::Mount(root) | Source::Module(root, _) => files_of_mount(root, &target.path)?,
        Source::Server(_) => {
            let what = format!("{} is mounted", arguments.place.display());
            return Err(failed(what, "give a path below its mount point"));
        }
    };
    let bar = show::bar("embedding", Some(files.iter().map(|file| file.size).sum()));
    for some in files.chunks(ASK_AT_ONCE) {
        let made = if arguments.all {
            BTreeMap::new()
        } else {
            times(target, &arguments.space, some)?
        };
        for file in some {
            bar.inc(file.size);
            if made.get(&file.path) == Some(&file.modified.0) {
                batch.done.unchanged += 1;
                continue;
            }
            let vectors = maker.vectors(&file.path, &file.contents(target)?)?;
            if vectors.is_empty() {
                batch.done.skipped += 1;
                continue;
            }
            batch.add(json!({"path": file.path, "whole": true, "of": file.modified.0, "vectors": vectors}))?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// When the vectors that files have were made, by path.
fn times(target: &Target, space: &str, files: &[Text]) -> Result<BTreeMap<String, i64>> {
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let answer = target.ask(&json!({"op": "get", "space": space, "paths": paths, "brief": true}))?;
    let files = answer.get("files").and_then(Value::as_array).into_iter().flatten();
    Ok(files
        .filter_map(|file| Some((file.get("path")?.as_str()?.to_owned(), file.get("of")?.as_i64()?)))
        .collect())
}

/// A file that may have text.
struct Text {
    path: String,
    size: u64,
    modified: Timestamp,
    /// In a pool that is not mounted.
    found: Option<Attributes>,
}

impl Text {
    fn contents(&self, target: &Target) -> Result<Vec<u8>> {
        let shown = || self.path.clone();
        let size = usize::try_from(self.size.min(MAX_TEXT))?;
        match (&target.source, &self.found) {
            (Source::Pool(fs), Some(found)) => {
                let mut bytes = vec![0; size];
                let count = fs.read(found.ino, 0, &mut bytes).with_context(shown)?;
                bytes.truncate(count);
                Ok(bytes)
            }
            (Source::Mount(root) | Source::Module(root, _), _) => {
                let file = File::open(root.join(self.path.trim_start_matches('/'))).with_context(shown)?;
                let mut bytes = Vec::with_capacity(size);
                file.take(MAX_TEXT).read_to_end(&mut bytes).with_context(shown)?;
                Ok(bytes)
            }
            _ => bail!("{} cannot be read from here", self.path),
        }
    }
}

fn files_of_pool(fs: &Fs, top: &str) -> Result<Vec<Text>> {
    let mut files = Vec::new();
    let found = fs.resolve(top.as_bytes()).with_context(|| top.to_owned())?;
    let mut pending = vec![(top.trim_end_matches('/').to_owned(), found)];
    while let Some((path, found)) = pending.pop() {
        match found.inode.kind() {
            Kind::Directory => {
                for entry in fs.list_all(found.ino).with_context(|| path.clone())? {
                    // Requests take only names that are UTF-8.
                    if let Ok(name) = std::str::from_utf8(&entry.name) {
                        pending.push((format!("{path}/{name}"), fs.attributes(entry.ino)?));
                    }
                }
            }
            Kind::File => files.push(Text {
                path,
                size: found.inode.size,
                modified: found.inode.modified,
                found: Some(found),
            }),
            _ => {}
        }
    }
    Ok(files)
}

fn files_of_mount(root: &Path, top: &str) -> Result<Vec<Text>> {
    let mut files = Vec::new();
    let mut pending = vec![root.join(top.trim_start_matches('/'))];
    while let Some(path) = pending.pop() {
        let shown = || path.display().to_string();
        let about = std::fs::symlink_metadata(&path).with_context(shown)?;
        if about.is_dir() {
            for entry in std::fs::read_dir(&path).with_context(shown)? {
                pending.push(entry.with_context(shown)?.path());
            }
        } else if about.is_file() {
            let inside = path.strip_prefix(root)?.as_os_str().as_bytes();
            let Ok(inside) = std::str::from_utf8(inside) else {
                continue;
            };
            files.push(Text {
                path: format!("/{inside}"),
                size: about.len(),
                modified: Timestamp::new(about.mtime(), u32::try_from(about.mtime_nsec()).unwrap_or(0)),
                found: None,
            });
        }
    }
    Ok(files)
}
