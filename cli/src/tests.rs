// SPDX-License-Identifier: MIT OR Apache-2.0

//! What all commands have in common.

use clap::CommandFactory;

use super::{Cli, Command, programs};
use crate::commands::generate::parts;

/// The words of a line of shell, as far as examples need.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        words.push(word.trim_matches(['\'', '"']).to_owned());
    }
    words
}

/// The calls of our programs in a line, which may be a pipeline.
fn calls(line: &str) -> Vec<Vec<String>> {
    let stages = line.split(['|', ';', '&', '>']);
    stages
        .map(words)
        .filter(|words| {
            let ours = |name: &String| programs().iter().any(|program| program.command.get_name() == name);
            words.first().is_some_and(ours)
        })
        .collect()
}

#[test]
fn the_definitions_of_all_programs_are_consistent() {
    for program in programs() {
        program.command.debug_assert();
    }
}

#[test]
fn every_command_says_what_it_changes_and_shows_examples_that_parse() {
    let mut checked = 0;
    for program in programs() {
        let name = program.command.get_name().to_owned();
        let mut all = vec![program.command.clone()];
        all.extend(program.command.get_subcommands().cloned());
        for command in all {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (changes, examples) = parts(&help);
            let shown = format!("{name} {}", command.get_name());
            assert!(
                changes.is_some_and(|text| text.len() > 5),
                "{shown}: what does it change?"
            );
            let mut calls_here = 0;
            for line in examples.unwrap_or_default().lines() {
                assert!(line.len() <= 100, "too long for a terminal: {line}");
                for call in calls(line) {
                    calls_here += 1;
                    let parsed = match call.first().map(String::as_str) {
                        Some("vexfs-ublk") => Cli::command().try_get_matches_from(&call).map(|_| ()),
                        Some(other) => {
                            let own = programs().into_iter().find(|own| own.command.get_name() == other);
                            let own = own.unwrap_or_else(|| panic!("{other} is no program of ours"));
                            own.command.try_get_matches_from(&call).map(|_| ())
                        }
                        None => continue,
                    };
                    if let Err(error) = parsed {
                        panic!("{shown}: {line}\n{error}");
                    }
                }
            }
            assert!(calls_here > 0, "{shown} has no example");
            checked += calls_here;
        }
    }
    assert!(checked > 40, "only {checked} examples");
}

#[test]
fn every_command_that_documentation_names_exists() {
    let documents = [
        ("README.md", include_str!("../../README.md")),
        ("docs/OPERATIONS.md", include_str!("../../docs/OPERATIONS.md")),
        ("CHANGELOG.md", include_str!("../../CHANGELOG.md")),
    ];
    let mut found = 0;
    for (document, text) in documents {
        for (at, _) in text.match_indices("vexfs-ublk ") {
            let after = text.get(at..).unwrap_or_default().trim_start_matches("vexfs-ublk ");
            let after = after.trim_start_matches("-- ").trim_start_matches("--json ");
            let name: String = after
                .chars()
                .take_while(|letter| letter.is_ascii_lowercase() || *letter == '-')
                .collect();
            // Prose goes on in words; a command stands in code.
            let line = text
                .get(..at)
                .unwrap_or_default()
                .rsplit('\n')
                .next()
                .unwrap_or_default();
            let in_code = line.starts_with("    ") || line.matches('`').count() % 2 == 1;
            if !in_code || name.is_empty() || name.starts_with('-') {
                continue;
            }
            found += 1;
            let exists = Cli::command().find_subcommand(&name).is_some();
            assert!(exists, "{document} names vexfs-ublk {name}");
        }
    }
    assert!(found > 20, "only {found} commands are named");
}

#[test]
fn documentation_names_every_command() {
    let text = include_str!("../../docs/OPERATIONS.md");
    for command in Cli::command()
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        let name = command.get_name();
        let named = text.contains(&format!("vexfs-ublk {name}"));
        assert!(named, "docs/OPERATIONS.md does not say how to use {name}");
    }
}

#[test]
fn arguments_of_commands_parse_with_and_without_optional_places() {
    let parse = |words: &[&str]| clap::Parser::try_parse_from(words);
    let Cli { command, .. } = parse(&["vexfs-ublk", "import", "pool.img"]).unwrap();
    assert!(matches!(command, Command::Import(_)));
    let Cli { json, .. } = parse(&["vexfs-ublk", "import", "--json", "a.tar", "pool.img:/d"]).unwrap();
    assert!(json);
    assert!(parse(&["vexfs-ublk", "import"]).is_err());
}
