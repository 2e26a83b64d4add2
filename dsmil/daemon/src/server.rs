// SPDX-License-Identifier: MIT OR Apache-2.0

//! All clients: accepted, known, counted, and refused when there are too many.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use tokio_uring::net::UnixStream;

use crate::audit::Audit;
use crate::link::Link;
use crate::peer::{Peer, Rights};
use crate::session::{Session, refusal, send};
use crate::settings::{Limits, Settings};

/// See the module.
#[derive(Debug)]
pub(crate) struct Server {
    link: Rc<Link>,
    audit: Audit,
    rights: Rights,
    limits: Limits,
    /// Connections by user.
    clients: RefCell<HashMap<u32, usize>>,
}

/// Listens. Everybody may connect: who is let in is decided by who they are, not by the socket's mode.
pub(crate) fn listen(settings: &Settings) -> Result<UnixListener> {
    let path = &settings.socket;
    let doing = || format!("listening at {}", path.display());
    // A process that was killed leaves its socket behind. One that lives answers.
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        anyhow::bail!("another process serves at {}", path.display());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(doing),
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(doing)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).with_context(doing)?;
    Ok(listener)
}

impl Server {
    pub(crate) fn new(link: Rc<Link>, audit: Audit, rights: Rights, settings: &Settings) -> Self {
        Self {
            link,
            audit,
            rights,
            limits: settings.limits,
            clients: RefCell::default(),
        }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Clients that are connected.
    pub(crate) fn clients(&self) -> usize {
        self.clients.borrow().values().sum()
    }

    /// Serves for ever; tells systemd's watchdog that the event loop turns.
    pub(crate) async fn serve(self: Rc<Self>, listener: UnixListener) -> Result<()> {
        if let Some(interval) = sd_notify::watchdog_enabled() {
            tokio_uring::spawn(feed_watchdog(interval / 3));
        }
        listener.set_nonblocking(true).context("preparing the socket")?;
        let listener = tokio::net::UnixListener::from_std(listener).context("preparing the socket")?;
        loop {
            match listener.accept().await.and_then(|(socket, _)| socket.into_std()) {
                Ok(socket) => {
                    let server = Rc::clone(&self);
                    tokio_uring::spawn(server.welcome(socket));
                }
                Err(error) => {
                    // Out of descriptors, most likely: those that are connected go on.
                    tracing::warn!(%error, "a client cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn welcome(self: Rc<Self>, socket: std::os::unix::net::UnixStream) {
        let peer = match Peer::of(&socket) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(%error, "a client does not say who it is");
                return;
            }
        };
        let socket = UnixStream::from_std(socket);
        let Some(access) = self.rights.of(&peer) else {
            tracing::warn!(?peer, "refused: in none of the groups");
            let reply = refusal(
                Errno::EACCES,
                "you are in none of the groups that may connect".to_owned(),
            );
            // Whether the refusal arrives does not matter: nothing else will.
            let _refused = send(&socket, &reply).await;
            return;
        };
        let Some(_seat) = Seat::take(&self, peer.uid) else {
            tracing::warn!(?peer, "refused: too many clients");
            let _refused = send(&socket, &refusal(Errno::EBUSY, "too many clients".to_owned())).await;
            return;
        };
        let uid = peer.uid;
        if let Err(error) = Session::new(Rc::clone(&self), socket, peer, access).serve().await {
            tracing::debug!(uid, %error, "a client was dropped");
        }
    }
}

/// One connection of a user, for as long as it lives.
struct Seat {
    server: Rc<Server>,
    uid: u32,
}

impl Seat {
    fn take(server: &Rc<Server>, uid: u32) -> Option<Self> {
        let full = server.clients() >= server.limits.clients;
        let mut clients = server.clients.borrow_mut();
        let own = clients.get(&uid).copied().unwrap_or_default();
        if full || own >= server.limits.clients_per_user {
            return None;
        }
        clients.insert(uid, own + 1);
        Some(Self {
            server: Rc::clone(server),
            uid,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut clients = self.server.clients.borrow_mut();
        if let Some(count) = clients.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.uid);
            }
        }
    }
}

async fn feed_watchdog(period: Duration) {
    loop {
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]) {
            tracing::warn!(%error, "systemd's watchdog cannot be told");
        }
        tokio::time::sleep(period).await;
    }
}
