// SPDX-License-Identifier: MIT OR Apache-2.0

//! Examples in documents, as something that can be run and compared.
//!
//! An indented line of Markdown that begins with a prompt is a command; the lines after it, to the next prompt or the end of
//! the block, are what it prints:
//!
//! ```text
//!     $ vexfs-ublk check pool.img     # whoever, wherever
//!     nothing is wrong
//!     # mount -t vexfs pool.img /mnt  # root, where the packages are installed
//! ```
//!
//! `…` in a line of output stands for anything, and as the whole line for any number of lines. Of a command without output only
//! its success is looked at. One that shows the error of a command (`vexfs-ublk: …`) must fail.

use std::collections::BTreeMap;

/// Who runs a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// `$`: whoever, without any device or kernel module.
    Anybody,
    /// `#`: root of a machine with the packages.
    Root,
}

/// A command of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its line in the document, from 1 on.
    pub line: usize,
    /// Who runs it.
    pub prompt: Prompt,
    /// What a shell is given.
    pub command: String,
    /// What it prints; nothing: not shown.
    pub shown: Vec<String>,
}

/// Beginning and end of a step in the output of [`script`]: characters that no program prints.
const BEGIN: char = '\u{1}';
const END: char = '\u{2}';

/// What the errors of our commands begin with.
const ERRORS: [&str; 2] = ["vexfs-ublk: ", "dsmilctl: "];

/// All commands of a document, and the indented lines that have no prompt anywhere in their block.
pub fn steps(document: &str) -> (Vec<Step>, Vec<(usize, &str)>) {
    let (mut steps, mut others) = (Vec::new(), Vec::new());
    let mut block: Vec<(usize, &str)> = Vec::new();
    // An indented line is code only behind an empty line; else it goes on with a paragraph.
    let mut behind_empty = true;
    for (number, line) in document.lines().chain([""]).enumerate() {
        match line.strip_prefix("    ") {
            Some(code) if !block.is_empty() || behind_empty => block.push((number + 1, code)),
            _ => {
                close(&mut block, &mut steps, &mut others);
                behind_empty = line.trim().is_empty();
            }
        }
    }
    close(&mut block, &mut steps, &mut others);
    (steps, others)
}

fn close<'a>(block: &mut Vec<(usize, &'a str)>, steps: &mut Vec<Step>, others: &mut Vec<(usize, &'a str)>) {
    let first = steps.len();
    for &(line, code) in block.iter() {
        let command = [("$ ", Prompt::Anybody), ("# ", Prompt::Root)]
            .into_iter()
            .find_map(|(mark, prompt)| Some((prompt, code.strip_prefix(mark)?)));
        if let Some((prompt, command)) = command {
            steps.push(Step {
                line,
                prompt,
                command: command.to_owned(),
                shown: Vec::new(),
            });
        } else if steps.len() > first
            && let Some(step) = steps.last_mut()
        {
            step.shown.push(code.trim_end().to_owned());
        } else {
            others.push((line, code));
        }
    }
    block.clear();
}

/// One script for all steps, so that variables and directories outlive a step; [`judge`] reads what it prints.
pub fn script(steps: &[Step]) -> String {
    let step = |(number, step): (usize, &Step)| {
        let command = &step.command;
        format!("printf '\\001%s\\n' {number}\n{command}\nprintf '\\002%s\\n' $?\n")
    };
    let steps: String = steps.iter().enumerate().map(step).collect();
    format!("exec 2>&1 </dev/null\n{steps}")
}

