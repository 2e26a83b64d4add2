// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the host and the agent say to each other, over one virtio-serial port. Sans-IO.
//!
//! A frame is
//!
//! ```text
//! 0        4      5         9
//! +--------+------+---------+----------------+
//! | length | kind | job     | payload        |
//! | u32 LE | u8   | u32 LE  | length-5 bytes |
//! +--------+------+---------+----------------+
//! ```
//!
//! `length` counts what follows it and is at most [`MAX_FRAME`]. `job` is the number the host gave the command that the
//! frame is about, 0 where there is none. The payload is JSON for structured frames and raw bytes for streams.
//!
//! The agent sends [`ToHost::Ready`] first and a [`ToHost::Heartbeat`] every [`HEARTBEAT_EVERY`] from then on. Every
//! [`ToGuest::Run`] is answered by any number of output frames and exactly one [`ToHost::Exit`].

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Name of the virtio-serial port.
pub const PORT_NAME: &str = "lab";
/// Mount tag of the host's root file system, read-only.
pub const ROOT_TAG: &str = "root";
/// Mount tag of the directory that host and guest share.
pub const SHARE_TAG: &str = "share";
/// Where the shared directory is mounted in the guest.
pub const SHARE_MOUNT: &str = "/lab";
/// How often the agent says that it is alive.
pub const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);
/// The longest frame, `length` field excluded.
pub const MAX_FRAME: usize = 1 << 20;
/// Serial number of the disk that keeps checkpoints across a reset.
pub const CHECKPOINT_DISK: &str = "lab-checkpoint";

/// What the init agent finds in its initramfs as `/lab.json`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct BootPlan {
    /// Module files in the initramfs, in loading order.
    pub early_modules: Vec<String>,
    /// Directory of the host that becomes `/lib/modules/<release>`; none where everything is built in.
    pub modules_tree: Option<String>,
    /// Values written to files below `/proc/sys`.
    pub sysctl: Vec<(String, String)>,
}

/// A command for the guest.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Additions to the agent's environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// A terminal of this size instead of pipes.
    pub terminal: Option<TerminalSize>,
}

impl Command {
    /// A program with its arguments, in the root directory.
    pub fn new<A: Into<String>>(argv: impl IntoIterator<Item = A>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            cwd: "/".into(),
            ..Self::default()
        }
    }

    /// A shell script that ends at its first failing command, in the root directory.
    pub fn shell(script: &str) -> Self {
        Self::new(["/bin/sh", "-ec", script])
    }
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// How a command ended.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It never ran; why.
    NotStarted(String),
}

impl Exit {
    /// The code a shell would report: the exit code, 128 + signal, or 127.
    pub fn shell_code(&self) -> u8 {
        match self {
            Self::Code(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            Self::Signal(signal) => u8::try_from(128 + (signal & 0x7f)).unwrap_or(u8::MAX),
            Self::NotStarted(_) => 127,
        }
    }
}

/// State of the guest that trends are computed from.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Vitals {
    /// Milliseconds since the guest booted.
    pub uptime_ms: u64,
    /// Bytes available without swapping.
    pub available: u64,
    /// Bytes in slab caches that cannot be reclaimed: caches of files come and go, leaks only come.
    pub slab: u64,
    /// Open files in the whole guest.
    pub open_files: u64,
}

/// Frames from host to guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToGuest {
    /// Start a command as job `job`.
    Run(u32, Command),
    /// Bytes for the job's standard input.
    Stdin(u32, Vec<u8>),
    /// End of the job's standard input.
    StdinEnd(u32),
    /// The job's terminal has a new size.
    Resize(u32, TerminalSize),
    /// End the job and all its descendants.
    Kill(u32),
    /// Make this number durable on the checkpoint disk.
    Checkpoint(u64),
    /// Sync and power off.
    PowerOff,
}

/// Frames from guest to host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToHost {
    /// The guest is up; its kernel release.
    Ready(String),
    /// The guest is alive.
    Heartbeat(Vitals),
    /// Bytes from the job's standard output (or its terminal).
    Stdout(u32, Vec<u8>),
    /// Bytes from the job's standard error.
    Stderr(u32, Vec<u8>),
    /// The job ended.
    Exit(u32, Exit),
    /// The checkpoint is durable.
    Checkpointed(u64),
    /// The agent could not do what it was asked, outside any job.
    Trouble(String),
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// The length field is out of range.
    Length(u32),
    /// No frame has this kind in this direction.
    Kind(u8),
    /// The payload is not the JSON that the kind wants.
    Payload(u8, String),
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length(length) => write!(f, "frame length {length} is outside 5..={MAX_FRAME}"),
            Self::Kind(kind) => write!(f, "no frame has kind {kind} in this direction"),
            Self::Payload(kind, why) => write!(f, "payload of a frame of kind {kind}: {why}"),
        }
    }
}

