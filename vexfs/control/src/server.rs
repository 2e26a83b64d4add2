// SPDX-License-Identifier: MIT OR Apache-2.0

//! The thread that answers.
//!
//! One thread waits for everything: new connections, bytes, and its own end. Questions are quick and it answers them itself;
//! a call may take long, so a thread of its own makes it, one call at a time, and questions are answered meanwhile.
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | connections | [`MAX_CONNECTIONS`]; more wait in the queue of the socket |
//! | calls that wait | [`MAX_CALLS`] |
//! | memory of each | what [`crate::http`] says, and one answer |
//! | time to send a request, and to take an answer | [`PATIENCE`] |
//!
//! A handler that panics is a failed answer; the server goes on.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::handler::{Call, Handler, Refusal};
use crate::http::{self, JSON, MAX_BODY, MAX_HEAD, Request, Response};
use crate::place::Socket;

/// Connections that are served at once.
pub const MAX_CONNECTIONS: usize = 16;
/// Calls that may wait for the one that is made: fewer than connections, so that questions are answered all the same.
pub const MAX_CALLS: usize = 8;
/// How long a peer may take for its part.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a server that ends waits for peers to take answers they were given already.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A running server. Dropped, or stopped, it ends: the call that is being made is waited for, those behind it are not made.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    /// Closing it ends the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts the thread.
    pub fn start(socket: Socket, handler: impl Handler) -> io::Result<Self> {
        socket.listener.set_nonblocking(true)?;
        let path = socket.path().to_owned();
        let (stop, stopped) = UnixStream::pair()?;
        let (wake, woken) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let (done, finished) = channel();
        let service = Service {
            socket,
            handler: Arc::new(handler),
            stopped,
            wake,
            woken,
            done,
            finished,
            connections: Vec::new(),
            calls: VecDeque::new(),
            caller: None,
            next: 0,
        };
        let builder = std::thread::Builder::new().name("vexfs-control".into());
        let thread = builder.spawn(move || service.run())?;
        Ok(Self {
            path,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends it and removes the socket.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control server panicked");
        }
    }
}

/// Names a connection for the thread that makes its call.
type Id = u64;

struct Service {
    socket: Socket,
    handler: Arc<dyn Handler>,
    stopped: UnixStream,
    /// What the thread of a call writes to when its answer is in `done`.
    wake: UnixStream,
    woken: UnixStream,
    done: Sender<(Id, Response)>,
    finished: Receiver<(Id, Response)>,
    connections: Vec<Connection>,
    calls: VecDeque<(Id, Call)>,
    caller: Option<JoinHandle<()>>,
    next: Id,
}

struct Connection {
    id: Id,
    stream: UnixStream,
    state: State,
    deadline: Instant,
}

enum State {
    /// What came of the request.
    Reading(Vec<u8>),
    /// Its call is made, or waits for that.
    Calling,
    /// The answer, and how much of it is sent.
    Writing(Vec<u8>, usize),
    /// Nothing more to do.
    Over,
}

/// What to wait for, in the order of the descriptors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Stop,
    Wake,
    Listener,
    Connection(Id),
}

impl Service {
    fn run(mut self) {
        loop {
            match self.wait() {
                Ok(ready) if ready.contains(&Source::Stop) => break,
                Ok(ready) => self.serve(&ready),
                Err(errno) => {
                    tracing::error!(%errno, "the control server cannot wait for anything and ends");
                    break;
                }
            }
        }
        if let Some(caller) = self.caller.take() {
            // A panic in it was an answer already.
            let _ = caller.join();
        }
        self.take_answers();
        self.send_the_rest();
    }

