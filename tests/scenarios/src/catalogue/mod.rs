// SPDX-License-Identifier: MIT OR Apache-2.0

//! All scenarios.

mod corruption;
mod cycles;
mod exhaustion;
mod mounts;
mod surroundings;

use crate::scenario::{Case, Expectation, FrontEnd, LIMIT, Scenario, Structure, Test, When};

/// All scenarios, in the order of tables.
pub fn scenarios() -> Vec<Scenario> {
    [
        mounts::SCENARIOS,
        cycles::SCENARIOS,
        exhaustion::SCENARIOS,
        corruption::SCENARIOS,
        surroundings::SCENARIOS,
    ]
    .concat()
}

/// Why a case means nothing for a front end, if it does not. What means something and has no scenario is a gap.
pub fn not_applicable(case: Case, front: FrontEnd) -> Option<&'static str> {
    use {Case as C, FrontEnd as F};
    match (case, front) {
        (C::LoadCycles, F::Fuse) => Some("the kernel's own module"),
        (C::ServerLies, F::Fuse) => Some("the kernel's own client"),
        (C::ServerLies, F::Volume) => Some("the server is who the bytes are from"),
        (C::Damage(Structure::Data, When::AtRunTime), F::Dsmil) => None,
        (C::Damage(..) | C::DamagedMetadata | C::Space, F::Dsmil) => Some("nothing is stored"),
        (C::Damage(Structure::Directory | Structure::Vectors, _), F::Volume) => Some("a volume has neither"),
        _ => None,
    }
}

/// A scenario in the form of the tables.
const fn scenario(
    case: Case,
    front: FrontEnd,
    [setup, fault]: [&'static str; 2],
    expects: &'static [Expectation],
    [folder, name]: [&'static str; 2],
) -> Scenario {
    Scenario {
        case,
        front,
        variant: "",
        setup,
        fault,
        expects,
        recovery: LIMIT,
        test: Test { folder, name },
    }
}

/// The same, told from others of its case and front end.
const fn variant(variant: &'static str, scenario: Scenario) -> Scenario {
    Scenario { variant, ..scenario }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use lab::host::workspace;

    use super::*;
    use crate::scenario::How;

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_says_everything() {
        let all = scenarios();
        let names: BTreeSet<String> = all.iter().map(Scenario::name).collect();
        assert_eq!(names.len(), all.len());
        for scenario in &all {
            let name = scenario.name();
            assert!(!scenario.setup.is_empty() && !scenario.fault.is_empty(), "{name}");
            assert!(!scenario.expects.is_empty(), "{name} expects nothing");
            for expectation in scenario.expects {
                let (How::Asserted(how) | How::Measured(how)) = expectation.how else {
                    panic!("{name}: the console is watched in every scenario");
                };
                assert!(!how.is_empty(), "{name} does not say how it knows");
            }
        }
    }

    #[test]
    fn what_cannot_be_has_no_scenario() {
        for scenario in scenarios() {
            assert_eq!(
                not_applicable(scenario.case, scenario.front),
                None,
                "{}",
                scenario.name()
            );
        }
    }

    fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }

    /// Renaming a test must not empty the catalogue; the runner says the same, later.
    #[test]
    fn every_scenario_names_a_lab_test_that_there_is() {
        for scenario in scenarios() {
            let root = workspace::root().join(scenario.test.folder).join("tests/vm");
            let mut files = Vec::new();
            let main = root.with_extension("rs");
            if main.exists() {
                files.push(main);
            }
            sources(&root, &mut files);
            let (module, function) = scenario
                .test
                .name
                .rsplit_once("::")
                .unwrap_or(("main", scenario.test.name));
            let module = module.rsplit("::").next().unwrap();
            let holds = |path: &&PathBuf| {
                let own = path.file_stem().is_some_and(|stem| stem == module)
                    || path.ends_with(format!("{module}/mod.rs"))
                    || (module == "main" && path.ends_with("vm.rs"));
                own && fs::read_to_string(path).unwrap().contains(&format!("fn {function}("))
            };
            assert!(
                files.iter().any(|path| holds(&path)),
                "{}: {:?}",
                scenario.name(),
                scenario.test
            );
        }
    }

    #[test]
    fn the_scenarios_of_this_package_run_all_tests_of_it() {
        let root = workspace::root().join("tests/scenarios/tests/vm");
        let mut files = Vec::new();
        sources(&root, &mut files);
        let used: BTreeSet<&str> = scenarios()
            .iter()
            .filter(|scenario| scenario.test.folder == "tests/scenarios")
            .map(|scenario| scenario.test.name)
            .collect();
        for path in files {
            let module = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            for piece in text.split("#[lab_guest::test").skip(1) {
                let function = piece.split_once("fn ").unwrap().1.split('(').next().unwrap();
                let name = format!("{module}::{function}");
                assert!(used.contains(name.as_str()), "{name} is in no scenario");
            }
        }
    }
}
