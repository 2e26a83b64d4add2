// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mounting as a command does it: in the background, with an answer that is true.
//!
//! The command ends with success once the mount answers, and with the server's own reason if it will not. The server tells
//! it over a pipe; that the mount answers is then seen by asking it for its numbers, as anybody else would.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};
use nix::sys::wait::{WaitStatus, waitpid};

use crate::guardian;
use crate::mount_table;
use crate::options::Options;
use crate::process::{self, Forked};
use crate::server::{ServeError, serve};

/// Why there is no mount. Read by a person.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The directory.
    #[error("{} cannot be mounted on: {reason}", directory.display())]
    Directory {
        /// Which.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
    /// The pool's file or device.
    #[error("{} cannot be opened: {error}; check the path", pool.display())]
    Pool {
        /// Which.
        pool: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The server, in this process.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The server, in its own words.
    #[error("{0}")]
    Told(String),
    /// The server ended without a word.
    #[error("the server ended before it served: {0}")]
    Died(String),
    /// The system.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        error: io::Error,
    },
}

fn system(what: &'static str) -> impl Fn(io::Error) -> MountError {
    move |error| MountError::System { what, error }
}

/// Serves in this process; returns when the mount has ended. `ready` is called once it answers.
pub fn mount_here(pool: &Path, directory: &Path, options: Options, ready: impl FnOnce()) -> Result<(), MountError> {
    let (pool, directory) = places(pool, directory)?;
    Ok(serve(pool, directory, options, ready)?)
}

/// Serves in a new process; returns when the mount answers. The server's log goes to `log`, or nowhere.
pub fn mount_in_background(
    pool: &Path,
    directory: &Path,
    options: Options,
    log: Option<&Path>,
) -> Result<(), MountError> {
    let (pool, directory) = places(pool, directory)?;
    let log = match log {
        Some(path) => File::options().append(true).create(true).open(path),
        None => File::options().write(true).open("/dev/null"),
    };
    let log = log.map_err(system("opening the log"))?;
    let (reader, writer) = nix::unistd::pipe().map_err(|errno| system("pipe")(errno.into()))?;
    match process::fork().map_err(system("starting the server"))? {
        Forked::Child => {
            drop(reader);
            let ended = become_server(pool, directory, options, &log, writer);
            std::process::exit(i32::from(ended.is_err()));
        }
        Forked::Parent(child) => {
            drop(writer);
            let mut told = String::new();
            File::from(reader)
                .read_to_string(&mut told)
                .map_err(system("hearing of the server"))?;
            match told.strip_prefix("failed: ") {
                _ if told == "ready" => answers(&directory),
                Some(reason) => Err(MountError::Told(reason.to_owned())),
                None => {
                    let how = waitpid(child, None).map_or_else(|errno| errno.to_string(), ended_how);
                    Err(MountError::Died(how))
                }
            }
        }
    }
}

fn ended_how(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("exit code {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("signal {signal}"),
        other => format!("{other:?}"),
    }
}

/// That the mount answers.
fn answers(directory: &Path) -> Result<(), MountError> {
    let found = statfs(directory).map_err(|errno| system("asking the new mount")(errno.into()))?;
    if found.filesystem_type() == FUSE_SUPER_MAGIC {
        return Ok(());
    }
    Err(MountError::Died("its mount is gone already".into()))
}

fn become_server(
    pool: PathBuf,
    directory: PathBuf,
    options: Options,
    log: &File,
    status: OwnedFd,
) -> Result<(), ServeError> {
    let detached = detach_from_caller(log).map_err(|error| ServeError::Process {
        what: "leaving the terminal",
        error,
    });
    let mut status = Some(File::from(status));
    let mut tell = |text: String| {
        // The caller may be gone; then nobody needs to know.
        if let Some(mut status) = status.take() {
            let _ = status.write_all(text.as_bytes());
        }
    };
    let result = detached.and_then(|()| serve(pool, directory, options, || tell("ready".into())));
    if let Err(error) = &result {
        tracing::error!(%error, "the server ends");
        tell(format!("failed: {error}"));
    }
    result
}

fn detach_from_caller(log: &File) -> io::Result<()> {
    nix::unistd::setsid()?;
    nix::unistd::chdir("/")?;
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&nothing)?;
    nix::unistd::dup2_stdout(&nothing)?;
    nix::unistd::dup2_stderr(log)?;
    Ok(())
}

/// Both as absolute paths, after a dead mount of the same pool was taken away.
fn places(pool: &Path, directory: &Path) -> Result<(PathBuf, PathBuf), MountError> {
    let pool = pool.canonicalize().map_err(|error| MountError::Pool {
        pool: pool.to_owned(),
        error,
    })?;
    let refuse = |reason: String| MountError::Directory {
        directory: directory.to_owned(),
        reason,
    };
    match directory.metadata() {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(refuse("it is not a directory".into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refuse("it does not exist; make it first".into()));
        }
        Err(error) if error.raw_os_error() == Some(Errno::ENOTCONN as i32) => {
            take_dead_mount_away(&pool, directory).map_err(&refuse)?;
        }
        Err(error) => return Err(refuse(error.to_string())),
    }
    let directory = directory.canonicalize().map_err(|error| refuse(error.to_string()))?;
    Ok((pool, directory))
}

/// The place of a directory that cannot be looked at itself, since its mount is dead.
pub(crate) fn place_of_mount(directory: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(directory)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        _ => Ok(absolute),
    }
}

fn take_dead_mount_away(pool: &Path, directory: &Path) -> Result<(), String> {
    let place = place_of_mount(directory).map_err(|error| error.to_string())?;
    let found = mount_table::at(&place).map_err(|error| error.to_string())?;
    match found {
        Some(dead) if dead.is_ours() && dead.source == pool => guardian::detach(&place),
        Some(dead) => Err(format!(
            "the server of what is mounted there ({}) is gone; unmount it first",
            dead.source.display()
        )),
        None => Err("it is below a mount whose server is gone; unmount that first".into()),
    }
}