    /// Whoever asked for the end is still to hear of it.
    fn send_the_rest(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        for connection in &mut self.connections {
            while matches!(connection.state, State::Writing(..)) && Instant::now() < deadline {
                let mut fds = [PollFd::new(connection.stream.as_fd(), PollFlags::POLLOUT)];
                let left = deadline.saturating_duration_since(Instant::now());
                if poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)).is_err() {
                    break;
                }
                connection.write();
            }
        }
    }

    /// What can be gone on with.
    fn wait(&self) -> Result<Vec<Source>, Errno> {
        let mut sources = vec![Source::Stop, Source::Wake];
        let mut fds = vec![
            PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
        ];
        if self.connections.len() < MAX_CONNECTIONS {
            sources.push(Source::Listener);
            fds.push(PollFd::new(self.socket.listener.as_fd(), PollFlags::POLLIN));
        }
        let mut deadline = None;
        for connection in &self.connections {
            let wanted = match connection.state {
                State::Reading(_) => PollFlags::POLLIN,
                State::Writing(..) => PollFlags::POLLOUT,
                // Not even its hanging up: there is nothing to be done about it before the call ends.
                State::Calling | State::Over => continue,
            };
            sources.push(Source::Connection(connection.id));
            fds.push(PollFd::new(connection.stream.as_fd(), wanted));
            deadline = Some(deadline.map_or(connection.deadline, |least: Instant| least.min(connection.deadline)));
        }
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            // Rounded up, or the last millisecond would be spent asking again and again.
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
        let ready = fds.iter().zip(sources);
        Ok(ready
            .filter(|(fd, _)| fd.revents().is_some_and(|events| !events.is_empty()))
            .map(|(_, source)| source)
            .collect())
    }

    fn serve(&mut self, ready: &[Source]) {
        if ready.contains(&Source::Wake) {
            self.take_answers();
        }
        if ready.contains(&Source::Listener) {
            self.accept();
        }
        let now = Instant::now();
        for connection in &mut self.connections {
            if ready.contains(&Source::Connection(connection.id)) {
                connection.go_on(&*self.handler, &mut self.calls);
            } else if now >= connection.deadline {
                connection.expire();
            }
        }
        self.connections
            .retain(|connection| !matches!(connection.state, State::Over));
        self.make_calls();
    }

    fn accept(&mut self) {
        match self.socket.listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nonblocking(true) {
                    tracing::warn!(%error, "a control connection");
                    return;
                }
                self.next += 1;
                self.connections.push(Connection {
                    id: self.next,
                    stream,
                    state: State::Reading(Vec::new()),
                    deadline: Instant::now() + PATIENCE,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::warn!(%error, "a control connection");
                // Out of descriptors, the same connection would be tried again at once.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Sends what calls were answered with.
    fn take_answers(&mut self) {
        let mut bytes = [0; 64];
        while self.woken.read(&mut bytes).is_ok_and(|read| read > 0) {}
        while let Ok((id, response)) = self.finished.try_recv() {
            if let Some(caller) = self.caller.take() {
                // It answered, so it is about to end; its panic would have been the answer.
                let _ = caller.join();
            }
            if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
                connection.answer(&response);
            }
        }
    }

    /// Starts the next call when the one before has ended.
    fn make_calls(&mut self) {
        if self.caller.is_some() {
            return;
        }
        let Some((id, call)) = self.calls.pop_front() else {
            return;
        };
        let work = self.wake.try_clone().and_then(|mut wake| {
            let (handler, done) = (Arc::clone(&self.handler), self.done.clone());
            let builder = std::thread::Builder::new().name("vexfs-control-call".into());
            builder.spawn(move || {
                tracing::info!(path = call.path(), body = %call.body(), "called through the control socket");
                let response = guarded(|| match handler.call(&call) {
                    Ok(value) => Ok(Response::ok(JSON, format!("{value}\n"))),
                    Err(refusal) => Err(refusal),
                });
                // The server may have ended: then nobody waits.
                let _ = done.send((id, response));
                drop(done);
                let _ = wake.write_all(&[1]);
            })
        });
        match work {
            Ok(caller) => self.caller = Some(caller),
            Err(error) => {
                let refusal = Refusal::new(503, format!("no thread for the call: {error}"));
                if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
                    connection.answer(&Response::refusal(&refusal));
                }
            }
        }
    }
}

impl Connection {
    fn answer(&mut self, response: &Response) {
        self.state = State::Writing(response.encode(), 0);
        self.deadline = Instant::now() + PATIENCE;
        self.write();
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.answer(&Response::refusal(refusal));
    }

