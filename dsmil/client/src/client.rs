// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client that blocks, for at most a bound.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::protocol::{Access, Greeting, LINE_LIMIT, Reply, Request, VERSION};

/// Longer than any operation may take with all its attempts.
const BOUND: Duration = Duration::from_secs(10);

/// Where `dsmild` listens unless told otherwise; `DSMIL_SOCKET` names another place.
pub fn default_socket() -> PathBuf {
    std::env::var_os("DSMIL_SOCKET").map_or_else(|| PathBuf::from("/run/dsmil/dsmild.sock"), PathBuf::from)
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no connection, or it broke.
    #[error("{what} {}: {error}", path.display())]
    Connection {
        /// What was tried.
        what: &'static str,
        /// The server's socket.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The server speaks something else.
    #[error("{}: {what}", path.display())]
    Protocol {
        /// What.
        what: String,
        /// The server's socket.
        path: PathBuf,
    },
    /// The server refuses.
    #[error("{message}")]
    Refused {
        /// Why, as a number.
        errno: i32,
        /// Why, as a sentence.
        message: String,
    },
}

impl Failure {
    /// The same as a positive errno.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Connection { error, .. } => error.raw_os_error().unwrap_or(nix::libc::EIO),
            Self::Protocol { .. } => nix::libc::EPROTO,
            Self::Refused { errno, .. } => *errno,
        }
    }
}

/// A connection to `dsmild`.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    greeting: Greeting,
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects.
    pub fn connect(path: &Path) -> Result<Self, Failure> {
        let failed = |what| {
            move |error| Failure::Connection {
                what,
                path: path.to_owned(),
                error,
            }
        };
        let socket = UnixStream::connect(path).map_err(failed("connecting to"))?;
        socket.set_read_timeout(Some(BOUND)).map_err(failed("connecting to"))?;
        socket.set_write_timeout(Some(BOUND)).map_err(failed("connecting to"))?;
        let mut client = Self {
            path: path.to_owned(),
            greeting: Greeting {
                dsmild: 0,
                version: String::new(),
                access: Access::Read,
            },
            reader: BufReader::new(socket),
        };
        let line = client.line()?;
        // A server that is full, or does not know us, says so in its first line.
        client.greeting = match serde_json::from_slice::<Greeting>(&line) {
            Ok(greeting) => greeting,
            Err(_) => match client.parse::<Reply>(&line)? {
                Reply::Error { errno, message } => return Err(Failure::Refused { errno, message }),
                Reply::Ok(_) => return Err(client.strange("it does not greet")),
            },
        };
        if client.greeting.dsmild != VERSION {
            let theirs = client.greeting.dsmild;
            return Err(client.strange(&format!(
                "it speaks version {theirs} of the protocol, this is {VERSION}"
            )));
        }
        Ok(client)
    }

    /// What the server said of itself and of us.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Asks, and waits for the answer.
    pub fn call<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Failure> {
        self.send(request)?;
        self.reply()
    }

    /// Waits for one more answer to [`Request::Watch`], without a bound.
    pub fn follow<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        self.bound(None)?;
        let reply = self.reply();
        self.bound(Some(BOUND))?;
        reply
    }

    fn bound(&self, bound: Option<Duration>) -> Result<(), Failure> {
        let set = self.reader.get_ref().set_read_timeout(bound);
        set.map_err(|error| self.broken("waiting for", error))
    }

    fn send(&mut self, request: &Request) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(request).map_err(|error| self.strange(&error.to_string()))?;
        line.push(b'\n');
        let written = self.reader.get_mut().write_all(&line);
        written.map_err(|error| self.broken("asking", error))
    }

    fn reply<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let line = self.line()?;
        match self.parse::<Reply>(&line)? {
            Reply::Ok(value) => serde_json::from_value(value).map_err(|error| self.strange(&error.to_string())),
            Reply::Error { errno, message } => Err(Failure::Refused { errno, message }),
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, Failure> {
        let mut line = Vec::new();
        let limit = LINE_LIMIT as u64;
        let read = (&mut self.reader).take(limit).read_until(b'\n', &mut line);
        match read {
            Ok(_) if line.last() == Some(&b'\n') => Ok(line),
            Ok(0) => Err(self.broken("waiting for", io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Err(self.strange("its line has no end")),
            Err(error) => Err(self.broken("waiting for", error)),
        }
    }

    fn parse<T: DeserializeOwned>(&self, line: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(line).map_err(|error| self.strange(&error.to_string()))
    }

    fn broken(&self, what: &'static str, error: io::Error) -> Failure {
        Failure::Connection {
            what,
            path: self.path.clone(),
            error,
        }
    }

    fn strange(&self, what: &str) -> Failure {
        Failure::Protocol {
            what: what.to_owned(),
            path: self.path.clone(),
        }
    }
}
