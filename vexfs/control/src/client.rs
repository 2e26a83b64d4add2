// SPDX-License-Identifier: MIT OR Apache-2.0

//! Asking a server.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::handler::Call;
use crate::status::{Status, VERSION};

/// Longest wait for an answer to a question; calls take as long as they take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer.
const MAX_ANSWER: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody serves there, or not any more.
    #[error("{}: nobody serves there", .0.display())]
    NotServed(PathBuf),
    /// Another user's.
    #[error("{}: you may not ask this server; become root, or the user who mounted the pool", .0.display())]
    Denied(PathBuf),
    /// The system failed, or the server hung up or was too slow.
    #[error("{}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server said no, and why.
    #[error("{message}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// A sentence.
        message: String,
    },
    /// What came back is not what a server of ours sends.
    #[error("{}: an answer that makes no sense: {what}", path.display())]
    Nonsense {
        /// The socket.
        path: PathBuf,
        /// In what way.
        what: String,
    },
}

/// Somebody to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// At a socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The metrics, as text for Prometheus.
    pub fn metrics(&self) -> Result<String, ClientError> {
        self.ask("GET", "/metrics", "", Some(PATIENCE))
    }

    /// The status.
    pub fn status(&self) -> Result<Status, ClientError> {
        let text = self.ask("GET", "/status", "", Some(PATIENCE))?;
        let document: Value = serde_json::from_str(&text).map_err(|error| self.nonsense(error))?;
        let version = document.get("version").and_then(Value::as_u64);
        if version != Some(u64::from(VERSION)) {
            let version = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
            return Err(self.nonsense(format_args!(
                "version {version} instead of {VERSION}; use the command of its version"
            )));
        }
        serde_json::from_value(document).map_err(|error| self.nonsense(error))
    }

    /// The block devices, as their server tells within this time.
    pub fn devices(&self, patience: Duration) -> Result<Value, ClientError> {
        let text = self.ask("GET", "/devices", "", Some(patience))?;
        serde_json::from_str(&text).map_err(|error| self.nonsense(error))
    }

    /// Has something done, however long that takes.
    pub fn call(&self, call: &Call) -> Result<Value, ClientError> {
        self.call_patiently(call, None)
    }

    /// Has something done that must not take longer than this.
    pub fn call_within(&self, call: &Call, patience: Duration) -> Result<Value, ClientError> {
        self.call_patiently(call, Some(patience))
    }

    fn call_patiently(&self, call: &Call, patience: Option<Duration>) -> Result<Value, ClientError> {
        let text = self.ask("POST", call.path(), &call.body().to_string(), patience)?;
        serde_json::from_str(&text).map_err(|error| self.nonsense(error))
    }

    fn ask(&self, method: &str, path: &str, body: &str, patience: Option<Duration>) -> Result<String, ClientError> {
        let io = |source: io::Error| self.failed(source);
        let mut stream = UnixStream::connect(&self.socket).map_err(io)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(io)?;
        stream.set_read_timeout(patience).map_err(io)?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).map_err(io)?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(io)?;
        let (status, body) = read_answer(&answer).map_err(|what| self.nonsense(what))?;
        if status == 200 {
            return Ok(body);
        }
        let told: Option<Value> = serde_json::from_str(&body).ok();
        let message = told.as_ref().and_then(|told| told.get("error")).and_then(Value::as_str);
        let message = message.map_or_else(|| format!("the server answered {status}"), str::to_owned);
        Err(ClientError::Refused { status, message })
    }

    fn failed(&self, source: io::Error) -> ClientError {
        let path = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotServed(path),
            io::ErrorKind::PermissionDenied => ClientError::Denied(path),
            io::ErrorKind::WouldBlock => ClientError::Io {
                path,
                source: io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time"),
            },
            _ => ClientError::Io { path, source },
        }
    }

    fn nonsense(&self, what: impl std::fmt::Display) -> ClientError {
        ClientError::Nonsense {
            path: self.socket.clone(),
            what: what.to_string(),
        }
    }
}

/// Status and body.
fn read_answer(bytes: &[u8]) -> Result<(u16, String), String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(bytes).map_err(|error| error.to_string())? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Err("it ends too early".into()),
    };
    let status = head.code.ok_or("no status")?;
    let body = bytes.get(length..).unwrap_or_default();
    let told = head
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    if told != Some(body.len()) {
        return Err("it is not as long as it says".into());
    }
    let body = String::from_utf8(body.to_vec()).map_err(|error| error.to_string())?;
    Ok((status, body))
}
