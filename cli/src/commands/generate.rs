// SPDX-License-Identifier: MIT OR Apache-2.0

//! Man pages and completions, from the same definitions that parse the arguments. For those who build packages.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use serde_json::json;
use vexfs::fs::record::Timestamp;

use crate::{place, show};

/// Write man pages or shell completions.
#[derive(Args)]
#[command(after_help = "Changes: DIR, which is made if it is missing.

Examples:
  vexfs-ublk generate man --out man8
  vexfs-ublk generate completions --out completions")]
pub(crate) struct Arguments {
    /// What to write
    what: What,
    /// Where to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// A page per command, section 8
    Man,
    /// For bash, zsh and fish
    Completions,
}

/// The exit codes of a program, as its page tells them.
pub(crate) const EXIT_CODES: &str = "0  done\n1  not done; the reason is on the standard error\n2  the call is wrong";

/// A program of its own: its definition and its exit codes.
pub(crate) struct Program {
    pub(crate) command: Command,
    pub(crate) exit_codes: &'static str,
}

/// `programs`: the main one first.
pub(crate) fn run(arguments: &Arguments, programs: Vec<Program>, json: bool) -> Result<()> {
    fs::create_dir_all(&arguments.out).with_context(|| arguments.out.display().to_string())?;
    let mut files = Vec::new();
    for program in programs {
        match arguments.what {
            What::Man => pages(&arguments.out, &program, &mut files)?,
            What::Completions => completions(&arguments.out, program.command, &mut files)?,
        }
    }
    if json {
        let files: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
        show::document(json!({"files": files}));
    }
    Ok(())
}

fn completions(out: &Path, mut command: Command, files: &mut Vec<PathBuf>) -> Result<()> {
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let directory = out.join(shell.to_string());
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let made = clap_complete::generate_to(shell, &mut command, &name, &directory);
        files.push(made.with_context(|| directory.display().to_string())?);
    }
    Ok(())
}

/// The page of a program, and one for each of its commands.
fn pages(out: &Path, program: &Program, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut command = program.command.clone().disable_help_subcommand(true);
    command.build();
    let name = command.get_name().to_owned();
    let commands: Vec<_> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|sub| {
            let page = format!("{name}-{}", sub.get_name());
            let aliases: Vec<String> = sub
                .get_visible_aliases()
                .map(|alias| format!("{name}-{alias}"))
                .collect();
            (sub.clone().name(page.clone()), page, aliases)
        })
        .collect();
    let others: Vec<String> = commands.iter().map(|(_, page, _)| page.clone()).collect();
    files.push(page(out, &command, program.exit_codes, &others)?);
    for (command, page_name, aliases) in commands {
        files.push(page(out, &command, program.exit_codes, std::slice::from_ref(&name))?);
        for alias in aliases {
            let path = out.join(format!("{alias}.8"));
            let linked = match symlink(format!("{page_name}.8"), &path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                other => other,
            };
            linked.with_context(|| path.display().to_string())?;
            files.push(path);
        }
    }
    Ok(())
}

fn page(out: &Path, command: &Command, exit_codes: &str, see_also: &[String]) -> Result<PathBuf> {
    let name = command.get_name().to_owned();
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (changes, examples) = parts(&help);
    let man = Man::new(command.clone().after_help(None::<&str>))
        .section("8")
        .date(date())
        .manual("System Administration")
        .source(concat!("vexfs-ublk ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if let Some(changes) = changes {
        writeln!(text, ".SH \"WHAT IT CHANGES\"\n{}", plain(changes))?;
    }
    if command.get_arguments().next().is_some() {
        let mut section = Vec::new();
        man.render_options_section(&mut section)?;
        // An empty line is a paragraph, and takes no breaks around it.
        let section = String::from_utf8_lossy(&section).replace(".br\n\n.br\n", "\n");
        text.extend(section.as_bytes());
    }
    if command.has_subcommands() {
        // The pages of commands are in section 8 too.
        let mut section = Vec::new();
        man.render_subcommands_section(&mut section)?;
        text.extend(section);
    }
    writeln!(text, ".SH \"EXIT STATUS\"\n{}", verbatim(exit_codes))?;
    if let Some(examples) = examples {
        writeln!(text, ".SH EXAMPLES\n{}", verbatim(examples))?;
    }
    let mut pages: Vec<_> = see_also.iter().map(|page| format!(".BR {} (8)", plain(page))).collect();
    pages.sort();
    writeln!(text, ".SH \"SEE ALSO\"\n{}", pages.join(",\n"))?;
    let path = out.join(format!("{name}.8"));
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// The day that pages bear: the one that a package's build is told, so that each build gives the same, or today.
fn date() -> String {
    let told = std::env::var("SOURCE_DATE_EPOCH").ok();
    let time = match told.and_then(|seconds| seconds.parse().ok()) {
        Some(seconds) => Timestamp::new(seconds, 0),
        None => place::now(),
    };
    show::time(time).chars().take("2026-11-21".len()).collect()
}

/// What a help text says under "Changes:" and under "Examples:".
pub(crate) fn parts(help: &str) -> (Option<&str>, Option<&str>) {
    let (before, examples) = match help.split_once("Examples:\n") {
        Some((before, examples)) => (before, Some(examples)),
        None => (help, None),
    };
    let changes = before.split_once("Changes: ").map(|(_, changes)| changes.trim());
    (changes, examples)
}

/// Text as troff takes it.
fn plain(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let lines: Vec<_> = escaped.lines().map(guarded).collect();
    lines.join("\n")
}

/// Lines as they are.
fn verbatim(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| plain(line.trim())).collect();
    format!(".nf\n{}\n.fi", lines.join("\n"))
}

/// A line that begins like a request.
fn guarded(line: &str) -> String {
    let begins = line.starts_with(['.', '\'']);
    if begins { format!("\\&{line}") } else { line.to_owned() }
}
