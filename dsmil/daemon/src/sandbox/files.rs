// SPDX-License-Identifier: MIT OR Apache-2.0

//! The file system without everything but what a device that returns needs: `/dev`, to open it, and `/sys`, to look it
//! up. What is open stays open: the socket and the audit log need nothing.

use anyhow::Result;
use dsmil::transport::Address;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};

/// The newest rights that are known here; older kernels give up what they know of them.
const KNOWN: ABI = ABI::V4;

/// Gives it up, for this thread and those that it starts. False: this kernel has no Landlock.
pub(super) fn restrict(device: &Address) -> Result<bool> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .create()?;
    if matches!(device, Address::Uio(_)) {
        let rights = AccessFs::ReadFile | AccessFs::WriteFile;
        rules = rules.add_rule(PathBeneath::new(PathFd::new("/dev")?, rights))?;
        rules = rules.add_rule(PathBeneath::new(PathFd::new("/sys")?, AccessFs::ReadFile))?;
    }
    let status = rules.restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn nothing_can_be_opened_but_devices_and_what_leads_to_them() {
        // What a thread gives up is its own.
        let thread = std::thread::spawn(|| {
            let held = File::open("/proc/self/exe").unwrap();
            if !restrict(&Address::Uio("/dev/uio0".into())).unwrap() {
                eprintln!("SKIP: this kernel has no Landlock");
                return;
            }
            let refused = |opened: std::io::Result<File>| {
                assert_eq!(opened.map(drop).unwrap_err().kind(), ErrorKind::PermissionDenied);
            };
            refused(File::open("/etc/passwd"));
            refused(File::create(std::env::temp_dir().join("dsmild-must-not-make-this")));
            refused(OpenOptions::new().write(true).open("/sys/kernel/uevent_seqnum"));
            OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
            File::open("/sys/kernel/uevent_seqnum").unwrap();
            assert!(held.metadata().unwrap().len() > 0, "what is open stays open");
        });
        thread.join().unwrap();
    }
}