impl std::error::Error for Malformed {}

/// A message of either direction.
pub trait Message: Sized {
    /// Appends the message's frame.
    fn encode(&self, out: &mut Vec<u8>);
    /// The message of a frame's parts.
    fn decode(kind: u8, job: u32, payload: &[u8]) -> Result<Self, Malformed>;
}

fn frame(out: &mut Vec<u8>, kind: u8, job: u32, payload: &[u8]) {
    debug_assert!(
        payload.len() + 5 <= MAX_FRAME,
        "callers split streams below the frame limit"
    );
    let length = u32::try_from(payload.len() + 5).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(&job.to_le_bytes());
    out.extend_from_slice(payload);
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    // The types here are plain data with string keys: serialising them into memory has no way to fail.
    serde_json::to_vec(value).unwrap_or_default()
}

fn parse<T: DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(payload).map_err(|error| Malformed::Payload(kind, error.to_string()))
}

impl Message for ToGuest {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Run(job, command) => frame(out, 1, *job, &json(command)),
            Self::Stdin(job, bytes) => frame(out, 2, *job, bytes),
            Self::StdinEnd(job) => frame(out, 3, *job, &[]),
            Self::Resize(job, size) => frame(out, 4, *job, &json(size)),
            Self::Kill(job) => frame(out, 5, *job, &[]),
            Self::Checkpoint(number) => frame(out, 6, 0, &json(number)),
            Self::PowerOff => frame(out, 7, 0, &[]),
        }
    }

    fn decode(kind: u8, job: u32, payload: &[u8]) -> Result<Self, Malformed> {
        Ok(match kind {
            1 => Self::Run(job, parse(kind, payload)?),
            2 => Self::Stdin(job, payload.to_vec()),
            3 => Self::StdinEnd(job),
            4 => Self::Resize(job, parse(kind, payload)?),
            5 => Self::Kill(job),
            6 => Self::Checkpoint(parse(kind, payload)?),
            7 => Self::PowerOff,
            _ => return Err(Malformed::Kind(kind)),
        })
    }
}

impl Message for ToHost {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ready(release) => frame(out, 65, 0, &json(release)),
            Self::Heartbeat(vitals) => frame(out, 66, 0, &json(vitals)),
            Self::Stdout(job, bytes) => frame(out, 67, *job, bytes),
            Self::Stderr(job, bytes) => frame(out, 68, *job, bytes),
            Self::Exit(job, exit) => frame(out, 69, *job, &json(exit)),
            Self::Checkpointed(number) => frame(out, 70, 0, &json(number)),
            Self::Trouble(text) => frame(out, 71, 0, &json(text)),
        }
    }

    fn decode(kind: u8, job: u32, payload: &[u8]) -> Result<Self, Malformed> {
        Ok(match kind {
            65 => Self::Ready(parse(kind, payload)?),
            66 => Self::Heartbeat(parse(kind, payload)?),
            67 => Self::Stdout(job, payload.to_vec()),
            68 => Self::Stderr(job, payload.to_vec()),
            69 => Self::Exit(job, parse(kind, payload)?),
            70 => Self::Checkpointed(parse(kind, payload)?),
            71 => Self::Trouble(parse(kind, payload)?),
            _ => return Err(Malformed::Kind(kind)),
        })
    }
}

/// Turns a byte stream, however it is cut, into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Takes bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one. After an error the stream is lost: close it.
    pub fn take<M: Message>(&mut self) -> Result<Option<M>, Malformed> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header);
        let size = usize::try_from(length).map_err(|_| Malformed::Length(length))?;
        if !(5..=MAX_FRAME).contains(&size) {
            return Err(Malformed::Length(length));
        }
        let Some((body, _)) = rest.split_at_checked(size) else {
            return Ok(None);
        };
        let (Some((&kind, after_kind)), true) = (body.split_first(), size >= 5) else {
            return Err(Malformed::Length(length));
        };
        let Some((job, payload)) = after_kind.split_first_chunk::<4>() else {
            return Err(Malformed::Length(length));
        };
        let message = M::decode(kind, u32::from_le_bytes(*job), payload)?;
        self.buffer.drain(..4 + size);
        Ok(Some(message))
    }
}

