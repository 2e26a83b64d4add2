// SPDX-License-Identifier: MIT OR Apache-2.0

//! The order of suspend and resume.
//!
//! Hooks are suspended in the order in which they were added and resumed in reverse. If one refuses, those before it
//! are resumed and nothing is suspended.

use crate::error::{Error, Result};

/// A part that wants to know.
pub trait Hook: Send {
    /// What it is called in messages.
    fn name(&self) -> &str;
    /// Prepares for losing power; an error is a refusal.
    fn suspend(&mut self) -> std::result::Result<(), String>;
    /// Comes back.
    fn resume(&mut self);
}

/// The hooks, and whether they are suspended.
#[derive(Default)]
pub struct Power {
    hooks: Vec<Box<dyn Hook>>,
    suspended: bool,
}

impl Power {
    /// Adds a hook, after those that are there.
    pub fn add(&mut self, hook: impl Hook + 'static) {
        self.hooks.push(Box::new(hook));
    }

    /// Suspends all, or none.
    pub fn suspend(&mut self) -> Result<()> {
        if self.suspended {
            return Ok(());
        }
        let mut refusal = None;
        let mut done = 0;
        for hook in &mut self.hooks {
            if let Err(reason) = hook.suspend() {
                let hook = hook.name().to_owned();
                refusal = Some(Error::PowerRefused { hook, reason });
                break;
            }
            done += 1;
        }
        let Some(refusal) = refusal else {
            self.suspended = true;
            return Ok(());
        };
        for hook in self.hooks.iter_mut().take(done).rev() {
            hook.resume();
        }
        Err(refusal)
    }

    /// Resumes all.
    pub fn resume(&mut self) {
        if std::mem::take(&mut self.suspended) {
            for hook in self.hooks.iter_mut().rev() {
                hook.resume();
            }
        }
    }

    /// Whether they are suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }
}

impl std::fmt::Debug for Power {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.hooks.iter().map(|hook| hook.name()).collect();
        f.debug_struct("Power")
            .field("hooks", &names)
            .field("suspended", &self.suspended)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    struct Part {
        name: &'static str,
        refuses: bool,
        log: Arc<Mutex<Vec<String>>>,
    }

    impl Hook for Part {
        fn name(&self) -> &str {
            self.name
        }

        fn suspend(&mut self) -> std::result::Result<(), String> {
            self.log.lock().push(format!("-{}", self.name));
            if self.refuses { Err("busy".into()) } else { Ok(()) }
        }

        fn resume(&mut self) {
            self.log.lock().push(format!("+{}", self.name));
        }
    }

    fn power(refuses: &'static str) -> (Power, Arc<Mutex<Vec<String>>>) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut power = Power::default();
        for name in ["a", "b", "c"] {
            let (log, refuses) = (Arc::clone(&log), refuses == name);
            power.add(Part { name, refuses, log });
        }
        (power, log)
    }

    #[test]
    fn hooks_are_suspended_in_order_and_resumed_in_reverse() {
        let (mut power, log) = power("");
        power.suspend().unwrap();
        power.suspend().unwrap();
        power.resume();
        power.resume();
        assert_eq!(log.lock().join(" "), "-a -b -c +c +b +a");
    }

    #[test]
    fn a_refusal_resumes_those_before_it_and_leaves_nothing_suspended() {
        let (mut power, log) = power("b");
        let error = power.suspend().unwrap_err();
        assert_eq!(error.to_string(), "b refuses to be suspended: busy");
        assert_eq!(log.lock().join(" "), "-a -b +a");
        assert!(!power.is_suspended());
    }
}
