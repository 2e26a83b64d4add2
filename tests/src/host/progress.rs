// SPDX-License-Identifier: MIT OR Apache-2.0

//! Progress of long steps: bars and spinners on a terminal, one line a step elsewhere.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A step that takes long enough to be watched. Says how long it took when it is done.
#[derive(Debug)]
pub struct Step {
    name: String,
    bar: ProgressBar,
    start: Instant,
    terminal: bool,
}

impl Step {
    /// Starts a step without a known length.
    pub fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::new_spinner();
        if terminal {
            bar.set_style(style("{spinner} {prefix} {wide_msg:.dim} {elapsed}"));
            bar.set_prefix(name.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
            eprintln!("  {name} …");
        }
        Self {
            name,
            bar,
            start: Instant::now(),
            terminal,
        }
    }

    /// Gives the step a length; the spinner becomes a bar.
    pub fn length(&self, length: u64) {
        self.bar.set_length(length);
        if self.terminal {
            self.bar.set_style(style(
                "{spinner} {prefix} [{bar:30}] {percent:>3}% {wide_msg:.dim} {elapsed}",
            ));
        }
    }

    /// How far it is.
    pub fn at(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// What it does just now.
    pub fn now(&self, message: impl Into<Cow<'static, str>>) {
        self.bar.set_message(message);
    }

    /// The step is done.
    pub fn done(self) {
        self.bar.finish_and_clear();
        let took = self.start.elapsed();
        // A step that took no time to speak of has its announcement only.
        if self.terminal || took > Duration::from_secs(1) {
            eprintln!("  {}: {:.1} s", self.name, took.as_secs_f64());
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("=> ")
}
