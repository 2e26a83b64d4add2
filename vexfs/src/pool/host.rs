// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the pool layer knows of the machine it runs on. A value, so that tests can be two machines.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::heartbeat::Owner;
use super::superblock::Timestamp;

/// A machine and its clock.
#[derive(Clone, Debug)]
pub struct Host {
    /// Who this process is.
    pub identity: Owner,
    /// The time.
    pub now: fn() -> Timestamp,
}

impl Host {
    /// This machine. What it does not tell is nil: two openings under a nil boot id never count as the same boot.
    pub fn this() -> Self {
        let id = |path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            Uuid::try_parse(text.trim()).unwrap_or_default().into_bytes()
        };
        let host_name = nix::unistd::gethostname().unwrap_or_default();
        Self {
            identity: Owner {
                machine_id: id("/etc/machine-id"),
                boot_id: id("/proc/sys/kernel/random/boot_id"),
                process: std::process::id(),
                host_name: host_name.to_string_lossy().into_owned(),
            },
            now: system_time,
        }
    }
}

/// Before 1970 counts as 1970.
fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_boot_a_process_and_a_clock() {
        let (one, two) = (Host::this(), Host::this());
        assert_eq!(one.identity, two.identity);
        assert_ne!(one.identity.boot_id, [0; 16]);
        assert!((one.now)().seconds > 1_700_000_000);
    }
}
