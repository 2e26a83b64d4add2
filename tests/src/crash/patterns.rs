// SPDX-License-Identifier: MIT OR Apache-2.0

//! The table of console patterns, `crash-patterns.toml`, parsed and compiled.
//!
//! # Contract
//!
//! * A table that loads is usable: ids are unique, every regex compiles, is anchored and matches the samples of its
//!   row, every row has at least one sample, and severities lie in the range of their crash type. An error names the
//!   row.
//! * When several rows match a message, the first one in the file wins.
//! * Matching looks at the message alone: the caller removes console prefixes first (see [`super::console`]). All
//!   regexes run as one automaton, and because all are anchored it gives up after the first few bytes of an ordinary
//!   line.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::{Regex, RegexSet};
use serde::Deserialize;

use super::console::messages;
use super::types::{CrashType, Effect, Severity};

/// One row of the table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// Unique name.
    pub id: String,
    /// What kind of failure the message stands for.
    pub crash: CrashType,
    #[serde(rename = "severity")]
    severity_override: Option<Severity>,
    /// What the message does to the run.
    pub effect: Effect,
    /// Anchored regular expression over the message.
    pub regex: String,
    /// One sentence for humans.
    pub meaning: String,
    /// Console lines that this row must match.
    pub samples: Vec<String>,
}

impl Pattern {
    /// The row's own severity, or the default of its crash type.
    pub fn severity(&self) -> Severity {
        self.severity_override.unwrap_or(self.crash.severity())
    }
}

/// Why a pattern table was refused.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// The file is not TOML of the expected shape.
    #[error("the pattern table does not parse: {0}")]
    Syntax(#[from] toml::de::Error),
    /// Two rows share an id.
    #[error("pattern `{id}`: the id is used twice")]
    DuplicateId {
        /// The id in question.
        id: String,
    },
    /// The id is one the classifier uses for sightings that are not console lines.
    #[error("pattern `{id}`: the id is reserved")]
    ReservedId {
        /// The id in question.
        id: String,
    },
    /// A row's regex does not compile.
    #[error("pattern `{id}`: {source}")]
    Regex {
        /// The row.
        id: String,
        /// What is wrong with the regex.
        source: Box<regex::Error>,
    },
    /// All regexes compile alone but not together.
    #[error("the patterns do not compile together: {0}")]
    Set(Box<regex::Error>),
    /// A regex that may match in the middle of user-space output.
    #[error("pattern `{id}`: the regex is not anchored with `^`")]
    NotAnchored {
        /// The row.
        id: String,
    },
    /// A row without samples cannot be tested.
    #[error("pattern `{id}`: there are no samples")]
    NoSamples {
        /// The row.
        id: String,
    },
    /// A sample that its own row does not match.
    #[error("pattern `{id}`: does not match its own sample `{sample}`")]
    SampleNotMatched {
        /// The row.
        id: String,
        /// The sample.
        sample: String,
    },
    /// A severity that its crash type cannot have.
    #[error("pattern `{id}`: severity {severity} is outside the range of {crash}")]
    SeverityOutOfRange {
        /// The row.
        id: String,
        /// Its severity.
        severity: Severity,
        /// Its crash type.
        crash: CrashType,
    },
}

/// A validated, compiled table of patterns.
#[derive(Debug)]
pub struct PatternTable {
    patterns: Vec<Pattern>,
    set: RegexSet,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pattern: Vec<Pattern>,
}

impl PatternTable {
    /// The id of sightings that come from a timeout instead of a console line; no row may use it.
    pub const TIMEOUT_ID: &'static str = "timeout";

    /// Parses and validates a table.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let File { pattern: patterns } = toml::from_str(text)?;
        let mut ids = BTreeSet::new();
        for pattern in &patterns {
            validate(pattern)?;
            if !ids.insert(pattern.id.as_str()) {
                return Err(PatternError::DuplicateId { id: pattern.id.clone() });
            }
        }
        let set = RegexSet::new(patterns.iter().map(|p| &p.regex)).map_err(|e| PatternError::Set(Box::new(e)))?;
        Ok(Self { patterns, set })
    }

    /// The table this crate ships, parsed once.
    ///
    /// It is compiled in and covered by tests, so that a broken one is a broken build and not an error to handle.
    pub fn builtin() -> &'static Self {
        static TABLE: LazyLock<PatternTable> = LazyLock::new(|| {
            PatternTable::parse(include_str!("../../crash-patterns.toml"))
                .unwrap_or_else(|error| panic!("crash-patterns.toml: {error}"))
        });
        &TABLE
    }

    /// The rows, in file order.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// The row with this id.
    pub fn get(&self, id: &str) -> Option<&Pattern> {
        self.patterns.iter().find(|p| p.id == id)
    }

    /// The first row that matches a message whose console prefix is already gone.
    pub fn classify(&self, message: &str) -> Option<&Pattern> {
        self.set
            .matches(message)
            .iter()
            .next()
            .and_then(|index| self.patterns.get(index))
    }
}

