// SPDX-License-Identifier: MIT OR Apache-2.0
//! x
#[derive(clap::Args)]
pub(crate) struct Arguments {}
pub(crate) fn run(_: &Arguments) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("not yet")
}
