// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether a new device can be used by whoever is told of it: its node is there, udev has done with it, and it can be read.
//! And whether somebody has it for himself.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{major, minor};

use crate::control::errno_of_io;
use crate::error::Error;

/// How long udev may take; a device is not refused for a slow rule of somebody's.
const UDEV_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to look.
const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until a block device is usable. A target that stores nothing is read all the same.
pub(super) fn wait(path: &str) -> Result<(), Error> {
    let fail = |what| {
        move |error: std::io::Error| Error::Unusable {
            path: path.to_owned(),
            what,
            errno: errno_of_io(&error),
        }
    };
    let node = fs::metadata(path).map_err(fail("looked at"))?;
    let number = (major(node.rdev()), minor(node.rdev()));
    if !settled(Path::new("/run/udev"), number, UDEV_TIMEOUT) {
        tracing::warn!("{path}: udev has not done with it after {UDEV_TIMEOUT:?}");
    }
    let device = open(path).map_err(fail("opened"))?;
    let mut first = [0; 4096];
    match device.read_at(&mut first, 0) {
        Ok(0) => Err(fail("read")(Errno::ENXIO.into())),
        Ok(_) => Ok(()),
        Err(error) => Err(fail("read")(error)),
    }
}

/// Whether a mount, or whoever else needs it for himself alone, has a device.
pub(super) fn is_held(path: &str) -> bool {
    let mut alone = OpenOptions::new();
    alone.read(true).custom_flags(libc::O_CLOEXEC | libc::O_EXCL);
    matches!(alone.open(path), Err(error) if error.raw_os_error() == Some(libc::EBUSY))
}

fn open(path: &str) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_CLOEXEC).open(path)
}

/// Whether udev, if it runs, has a record of the device and nothing left to do.
fn settled(runtime: &Path, (major, minor): (u64, u64), timeout: Duration) -> bool {
    if !runtime.join("control").exists() {
        return true;
    }
    let record = runtime.join(format!("data/b{major}:{minor}"));
    let deadline = Instant::now() + timeout;
    loop {
        if record.exists() && !runtime.join("queue").exists() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn udev_is_waited_for_where_it_runs_and_only_there() {
        let runtime = TempDir::new().unwrap();
        let at = |name: &str| runtime.path().join(name);
        let settled = |timeout| settled(runtime.path(), (259, 7), Duration::from_millis(timeout));
        assert!(settled(0), "nobody runs");
        File::create(at("control")).unwrap();
        assert!(!settled(0), "it has not seen the device");
        fs::create_dir(at("data")).unwrap();
        File::create(at("data/b259:7")).unwrap();
        assert!(settled(0));
        File::create(at("queue")).unwrap();
        assert!(!settled(0), "it is busy");
        let queue = at("queue");
        let udev = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            fs::remove_file(queue).unwrap();
        });
        assert!(settled(10_000));
        udev.join().unwrap();
    }
}
