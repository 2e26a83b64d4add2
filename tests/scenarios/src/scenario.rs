// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a scenario is.

use std::fmt;
use std::time::Duration;

use lab_guest::measure::{Promise, RECOVERY_LIMIT};

/// What is used while something goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontEnd {
    /// A pool mounted through FUSE.
    Fuse,
    /// A pool mounted by the kernel module, on its ublk device.
    Kernel,
    /// A volume of a pool, a file or memory as a ublk device.
    Volume,
    /// The DSMIL device, its module and its driver process.
    Dsmil,
}

impl FrontEnd {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fuse, Self::Kernel, Self::Volume, Self::Dsmil];

    /// The last part of a scenario's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fuse => "fuse",
            Self::Kernel => "kernel",
            Self::Volume => "volume",
            Self::Dsmil => "dsmil",
        }
    }
}

/// A family of things that go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// What cannot be mounted, added or taken up.
    Mount,
    /// The same again and again, with work beside it.
    Cycles,
    /// Something runs out.
    Exhaustion,
    /// Bytes change that nobody wrote.
    Corruption,
    /// What is below, beside or above does not do its part.
    Surroundings,
}

impl Pattern {
    /// The first part of a scenario's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Cycles => "cycles",
            Self::Exhaustion => "exhaustion",
            Self::Corruption => "corruption",
            Self::Surroundings => "surroundings",
        }
    }
}

/// A part of a pool that can be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Structure {
    /// The superblocks and their copies.
    Superblock,
    /// The journal.
    Journal,
    /// Tables of metadata.
    Metadata,
    /// Bytes of files.
    Data,
    /// Names.
    Directory,
    /// Embeddings and their indexes.
    Vectors,
}

impl Structure {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Superblock,
        Self::Journal,
        Self::Metadata,
        Self::Data,
        Self::Directory,
        Self::Vectors,
    ];
}

/// When it is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum When {
    /// While nobody uses it.
    AtRest,
    /// While it is used.
    AtRunTime,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Case {
    /// What shall be mounted is not what it should be, or does not answer.
    BadDevice,
    /// Its metadata are damaged.
    DamagedMetadata,
    /// Who asks may not.
    NoPermission,
    /// What a mount needs is used up.
    NoResources,
    /// Several ask at once.
    ConcurrentMounts,
    /// Mounted and unmounted over and over, with file operations beside it.
    MountCycles,
    /// The module or the service comes and goes over and over.
    LoadCycles,
    /// Memory.
    Memory,
    /// File descriptors.
    Descriptors,
    /// Processes and threads.
    Processes,
    /// Space, in the pool or below it.
    Space,
    /// Processor time.
    Cpu,
    /// Damage.
    Damage(Structure, When),
    /// The disk below answers late.
    SlowDevice,
    /// The disk below, or the device itself, fails.
    FailingDevice,
    /// The serving process is killed.
    ServerKilled,
    /// The serving process stands still.
    ServerStopped,
    /// The serving process says what is not so.
    ServerLies,
    /// The machine loses power.
    PowerCut,
    /// The clock jumps.
    ClockJump,
}

impl Case {
    /// All of them, in the order of tables.
    pub fn all() -> Vec<Self> {
        let damage = Structure::ALL
            .into_iter()
            .flat_map(|structure| [When::AtRest, When::AtRunTime].map(|when| Self::Damage(structure, when)));
        let before = [
            Self::BadDevice,
            Self::DamagedMetadata,
            Self::NoPermission,
            Self::NoResources,
            Self::ConcurrentMounts,
            Self::MountCycles,
            Self::LoadCycles,
            Self::Memory,
            Self::Descriptors,
            Self::Processes,
            Self::Space,
            Self::Cpu,
        ];
        let after = [
            Self::SlowDevice,
            Self::FailingDevice,
            Self::ServerKilled,
            Self::ServerStopped,
            Self::ServerLies,
            Self::PowerCut,
            Self::ClockJump,
        ];
        before.into_iter().chain(damage).chain(after).collect()
    }

