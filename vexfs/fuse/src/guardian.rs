// SPDX-License-Identifier: MIT OR Apache-2.0

//! The guardian: a small process beside the server that keeps the right to mount and unmount.
//!
//! The server gives up its privileges before it serves, but must still take its mount point away when it is told to end;
//! and when it dies, somebody must do that for it. So it forks the guardian before it opens the pool. Both talk over a
//! socket, one message each way:
//!
//! | server | guardian |
//! |---|---|
//! | mount | mounted, with the device to serve; or why not |
//! | write back | the kernel has begun to write what it held back; or why not |
//! | open and close these files ([`Batch`]) | done, with those that could not be opened; or whose bytes were lost |
//! | unmount | unmounted; unmounted, but still in use; or why not |
//! | I have closed the pool | – |
//!
//! If the socket ends without that last message the server died: with `auto_unmount` its mount point is taken away.
//!
//! The guardian knows its mount by the device number. Something else that is mounted on the same directory later is left
//! alone. It has no part of the pool in its memory, ignores the signals that end the server, and lives as long as it.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, mount, umount2};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use nix::unistd::geteuid;
use parking_lot::Mutex;

use crate::batch::{self, Batch, MESSAGE};
use crate::fusermount;
use crate::mount_table::{self, TYPE};
use crate::options::{Audience, Options};
use crate::process::{self, Forked};

/// Capabilities the guardian keeps: to mount, and to reach the directory whoever owns what is above it.
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_ADMIN: u32 = 21;

/// How long a mount that is in use is tried to be unmounted before it is only detached.
const PATIENCE: Duration = Duration::from_secs(2);

const MOUNT: u8 = b'm';
const UNMOUNT: u8 = b'u';
const WRITE_BACK: u8 = b'w';
const CLOSE_ONCE: u8 = b'f';
const CLOSED: u8 = b'c';
const DONE: u8 = b'd';
const DETACHED: u8 = b'l';
const FAILED: u8 = b'e';

/// Bytes of the longest reason for a failure that is told.
const LONGEST_REASON: usize = 4000;

/// What became of a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmounted {
    /// It is gone.
    Fully,
    /// It is gone from the directory; who had files open still has them.
    Detached,
}

impl Unmounted {
    const fn code(self) -> u8 {
        match self {
            Self::Fully => DONE,
            Self::Detached => DETACHED,
        }
    }
}

/// The server's end.
pub(crate) struct Guardian {
    socket: OwnedFd,
    /// One question at a time.
    turn: Mutex<()>,
}

/// What to mount.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) pool: PathBuf,
    pub(crate) directory: PathBuf,
    pub(crate) options: Options,
}

fn system(what: &str, error: impl std::fmt::Display) -> String {
    format!("{what}: {error}")
}

