// SPDX-License-Identifier: MIT OR Apache-2.0

//! The vocabulary of failure: what went wrong, how bad it is, and what brings the machine back.
//!
//! # Contract
//!
//! [`CrashType`] is the one place that maps a kind of failure to its severity and its recovery. The pattern table may
//! move a row's severity only inside [`CrashType::severity_range`]; recovery follows from the type alone, so two
//! machines that failed in the same way are treated in the same way.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What kind of failure a console line or a timeout stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashType {
    /// The kernel stopped itself.
    KernelPanic,
    /// The machine, a processor or the scheduler stands still; also what a timeout of the whole machine is.
    SystemHang,
    /// An oops or BUG in, or called from, a module under test.
    ModuleCrash,
    /// Memory holds what nobody meant to write there, or somebody uses memory that is not theirs.
    MemoryCorruption,
    /// Something was taken and is not given back.
    ResourceLeak,
    /// Tasks wait for each other, or lock order proves that they can.
    Deadlock,
    /// An oops or BUG that names none of the modules under test. Worse than [`CrashType::ModuleCrash`]: reloading
    /// a module does not help.
    KernelBug,
    /// The kernel complains about itself and goes on.
    Warning,
    /// A module was refused, or loaded in spite of a missing signature.
    VerificationFailure,
    /// Memory ran out.
    OutOfMemory,
    /// The block layer reported a failed request.
    IoError,
    /// A filesystem reported damage or shut itself down.
    FilesystemError,
    /// A user-space program crashed.
    ProcessCrash,
}

impl CrashType {
    /// Every crash type, in declaration order.
    pub const ALL: [Self; 13] = [
        Self::KernelPanic,
        Self::SystemHang,
        Self::ModuleCrash,
        Self::MemoryCorruption,
        Self::ResourceLeak,
        Self::Deadlock,
        Self::KernelBug,
        Self::Warning,
        Self::VerificationFailure,
        Self::OutOfMemory,
        Self::IoError,
        Self::FilesystemError,
        Self::ProcessCrash,
    ];

    /// The name used in the pattern table, in results and in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KernelPanic => "kernel-panic",
            Self::SystemHang => "system-hang",
            Self::ModuleCrash => "module-crash",
            Self::MemoryCorruption => "memory-corruption",
            Self::ResourceLeak => "resource-leak",
            Self::Deadlock => "deadlock",
            Self::KernelBug => "kernel-bug",
            Self::Warning => "warning",
            Self::VerificationFailure => "verification-failure",
            Self::OutOfMemory => "out-of-memory",
            Self::IoError => "io-error",
            Self::FilesystemError => "filesystem-error",
            Self::ProcessCrash => "process-crash",
        }
    }

    /// The severities a failure of this type can have; the pattern table is held to it.
    pub const fn severity_range(self) -> RangeInclusive<Severity> {
        match self {
            Self::KernelPanic | Self::SystemHang => Severity::Critical..=Severity::Critical,
            Self::MemoryCorruption | Self::KernelBug => Severity::High..=Severity::High,
            Self::Deadlock => Severity::Moderate..=Severity::High,
            Self::ModuleCrash | Self::ProcessCrash => Severity::Moderate..=Severity::Moderate,
            Self::ResourceLeak
            | Self::Warning
            | Self::VerificationFailure
            | Self::OutOfMemory
            | Self::FilesystemError => Severity::Low..=Severity::Moderate,
            Self::IoError => Severity::Low..=Severity::Low,
        }
    }

    /// The severity where the pattern table does not say otherwise.
    pub const fn severity(self) -> Severity {
        match self {
            Self::KernelPanic | Self::SystemHang => Severity::Critical,
            Self::MemoryCorruption | Self::KernelBug => Severity::High,
            Self::ModuleCrash | Self::Deadlock | Self::Warning | Self::OutOfMemory | Self::ProcessCrash => {
                Severity::Moderate
            }
            Self::ResourceLeak | Self::VerificationFailure | Self::IoError | Self::FilesystemError => Severity::Low,
        }
    }

    /// What brings the machine back.
    pub const fn recovery(self) -> Recovery {
        match self {
            Self::KernelPanic | Self::KernelBug => Recovery::VmRestart,
            Self::SystemHang => Recovery::ForcedReset,
            Self::ModuleCrash | Self::VerificationFailure => Recovery::ReloadModule,
            Self::MemoryCorruption => Recovery::Restart,
            Self::ResourceLeak | Self::OutOfMemory => Recovery::CleanUp,
            Self::Deadlock | Self::ProcessCrash => Recovery::Kill,
            Self::Warning | Self::IoError | Self::FilesystemError => Recovery::Isolate,
        }
    }
}

impl fmt::Display for CrashType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for CrashType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|crash| crash.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no crash type is called {name:?}; there are {names}")
        })
    }
}

