// SPDX-License-Identifier: MIT OR Apache-2.0

//! What processes log, where to, and changing it while they run.
//!
//! **Where to.** The journal of systemd if the standard error is connected to it (`JOURNAL_STREAM`, see systemd.exec(5)), or
//! for a process that leaves its terminal ([`Output::Journal`]): every field of an event is a field there. Otherwise lines on
//! the standard error, with colours only on a terminal.
//!
//! **What.** A level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or directives such as `warn,vexfs=debug`. First
//! comes `--log`, then `VEXFS_LOG`, then what the program thinks right.
//!
//! **Operations.** A front end opens [`operation`] around each one. It costs one comparison as long as nobody asked for
//! `debug`; then everything that is logged inside says of which operation and file, and its end is a line with its times.
//! `vexfs::operation=debug` asks for these alone.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::sys::stat::fstat;
use parking_lot::Mutex;
use tracing::Span;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

/// The variable that says what to log.
pub const VARIABLE: &str = "VEXFS_LOG";

/// Why nothing is logged, or nothing else.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A filter that cannot be read.
    #[error(
        "{what}: {filter:?} is no filter ({why}); use error, warn, info, debug or trace, or directives as warn,vexfs=debug"
    )]
    Filter {
        /// Where it came from.
        what: &'static str,
        /// The filter.
        filter: String,
        /// Why not.
        why: String,
    },
    /// The process logs already.
    #[error("{0}")]
    Started(#[from] TryInitError),
    /// What logs has ended.
    #[error("{0}")]
    Over(#[from] reload::Error),
}

/// Changes what is logged.
#[derive(Clone)]
pub struct LogControl {
    handle: reload::Handle<EnvFilter, Registry>,
    filter: Arc<Mutex<String>>,
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogControl").field(&self.filter()).finish()
    }
}

impl LogControl {
    /// From now on.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        let parsed = parse("the new filter", filter)?;
        let mut current = self.filter.lock();
        self.handle.reload(parsed)?;
        filter.clone_into(&mut current);
        Ok(())
    }

    /// What is logged now.
    pub fn filter(&self) -> String {
        self.filter.lock().clone()
    }
}

/// Where a process logs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Its standard error.
    Errors,
    /// The journal of systemd, whatever the standard error is; that, if there is no journal.
    Journal,
}

/// Begins to log: what `--log` says, or [`VARIABLE`], or else `default`.
pub fn start(option: Option<&str>, default: &str, output: Output) -> Result<LogControl, LogError> {
    let variable = std::env::var(VARIABLE).ok().filter(|filter| !filter.is_empty());
    let (what, filter) = match (option, &variable) {
        (Some(option), _) => ("--log", option),
        (None, Some(variable)) => (VARIABLE, variable.as_str()),
        (None, None) => ("the default", default),
    };
    let (layer, handle) = reload::Layer::new(parse(what, filter)?);
    tracing_subscriber::registry()
        .with(layer)
        .with(layer_to(output))
        .try_init()?;
    Ok(LogControl {
        handle,
        filter: Arc::new(Mutex::new(filter.to_owned())),
    })
}

fn parse(what: &'static str, filter: &str) -> Result<EnvFilter, LogError> {
    let wrong = |why: String| LogError::Filter {
        what,
        filter: filter.to_owned(),
        why,
    };
    // A word that is no level would be taken for the name of a module, and silence everything else.
    for word in filter.split(',').map(str::trim) {
        let is_level = !word.is_empty() && word.parse::<LevelFilter>().is_ok();
        if !is_level && !word.contains(['=', '[']) && !word.contains("::") {
            return Err(wrong(format!("{word:?} is no level")));
        }
    }
    EnvFilter::try_new(filter).map_err(|error| wrong(error.to_string()))
}

type OutputLayer =
    Box<dyn Layer<tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>> + Send + Sync>;

fn layer_to(output: Output) -> OutputLayer {
    if (output == Output::Journal || stderr_is_the_journal())
        && let Ok(journal) = tracing_journald::layer()
    {
        return Box::new(
            journal
                .with_syslog_identifier("vexfs-ublk".into())
                .with_field_prefix(Some("VEXFS".into())),
        );
    }
    let terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .with_ansi(terminal)
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(io::stderr);
    Box::new(lines)
}

/// systemd sets the variable to device and inode of what it gave as standard error; who redirects that leaves the variable.
fn stderr_is_the_journal() -> bool {
    let Ok(told) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(io::stderr().as_fd()).is_ok_and(|found| told == format!("{}:{}", found.st_dev, found.st_ino))
}

/// The span of one operation of a front end: its name, its file.
#[inline]
pub fn operation(name: &'static str, ino: u64) -> Span {
    tracing::debug_span!(target: "vexfs::operation", "operation", name, ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_filters_and_other_words_are_not() {
        for good in [
            "info",
            "off",
            "warn,vexfs=debug",
            "vexfs::operation=debug",
            "warn,vexfs::fs",
        ] {
            parse("test", good).unwrap();
        }
        for bad in ["verbose", "", "debug,", "vexfs=loud", "info,7"] {
            let error = parse("--log", bad).unwrap_err().to_string();
            assert!(error.contains("--log") && error.contains("info"), "{error}");
        }
    }
}
