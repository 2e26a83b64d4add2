// SPDX-License-Identifier: MIT OR Apache-2.0

//! The files whose vectors are nearest.

use std::ffi::OsString;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::show;
use crate::vectors::Target;

/// Find the files whose vectors are nearest to a text, a vector, or another file's.
///
/// A text becomes a vector by its letters (the lexical embedder of `embed`): files are found that have the same words, or
/// parts of them. For vectors of a model, give the model's vector of the text with --vector.
#[derive(Args)]
#[command(after_help = "Changes: nothing.

Examples:
  vexfs-ublk search pool.img --space notes bridges
  vexfs-ublk search /mnt/notes --space notes --like /notes/bridges.txt -k 5
  vexfs-ublk search pool.img --space faces --vector '[0.1,0.2,0.3]' --name '*.jpg' --json
  vexfs-ublk search pool.img --space notes --exact bridges")]
pub(crate) struct Arguments {
    /// POOL, POOL:/path or a path below a mount point: only what is below is searched
    place: OsString,
    /// The space
    #[arg(long)]
    space: String,
    /// What to look for
    #[arg(required_unless_present_any = ["vector", "like"])]
    text: Option<String>,
    /// A vector, as a JSON list of numbers
    #[arg(long, conflicts_with_all = ["text", "like"])]
    vector: Option<String>,
    /// A file of the pool, as /path: its first vector
    #[arg(long, value_name = "PATH", conflicts_with = "text")]
    like: Option<String>,
    /// Results
    #[arg(short, default_value_t = 10)]
    k: usize,
    /// Results to leave out
    #[arg(long, default_value_t = 0)]
    offset: usize,
    /// Results are at most so far away
    #[arg(long)]
    threshold: Option<f32>,
    /// How hard to try, from 1 (quick) to 100 (thorough); otherwise what the space says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    effort: Option<u16>,
    /// Compare every vector: nothing that is near is missed
    #[arg(long, conflicts_with = "effort")]
    exact: bool,
    /// Only files of which a name is as this pattern
    #[arg(long, value_name = "PATTERN")]
    name: Option<String>,
    /// A filter in the language of requests, as JSON
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// Let the likeness of names to this text count too
    #[arg(long, value_name = "TEXT")]
    hybrid: Option<String>,
    /// How much that counts, from 0 to 1
    #[arg(long, default_value_t = 0.5, requires = "hybrid")]
    weight: f32,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let target = Target::open(&arguments.place, false)?;
    let answer = target.ask(&request(arguments, &target.path)?)?;
    let results = answer.pointer("/results/0").cloned().unwrap_or_default();
    let partial = answer.get("partial") == Some(&Value::Bool(true));
    if json {
        let exact = answer.get("exact") == Some(&Value::Bool(true));
        show::document(json!({"results": results, "partial": partial, "exact": exact}));
        return Ok(());
    }
    for hit in results.as_array().into_iter().flatten() {
        let number = |member: &str| hit.get(member).and_then(Value::as_f64).unwrap_or(0.0);
        let path = match hit.get("path") {
            Some(Value::String(path)) => path.clone(),
            other => other.map(Value::to_string).unwrap_or_default(),
        };
        let ordinal = hit.get("ordinal").and_then(Value::as_u64).unwrap_or(0);
        let passage = if ordinal > 0 {
            format!("  #{ordinal}")
        } else {
            String::new()
        };
        println!("{:9.4}  {path}{passage}", number("distance"));
    }
    if partial {
        bail!("some vectors cannot be read, so files may be missing; run `vexfs-ublk check`");
    }
    Ok(())
}

fn request(arguments: &Arguments, path: &str) -> Result<Value> {
    let query = match (&arguments.text, &arguments.vector, &arguments.like) {
        (_, Some(vector), _) => {
            let numbers: Vec<f64> = serde_json::from_str(vector).context("--vector")?;
            json!({"vector": numbers})
        }
        (_, _, Some(path)) => json!({"like": {"path": path}}),
        (text, _, _) => json!({"text": text}),
    };
    let mut filters = Vec::new();
    if path != "/" {
        filters.push(json!({"under": path}));
    }
    if let Some(pattern) = &arguments.name {
        filters.push(json!({"name": pattern}));
    }
    if let Some(filter) = &arguments.filter {
        filters.push(serde_json::from_str(filter).context("--filter")?);
    }
    let mut request = Map::from_iter([
        ("op".to_owned(), json!("search")),
        ("space".to_owned(), json!(arguments.space)),
        ("query".to_owned(), query),
        ("k".to_owned(), json!(arguments.k)),
        ("offset".to_owned(), json!(arguments.offset)),
        ("exact".to_owned(), json!(arguments.exact)),
    ]);
    if !filters.is_empty() {
        request.insert("filter".into(), json!({"and": filters}));
    }
    if let Some(effort) = arguments.effort {
        request.insert("effort".into(), json!(effort));
    }
    if let Some(threshold) = arguments.threshold {
        request.insert("threshold".into(), json!(threshold));
    }
    if let Some(text) = &arguments.hybrid {
        request.insert("hybrid".into(), json!({"text": text, "weight": arguments.weight}));
    }
    Ok(Value::Object(request))
}
