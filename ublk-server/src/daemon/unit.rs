// SPDX-License-Identifier: MIT OR Apache-2.0

//! A daemon as a unit of systemd: `vexfs-ublk@INSTANCE.service`, where the instance is the path of the pool as
//! systemd-escape(1) writes it.
//!
//! # Contract
//!
//! - A unit that somebody enabled or started serves what its options say. One that a command started, `vexfs-ublk mount`
//!   say, serves what that asked for, which is in a file in the runtime directory: [`Order`].
//! - The order is written before the unit is started. Once the daemon serves, it names no devices any more: they are in
//!   records, and one that is deleted is not to come back with the next daemon. It is removed when the daemon ends and no
//!   device waits for another.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::protocol::Wanted;

/// Of the template; the instance comes behind the @.
pub const TEMPLATE: &str = "vexfs-ublk@.service";
/// Of orders, in the runtime directory.
const DIRECTORY: &str = "units";
/// What systemd allows for the name of a unit.
const LONGEST_NAME: usize = 255;

/// The name of a unit without `.service`, or of an instance, is what systemd makes of an absolute path. None: it would be
/// too long, or is no path that can be written so.
pub fn instance(path: &Path) -> Option<String> {
    let mut name = String::new();
    for component in path.components() {
        let part = match component {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(part) => part,
            Component::ParentDir | Component::Prefix(_) => return None,
        };
        if !name.is_empty() {
            name.push('-');
        }
        for &byte in part.as_bytes() {
            let first = name.is_empty();
            match byte {
                b'.' if first => name.push_str("\\x2e"),
                b':' | b'_' | b'.' => name.push(char::from(byte)),
                byte if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
                byte => {
                    // Writing to a string cannot fail.
                    let _ = write!(name, "\\x{byte:02x}");
                }
            }
        }
    }
    let fits = path.is_absolute() && !name.is_empty() && name.len() + TEMPLATE.len() <= LONGEST_NAME;
    fits.then_some(name)
}

/// The unit of an instance.
pub fn unit(instance: &str) -> String {
    TEMPLATE.replace('@', &format!("@{instance}"))
}

/// The path that an instance stands for.
pub fn path_of(instance: &OsStr) -> Option<PathBuf> {
    let mut path = vec![b'/'];
    let mut rest = instance.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'-' => path.push(b'/'),
            b'\\' => {
                let digits = behind.strip_prefix(b"x")?.get(..2)?;
                let digits = std::str::from_utf8(digits).ok()?;
                path.push(u8::from_str_radix(digits, 16).ok()?);
                rest = behind.get(3..)?;
            }
            byte => path.push(byte),
        }
    }
    (path.len() > 1).then(|| OsString::from_vec(path).into())
}

/// What a command asks of a unit that it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What to serve.
    pub wanted: Wanted,
    /// Whether the daemon ends with its last device.
    pub until_idle: bool,
    /// Whether it keeps all its memory in memory.
    pub lock_memory: bool,
    /// What it logs, if that was said.
    pub log: Option<String>,
}

/// Where the order for an instance is.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
}

impl Place {
    /// In a runtime directory, which need not exist.
    pub fn of(runtime: &Path, instance: &OsStr) -> Self {
        let mut name = instance.to_owned();
        name.push(".json");
        Self {
            path: runtime.join(DIRECTORY).join(name),
        }
    }

    /// The order, if there is one.
    pub fn read(&self) -> io::Result<Option<Order>> {
        let read = match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        read.map_err(|error| named(&self.path, &error))
    }

    /// Writes or replaces it, as a whole.
    pub fn write(&self, order: &Order) -> io::Result<()> {
        let written = || -> io::Result<()> {
            if let Some(directory) = self.path.parent() {
                DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
            }
            let draft = self.path.with_extension("draft");
            let mut options = File::options();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(&serde_json::to_vec_pretty(order)?)?;
            fs::rename(&draft, &self.path)
        };
        written().map_err(|error| named(&self.path, &error))
    }

    /// The devices are there: the next daemon finds them in their records.
    pub fn carried_out(&self) {
        let noted = match self.read() {
            Ok(Some(mut order)) if !order.wanted.devices.is_empty() => {
                order.wanted.devices.clear();
                self.write(&order)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            tracing::warn!("{error}: a device that is deleted comes back if this daemon fails");
        }
    }

    /// Removes it, if it is there.
    pub fn remove(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("{}: {error}", self.path.display());
            }
            _ => {}
        }
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::daemon::protocol::Backing;

    #[test]
    fn an_instance_stands_for_its_path() {
        // What systemd-escape --path prints.
        for (path, name) in [
            ("/srv/pool.img", "srv-pool.img"),
            ("//srv//a b/", r"srv-a\x20b"),
            ("/.hidden/.x", r"\x2ehidden-.x"),
            ("/data/my-pool", r"data-my\x2dpool"),
            ("/dev/disk/by-id/x:1_2", r"dev-disk-by\x2did-x:1_2"),
            ("/$HOME/%f", r"\x24HOME-\x25f"),
            ("/sch\u{f6}n", r"sch\xc3\xb6n"),
        ] {
            assert_eq!(instance(Path::new(path)).as_deref(), Some(name));
            let clean: PathBuf = Path::new(path).components().collect();
            assert_eq!(path_of(OsStr::new(name)), Some(clean));
        }
        assert_eq!(unit("srv-pool"), "vexfs-ublk@srv-pool.service");
        for path in ["pool", "/", "", "/a/../b"] {
            assert_eq!(instance(Path::new(path)), None, "{path:?}");
        }
        assert_eq!(instance(Path::new(&format!("/{}", "-".repeat(60)))), None, "too long");
        for name in ["", r"a\x2", r"a\x", r"a\y20", r"a\xzz", "\\"] {
            assert_eq!(path_of(OsStr::new(name)), None, "{name:?}");
        }
    }

    #[test]
    fn an_order_names_its_devices_until_they_are_there() {
        let runtime = TempDir::new().unwrap();
        let place = Place::of(runtime.path(), OsStr::new("srv-pool"));
        assert_eq!(place.read().unwrap(), None);
        place.carried_out();
        place.remove();
        let spec = serde_json::json!({
            "target": {"filesystem": {}}, "id": null, "queues": 1, "depth": 1, "threads": 1, "io_size": 4096,
            "read_only": false, "wishes": {"transfer": null, "delivery": null, "unprivileged": false},
        });
        let mut order = Order {
            wanted: Wanted {
                backing: Backing::Pool {
                    path: "/srv/pool".into(),
                },
                devices: vec![serde_json::from_value(spec).unwrap()],
            },
            until_idle: true,
            lock_memory: false,
            log: Some("debug".into()),
        };
        place.write(&order).unwrap();
        assert_eq!(place.read().unwrap().as_ref(), Some(&order));
        place.carried_out();
        order.wanted.devices.clear();
        assert_eq!(place.read().unwrap().as_ref(), Some(&order));
        fs::write(&place.path, "{").unwrap();
        assert!(place.read().unwrap_err().to_string().contains("srv-pool.json"));
        place.remove();
        assert_eq!(fs::read_dir(runtime.path().join(DIRECTORY)).unwrap().count(), 0);
    }
}