    fn expire(&mut self) {
        match self.state {
            State::Reading(_) => self.refuse(&Refusal::new(408, "the request did not come in time")),
            State::Writing(..) => self.state = State::Over,
            State::Calling | State::Over => {}
        }
    }

    fn go_on(&mut self, handler: &dyn Handler, calls: &mut VecDeque<(Id, Call)>) {
        match self.state {
            State::Reading(_) => self.read(handler, calls),
            State::Writing(..) => self.write(),
            State::Calling | State::Over => {}
        }
    }

    fn read(&mut self, handler: &dyn Handler, calls: &mut VecDeque<(Id, Call)>) {
        let State::Reading(bytes) = &mut self.state else { return };
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            // Half a request, and no more will come.
            Ok(0) => self.state = State::Over,
            Ok(count) => {
                // Both parts have their own bounds; together they bound this.
                debug_assert!(
                    bytes.len() <= MAX_HEAD + MAX_BODY,
                    "a request that is too long is refused before"
                );
                bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
                match http::parse(bytes) {
                    Ok(None) => {}
                    Ok(Some(request)) => self.take(&request, handler, calls),
                    Err(refusal) => self.refuse(&refusal),
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.state = State::Over,
        }
    }

    fn take(&mut self, request: &Request, handler: &dyn Handler, calls: &mut VecDeque<(Id, Call)>) {
        match route(request) {
            Ok(Route::Metrics) => self.answer(&guarded(|| {
                Ok(Response::ok(vexfs::metrics::text::CONTENT_TYPE, handler.metrics()?))
            })),
            Ok(Route::Status) => self.answer(&guarded(|| Ok(Response::ok(JSON, handler.status()?)))),
            Ok(Route::Devices) => self.answer(&guarded(|| Ok(Response::ok(JSON, handler.devices()?)))),
            Ok(Route::Call(call)) => {
                if calls.len() >= MAX_CALLS {
                    self.refuse(&Refusal::new(503, "too many calls are waiting; try again"));
                    return;
                }
                self.state = State::Calling;
                calls.push_back((self.id, call));
            }
            Err(response) => self.answer(&response),
        }
    }

    fn write(&mut self) {
        let State::Writing(bytes, sent) = &mut self.state else {
            return;
        };
        while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It hung up.
                Err(_) => break,
            }
        }
        self.state = State::Over;
    }
}

enum Route {
    Metrics,
    Status,
    Devices,
    Call(Call),
}

/// Who answers a request, or the answer if nobody does.
fn route(request: &Request) -> Result<Route, Response> {
    let refuse = |status, message: String| Response::refusal(&Refusal::new(status, message));
    let only = |allow: &'static str| Response {
        allow: Some(allow),
        ..refuse(405, format!("{} is asked with {allow}", request.path))
    };
    match (request.path.as_str(), request.method.as_str()) {
        ("/metrics", "GET") => Ok(Route::Metrics),
        ("/status", "GET") => Ok(Route::Status),
        ("/devices", "GET") => Ok(Route::Devices),
        ("/metrics" | "/status", _) => Err(only("GET")),
        (path, method) if Call::PATHS.contains(&path) => {
            if method != "POST" {
                return Err(only("POST"));
            }
            match Call::parse(path, &request.body) {
                Some(Ok(call)) => Ok(Route::Call(call)),
                Some(Err(refusal)) => Err(Response::refusal(&refusal)),
                None => Err(refuse(404, format!("there is no {path}"))),
            }
        }
        (path, _) => Err(refuse(
            404,
            format!("there is no {path}; there are /metrics and /status"),
        )),
    }
}

fn guarded(answer: impl FnOnce() -> Result<Response, Refusal>) -> Response {
    // What a handler may have left half done is its own: it is only ever shared.
    match catch_unwind(AssertUnwindSafe(answer)) {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => Response::refusal(&refusal),
        Err(_) => Response::refusal(&Refusal::new(
            500,
            "this failed in a way nobody thought of; the log has more",
        )),
    }
}