fn validate(pattern: &Pattern) -> Result<(), PatternError> {
    let id = || pattern.id.clone();
    if pattern.id == PatternTable::TIMEOUT_ID {
        return Err(PatternError::ReservedId { id: id() });
    }
    if !pattern.regex.starts_with('^') {
        return Err(PatternError::NotAnchored { id: id() });
    }
    let severity = pattern.severity();
    if !pattern.crash.severity_range().contains(&severity) {
        return Err(PatternError::SeverityOutOfRange {
            id: id(),
            severity,
            crash: pattern.crash,
        });
    }
    let regex = Regex::new(&pattern.regex).map_err(|source| PatternError::Regex {
        id: id(),
        source: Box::new(source),
    })?;
    if pattern.samples.is_empty() {
        return Err(PatternError::NoSamples { id: id() });
    }
    match pattern
        .samples
        .iter()
        .find(|sample| !messages(sample).iter().any(|m| regex.is_match(m.text)))
    {
        Some(sample) => Err(PatternError::SampleNotMatched {
            id: id(),
            sample: sample.clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, rest: &str) -> String {
        format!("[[pattern]]\nid = \"{id}\"\ncrash = \"warning\"\neffect = \"failure\"\nmeaning = \"m\"\n{rest}\n")
    }

    const GOOD: &str = "regex = '^foo'\nsamples = ['[    1.000000] foo bar']";

    #[test]
    fn the_shipped_table_is_valid() {
        let text = include_str!("../../crash-patterns.toml");
        if let Err(error) = PatternTable::parse(text) {
            panic!("{error}");
        }
    }

    #[test]
    fn every_row_of_the_shipped_table_explains_itself_in_a_sentence() {
        for pattern in PatternTable::builtin().patterns() {
            assert!(
                pattern.meaning.ends_with('.') && pattern.meaning.len() > 10,
                "{}",
                pattern.id
            );
            assert!(
                pattern
                    .id
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{}",
                pattern.id
            );
        }
    }

    #[test]
    fn every_crash_type_that_a_line_can_show_has_a_row() {
        for crash in CrashType::ALL {
            // What makes a kernel bug a module crash is the report that follows, not the line.
            let rows = PatternTable::builtin()
                .patterns()
                .iter()
                .filter(|p| p.crash == crash)
                .count();
            assert_eq!(rows == 0, crash == CrashType::ModuleCrash, "{crash}");
        }
    }

    #[test]
    fn errors_name_the_row() {
        let cases = [
            (row("a", GOOD) + &row("a", GOOD), "used twice"),
            (row("timeout", GOOD), "reserved"),
            (row("a", "regex = '^foo('\nsamples = ['foo']"), "unclosed group"),
            (row("a", "regex = 'foo'\nsamples = ['foo']"), "not anchored"),
            (row("a", "regex = '^foo'\nsamples = []"), "no samples"),
            (
                row("a", "regex = '^foo'\nsamples = ['bar foo']"),
                "own sample `bar foo`",
            ),
            (
                row("a", &format!("severity = \"critical\"\n{GOOD}")),
                "outside the range of warning",
            ),
        ];
        for (text, expected) in cases {
            let error = PatternTable::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("pattern `"), "{error}");
        }
    }

    #[test]
    fn a_row_with_an_unknown_key_is_refused() {
        let error = PatternTable::parse(&row("a", &format!("colour = 'red'\n{GOOD}"))).unwrap_err();
        assert!(matches!(error, PatternError::Syntax(_)), "{error}");
    }

    #[test]
    fn the_first_matching_row_wins() {
        let table = PatternTable::parse(&(row("first", GOOD) + &row("second", GOOD))).unwrap();
        assert_eq!(table.classify("foo").map(|p| p.id.as_str()), Some("first"));
        assert!(table.classify(" foo").is_none());
        assert_eq!(table.get("second").map(Pattern::severity), Some(Severity::Moderate));
    }
}