impl Guardian {
    /// Forks the guardian. This process must have one thread.
    pub(crate) fn start(task: &Task) -> io::Result<Self> {
        let kind = SockType::SeqPacket;
        let (mine, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
        match process::fork()? {
            Forked::Parent(_) => Ok(Self {
                socket: mine,
                turn: Mutex::new(()),
            }),
            Forked::Child => {
                let ended = guard(task, &theirs);
                if let Err(error) = &ended {
                    tracing::error!(%error, "guardian");
                }
                std::process::exit(i32::from(ended.is_err()));
            }
        }
    }

    /// Has the filesystem mounted; returns the device to serve.
    pub(crate) fn mount(&self) -> Result<OwnedFd, String> {
        let answer = self.ask(MOUNT, &[])?;
        answer.device.ok_or_else(|| "the guardian mounted nothing".into())
    }

    /// Has the kernel begin to send what it holds back of written bytes. Others must serve meanwhile.
    pub(crate) fn write_back(&self) -> Result<(), String> {
        self.ask(WRITE_BACK, &[]).map(drop)
    }

    /// Has files opened and closed, and so what was written to them sent. Others must serve meanwhile. Returns the positions of
    /// those that could not be opened.
    pub(crate) fn close_once(&self, batch: &Batch) -> Result<Vec<usize>, String> {
        let answer = self.ask(CLOSE_ONCE, batch.bytes())?;
        Ok(batch::positions_of_bytes(&answer.rest))
    }

    /// Has the mount point taken away.
    pub(crate) fn unmount(&self) -> Result<Unmounted, String> {
        let answer = self.ask(UNMOUNT, &[])?;
        Ok(if answer.first == DETACHED {
            Unmounted::Detached
        } else {
            Unmounted::Fully
        })
    }

    /// Lets the guardian go: the pool is closed.
    pub(crate) fn dismiss(&self) {
        if let Err(error) = send(&self.socket, CLOSED, &[], None) {
            tracing::debug!(%error, "the guardian was gone already");
        }
    }

    fn ask(&self, what: u8, of: &[u8]) -> Result<Answer, String> {
        let _turn = self.turn.lock();
        let answer = send(&self.socket, what, of, None).and_then(|()| receive(&self.socket));
        let (bytes, device) = answer.map_err(|errno| system("the guardian is gone", errno))?;
        match bytes.split_first() {
            Some((&FAILED, text)) => Err(String::from_utf8_lossy(text).into_owned()),
            Some((&first, rest)) => Ok(Answer {
                first,
                rest: rest.into(),
                device,
            }),
            None => Err("the guardian ended".into()),
        }
    }
}

/// That something was done.
struct Answer {
    first: u8,
    rest: Vec<u8>,
    device: Option<OwnedFd>,
}

/// Sends one message of at most [`MESSAGE`] bytes.
fn send(socket: &OwnedFd, first: u8, rest: &[u8], descriptor: Option<&OwnedFd>) -> nix::Result<()> {
    let descriptors: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    let parts = [IoSlice::new(std::slice::from_ref(&first)), IoSlice::new(rest)];
    sendmsg::<()>(socket.as_raw_fd(), &parts, control, flags, None).map(drop)
}

/// One message; empty once the other side is gone.
fn receive(socket: &OwnedFd) -> nix::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE];
    let mut control = nix::cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(message) => {
                let mut device = None;
                for part in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(descriptors) = part {
                        device = descriptors.first().map(|&descriptor| process::owned(descriptor));
                    }
                }
                let length = message.bytes;
                if message.flags.contains(MsgFlags::MSG_TRUNC) {
                    return Err(Errno::EMSGSIZE);
                }
                bytes.truncate(length);
                return Ok((bytes, device));
            }
        }
    }
}

/// Receives a device from fusermount, which sends it with one byte.
pub(crate) fn receive_device(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    Ok(receive(socket)?.1)
}

/// The life of the guardian.
fn guard(task: &Task, socket: &OwnedFd) -> io::Result<()> {
    // The server's end too: else the guardian would never see that it is gone.
    process::close_all_but(socket)?;
    for ignored in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGPIPE,
    ] {
        process::ignore(ignored)?;
    }
    // A terminal's signals go to its session; so does a kill of the server's process group.
    nix::unistd::setsid()?;
    nix::unistd::chdir("/")?;
    nix::sys::prctl::set_name(c"vexfs-guardian")?;
    if geteuid().is_root() {
        process::keep_capabilities(&[CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN])?;
    }
    let mut mounted = None;
    loop {
        let (message, _) = receive(socket)?;
        let answer = match message.split_first() {
            Some((&MOUNT, _)) => match mount_it(task) {
                Ok(device) => {
                    mounted = mount_table::at(&task.directory)?.map(|mount| mount.device);
                    send(socket, DONE, &[], Some(&device))?;
                    continue;
                }
                Err(text) => Err(text),
            },
            Some((&WRITE_BACK, _)) => write_back(&task.directory, mounted.as_deref()).map(|()| (DONE, Vec::new())),
            Some((&CLOSE_ONCE, files)) => Batch::close_once(files, &task.directory, mounted.as_deref())
                .map(|unreached| (DONE, batch::positions_to_bytes(&unreached))),
            Some((&UNMOUNT, _)) => {
                let unmounted = unmount_it(&task.directory, mounted.as_deref());
                unmounted.map(|unmounted| (unmounted.code(), Vec::new()))
            }
            Some((&CLOSED, _)) => return Ok(()),
            _ => break,
        };
        match answer {
            Ok((first, rest)) => send(socket, first, &rest, None)?,
            Err(text) => send(
                socket,
                FAILED,
                text.as_bytes().get(..LONGEST_REASON).unwrap_or(text.as_bytes()),
                None,
            )?,
        }
    }
    if task.options.auto_unmount && is_mounted(&task.directory, mounted.as_deref())? {
        detach(&task.directory).map_err(io::Error::other)?;
    }
    Ok(())
}

