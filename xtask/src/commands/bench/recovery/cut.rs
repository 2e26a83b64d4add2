// SPDX-License-Identifier: MIT OR Apache-2.0

//! The machine loses its power: how long it takes until the filesystem is mounted and listed.
//!
//! What is in the journals is what the filesystems leave there when many files were made and the last of them was synced: ours
//! makes a checkpoint when its journal is half full, others when theirs wraps. The disk keeps all it was given, so all of them
//! find everything that they wrote.
//!
//! Our server replays the journal before there is a device, the others' modules when they mount one. So the clock starts with
//! the server of the device, everybody's, and ends with the first listing; how long the device took is told beside it.

use anyhow::Result;
use lab::vm::Machine;
use lab_guest::service::Returned;

use super::super::mounted::{self, Contender, Programs};
use super::super::rounds::{Figure, Figures};
use super::{LIMIT, make_files, service};

/// Makes a filesystem anew, cuts the power, boots, and has it mounted and unmounted again. The machine is another one then.
pub(super) fn mount(
    mut machine: Machine,
    contender: Contender,
    programs: &Programs,
    files: usize,
) -> Result<(Machine, Figures)> {
    contender.start(&mut machine, programs)?;
    make_files(&mut machine, programs, files)?;
    let spec = machine.power_cut()?;
    let mut machine = mounted::boot(&spec, programs)?;
    let server = contender.server(programs);
    // The host's files come slowly the first time, which has nothing to do with the filesystem.
    let read = [programs.service.as_str()].into_iter().chain(server.first().copied());
    let script = format!("cat {} > /dev/null", read.collect::<Vec<_>>().join(" "));
    machine.succeed(&script, LIMIT)?;
    let end = contender.end(programs);
    let mut task = vec!["return", contender.kind(), end.as_str()];
    task.extend(server);
    let returned: Returned = service(&mut machine, programs, &task)?;
    let measure = format!("power cut after {files} files, until it is mounted and listed");
    let figure = Figure::less(measure, "s", returned.listed)
        .cost("until its device, s", returned.device)
        .cost("mount alone, s", returned.mounted - returned.device);
    Ok((machine, vec![figure]))
}
