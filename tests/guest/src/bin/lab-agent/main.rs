// SPDX-License-Identifier: MIT OR Apache-2.0

//! PID 1 of every lab machine.
//!
//! Statically linked, so that it runs from an initramfs that holds nothing else but the modules it needs to reach the
//! host. It [brings the machine up](boot), then [serves](serve) the host's commands until it is told to power off. It
//! never exits: PID 1 ending is a kernel panic, and what goes wrong here is said on the console instead.

mod boot;
mod jobs;
mod serve;

use std::time::Duration;

fn main() {
    if std::process::id() != 1 {
        eprintln!("lab-agent is the init of a lab machine; it does nothing elsewhere");
        std::process::exit(2);
    }
    if let Err(error) = boot::bring_up().and_then(|()| serve::serve()) {
        // The console is all that is left. The host sees that the machine never became, or no longer is, ready.
        eprintln!("lab-agent: {error:#}");
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
