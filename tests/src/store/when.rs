// SPDX-License-Identifier: MIT OR Apache-2.0

//! Days and moments as people write them, in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer};
use thiserror::Error;
use toml::value::{Date, Datetime};

const DAY_MS: u64 = 86_400_000;

/// Milliseconds since the Unix epoch, by this machine's clock.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A day of the calendar, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u64);

/// What was written is neither a day nor a span of time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?}: write a day like 2026-11-22, or how long ago, like 90m, 36h or 14d")]
pub struct Unreadable(String);

impl Day {
    /// The day of a moment.
    pub const fn of(ms: u64) -> Self {
        Self(ms / DAY_MS)
    }

    /// Its first moment.
    pub const fn start_ms(self) -> u64 {
        self.0 * DAY_MS
    }

    /// The Gregorian calendar, counted in eras of 400 years of which each begins in March, so that the day that some years
    /// lack is the last of its year.
    fn new(date: Date) -> Option<Self> {
        let (year, month, day) = (u64::from(date.year), u64::from(date.month), u64::from(date.day));
        let year = if month <= 2 { year.checked_sub(1)? } else { year };
        let from_march = (month + 9) % 12;
        let day_of_year = (153 * from_march + 2) / 5 + day - 1;
        let (era, year_of_era) = (year / 400, year % 400);
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        (era * 146_097 + day_of_era).checked_sub(719_468).map(Self)
    }

    fn civil(self) -> (u64, u64, u64) {
        let shifted = self.0 + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        (era * 400 + year_of_era + u64::from(month <= 2), month, day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Day {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unreadable = || Unreadable(text.to_owned());
        let found: Datetime = text.parse().map_err(|_| unreadable())?;
        match found {
            Datetime {
                date: Some(date),
                time: None,
                offset: None,
            } => Self::new(date).ok_or_else(unreadable),
            _ => Err(unreadable()),
        }
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A moment in the past: a day's beginning, or so long before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The beginning of a day.
    Day(Day),
    /// So long ago.
    Ago(Duration),
}

impl Since {
    /// In milliseconds since the Unix epoch.
    pub fn ms(self, now_ms: u64) -> u64 {
        match self {
            Self::Day(day) => day.start_ms(),
            Self::Ago(span) => now_ms.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl FromStr for Since {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = |unit: char| match unit {
            's' => Some(1),
            'm' => Some(60),
            'h' => Some(3600),
            'd' => Some(86_400),
            _ => None,
        };
        let mut rest = text.chars();
        let span = rest
            .next_back()
            .and_then(seconds)
            .zip(rest.as_str().parse::<u64>().ok())
            .and_then(|(unit, count)| count.checked_mul(unit));
        match span {
            Some(span) => Ok(Self::Ago(Duration::from_secs(span))),
            None => text.parse().map(Self::Day),
        }
    }
}

/// A moment for people, to the minute.
pub fn shown(ms: u64) -> String {
    let minutes = ms % DAY_MS / 60_000;
    format!("{} {:02}:{:02}", Day::of(ms), minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(day("1970-01-01"), Day(0));
        assert_eq!(day("2000-02-29").0 + 1, day("2000-03-01").0);
        assert_eq!(day("2100-02-28").0 + 1, day("2100-03-01").0);
        // `date -u -d 2026-11-22 +%s`
        assert_eq!(day("2026-11-22").start_ms(), 1_795_305_600_000);
        assert_eq!(shown(1_795_305_600_000 + 3_720_999), "2026-11-22 01:02");
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "",
            "2026-13-01",
            "2026-02-30",
            "22.11.2026",
            "2026-11-22T10:00:00",
            "10:00:00",
            "1969-12-31",
        ] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_counts_back_from_now_and_a_day_from_its_beginning() {
        let now = day("2026-11-22").start_ms() + 5000;
        let since = |text: &str| text.parse::<Since>().unwrap().ms(now);
        assert_eq!(since("5s"), day("2026-11-22").start_ms());
        assert_eq!(since("2d"), now - 2 * DAY_MS);
        assert_eq!(since("90m"), now - 5_400_000);
        assert_eq!(since("2026-11-01"), day("2026-11-01").start_ms());
        assert_eq!(since("99999999999d"), 0);
        for text in ["", "d", "-1d", "5", "5w", "99999999999999999999d"] {
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_day_is_read_as_it_is_written(number in 0_u64..2_900_000) {
            prop_assert_eq!(Day(number).to_string().parse::<Day>(), Ok(Day(number)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<Since>();
        }
    }
}
