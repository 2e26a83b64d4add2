// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs that people use, doing what people do with them. What they lose or mangle here they would lose there.
//!
//! | module | programs |
//! |---|---|
//! | [`development`] | git, cargo |
//! | [`sqlite`] | SQLite, in both journal modes, killed and with its filesystem's server killed |
//! | [`postgresql`] | PostgreSQL under pgbench, killed |
//! | [`copies`] | rsync, tar |

mod copies;
mod development;
mod postgresql;
mod sqlite;

use anyhow::Result;

use super::{Case, Session};

/// The suite.
pub const CASES: &[Case] = &[
    case(
        "rsync_and_tar_copy_every_property",
        copies::rsync_and_tar_copy_every_property,
    ),
    case(
        "git_finds_in_it_what_it_committed",
        development::git_finds_in_it_what_it_committed,
    ),
    case("cargo_builds_in_it", development::cargo_builds_in_it),
    case(
        "sqlite_keeps_what_it_committed_with_a_rollback_journal",
        sqlite::keeps_what_it_committed_with_a_rollback_journal,
    ),
    case(
        "sqlite_keeps_what_it_committed_with_a_write_ahead_log",
        sqlite::keeps_what_it_committed_with_a_write_ahead_log,
    ),
    case(
        "postgresql_keeps_its_accounts_balanced",
        postgresql::keeps_its_accounts_balanced,
    ),
];

const fn case(name: &'static str, body: fn(&Session) -> Result<()>) -> Case {
    Case {
        suite: "applications",
        name,
        quick: 240,
        full: 3600,
        body,
    }
}
