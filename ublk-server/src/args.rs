// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line of `vexfs-ublkd`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use ublk_server::options::Options;
use ublk_server::target::WriteCache;
use ublk_server::transfer::{Delivery, Transfer, Wishes};
use ublk_server::units::{BlockSize, Bytes};

/// What a RAM disk or null device is if nothing else is said.
const DEFAULT_SIZE: Bytes = Bytes::new(1 << 30);

/// Serve a block device from user space until SIGTERM.
#[derive(Debug, Parser)]
#[command(name = "vexfs-ublkd", version, about)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    target: Option<TargetArgs>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Go on serving a loop or volume device whose server died, with the target it was made with
    Recover {
        /// The N of /dev/ublkbN
        #[arg(long, value_name = "N")]
        id: u32,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Tell what the ublk driver of this machine can do
    Features,
    /// Remove a device whose server died; what applications wait for fails
    Delete {
        /// The N of /dev/ublkbN
        #[arg(long, value_name = "N")]
        id: u32,
    },
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Serve(Wanted, Options),
    Recover(u32, Wanted),
    Delete(u32),
    Features,
}

/// What stands behind the device.
#[derive(Debug, clap::Args)]
struct TargetArgs {
    /// What stands behind the device
    #[arg(long = "target", value_enum, value_name = "TARGET")]
    kind: TargetKind,
    /// Size of a null or mem device: bytes, or a number with a unit, as in 512M [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    size: Option<Bytes>,
    /// The file or block device behind a loop device
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Let a loop device go through the page cache although its file takes direct I/O
    #[arg(long)]
    buffered: bool,
    /// The pool behind a volume device
    #[arg(long, value_name = "PATH")]
    pool: Option<PathBuf>,
    /// The file in the pool, as a path from its root
    #[arg(long, value_name = "PATH")]
    volume: Option<OsString>,
    /// Logical block size: 512 or 4096; of a volume always 4096 [default: 512, or what the file takes]
    #[arg(long, value_name = "BYTES")]
    block_size: Option<BlockSize>,
    /// Whether a null or mem device claims to need flushes; it does what flushes cost, nothing is written anywhere
    /// [default: none]
    #[arg(long, value_enum)]
    write_cache: Option<WriteCacheKind>,
}