/// How bad a failure is; later variants are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// A test failed because of it.
    Moderate,
    /// The machine must not be trusted any more.
    High,
    /// The machine is gone.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Low => "low",
            Self::Moderate => "moderate",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

/// What a console line does to the run it appears in; later variants do more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Recorded only: normal in tests that provoke it.
    Notice,
    /// The test that was running fails; the machine may go on.
    Failure,
    /// The machine is not to be trusted any more: the run ends now.
    Fatal,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Notice => "notice",
            Self::Failure => "failure",
            Self::Fatal => "fatal",
        })
    }
}

/// The action that brings the machine back after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// Throw the virtual machine away and boot a new one: its kernel no longer runs, or must not.
    VmRestart,
    /// Reset from outside: the machine does not answer requests to stop.
    ForcedReset,
    /// Unload, clean, load and verify the module.
    ReloadModule,
    /// Reboot the machine, which still answers, because its memory is not to be trusted.
    Restart,
    /// Give back what is held: files, mounts, devices, control groups.
    CleanUp,
    /// Kill the tasks that wait or misbehave.
    Kill,
    /// Start a service again, or let it go on: the machine and its modules are well.
    RestartService,
    /// Nothing to repair: mark the test, report, go on.
    Isolate,
}

impl Recovery {
    /// The recovery level this action belongs to.
    pub const fn level(self) -> RecoveryLevel {
        match self {
            Self::ReloadModule | Self::CleanUp | Self::Kill | Self::RestartService => RecoveryLevel::Graceful,
            Self::VmRestart | Self::ForcedReset | Self::Restart => RecoveryLevel::SystemReset,
            Self::Isolate => RecoveryLevel::TestIsolation,
        }
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::VmRestart => "vm-restart",
            Self::ForcedReset => "forced-reset",
            Self::ReloadModule => "reload-module",
            Self::Restart => "restart",
            Self::CleanUp => "clean-up",
            Self::Kill => "kill",
            Self::RestartService => "restart-service",
            Self::Isolate => "isolate",
        })
    }
}

/// How far a recovery reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveryLevel {
    /// Level 1: inside the running machine, retried with backoff.
    Graceful = 1,
    /// Level 2: state is captured, the machine restarts, the run resumes from its checkpoint.
    SystemReset = 2,
    /// Level 3: the test is marked and skipped, the run goes on.
    TestIsolation = 3,
}

impl RecoveryLevel {
    /// The level's number, 1 to 3.
    pub const fn number(self) -> u8 {
        match self {
            Self::Graceful => 1,
            Self::SystemReset => 2,
            Self::TestIsolation => 3,
        }
    }
}

impl fmt::Display for RecoveryLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Graceful => "graceful",
            Self::SystemReset => "system reset",
            Self::TestIsolation => "test isolation",
        };
        write!(f, "level {} ({name})", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_six_base_types_have_the_promised_severity_and_recovery() {
        use CrashType as C;
        use Severity::{Critical, High, Low, Moderate};
        let base = [
            (C::KernelPanic, Critical..=Critical, Recovery::VmRestart, 2),
            (C::SystemHang, Critical..=Critical, Recovery::ForcedReset, 2),
            (C::ModuleCrash, Moderate..=Moderate, Recovery::ReloadModule, 1),
            (C::MemoryCorruption, High..=High, Recovery::Restart, 2),
            (C::ResourceLeak, Low..=Moderate, Recovery::CleanUp, 1),
            (C::Deadlock, Moderate..=High, Recovery::Kill, 1),
        ];
        for (crash, range, recovery, level) in base {
            assert_eq!(crash.severity_range(), range, "{crash}");
            assert_eq!(crash.recovery(), recovery, "{crash}");
            assert_eq!(recovery.level().number(), level, "{crash}");
        }
    }

    #[test]
    fn the_default_severity_lies_in_the_range_of_its_type() {
        for crash in CrashType::ALL {
            assert!(crash.severity_range().contains(&crash.severity()), "{crash}");
        }
    }

    #[test]
    fn names_in_json_and_in_text_are_the_same() {
        for crash in CrashType::ALL {
            assert_eq!(serde_json::to_string(&crash).unwrap(), format!("\"{crash}\""));
            assert_eq!(crash.name().parse(), Ok(crash));
            let recovery = crash.recovery();
            assert_eq!(serde_json::to_string(&recovery).unwrap(), format!("\"{recovery}\""));
        }
        for effect in [Effect::Notice, Effect::Failure, Effect::Fatal] {
            assert_eq!(serde_json::to_string(&effect).unwrap(), format!("\"{effect}\""));
        }
    }

    #[test]
    fn another_name_is_refused_with_those_there_are() {
        let error = "panic".parse::<CrashType>().unwrap_err();
        assert!(error.contains("kernel-panic"), "{error}");
    }

    #[test]
    fn a_kernel_bug_is_worse_than_the_same_bug_in_a_module_under_test() {
        assert!(CrashType::KernelBug.severity() > CrashType::ModuleCrash.severity());
    }
}
