// SPDX-License-Identifier: MIT OR Apache-2.0

//! How failures are told: what went wrong, what to do, and an exit code.
//!
//! A failed command says one line on the standard error: `vexfs-ublk: WHERE: WHAT; hint: WHAT TO DO`. With `--json` it is
//! `{"error": {"message", "hint", "code"}}` instead; `hint` may be null, `code` is the exit code.
//!
//! Where the hint comes from: errors of the engine read `what; what to do`, and so do those made with [`failed`]. For what
//! only an errno tells, [`known`] has the sentence.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde_json::json;
use vexfs::error::{Errno, Error};

/// Exit code of a call that cannot be understood.
pub(crate) const USAGE: u8 = 2;

/// Parts what went wrong from what to do.
const ADVICE: &str = "; ";

/// An error with what to do about it.
pub(crate) fn failed(what: impl Display, advice: impl Display) -> anyhow::Error {
    anyhow::anyhow!("{what}{ADVICE}{advice}")
}

/// Of several things that were tried: says what became of all but the first that failed, which is the result.
pub(crate) fn first_of(failures: Vec<anyhow::Error>) -> anyhow::Result<()> {
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { return Ok(()) };
    for other in failures {
        eprintln!("vexfs-ublk: {other:#}");
    }
    Err(first)
}

/// Who reads what is printed may have seen enough, as `head` has. Printing panics then; that ends the process quietly,
/// with the code that a shell gives for SIGPIPE. The signal itself stays ignored: it would come from sockets too.
pub(crate) fn end_with_the_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if message.starts_with("failed printing to std") && message.contains("Broken pipe") {
            std::process::exit(128 + nix::libc::SIGPIPE);
        }
        usual(panic);
    }));
}

/// Says what went wrong; the result is 1.
pub(crate) fn tell(error: &anyhow::Error, json: bool) -> ExitCode {
    tell_with(error, json, 1)
}

/// Says what went wrong; the result is `code`.
pub(crate) fn tell_with(error: &anyhow::Error, json: bool, code: u8) -> ExitCode {
    let (message, hint) = sentence(error);
    print(&message, hint.as_deref(), code, json);
    ExitCode::from(code)
}

/// Says why a call cannot be understood, or prints the help that was asked for.
pub(crate) fn misuse(error: &clap::Error, json: bool) -> ExitCode {
    if !json || matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nothing is left to be done if even this cannot be printed.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let message = paragraphs.next().unwrap_or_default().trim_start_matches("error: ");
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let near = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ];
    let near = near.iter().find_map(|kind| match error.get(*kind)? {
        ContextValue::String(one) => Some(one.clone()),
        ContextValue::Strings(some) => Some(some.join(", ")),
        _ => None,
    });
    let hint = near.map_or_else(
        || "see --help of the command".to_owned(),
        |near| format!("did you mean {near}"),
    );
    print(&message, Some(&hint), USAGE, true);
    ExitCode::from(USAGE)
}

/// The same for a name that other programs call, and whose codes they know.
pub(crate) fn misuse_with(error: &clap::Error, code: u8) -> ExitCode {
    let wrong = error.use_stderr();
    let usual = misuse(error, false);
    if wrong { ExitCode::from(code) } else { usual }
}

fn print(message: &str, hint: Option<&str>, code: u8, json: bool) {
    if json {
        let error = json!({"error": {"message": message, "hint": hint, "code": code}});
        eprintln!("{error}");
    } else {
        let hint = hint.map(|hint| format!("; hint: {hint}")).unwrap_or_default();
        eprintln!("vexfs-ublk: {message}{hint}");
    }
}

/// The causes in one line, each once, and the first advice among them.
fn sentence(error: &anyhow::Error) -> (String, Option<String>) {
    let mut message = String::new();
    let mut hint = None;
    for cause in error.chain() {
        let text = cause.to_string();
        let (what, advice) = match text.rsplit_once(ADVICE) {
            Some((what, advice)) => (what, Some(advice.to_owned())),
            None => (text.as_str(), None),
        };
        hint = hint.or(advice);
        if !message.ends_with(what) {
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(what);
        }
    }
    let hint = hint.or_else(|| error.chain().find_map(known).map(str::to_owned));
    (message.replace('\n', " "), hint)
}

/// What to do about errors that say only what they are.
fn known(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let errno = match cause.downcast_ref::<Error>() {
        Some(Error::Posix(errno)) => Some(*errno),
        Some(Error::Damaged(_)) => {
            return Some("vexfs-ublk check POOL tells what is damaged; restore the file from a copy");
        }
        Some(Error::Io(_)) => return Some("check the device below the pool, and the kernel log"),
        None => cause.downcast_ref::<Errno>().copied(),
    };
    if let Some(errno) = errno {
        return Some(match errno {
            Errno::NoEntry => "vexfs-ublk ls POOL:/path shows what is there",
            Errno::Exists => "choose another name, or remove that first",
            Errno::NotEmpty => "remove what is in it first, or use rm -r",
            Errno::NoSpace => "remove files, or make the pool larger with vexfs-ublk grow",
            Errno::NotDirectory => "symbolic links in a path are not followed; name the directory itself",
            Errno::NotPermitted => "vexfs-ublk stat shows the file's flags; an immutable file stays as it is",
            Errno::NoAttribute => "vexfs-ublk xattr list POOL:/path shows which there are",
            Errno::NotSupported => {
                "names of attributes begin with user., trusted., security. or are those of access lists"
            }
            Errno::NameTooLong => "a name has at most 255 bytes",
            _ => return None,
        });
    }
    Some(match cause.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "run it as root, or as the owner of the file",
        io::ErrorKind::StorageFull => "free space where the output goes",
        io::ErrorKind::BrokenPipe => "the program that reads the output ended early",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn advice_is_told_apart_from_what_happened_and_causes_are_told_once() {
        let error = Err::<(), _>(failed("pool is full", "grow it")).context("writing");
        let (message, hint) = sentence(&error.unwrap_err());
        assert_eq!(
            (message.as_str(), hint.as_deref()),
            ("writing: pool is full", Some("grow it"))
        );
        let error = anyhow::Error::from(Error::Posix(Errno::NoSpace)).context("/a");
        let (message, hint) = sentence(&error);
        assert_eq!(message, "/a: no space left in the pool");
        assert!(hint.unwrap().contains("grow"));
    }
}
