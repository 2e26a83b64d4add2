// SPDX-License-Identifier: MIT OR Apache-2.0

//! The runner's recovery levels, with tests that really take their machine down.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use lab::crash::{Continuity, CrashEvent, CrashType, Recovery};
use lab::runner::discover::{self, Executable};
use lab::runner::recovery::Ledger;
use lab::runner::{Outcome, guest};
use lab::store::{Record, RunLog, lines};

use crate::Bench;

#[lab_guest::test(kernels = "stock", timeout = 180)]
fn a_run_goes_on_after_damage_panics_and_hangs(kernel: &str) -> Result<()> {
    let bench = Bench::new(kernel, "ladder")?;
    let path = std::env::current_exe()?;
    let folder = env!("CARGO_MANIFEST_DIR").into();
    let executable = Executable {
        package: "fixture".into(),
        folder,
        path,
        lab: true,
    };
    let mut cases = discover::list(&executable)?;
    cases.retain(|case| case.name.starts_with("fixtures::"));
    let log = RunLog::begin(&bench.spec.directory.join("runs"), "the ladder", "none")?;
    let mut ledger = Ledger::new(log);
    let mut outcomes = BTreeMap::new();
    for batch in guest::batches(&cases, &bench.kernel, &bench.modules, false) {
        batch.run(&mut ledger, |result| {
            println!("{}: {:?}", result.name, result.outcome);
            outcomes.insert(result.name.trim_start_matches("fixtures::").to_owned(), result.outcome);
        });
    }
    let outcome = |name: &str| outcomes.get(name).with_context(|| format!("{name} has no result"));
    for name in [
        "a_passes",
        "e_passes_after_damage",
        "g_passes_after_a_panic",
        "i_passes_at_last",
    ] {
        ensure!(*outcome(name)? == Outcome::Passed, "{name}: {:?}", outcome(name)?);
    }
    ensure!(matches!(outcome("b_fails")?, Outcome::Failed(reason) if reason.contains("as intended")));
    ensure!(*outcome("c_is_skipped")? == Outcome::Skipped("nothing to do".into()));
    ensure!(matches!(outcome("d_damages_gently")?, Outcome::Crashed(_)));
    ensure!(
        matches!(outcome("f_panics_the_kernel")?, Outcome::Crashed(reason) if reason.contains("reproducible crasher"))
    );
    ensure!(matches!(outcome("h_never_ends")?, Outcome::Failed(reason) if reason.contains("no end within")));

    for (name, words) in [
        ("j_finds_no_machine", "its machine failed"),
        ("k_finds_no_machine_either", "its machine failed"),
        ("l_is_not_tried_any_more", "not run"),
    ] {
        ensure!(
            matches!(outcome(name)?, Outcome::Crashed(reason) if reason.contains(words)),
            "{name}: {:?}",
            outcome(name)?
        );
    }

    let continuity = Continuity {
        scheduled: outcomes.len() as u64,
        reached_verdict: 7,
    };
    let metrics = ledger.end(false, continuity);
    let run = lines::read::<Record>(ledger.path())?;
    ensure!(run.damaged.is_empty(), "{:?}", run.damaged);
    let crashes = || {
        run.records.iter().filter_map(|record| match record {
            Record::Crash(event) => Some(event),
            _ => None,
        })
    };
    let of = |class: CrashType| -> Option<&CrashEvent> { crashes().find(|event| event.crash_type == class) };
    let warning = of(CrashType::Warning).context("the damage left no event")?;
    ensure!(warning.recovery_successful == Some(true), "{warning:?}");
    let panic = of(CrashType::KernelPanic).context("the panic left no event")?;
    ensure!(
        panic.recovery_attempted == Some(Recovery::VmRestart) && panic.recovery_successful == Some(true),
        "{panic:?}"
    );
    ensure!(
        panic.system_state.contains_key("kernel") && panic.additional_info["reproducible"] == true,
        "{panic:?}"
    );

    let repeated = |record: &&Record| matches!(record, Record::Tested(tested) if tested.repetition);
    ensure!(run.records.iter().filter(repeated).count() == 1, "{:?}", run.records);
    println!("{metrics}");
    ensure!(metrics.attempted == 2 && metrics.succeeded == 2, "{metrics:?}");
    ensure!(
        metrics.integrity.performed == 1 && metrics.integrity.passed == 1,
        "{metrics:?}"
    );
    Ok(())
}
