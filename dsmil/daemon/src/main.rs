// SPDX-License-Identifier: MIT OR Apache-2.0

//! `dsmild`: the process that owns a DSMIL device and serves it at a Unix socket.
//!
//! One thread, one event loop on `io_uring`. From the bottom up:
//!
//! - [`settings`]: command line and configuration file.
//! - [`peer`]: who is at the other end of a connection, and what they may do.
//! - [`audit`]: the record of everything that changes the device.
//! - [`link`]: the device: opened, driven, lost, found again.
//! - [`metrics`]: figures for Prometheus.
//! - [`session`] and [`server`]: one client; all of them, and how many.
//! - [`sandbox`]: what the process gives up before it serves anybody.
//!
//! Order of the start: the socket, the audit log and the device are opened; then privileges, file system and system
//! calls are given up; then systemd is told; then clients are served. If the device goes, it is looked for again for as
//! long as it takes; clients are told meanwhile.

mod audit;
mod link;
mod metrics;
mod peer;
mod sandbox;
mod server;
mod session;
mod settings;

use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result};
use clap::Parser;

use crate::settings::{Arguments, Settings};

fn main() -> ExitCode {
    let result = Settings::load(Arguments::parse()).and_then(|settings| {
        start_log(&settings)?;
        // The ring is made here, before system calls are given up.
        tokio_uring::start(run(settings))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dsmild: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> Result<()> {
    let listener = server::listen(&settings)?;
    let audit = audit::Audit::open(&settings.audit_log)?;
    let link = Rc::new(link::Link::open(&settings)?);
    let rights = peer::Rights::look_up(&settings)?;
    sandbox::enter(&settings)?;
    let server = Rc::new(server::Server::new(Rc::clone(&link), audit, rights, &settings));
    tokio_uring::spawn(Rc::clone(&link).drive());
    // Not under systemd there is nobody to tell.
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).context("telling systemd that the service is ready")?;
    tracing::info!(socket = %settings.socket.display(), device = %settings.device, "serving");
    server.serve(listener).await
}

fn start_log(settings: &Settings) -> Result<()> {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;

    let level: tracing_subscriber::filter::LevelFilter = settings.log.into();
    let registry = tracing_subscriber::registry().with(level);
    // Under systemd standard error is the journal, which understands fields when asked directly.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        let journal = tracing_journald::layer().context("connecting to the journal")?;
        registry.with(journal).init();
    } else {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false);
        registry.with(lines).init();
    }
    Ok(())
}
