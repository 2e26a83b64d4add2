// SPDX-License-Identifier: MIT OR Apache-2.0

//! Spaces for vectors.

use std::ffi::OsString;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::show;
use crate::vectors::Target;

/// Make, list, show, change and drop spaces for vectors.
#[derive(Args)]
#[command(
    after_help = "Changes: nothing with list and info; otherwise the space, and with drop all vectors in it.

Examples:
  vexfs-ublk space create pool.img texts --dimensions 384
  vexfs-ublk space list pool.img
  vexfs-ublk space info /mnt notes
  vexfs-ublk space rename pool.img notes old-notes
  vexfs-ublk space alter pool.img notes --filter user.lang
  vexfs-ublk space drop pool.img notes"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// Attributes of files that a space knows.
#[derive(Args)]
struct Fields {
    /// An attribute that filters compare, as user.lang; may be repeated
    #[arg(long, value_name = "NAME")]
    filter: Vec<String>,
    /// An attribute whose words count in hybrid searches, as user.title; may be repeated
    #[arg(long, value_name = "NAME")]
    text: Vec<String>,
}

impl Fields {
    fn documents(&self) -> Vec<Value> {
        let field = |used: &'static str| move |name: &String| json!({"name": name, "use": used});
        let filters = self.filter.iter().map(field("filter"));
        filters.chain(self.text.iter().map(field("text"))).collect()
    }
}

#[derive(Subcommand)]
enum Action {
    /// Make a space
    Create {
        /// POOL, or a path below its mount point
        pool: OsString,
        /// Letters, digits, '.', '_' and '-'
        name: String,
        /// Elements of a vector, 1 to 16384
        #[arg(long, visible_alias = "dim")]
        dimensions: u32,
        /// f32, f16, i8 or binary
        #[arg(long, default_value = "f32")]
        element: String,
        /// cosine, l2, dot or l1; hamming for binary vectors
        #[arg(long, default_value = "cosine")]
        metric: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// List the spaces
    List {
        /// POOL, or a path below its mount point
        pool: OsString,
    },
    /// Show a space
    Info {
        /// POOL, or a path below its mount point
        pool: OsString,
        /// The space
        name: String,
    },
    /// Drop a space and all vectors in it
    Drop {
        /// POOL, or a path below its mount point
        pool: OsString,
        /// The space
        name: String,
    },
    /// Give a space another name
    Rename {
        /// POOL, or a path below its mount point
        pool: OsString,
        /// The space
        name: String,
        /// Its new name
        new_name: String,
    },
    /// Declare other attributes, or another effort
    Alter {
        /// POOL, or a path below its mount point
        pool: OsString,
        /// The space
        name: String,
        /// How much searches do unless they say it; 0: what is built in
        #[arg(long)]
        effort: Option<u16>,
        #[command(flatten)]
        fields: Fields,
    },
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    match &arguments.action {
        Action::Create {
            pool,
            name,
            dimensions,
            element,
            metric,
            fields,
        } => {
            let request = json!({"op": "create_space", "name": name, "dimensions": dimensions, "element": element,
                "metric": metric, "fields": fields.documents()});
            change(pool, name, &request, json)
        }
        Action::Drop { pool, name } => change(pool, name, &json!({"op": "drop_space", "name": name}), json),
        Action::Rename { pool, name, new_name } => {
            let request = json!({"op": "alter_space", "name": name, "rename": new_name});
            change(pool, new_name, &request, json)
        }
        Action::Alter {
            pool,
            name,
            effort,
            fields,
        } => {
            let mut request = Map::from_iter([("op".into(), "alter_space".into()), ("name".into(), json!(name))]);
            if let Some(effort) = effort {
                request.insert("effort".into(), (*effort).into());
            }
            let documents = fields.documents();
            if !documents.is_empty() {
                request.insert("fields".into(), documents.into());
            }
            if request.len() == 2 {
                bail!("nothing to change; give --effort, --filter or --text");
            }
            change(pool, name, &Value::Object(request), json)
        }
        Action::List { pool } => list(pool, json),
        Action::Info { pool, name } => info(pool, name, json),
    }
}

fn change(pool: &OsString, name: &str, request: &Value, json: bool) -> Result<()> {
    let target = Target::open(pool, true)?;
    let asked = target.ask(request);
    let closed = target.close();
    asked?;
    closed?;
    if json {
        show::document(json!({"space": name}));
    }
    Ok(())
}

fn spaces(pool: &OsString) -> Result<Vec<Value>> {
    let mut answer = Target::open(pool, false)?.ask(&json!({"op": "spaces"}))?;
    let spaces = answer.get_mut("spaces").map(Value::take);
    Ok(spaces.and_then(|spaces| spaces.as_array().cloned()).unwrap_or_default())
}

fn text<'a>(space: &'a Value, member: &str) -> &'a str {
    space.get(member).and_then(Value::as_str).unwrap_or_default()
}

fn list(pool: &OsString, json: bool) -> Result<()> {
    let spaces = spaces(pool)?;
    if json {
        show::document(json!({"spaces": spaces}));
        return Ok(());
    }
    for space in &spaces {
        let number = |member: &str| space.get(member).map_or_else(|| "-".to_owned(), Value::to_string);
        println!(
            "{:24} {:>5} x {:6} {:8} {:>10} vectors",
            text(space, "name"),
            number("dimensions"),
            text(space, "element"),
            text(space, "metric"),
            number("vectors")
        );
    }
    Ok(())
}

fn info(pool: &OsString, name: &str, json: bool) -> Result<()> {
    let found = spaces(pool)?.into_iter().find(|space| text(space, "name") == name);
    let Some(space) = found else {
        bail!("there is no space {name:?}; `vexfs-ublk space list` lists them");
    };
    if json {
        show::document(space);
        return Ok(());
    }
    let rows: Vec<(&str, Value)> = space
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    show::table(&rows, false);
    Ok(())
}
