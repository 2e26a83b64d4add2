// SPDX-License-Identifier: MIT OR Apache-2.0

//! Command line and configuration file. What is given on the command line wins.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use dsmil::smi::{Retry, Timeout};
use dsmil::thermal::Thresholds;
use dsmil::transport::Address;
use serde::Deserialize;

/// Own a DSMIL device and serve it at a Unix socket.
#[derive(Parser)]
#[command(name = "dsmild", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The device: /dev/uioN, or sim: and the path of a simulator's socket
    #[arg(long)]
    device: Option<Address>,
    /// Where clients connect [default: /run/dsmil/dsmild.sock]
    #[arg(long)]
    socket: Option<PathBuf>,
    /// The record of everything that changes the device [default: /var/log/dsmil/audit.log]
    #[arg(long)]
    audit_log: Option<PathBuf>,
    /// Further settings, as TOML
    #[arg(long)]
    config: Option<PathBuf>,
    /// Become this user after everything was opened
    #[arg(long)]
    user: Option<String>,
    /// Members of this group may look [default: dsmil]
    #[arg(long)]
    read_group: Option<String>,
    /// Members of this group may do everything [default: dsmil-operators]
    #[arg(long)]
    operator_group: Option<String>,
    /// How much to log
    #[arg(long, value_enum, default_value_t = Log::Info)]
    log: Log,
}

/// How much to log.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Log {
    Error,
    Warn,
    Info,
    Debug,
}

impl From<Log> for tracing_subscriber::filter::LevelFilter {
    fn from(log: Log) -> Self {
        match log {
            Log::Error => Self::ERROR,
            Log::Warn => Self::WARN,
            Log::Info => Self::INFO,
            Log::Debug => Self::DEBUG,
        }
    }
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct File {
    device: Option<String>,
    socket: Option<PathBuf>,
    audit_log: Option<PathBuf>,
    user: Option<String>,
    read_group: Option<String>,
    operator_group: Option<String>,
    smi: Option<bool>,
    chunk_cap: Option<usize>,
    timeout_ms: Option<u64>,
    attempts: Option<u32>,
    thermal: Option<Thresholds>,
    max_clients: Option<usize>,
    max_clients_per_user: Option<usize>,
    requests_per_second: Option<u32>,
}

/// Everything that was decided.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) device: Address,
    pub(crate) socket: PathBuf,
    pub(crate) audit_log: PathBuf,
    pub(crate) user: Option<String>,
    pub(crate) read_group: String,
    pub(crate) operator_group: String,
    pub(crate) driver: dsmil::Config,
    pub(crate) timeout: Timeout,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
}

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections.
    pub(crate) clients: usize,
    /// Of one user.
    pub(crate) clients_per_user: usize,
    /// Of one connection.
    pub(crate) requests_per_second: u32,
}

impl Settings {
    pub(crate) fn load(arguments: Arguments) -> Result<Self> {
        let file = match &arguments.config {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
                toml::from_str(&text).with_context(|| format!("in {}", path.display()))?
            }
            None => File::default(),
        };
        let device = match (arguments.device, &file.device) {
            (Some(device), _) => device,
            (None, Some(text)) => text.parse().map_err(anyhow::Error::msg)?,
            (None, None) => anyhow::bail!("no device is given: --device /dev/uioN"),
        };
        let timeout = match file.timeout_ms {
            Some(millis) => Timeout::try_from(Duration::from_millis(millis)).context("timeout-ms")?,
            None => Timeout::default(),
        };
        let attempts = file.attempts.unwrap_or(Retry::default().attempts);
        ensure!((1..=10).contains(&attempts), "attempts = {attempts}: between 1 and 10");
        let default = dsmil::Config::default();
        let limits = Limits {
            clients: file.max_clients.unwrap_or(64),
            clients_per_user: file.max_clients_per_user.unwrap_or(16),
            requests_per_second: file.requests_per_second.unwrap_or(2000),
        };
        ensure!(limits.requests_per_second > 0, "requests-per-second must be above 0");
        Ok(Self {
            device,
            socket: arguments
                .socket
                .or(file.socket)
                .unwrap_or_else(|| "/run/dsmil/dsmild.sock".into()),
            audit_log: arguments
                .audit_log
                .or(file.audit_log)
                .unwrap_or_else(|| "/var/log/dsmil/audit.log".into()),
            user: arguments.user.or(file.user),
            read_group: arguments
                .read_group
                .or(file.read_group)
                .unwrap_or_else(|| "dsmil".into()),
            operator_group: arguments
                .operator_group
                .or(file.operator_group)
                .unwrap_or_else(|| "dsmil-operators".into()),
            driver: dsmil::Config {
                smi: file.smi.unwrap_or(default.smi),
                cap: file.chunk_cap.unwrap_or(default.cap),
                thresholds: file.thermal.unwrap_or_default().checked()?,
                retry: Retry { attempts },
            },
            timeout,
            limits,
            log: arguments.log,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What packages install, as `text` makes it.
    fn shipped(text: impl Fn(&str) -> String) -> Settings {
        let shipped = include_str!("../../systemd/dsmild.toml");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dsmild.toml");
        std::fs::write(&path, text(shipped)).unwrap();
        let arguments = ["dsmild".as_ref(), "--config".as_ref(), path.as_os_str()];
        Settings::load(Arguments::parse_from(arguments)).unwrap()
    }

    #[test]
    fn the_file_of_the_packages_shows_the_defaults() {
        let shown = |text: &str| {
            // A setting follows its # at once, a sentence after a space.
            let lines = text.lines().map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => setting,
                _ => line,
            });
            lines.collect::<Vec<_>>().join("\n")
        };
        let (shown, unset) = (shipped(shown), shipped(str::to_owned));
        assert_eq!(format!("{shown:?}"), format!("{unset:?}"));
    }
}