/// What is not as the document says, in a paragraph for each step.
pub fn judge(steps: &[Step], printed: &str) -> Vec<String> {
    let ran: BTreeMap<usize, (&str, &str)> = printed
        .split(BEGIN)
        .filter_map(|part| {
            let (number, rest) = part.split_once('\n')?;
            let (output, status) = rest.split_once(END)?;
            Some((number.parse().ok()?, (output, status.lines().next()?)))
        })
        .collect();
    let wrong = |(number, step): (usize, &Step)| {
        let complaint = match ran.get(&number) {
            None => "did not come to its end".to_owned(),
            Some((output, status)) => {
                let error = |line: &String| ERRORS.iter().any(|begin| line.starts_with(begin));
                let fails = step.shown.iter().any(error);
                let lines: Vec<&str> = output.lines().map(str::trim_end).collect();
                let shown: Vec<&str> = step.shown.iter().map(String::as_str).collect();
                if (*status == "0") == fails {
                    format!("ends with {status}, and prints:\n{output}")
                } else if !shown.is_empty() && !matches(&shown, &lines) {
                    format!("prints otherwise:\n{output}")
                } else {
                    return None;
                }
            }
        };
        Some(format!("line {}: {}\n{complaint}", step.line, step.command))
    };
    steps.iter().enumerate().filter_map(wrong).collect()
}

/// Whether lines are as shown.
fn matches(shown: &[&str], lines: &[&str]) -> bool {
    match shown {
        [] => lines.is_empty(),
        ["…", rest @ ..] => (0..=lines.len()).any(|skipped| matches(rest, &lines[skipped..])),
        [first, rest @ ..] => lines
            .split_first()
            .is_some_and(|(line, lines)| line_matches(first, line) && matches(rest, lines)),
    }
}

fn line_matches(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "Text\n    that goes on.\n\n    $ echo one; echo two   # numbers\n    one\n    …\n    # false\n\n    \
                            /etc/fstab\n";

    #[test]
    fn commands_are_found_with_who_runs_them_and_what_they_print() {
        let (steps, others) = steps(DOCUMENT);
        let [echo, fails] = &steps[..] else {
            panic!("{steps:?}");
        };
        assert_eq!((echo.line, echo.prompt), (4, Prompt::Anybody));
        assert_eq!(echo.shown, ["one", "…"]);
        assert_eq!((fails.prompt, fails.command.as_str()), (Prompt::Root, "false"));
        assert_eq!(others, [(9, "/etc/fstab")]);
    }

    #[test]
    fn what_a_shell_prints_is_compared_step_by_step() {
        let (mut steps, _) = steps(DOCUMENT);
        let run = |steps: &[Step]| {
            let output = std::process::Command::new("bash")
                .args(["-c", &script(steps)])
                .output()
                .expect("a shell");
            judge(steps, &String::from_utf8_lossy(&output.stdout))
        };
        assert!(run(&steps[..1]).is_empty());
        assert!(run(&steps)[0].contains("line 7: false\nends with 1"));
        steps[1].command = "echo vexfs-ublk: no; false".to_owned();
        steps[1].shown = vec!["vexfs-ublk: no".to_owned()];
        assert!(run(&steps).is_empty());
        steps[1].command = "echo vexfs-ublk: no".to_owned();
        assert!(run(&steps)[0].contains("ends with 0"));
        steps[0].shown = vec!["two".to_owned()];
        assert!(run(&steps[..1])[0].contains("line 4: echo one; echo two   # numbers\nprints otherwise:\none\ntwo\n"));
        steps[0].command = "exit 0".to_owned();
        assert_eq!(run(&steps).len(), 2);
    }

    #[test]
    fn an_ellipsis_stands_for_anything() {
        for (shown, line, is) in [
            ("a…c", "abc", true),
            ("a…c", "ac", true),
            ("a…b…c", "a b c", true),
            ("…", "", true),
            ("a…c", "ab", false),
            ("a…a", "a", false),
            ("abc", "abcd", false),
        ] {
            assert_eq!(line_matches(shown, line), is, "{shown:?} {line:?}");
        }
        assert!(matches(&["…", "x", "…"], &["a", "x"]));
        assert!(!matches(&["…", "x"], &["a", "x", "b"]));
    }
}