fn is_mounted(directory: &Path, device: Option<&str>) -> io::Result<bool> {
    let found = mount_table::all()?;
    Ok(found
        .iter()
        .any(|mount| mount.directory == directory && Some(mount.device.as_str()) == device))
}

fn mount_it(task: &Task) -> Result<OwnedFd, String> {
    if geteuid().is_root() {
        mount_as_root(task)
    } else {
        fusermount::mount(task)
    }
}

fn mount_as_root(task: &Task) -> Result<OwnedFd, String> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let device = OwnedFd::from(device.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no /dev/fuse: this kernel has no FUSE, or its module is not loaded".into(),
        _ => system("cannot open /dev/fuse", error),
    })?);
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        nix::unistd::getuid(),
        nix::unistd::getgid()
    );
    if task.options.audience != Audience::Owner {
        data.push_str(",allow_other");
    }
    let source: &OsStr = task.pool.as_os_str();
    mount(
        Some(source),
        &task.directory,
        Some(TYPE),
        task.options.flags,
        Some(data.as_str()),
    )
    .map_err(|errno| {
        let directory = task.directory.display();
        match errno {
            Errno::EPERM => format!("not permitted to mount on {directory}: root in this container may not mount"),
            Errno::EBUSY => format!("{directory} is busy"),
            Errno::ENODEV => "this kernel has no FUSE, or its module is not loaded".into(),
            errno => system(&format!("cannot mount on {directory}"), errno),
        }
    })?;
    Ok(device)
}

/// Has the kernel write what it holds back.
fn write_back(directory: &Path, device: Option<&str>) -> Result<(), String> {
    if !is_mounted(directory, device).map_err(|error| system("mount table", error))? {
        return Ok(());
    }
    let root = File::open(directory).map_err(|error| system("opening the mount", error))?;
    nix::unistd::syncfs(&root).map_err(|errno| system("writing back", errno))
}

fn unmount_it(directory: &Path, device: Option<&str>) -> Result<Unmounted, String> {
    let began = Instant::now();
    loop {
        if !is_mounted(directory, device).map_err(|error| system("mount table", error))? {
            return Ok(Unmounted::Fully);
        }
        let result = if geteuid().is_root() {
            umount2(directory, MntFlags::UMOUNT_NOFOLLOW).map_err(|errno| errno == Errno::EBUSY)
        } else {
            fusermount::unmount(directory, false).map_err(|_| true)
        };
        match result {
            Ok(()) => return Ok(Unmounted::Fully),
            Err(true) if began.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(50)),
            Err(_) => return detach(directory).map(|()| Unmounted::Detached),
        }
    }
}

/// Takes the mount point away, whoever uses it.
pub(crate) fn detach(directory: &Path) -> Result<(), String> {
    if geteuid().is_root() {
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        umount2(directory, flags).map_err(|errno| system(&format!("cannot unmount {}", directory.display()), errno))
    } else {
        fusermount::unmount(directory, true)
    }
}
