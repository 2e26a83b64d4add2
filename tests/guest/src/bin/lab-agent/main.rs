// SPDX-License-Identifier: MIT OR Apache-2.0

//! The host's hand in every lab machine.
//!
//! Mostly it is PID 1. Statically linked, so that it runs from an initramfs that holds nothing else but the modules it needs
//! to reach the host. It [brings the machine up](boot), then [serves](serve) the host's commands until it is told to power
//! off. It never exits: PID 1 ending is a kernel panic, and what goes wrong here is said on the console instead.
//!
//! In a machine whose disk has an init of its own it is one of the services, `lab-agent --service`, and only serves.

mod boot;
mod jobs;
mod serve;

use std::time::Duration;

use serve::Place;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--service") {
        if let Err(error) = serve::serve(Place::Service) {
            eprintln!("lab-agent: {error:#}");
        }
        std::process::exit(1);
    }
    if std::process::id() != 1 {
        eprintln!("lab-agent is the init of a lab machine; it does nothing elsewhere");
        std::process::exit(2);
    }
    if let Err(error) = boot::bring_up().and_then(|()| serve::serve(Place::Init)) {
        // The console is all that is left. The host sees that the machine never became, or no longer is, ready.
        eprintln!("lab-agent: {error:#}");
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
