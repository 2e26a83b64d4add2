// SPDX-License-Identifier: MIT OR Apache-2.0

//! Failures that are known, until a day (`known-failures.toml`).

use lab::store::when::Day;
use serde::Deserialize;
use thiserror::Error;

/// The list of this checkout.
const LIST: &str = include_str!("../known-failures.toml");

/// A failure that is known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The scenario's whole name.
    pub scenario: String,
    /// The kernel it fails on; without it all.
    pub kernel: Option<String>,
    /// The last day on which it may fail.
    pub until: Day,
    /// Why it fails.
    pub reason: String,
}

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its entries.
    #[serde(default, rename = "failure")]
    pub entries: Vec<Entry>,
}

/// Why a list is none.
#[derive(Debug, Error)]
pub enum KnownError {
    /// It cannot be read.
    #[error("the list of known failures: {0}")]
    Unreadable(#[from] toml::de::Error),
    /// An entry is about nothing.
    #[error("the list of known failures names {0:?}, and no scenario is called so")]
    Unknown(String),
}

impl Known {
    /// The list of this checkout. Scenarios have the names that `exists` knows.
    pub fn of_checkout(exists: impl Fn(&str) -> bool) -> Result<Self, KnownError> {
        Self::parse(LIST, exists)
    }

    fn parse(text: &str, exists: impl Fn(&str) -> bool) -> Result<Self, KnownError> {
        let known: Self = toml::from_str(text)?;
        match known.entries.iter().find(|entry| !exists(&entry.scenario)) {
            Some(entry) => Err(KnownError::Unknown(entry.scenario.clone())),
            None => Ok(known),
        }
    }

    /// Entries whose day has passed.
    pub fn expired(&self, today: Day) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.until < today)
    }

    /// The entry that makes a failure of this scenario on this kernel a known one, today.
    pub fn excuse(&self, scenario: &str, kernel: &str, today: Day) -> Option<&Entry> {
        self.entries.iter().find(|entry| {
            entry.scenario == scenario
                && entry.kernel.as_deref().is_none_or(|wanted| wanted == kernel)
                && entry.until >= today
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::scenarios;
    use crate::scenario::Scenario;

    const TEXT: &str = r#"
        [[failure]]
        scenario = "a"
        kernel = "7.x"
        until = "2026-11-22"
        reason = "a bug"
        [[failure]]
        scenario = "b"
        until = "2026-12-01"
        reason = "another"
    "#;

    fn known() -> Known {
        Known::parse(TEXT, |_| true).unwrap()
    }

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn an_entry_excuses_its_scenario_on_its_kernel_to_the_end_of_its_day() {
        let known = known();
        assert_eq!(known.excuse("a", "7.x", day("2026-11-22")).unwrap().reason, "a bug");
        assert_eq!(known.excuse("a", "6.12", day("2026-11-22")), None);
        assert_eq!(known.excuse("a", "7.x", day("2026-11-23")), None);
        assert!(known.excuse("b", "6.12", day("2026-11-23")).is_some());
        assert_eq!(known.excuse("c", "6.12", day("2026-11-22")), None);
    }

    #[test]
    fn an_entry_whose_day_has_passed_is_told() {
        let known = known();
        assert_eq!(known.expired(day("2026-11-22")).count(), 0);
        let expired: Vec<_> = known
            .expired(day("2026-11-23"))
            .map(|entry| &entry.scenario[..])
            .collect();
        assert_eq!(expired, ["a"]);
        assert_eq!(known.expired(day("2027-01-01")).count(), 2);
    }

    #[test]
    fn a_list_that_is_wrong_is_refused() {
        assert!(matches!(Known::parse(TEXT, |name| name == "a"), Err(KnownError::Unknown(name)) if name == "b"));
        for text in [
            "[[failure]]\nscenario = \"a\"\nreason = \"no day\"",
            "[[failure]]\nscenario = \"a\"\nuntil = \"some day\"\nreason = \"r\"",
            "[[failure]]\nscenario = \"a\"\nuntil = \"2026-11-22\"\nreason = \"r\"\nkernels = \"7.x\"",
            "not toml",
        ] {
            assert!(
                matches!(Known::parse(text, |_| true), Err(KnownError::Unreadable(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn the_list_of_this_checkout_is_right() {
        let names: Vec<String> = scenarios().iter().map(Scenario::name).collect();
        let known = Known::of_checkout(|name| names.iter().any(|known| known == name)).unwrap();
        assert!(known.entries.iter().all(|entry| !entry.reason.is_empty()));
    }
}