    /// The family it belongs to.
    pub const fn pattern(self) -> Pattern {
        match self {
            Self::BadDevice
            | Self::DamagedMetadata
            | Self::NoPermission
            | Self::NoResources
            | Self::ConcurrentMounts => Pattern::Mount,
            Self::MountCycles | Self::LoadCycles => Pattern::Cycles,
            Self::Memory | Self::Descriptors | Self::Processes | Self::Space | Self::Cpu => Pattern::Exhaustion,
            Self::Damage(..) => Pattern::Corruption,
            Self::SlowDevice
            | Self::FailingDevice
            | Self::ServerKilled
            | Self::ServerStopped
            | Self::ServerLies
            | Self::PowerCut
            | Self::ClockJump => Pattern::Surroundings,
        }
    }

    /// The middle part of a scenario's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadDevice => "bad-device",
            Self::DamagedMetadata => "damaged-metadata",
            Self::NoPermission => "no-permission",
            Self::NoResources => "no-resources",
            Self::ConcurrentMounts => "concurrent",
            Self::MountCycles => "mounts-beside-work",
            Self::LoadCycles => "load-unload",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::Processes => "processes",
            Self::Space => "space",
            Self::Cpu => "cpu",
            Self::Damage(structure, When::AtRest) => match structure {
                Structure::Superblock => "superblock-at-rest",
                Structure::Journal => "journal-at-rest",
                Structure::Metadata => "metadata-at-rest",
                Structure::Data => "data-at-rest",
                Structure::Directory => "directory-at-rest",
                Structure::Vectors => "vectors-at-rest",
            },
            Self::Damage(structure, When::AtRunTime) => match structure {
                Structure::Superblock => "superblock-in-use",
                Structure::Journal => "journal-in-use",
                Structure::Metadata => "metadata-in-use",
                Structure::Data => "data-in-use",
                Structure::Directory => "directory-in-use",
                Structure::Vectors => "vectors-in-use",
            },
            Self::SlowDevice => "slow-device",
            Self::FailingDevice => "failing-device",
            Self::ServerKilled => "server-killed",
            Self::ServerStopped => "server-stopped",
            Self::ServerLies => "server-lies",
            Self::PowerCut => "power-cut",
            Self::ClockJump => "clock-jump",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}::{}", self.pattern().name(), self.name()))
    }
}

/// How it is known whether a promise was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The test ends with an error if it was not; the text says what it compares.
    Asserted(&'static str),
    /// The test tells the runner each comparison; one that is never told is a failure too.
    Measured(&'static str),
    /// Every line of the machine's console is classified, and processors, tasks and the agent are watched.
    Console,
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expectation {
    /// Which promise.
    pub promise: Promise,
    /// How it is known.
    pub how: How,
}

/// The test that does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Test {
    /// Folder of its package.
    pub folder: &'static str,
    /// Name within the package.
    pub name: &'static str,
}

impl Test {
    /// `package::name`, as the runner knows it.
    pub fn full_name(self) -> String {
        format!("{}::{}", self.folder.replace('/', "-"), self.name)
    }
}

/// One way in which something goes wrong.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What goes wrong.
    pub case: Case,
    /// For whom.
    pub front: FrontEnd,
    /// Tells it from others of the same case and front end; may be empty.
    pub variant: &'static str,
    /// What there is before.
    pub setup: &'static str,
    /// What is done to it.
    pub fault: &'static str,
    /// What must hold. That the machine stays well goes without saying, see [`Scenario::expectations`].
    pub expects: &'static [Expectation],
    /// Within this what failed must work again.
    pub recovery: Duration,
    /// What does it.
    pub test: Test,
}

impl Scenario {
    /// `pattern::case::front`, and the variant if there is one.
    pub fn name(&self) -> String {
        let dash = if self.variant.is_empty() { "" } else { "-" };
        format!("{}::{}{dash}{}", self.case, self.front.name(), self.variant)
    }

    /// What must hold, with what must hold of every scenario.
    pub fn expectations(&self) -> Vec<Expectation> {
        let console = Expectation {
            promise: Promise::Stability,
            how: How::Console,
        };
        self.expects.iter().copied().chain([console]).collect()
    }
}

/// A promise that the test ends with an error over.
pub(crate) const fn asserted(promise: Promise, what: &'static str) -> Expectation {
    Expectation {
        promise,
        how: How::Asserted(what),
    }
}

/// A promise that the test tells its measurement of.
pub(crate) const fn measured(promise: Promise, what: &'static str) -> Expectation {
    Expectation {
        promise,
        how: How::Measured(what),
    }
}

/// The limit of all scenarios that recover by themselves.
pub(crate) const LIMIT: Duration = RECOVERY_LIMIT;