/// Bytes in a checkpoint record: one sector, so that a torn write leaves the old or the new one.
pub const CHECKPOINT_RECORD: usize = 512;
const CHECKPOINT_MAGIC: &[u8; 8] = b"LABCKPT1";

/// A record of the checkpoint disk: magic, number, and the number's complement as its check.
pub fn encode_checkpoint(number: u64) -> [u8; CHECKPOINT_RECORD] {
    let mut record = [0; CHECKPOINT_RECORD];
    record[..8].copy_from_slice(CHECKPOINT_MAGIC);
    record[8..16].copy_from_slice(&number.to_le_bytes());
    record[16..24].copy_from_slice(&(!number).to_le_bytes());
    record
}

/// The number in a checkpoint record; `None` when it is not a whole record.
pub fn decode_checkpoint(record: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(record.get(8..16)?.try_into().ok()?);
    let check = u64::from_le_bytes(record.get(16..24)?.try_into().ok()?);
    (record.get(..8)? == CHECKPOINT_MAGIC && check == !number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<ToHost> {
        vec![
            ToHost::Ready("6.12.1".into()),
            ToHost::Heartbeat(Vitals {
                uptime_ms: 1,
                available: 2,
                slab: 3,
                open_files: 4,
            }),
            ToHost::Stdout(7, vec![0, 255, 10]),
            ToHost::Stderr(7, Vec::new()),
            ToHost::Exit(7, Exit::Signal(9)),
            ToHost::Checkpointed(u64::MAX),
            ToHost::Trouble("no disk".into()),
        ]
    }

    #[test]
    fn every_message_survives_the_wire_however_the_stream_is_cut() {
        let mut wire = Vec::new();
        for message in messages() {
            message.encode(&mut wire);
        }
        for chunk in 1..wire.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in wire.chunks(chunk) {
                decoder.push(piece);
                while let Some(message) = decoder.take::<ToHost>().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, messages(), "cut every {chunk} bytes");
        }
    }

    #[test]
    fn requests_survive_the_wire() {
        let command = Command {
            argv: vec!["sh".into(), "-c".into(), "exit 3".into()],
            cwd: "/".into(),
            ..Command::default()
        };
        let requests = [
            ToGuest::Run(1, command),
            ToGuest::Stdin(1, b"x".to_vec()),
            ToGuest::StdinEnd(1),
            ToGuest::Resize(1, TerminalSize { rows: 24, columns: 80 }),
            ToGuest::Kill(1),
            ToGuest::Checkpoint(5),
            ToGuest::PowerOff,
        ];
        let mut decoder = Decoder::default();
        for request in &requests {
            let mut wire = Vec::new();
            request.encode(&mut wire);
            decoder.push(&wire);
            assert_eq!(decoder.take::<ToGuest>().unwrap().as_ref(), Some(request));
        }
        assert_eq!(decoder.take::<ToGuest>().unwrap(), None);
    }

    #[test]
    fn lengths_kinds_and_payloads_are_checked() {
        let decode = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            decoder.take::<ToHost>()
        };
        assert_eq!(decode(&[4, 0, 0, 0, 65]), Err(Malformed::Length(4)));
        assert_eq!(decode(&[255, 255, 255, 255]), Err(Malformed::Length(u32::MAX)));
        assert_eq!(decode(&[5, 0, 0, 0, 1, 0, 0, 0, 0]), Err(Malformed::Kind(1)));
        assert!(matches!(
            decode(&[6, 0, 0, 0, 65, 0, 0, 0, 0, b'{']),
            Err(Malformed::Payload(65, _))
        ));
    }

    #[test]
    fn a_damaged_checkpoint_record_is_no_checkpoint() {
        let record = encode_checkpoint(42);
        assert_eq!(decode_checkpoint(&record), Some(42));
        for byte in 0..24 {
            let mut damaged = record;
            damaged[byte] ^= 1;
            assert_eq!(decode_checkpoint(&damaged), None, "byte {byte}");
        }
        assert_eq!(decode_checkpoint(&record[..20]), None);
    }
}
