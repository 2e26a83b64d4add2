// SPDX-License-Identifier: MIT OR Apache-2.0

//! The control socket of a mount: `vexfs-ublk status`, `top`, `snapshot` and others ask there.
//!
//! A mount without one is a mount all the same: where the socket cannot be made, the log says so.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};

use fuser::{INodeNo, Notifier};
use uuid::Uuid;
use vexfs::fs::Fs;
use vexfs::units::Ino;
use vexfs_control::engine::{Engine, FrontEnd};
use vexfs_control::place::{self, Socket};
use vexfs_control::server::Server;
use vexfs_control::status::Facts;

use crate::filesystem::lookups::Lookups;
use crate::guardian::{Guardian, Task};
use crate::write_back::WriteBack;

/// Whoever may administer the pool: its owner, and root.
const MODE: u32 = 0o600;

/// Makes the socket of a pool. It must be made before the sandbox takes its directory away.
pub(crate) fn socket(pool: Uuid) -> Option<Socket> {
    let made = place::directory().and_then(|directory| Socket::make(&directory, &place::socket_name(pool), MODE));
    made.inspect_err(|error| tracing::warn!(%error, "there is no control socket"))
        .ok()
}

/// Answers at it until the result is dropped.
pub(crate) fn answer(socket: Socket, task: &Task, fs: Fs, kernel: Kernel) -> Option<Server> {
    let facts = Facts {
        pool: task.pool.to_string_lossy().into_owned(),
        mount_point: Some(task.directory.to_string_lossy().into_owned()),
        front_end: "fuse".into(),
        options: task.options.words.clone(),
    };
    let mut engine = Engine::new(fs, facts, kernel);
    if let Some(log) = &task.options.log {
        engine = engine.with_log(log.clone());
    }
    let started = Server::start(socket, engine);
    started
        .inspect_err(|error| tracing::warn!(%error, "nobody answers at the control socket"))
        .ok()
}

/// What the kernel holds of the mount, and the ways to have that changed.
pub(crate) struct Kernel {
    pub(crate) fs: Fs,
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) notifier: Arc<OnceLock<Notifier>>,
    pub(crate) guardian: Arc<Guardian>,
}

impl FrontEnd for Kernel {
    fn attributes_changed(&self, ino: Ino) {
        // A negative offset leaves the cached bytes alone.
        if let Some(notifier) = self.notifier.get()
            && let Err(error) = notifier.inval_inode(INodeNo(ino.0), -1, 0)
        {
            tracing::debug!(%ino, %error, "the kernel did not take back what it knew");
        }
    }

    fn before_copy(&self, path: &str, source: Ino) -> io::Result<()> {
        let tree = WriteBack {
            fs: &self.fs,
            lookups: &self.lookups,
            guardian: &self.guardian,
            notifier: self.notifier.get(),
        };
        tree.of(path.as_bytes(), source)
    }

    fn name_appeared(&self, directory: Ino, name: &[u8]) {
        let Some(notifier) = self.notifier.get() else { return };
        let number = INodeNo(directory.0);
        // What it knows of the name, of the directory's attributes, and the names it has listed.
        let told = [
            notifier.inval_entry(number, OsStr::from_bytes(name)),
            notifier.inval_inode(number, 0, 0),
        ];
        for error in told.into_iter().filter_map(Result::err) {
            // It never knew of it.
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, %directory, "the kernel did not take back what it knew");
            }
        }
    }
}
