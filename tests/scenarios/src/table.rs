// SPDX-License-Identifier: MIT OR Apache-2.0

//! The catalogue as text: what is covered for whom, and what is not.

use std::fmt::Write as _;

use crate::catalogue::not_applicable;
use crate::scenario::{Case, FrontEnd, How, Scenario};

/// Width of a column.
const COLUMN: usize = 10;

/// What stands in the cell of a case and a front end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// So many scenarios.
    Covered(usize),
    /// Nothing, and that is how it must be.
    NotApplicable(&'static str),
    /// Nothing, and something should be.
    Gap,
}

/// The cell of a case and a front end, in a list of scenarios.
pub fn cell(scenarios: &[Scenario], case: Case, front: FrontEnd) -> Cell {
    let count = scenarios
        .iter()
        .filter(|scenario| scenario.case == case && scenario.front == front)
        .count();
    match (count, not_applicable(case, front)) {
        (0, Some(reason)) => Cell::NotApplicable(reason),
        (0, None) => Cell::Gap,
        (count, _) => Cell::Covered(count),
    }
}

/// The table of all cases, with the gaps in it.
pub fn matrix(scenarios: &[Scenario]) -> String {
    let mut text = format!("{:40}", "");
    for front in FrontEnd::ALL {
        // Writing to a String cannot fail.
        let _ = write!(text, "{:>COLUMN$}", front.name());
    }
    text.push('\n');
    let (mut covered, mut gaps) = (0, 0);
    for case in Case::all() {
        let _ = write!(text, "{case:40}");
        for front in FrontEnd::ALL {
            let word = match cell(scenarios, case, front) {
                Cell::Covered(count) => {
                    covered += 1;
                    count.to_string()
                }
                Cell::NotApplicable(_) => "-".to_owned(),
                Cell::Gap => {
                    gaps += 1;
                    "GAP".to_owned()
                }
            };
            let _ = write!(text, "{word:>COLUMN$}");
        }
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "\n{} scenarios; {covered} of {} cells are covered, {gaps} are gaps; - has no meaning there",
        scenarios.len(),
        covered + gaps
    );
    text
}

/// One scenario in full.
pub fn details(scenario: &Scenario) -> String {
    let mut text = format!(
        "{}\n    set-up:  {}\n    fault:   {}\n    by:      {}\n    recovery within {} s\n",
        scenario.name(),
        scenario.setup,
        scenario.fault,
        scenario.test.full_name(),
        scenario.recovery.as_secs()
    );
    for expectation in scenario.expectations() {
        let how = match expectation.how {
            How::Measured(how) => format!("measured: {how}"),
            How::Asserted(how) => format!("asserted: {how}"),
            How::Console => "the console, classified".to_owned(),
        };
        let _ = writeln!(text, "    {:15}{how}", expectation.promise);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::scenarios;

    #[test]
    fn what_nobody_runs_is_shown_as_a_gap_and_not_left_out() {
        let all = scenarios();
        let text = matrix(&all);
        assert!(text.lines().count() > Case::all().len());
        let without: Vec<Scenario> = all
            .iter()
            .filter(|scenario| (scenario.case, scenario.front) != (Case::Cpu, FrontEnd::Fuse))
            .copied()
            .collect();
        assert_eq!(cell(&without, Case::Cpu, FrontEnd::Fuse), Cell::Gap);
        assert_eq!(matrix(&without).matches("GAP").count(), text.matches("GAP").count() + 1);
        assert!(matches!(
            cell(&all, Case::Space, FrontEnd::Dsmil),
            Cell::NotApplicable(_)
        ));
        assert!(matches!(
            cell(&all, Case::ServerKilled, FrontEnd::Kernel),
            Cell::Covered(3)
        ));
    }

    #[test]
    fn a_scenario_says_how_each_promise_is_known() {
        let all = scenarios();
        let text = details(&all[0]);
        assert!(
            text.contains("measured: ") && text.contains("the console, classified"),
            "{text}"
        );
    }
}
