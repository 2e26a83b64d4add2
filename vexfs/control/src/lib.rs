// SPDX-License-Identifier: MIT OR Apache-2.0

//! Watching and administering a pool that is being served: a Unix socket per pool, and what processes log.
//!
//! | module | job |
//! |---|---|
//! | [`place`] | where the sockets are, and making one |
//! | [`http`] | requests and responses: HTTP/1.1, one request per connection |
//! | [`server`] | the thread that answers |
//! | [`handler`] | what can be asked of it |
//! | [`engine`] | the answers, from an open pool |
//! | [`status`] | the JSON document of `/status` |
//! | [`volumes`] | files that serve as disks: make, resize, remove, list |
//! | [`client`] | asking |
//! | [`logging`] | what processes log, where to, and changing it while they run |
//!
//! # For a front end
//!
//! ```no_run
//! # use vexfs_control::{engine::Engine, logging::{self, Output}, place::{self, Socket}, server::Server, status::Facts};
//! # fn serve(fs: vexfs::fs::Fs) -> Result<(), Box<dyn std::error::Error>> {
//! let log = logging::start(None, "info", Output::Errors)?;
//! // Before a sandbox takes the directory away.
//! let socket = Socket::make(&place::directory()?, &place::socket_name(fs.superblock().uuid), 0o600)?;
//! let facts = Facts {
//!     pool: "/srv/pool.img".into(),
//!     mount_point: Some("/mnt".into()),
//!     front_end: "fuse".into(),
//!     options: vec!["ro".into()],
//! };
//! let engine = Engine::new(fs.clone(), facts, ()).with_log(log);
//! // After daemonising, since threads do not survive that.
//! let server = Server::start(socket, engine)?;
//! // … serve …
//! server.stop();
//! # Ok(())
//! # }
//! ```
//!
//! # Contract
//!
//! - Who may connect is who may open the socket: it has mode 0600 unless somebody says otherwise. There is no other check.
//! - Whatever is sent to the socket, the server's memory and time for it are bounded, and it answers or hangs up.
//! - A server that ends removes its socket; one that was killed leaves it, and the next one for the pool replaces it.

pub mod client;
pub mod engine;
pub mod handler;
pub mod http;
pub mod logging;
pub mod place;
pub mod server;
pub mod status;
pub mod volumes;