#[derive(Debug, clap::Args)]
struct ConnectionArgs {
    /// Hardware queues, each with a thread [default: one per processor, at most 4]
    #[arg(long, value_name = "N")]
    queues: Option<u16>,
    /// Requests in flight per queue [default: 128]
    #[arg(long, value_name = "N")]
    depth: Option<u16>,
    /// Threads of each queue, which share its requests [default: 1]
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
    /// How the data of requests is moved [default: the best that target and driver can do]
    #[arg(long, value_enum, value_name = "WAY")]
    transfer: Option<TransferKind>,
    /// Whether many requests are delivered at once [default: no]
    #[arg(long, value_name = "yes|no", action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    batch: Option<bool>,
    /// Make a device that belongs to the user who runs this, who need not be root
    #[arg(long)]
    unprivileged: bool,
    /// Largest request [default: 512KiB]
    #[arg(long, value_name = "SIZE")]
    io_size: Option<Bytes>,
    /// The N of /dev/ublkbN [default: the first one free]
    #[arg(long, value_name = "N")]
    id: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TargetKind {
    /// Completes everything and stores nothing: measures the transport
    Null,
    /// A RAM disk
    Mem,
    /// A file or block device
    Loop,
    /// A file of a pool
    Volume,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TransferKind {
    /// The best that target and driver can do
    Auto,
    /// The driver copies it to and from memory of the server
    Copy,
    /// The target copies it to and from where it wants it
    UserCopy,
    /// The application's own pages are read and written
    ZeroCopy,
    /// The same with a command of its own for each request
    ZeroCopyByHand,
}

impl TransferKind {
    const fn wish(self) -> Option<Transfer> {
        match self {
            Self::Auto => None,
            Self::Copy => Some(Transfer::Copy),
            Self::UserCopy => Some(Transfer::UserCopy),
            Self::ZeroCopy => Some(Transfer::ZeroCopy),
            Self::ZeroCopyByHand => Some(Transfer::ZeroCopyByHand),
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WriteCacheKind {
    /// No flushes are sent
    None,
    /// Flushes are sent
    Flush,
    /// Flushes are sent, and FUA writes as such
    Fua,
}

/// A target that was asked for, with all that belongs to it and nothing else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Null(Plain),
    Mem(Plain),
    Loop {
        file: PathBuf,
        buffered: bool,
        block_size: Option<BlockSize>,
    },
    Volume {
        pool: PathBuf,
        path: OsString,
    },
}

/// A device that only exists in memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) size: Bytes,
    pub(crate) block_size: BlockSize,
    pub(crate) write_cache: WriteCache,
}

impl From<WriteCacheKind> for WriteCache {
    fn from(kind: WriteCacheKind) -> Self {
        match kind {
            WriteCacheKind::None => Self::WriteThrough,
            WriteCacheKind::Flush => Self::Flush,
            WriteCacheKind::Fua => Self::FlushAndFua,
        }
    }
}

impl Args {
    /// What was asked for; a usage error if it does not fit together.
    pub(crate) fn task(&self) -> Result<Task, clap::Error> {
        match (&self.command, &self.target) {
            (Some(Command::Recover { id, target }), _) => match target.wanted()? {
                Wanted::Null(_) | Wanted::Mem(_) => {
                    let text = format!("a {} device does not outlive its server", target.kind.name());
                    Err(usage(ErrorKind::ArgumentConflict, text))
                }
                wanted => Ok(Task::Recover(*id, wanted)),
            },
            (Some(Command::Delete { id }), _) => Ok(Task::Delete(*id)),
            (Some(Command::Features), _) => Ok(Task::Features),
            (None, Some(target)) => Ok(Task::Serve(target.wanted()?, self.options())),
            (None, None) => {
                let text = "--target TARGET says what to serve".to_owned();
                Err(usage(ErrorKind::MissingRequiredArgument, text))
            }
        }
    }

    fn options(&self) -> Options {
        let (asked, defaults) = (&self.connection, Options::default());
        Options {
            id: asked.id,
            queues: asked.queues.unwrap_or(defaults.queues),
            depth: asked.depth.unwrap_or(defaults.depth),
            threads: asked.threads.unwrap_or(defaults.threads),
            io_size: asked.io_size.unwrap_or(defaults.io_size),
            wishes: Wishes {
                transfer: asked.transfer.and_then(TransferKind::wish),
                delivery: asked
                    .batch
                    .map(|batch| if batch { Delivery::Batch } else { Delivery::Single }),
                unprivileged: asked.unprivileged,
            },
        }
    }
}

impl TargetArgs {
    /// What was asked for; a usage error if it does not fit together.
    fn wanted(&self) -> Result<Wanted, clap::Error> {
        let given = [
            ("--size", self.size.is_some(), &[TargetKind::Null, TargetKind::Mem][..]),
            (
                "--write-cache",
                self.write_cache.is_some(),
                &[TargetKind::Null, TargetKind::Mem],
            ),
            ("--file", self.file.is_some(), &[TargetKind::Loop]),
            ("--buffered", self.buffered, &[TargetKind::Loop]),
            ("--pool", self.pool.is_some(), &[TargetKind::Volume]),
            ("--volume", self.volume.is_some(), &[TargetKind::Volume]),
            (
                "--block-size 512",
                self.block_size == Some(BlockSize::B512),
                &[TargetKind::Null, TargetKind::Mem, TargetKind::Loop],
            ),
        ];
        for (option, given, kinds) in given {
            if given && !kinds.contains(&self.kind) {
                let text = format!("{option} does not go with --target {}", self.kind.name());
                return Err(usage(ErrorKind::ArgumentConflict, text));
            }
        }
        let plain = || Plain {
            size: self.size.unwrap_or(DEFAULT_SIZE),
            block_size: self.block_size.unwrap_or(BlockSize::B512),
            write_cache: self.write_cache.unwrap_or(WriteCacheKind::None).into(),
        };
        Ok(match self.kind {
            TargetKind::Null => Wanted::Null(plain()),
            TargetKind::Mem => Wanted::Mem(plain()),
            TargetKind::Loop => Wanted::Loop {
                file: self.needed("--file PATH", self.file.as_ref())?,
                buffered: self.buffered,
                block_size: self.block_size,
            },
            TargetKind::Volume => Wanted::Volume {
                pool: self.needed("--pool PATH", self.pool.as_ref())?,
                path: self.needed("--volume PATH", self.volume.as_ref())?,
            },
        })
    }

    fn needed<T: Clone>(&self, option: &str, value: Option<&T>) -> Result<T, clap::Error> {
        let missing = || {
            let text = format!("--target {} needs {option}", self.kind.name());
            usage(ErrorKind::MissingRequiredArgument, text)
        };
        value.cloned().ok_or_else(missing)
    }
}

impl TargetKind {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

fn usage(kind: ErrorKind, text: String) -> clap::Error {
    Args::command().error(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(["vexfs-ublkd"].into_iter().chain(arguments.split_whitespace()))
    }

    fn wanted(arguments: &str) -> Result<Wanted, clap::Error> {
        match parse(arguments)?.task()? {
            Task::Serve(wanted, _) | Task::Recover(_, wanted) => Ok(wanted),
            other => panic!("{arguments:?} serves nothing: {other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_option_reaches_its_place() {
        let line = "--target mem --size 64M --queues 2 --depth 16 --io-size 1MiB --block-size 4096 --id 7 --write-cache fua \
             --threads 3 --transfer user-copy --batch yes --unprivileged";
        let plain = Plain {
            size: Bytes::new(64 << 20),
            block_size: BlockSize::B4096,
            write_cache: WriteCache::FlushAndFua,
        };
        let options = Options {
            id: Some(7),
            queues: 2,
            depth: 16,
            threads: 3,
            io_size: Bytes::new(1 << 20),
            wishes: Wishes {
                transfer: Some(Transfer::UserCopy),
                delivery: Some(Delivery::Batch),
                unprivileged: true,
            },
        };
        assert_eq!(
            parse(line).unwrap().task().unwrap(),
            Task::Serve(Wanted::Mem(plain), options)
        );
        let looped = |buffered, block_size| Wanted::Loop {
            file: "/a".into(),
            buffered,
            block_size,
        };
        assert_eq!(wanted("--target loop --file /a").unwrap(), looped(false, None));
        let line = "--target loop --file /a --buffered --block-size 512";
        assert_eq!(wanted(line).unwrap(), looped(true, Some(BlockSize::B512)));
        let volume = Wanted::Volume {
            pool: "/p".into(),
            path: "/v".into(),
        };
        assert_eq!(wanted("--target volume --pool /p --volume /v").unwrap(), volume);
    }

    #[test]
    fn what_serves_no_new_device_is_a_command_of_its_own() {
        let task = |line| parse(line).unwrap().task().unwrap();
        assert_eq!(task("delete --id 3"), Task::Delete(3));
        assert_eq!(task("features"), Task::Features);
        let volume = Wanted::Volume {
            pool: "/p".into(),
            path: "/v".into(),
        };
        let line = "recover --id 4 --target volume --pool /p --volume /v";
        assert_eq!(task(line), Task::Recover(4, volume));
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for wrong in [
            "--target disk",
            "--target null --size 1.5G",
            "--target null --block-size 1024",
            "--target null --queues -1",
            "--target null --id -1",
            "",
            "--target loop",
            "--target loop --file a --size 1G",
            "--target loop --file a --write-cache fua",
            "--target mem --file a",
            "--target null --buffered",
            "--target volume --pool /p",
            "--target volume --volume /v",
            "--target volume --pool /p --volume /v --block-size 512",
            "--target loop --file a --pool /p",
            "recover --target loop --file a",
            "recover --id 0",
            "recover --id 0 --target mem",
            "recover --id 0 --target loop --file a --depth 1",
            "--target null delete --id 0",
            "delete",
        ] {
            let error = wanted(wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }
}
