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

/// Gives it up.
pub(super) fn restrict(device: &Address) -> Result<()> {
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
    if status.ruleset == RulesetStatus::NotEnforced {
        tracing::info!("this kernel has no Landlock: the file system is not given up");
    }
    Ok(())
}
