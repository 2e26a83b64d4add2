// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pool, its mount, and short ways to say what tests do with it.

use std::ffi::CString;
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::ptr::NonNull;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use vexfs::check::{CheckOptions, DEFAULT_MEMORY, check};
use vexfs::pool::format::{FormatOptions, format_path};
use vexfs::pool::{Access, OpenOptions, Pool};
use vexfs_control::place::DIRECTORY_VARIABLE;

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(10);

/// The example beside this executable.
fn program() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples/mount")
}

pub(crate) struct Mounted {
    server: Option<Child>,
    scratch: TempDir,
}

impl Mounted {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    pub(crate) fn with(options: &str) -> Self {
        Self::of_size(256 << 20, options)
    }

    pub(crate) fn of_size(bytes: u64, options: &str) -> Self {
        let scratch = TempDir::new().unwrap();
        let format = FormatOptions {
            size_bytes: Some(bytes),
            ..FormatOptions::default()
        };
        format_path(&scratch.path().join("pool"), &format).unwrap();
        fs::create_dir(scratch.path().join("mnt")).unwrap();
        let mut mounted = Self { server: None, scratch };
        mounted.mount(options).unwrap();
        mounted
    }

    /// Mounts; on failure what was said.
    pub(crate) fn mount(&mut self, options: &str) -> Result<(), String> {
        let mut server = Command::new(program())
            .arg(self.pool())
            .arg(self.root())
            .arg(options)
            .env(DIRECTORY_VARIABLE, self.sockets())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line == "ready\n" {
            self.server = Some(server);
            return Ok(());
        }
        let mut said = String::new();
        server.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!server.wait().unwrap().success());
        Err(said)
    }

    pub(crate) fn pool(&self) -> PathBuf {
        self.scratch.path().join("pool")
    }

    /// Where its control socket is.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.scratch.path().join("run")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.scratch.path().join("mnt")
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.server.as_ref().unwrap().id();
        kill(Pid::from_raw(i32::try_from(process).unwrap()), signal).unwrap();
    }

    /// Waits for the end of the server; whether it ended well.
    pub(crate) fn ended(&mut self) -> bool {
        let mut server = self.server.take().unwrap();
        let status = eventually(|| server.try_wait().unwrap());
        status.success()
    }

    /// Unmounts, and waits until the pool is closed.
    pub(crate) fn unmount(&mut self) {
        // Tests that run at the same time fork, and for a moment their children have this one's files open.
        eventually(|| match umount2(&self.root(), MntFlags::empty()) {
            Err(Errno::EBUSY) => None,
            result => Some(result),
        })
        .unwrap();
        assert!(self.ended());
    }

    /// Unmounts, and says that nothing is wrong with the pool.
    pub(crate) fn check(&mut self) {
        if self.server.is_some() {
            self.unmount();
        }
        let mut pool = Pool::open_path(&self.pool(), &OpenOptions::new(Access::ReadOnly)).unwrap();
        let options = &mut CheckOptions {
            verify_data: true,
            rebuild_vectors: false,
            repair: false,
            memory_bytes: DEFAULT_MEMORY,
            max_issues: 10,
            progress: &mut |_| std::ops::ControlFlow::Continue(()),
        };
        let report = check(&mut pool, options).unwrap();
        assert!(report.is_sound(), "{:?}", report.issues);
    }

    /// Runs a shell script in the mount's root as a user and group; what it printed if it succeeded.
    pub(crate) fn run_as(&self, uid: u32, gid: u32, script: &str) -> Result<String, String> {
        let output: Output = Command::new("sh")
            .args(["-c", script])
            .current_dir(self.root())
            .uid(uid)
            .gid(gid)
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8(output.stderr).unwrap())
        }
    }

    pub(crate) fn run(&self, script: &str) -> String {
        self.run_as(0, 0, script).unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = umount2(&self.root(), MntFlags::MNT_DETACH);
            let until = Instant::now() + Duration::from_secs(3);
            while Instant::now() < until && matches!(server.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(5));
            }
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = umount2(&self.root(), MntFlags::MNT_DETACH);
    }
}

/// Tries until there is an answer.
pub(crate) fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < until, "this took more than {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The errno of a failed call.
#[track_caller]
pub(crate) fn errno<T>(result: io::Result<T>) -> i32 {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(error) => error.raw_os_error().unwrap(),
    }
}

pub(crate) fn stat(path: &Path) -> Metadata {
    fs::symlink_metadata(path).unwrap()
}

pub(crate) fn mode(path: &Path) -> u32 {
    stat(path).mode() & 0o7777
}

/// Last modification and change, in nanoseconds.
pub(crate) fn times(path: &Path) -> (i64, i64) {
    let found = stat(path);
    (
        found.mtime() * 1_000_000_000 + found.mtime_nsec(),
        found.ctime() * 1_000_000_000 + found.ctime_nsec(),
    )
}

/// Lets the clock move on.
pub(crate) fn tick() {
    thread::sleep(Duration::from_millis(2));
}

pub(crate) fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// Memory of this process: the bytes of a file, shared with all who use it, or nobody else's.
pub(crate) struct Mapping {
    at: NonNull<u8>,
    length: usize,
}

impl Mapping {
    pub(crate) fn of(file: &File, length: usize) -> Self {
        Self::map(length, libc::MAP_SHARED, file.as_raw_fd())
    }

    pub(crate) fn anonymous(length: usize) -> Self {
        Self::map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    fn map(length: usize, flags: i32, file: RawFd) -> Self {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the system chooses a place where nothing is yet.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, file, 0) };
        assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        Self {
            at: NonNull::new(at.cast()).unwrap(),
            length,
        }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped until this is dropped. Who else changes the file meanwhile is the server at most, which does not.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped; no reference to it outlives this.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.length) };
    }
}

fn words(path: &Path, name: &str) -> (CString, CString) {
    (
        CString::new(path.as_os_str().as_bytes()).unwrap(),
        CString::new(name).unwrap(),
    )
}

fn result(code: isize) -> io::Result<usize> {
    usize::try_from(code).map_err(|_| io::Error::last_os_error())
}

pub(crate) fn set_xattr(path: &Path, name: &str, value: &[u8], flags: i32) -> io::Result<()> {
    let (path, name) = words(path, name);
    // SAFETY: all pointers are to values that outlive the call, the length is the value's.
    let code = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    result(code as isize).map(drop)
}

pub(crate) fn get_xattr_into(path: &Path, name: &str, buffer: &mut [u8]) -> io::Result<usize> {
    let (path, name) = words(path, name);
    // SAFETY: all pointers are to values that outlive the call, the length is the buffer's.
    result(unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

pub(crate) fn get_xattr(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 1 << 16];
    let length = get_xattr_into(path, name, &mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

pub(crate) fn remove_xattr(path: &Path, name: &str) -> io::Result<()> {
    let (path, name) = words(path, name);
    // SAFETY: both pointers are to values that outlive the call.
    result(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) } as isize).map(drop)
}
