// SPDX-License-Identifier: MIT OR Apache-2.0

//! pjdfstest: what POSIX says about each call, its errors, and the times it changes.
//!
//! All of its tests that concern Linux run; none may fail. What it is told is in `tests/suites/pjdfstest.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::session::ROOMY;
use super::target::Target;
use super::tools::PJDFSTEST;
use super::{Case, Session};

/// The suite.
pub const CASES: &[Case] = &[Case {
    suite: "pjdfstest",
    name: "calls_do_what_posix_says",
    quick: 120,
    full: 300,
    body: calls_do_what_posix_says,
}];

const CONFIGURATION: &str = include_str!("../../suites/pjdfstest.toml");
const SKIPS: &str = include_str!("../../suites/pjdfstest-skips.toml");
/// What the name of each test contains that mounts the filesystem anew, read-only.
const READ_ONLY: &str = "erofs";

fn calls_do_what_posix_says(session: &Session) -> Result<()> {
    let program = PJDFSTEST.path()?;
    let tools = plain_mount(session)?;
    let second = session.memory("second")?;
    // A filesystem of its own, for links and renames across two.
    nix::mount::mount(
        Some("none"),
        &second,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )?;
    session.with_target(ROOMY, |target| {
        let without = session.scratch().join("without-remounts.toml");
        fs::write(&without, CONFIGURATION)?;
        run(&program, &without, target, (&second, &tools), None)?;
        // A fresh mount: nothing of the first run may still be open.
        target.remount()?;
        let with = session.scratch().join("with-remounts.toml");
        let allowed = CONFIGURATION.replace("allow_remount = false", "allow_remount = true");
        ensure!(
            allowed != CONFIGURATION,
            "tests/suites/pjdfstest.toml does not say allow_remount = false"
        );
        fs::write(&with, allowed)?;
        run(&program, &with, target, (&second, &tools), Some(READ_ONLY))
    })
}

/// A directory with a `mount` that asks the kernel itself. mount(8) would look for a helper of the type `fuse.vexfs`, which
/// only an installed package has.
fn plain_mount(session: &Session) -> Result<PathBuf> {
    let directory = session.memory("bin")?;
    let script = directory.join("mount");
    fs::write(&script, "#!/bin/sh\nexec /usr/bin/mount --internal-only \"$@\"\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(directory)
}

fn run(
    program: &Path,
    configuration: &Path,
    target: &dyn Target,
    (second, tools): (&Path, &Path),
    only: Option<&str>,
) -> Result<()> {
    let output = Command::new(program)
        .arg("--configuration-file")
        .arg(configuration)
        .arg("--path")
        .arg(target.directory())
        .arg("--secondary-fs")
        .arg(second)
        .args(only)
        .env(
            "PATH",
            format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default()),
        )
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .context("starting pjdfstest")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let verdict = judge(&text, only.is_none())?;
    println!("{}", verdict.summary);
    ensure!(
        output.status.success() && verdict.wrong.is_empty(),
        "pjdfstest: {}\n{}\n{}",
        verdict.summary,
        verdict.wrong.join("\n"),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

struct Judgement {
    summary: String,
    wrong: Vec<String>,
}

/// Reads what pjdfstest printed. Tests that failed or were skipped are wrong, each with the lines that say why. Skipped may
/// be those of `tests/suites/pjdfstest-skips.toml`, and those of read-only filesystems in the run that leaves them for later.
fn judge(output: &str, remounts_later: bool) -> Result<Judgement> {
    let skips: BTreeMap<String, String> = toml::from_str(SKIPS).context("reading pjdfstest-skips.toml")?;
    let mut wrong = Vec::new();
    let mut lines = output.lines().peekable();
    let mut summary = None;
    while let Some(line) = lines.next() {
        if line.starts_with("Summary:") {
            summary = Some(line.to_owned());
        }
        let Some((name, result)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let allowed = skips.contains_key(name) || (remounts_later && name.contains(READ_ONLY));
        let skipped = result.trim() == "skipped" && !allowed;
        if skipped || matches!(result.trim(), "FAILED" | "PASSED UNEXPECTEDLY") {
            wrong.push(format!("{name} {}", result.trim()));
            while let Some(reason) = lines.next_if(|line| line.starts_with(['\t', ' '])) {
                wrong.push(reason.to_owned());
            }
        }
    }
    let summary = summary.context("pjdfstest printed no summary")?;
    Ok(Judgement { summary, wrong })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
chmod::enoent                             ok
chmod::erofs_named                        skipped
\tRemounts are not allowed
rmdir::enotdir                            FAILED
\tassertion failed: `ENOTDIR`
open::etxtbsy                             skipped
\trequires features: x

Summary: 1 failed, 2 skipped, 1 passed, 0 expected failures, 4 total
";

    #[test]
    fn failures_and_skips_are_found_with_their_reasons() {
        let judged = judge(OUTPUT, true).unwrap();
        assert_eq!(judged.wrong.len(), 4);
        assert!(judged.wrong.contains(&"rmdir::enotdir FAILED".into()));
        assert!(judged.wrong.contains(&"\trequires features: x".into()));
        // Nothing is left for later in the second run.
        assert_eq!(judge(OUTPUT, false).unwrap().wrong.len(), 6);
        assert!(judge("nothing", true).is_err());
    }
}
