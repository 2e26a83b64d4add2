// SPDX-License-Identifier: MIT OR Apache-2.0

//! The options of a device on a command line: `vexfs-ublk add` and `vexfs-ublkd serve` have them in common.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use thiserror::Error;
use vexfs::pool::OpenError;
use vexfs_control::volumes;

use crate::daemon::backing::is_pool;
use crate::daemon::protocol::{Backing, Plain, Spec, TargetSpec, Wanted};
use crate::options::Options;
use crate::target::WriteCache;
use crate::transfer::{Delivery, Transfer, Wishes};
use crate::units::{BlockSize, Bytes};

/// What a RAM disk or null device is if nothing else is said.
const DEFAULT_SIZE: Bytes = Bytes::new(1 << 30);

/// What stands behind a device, and how it is attached.
#[derive(Debug, Default, clap::Args)]
pub struct DeviceArgs {
    /// What stands behind the device [default: volume if one is named, fs if the file holds a pool, else loop]
    #[arg(long = "target", value_enum, value_name = "TARGET")]
    kind: Option<TargetKind>,
    /// A file of the pool: a plain name is one below /volumes, a name with a leading slash any
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
    /// Size of a null or mem device: bytes, or a number with a unit, as in 512M [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    size: Option<Bytes>,
    /// Let a loop device go through the page cache although its file takes direct I/O
    #[arg(long)]
    buffered: bool,
    /// Logical block size: 512 or 4096; of a volume always 4096 [default: 512, or what the file takes]
    #[arg(long, value_name = "BYTES")]
    block_size: Option<BlockSize>,
    /// Whether a null or mem device claims to need flushes; it does what flushes cost, nothing is written anywhere
    /// [default: none]
    #[arg(long, value_enum)]
    write_cache: Option<WriteCacheKind>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// How a device is attached to the driver, and how long it is there.
#[derive(Debug, Default, clap::Args)]
pub struct ConnectionArgs {
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
    /// Let nobody write to the device
    #[arg(long)]
    read_only: bool,
    /// Delete the device of a pool when it is unmounted
    #[arg(long)]
    until_unmounted: bool,
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
    /// The pool itself, for `mount -t vexfs`
    Fs,
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

/// What was asked for does not fit together, or cannot be looked at.
#[derive(Debug, Error)]
pub enum ArgsError {
    /// The command line.
    #[error("{0}")]
    Usage(String),
    /// The file.
    #[error("{}: {source}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The pool.
    #[error("{}: {source}", path.display())]
    Pool {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: OpenError,
    },
}

impl ArgsError {
    /// Whether the file cannot be looked at because somebody uses it.
    pub const fn is_in_use(&self) -> bool {
        matches!(
            self,
            Self::Pool {
                source: OpenError::Disk(vexfs::disk::OpenDiskError::InUse { .. }),
                ..
            }
        )
    }
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

impl DeviceArgs {
    /// What is asked for. `from` is a file or device, or one of the words `null` and `mem`.
    pub fn wanted(&self, from: Option<&Path>) -> Result<Wanted, ArgsError> {
        let (kind, path) = self.kind(from)?;
        self.wanted_as(kind, path)
    }

    /// The same where it is known that the file holds a pool, which need not be looked into.
    pub fn wanted_of_pool(&self, path: &Path) -> Result<Wanted, ArgsError> {
        let kind = match (self.kind, &self.volume) {
            (Some(kind), _) => kind,
            (None, Some(_)) => TargetKind::Volume,
            (None, None) => TargetKind::Fs,
        };
        self.wanted_as(kind, Some(absolute(path)?))
    }

    /// Whether a device is named, and not only something that devices can be made of.
    pub const fn names_a_device(&self) -> bool {
        self.kind.is_some() || self.volume.is_some()
    }

    fn wanted_as(&self, kind: TargetKind, path: Option<PathBuf>) -> Result<Wanted, ArgsError> {
        self.check(kind)?;
        let plain = || Plain {
            size: self.size.unwrap_or(DEFAULT_SIZE).get(),
            block_size: self.block_size.unwrap_or(BlockSize::B512),
            write_cache: self.write_cache.unwrap_or(WriteCacheKind::None).into(),
        };
        let (backing, target) = match (kind, path) {
            (TargetKind::Null, _) => (Backing::Memory {}, TargetSpec::Null(plain())),
            (TargetKind::Mem, _) => (Backing::Memory {}, TargetSpec::Mem(plain())),
            (_, None) => return Err(usage(format!("--target {} needs a file or device", kind.name()))),
            (TargetKind::Loop, Some(path)) => {
                let target = TargetSpec::Loop {
                    block_size: self.block_size,
                    buffered: self.buffered,
                };
                (Backing::File { path }, target)
            }
            (TargetKind::Fs, Some(path)) => (Backing::Pool { path }, TargetSpec::Filesystem {}),
            (TargetKind::Volume, Some(path)) => {
                let name = self.volume.as_ref();
                let name = name.ok_or_else(|| usage("--target volume needs --volume NAME".to_owned()))?;
                let path_in_pool = volumes::path_of(name);
                (Backing::Pool { path }, TargetSpec::Volume { path: path_in_pool })
            }
        };
        let devices = vec![self.connection.spec(target)];
        Ok(Wanted { backing, devices })
    }

    fn kind(&self, from: Option<&Path>) -> Result<(TargetKind, Option<PathBuf>), ArgsError> {
        let word = match from.and_then(Path::to_str) {
            Some("null") => Some(TargetKind::Null),
            Some("mem") => Some(TargetKind::Mem),
            _ => None,
        };
        let in_memory = [Some(TargetKind::Null), Some(TargetKind::Mem)];
        match (self.kind, word, from) {
            (None, None, None) => Err(usage(
                "name a pool, a file or device, or --target null or mem".to_owned(),
            )),
            (None, Some(word), _) => Ok((word, None)),
            (kind, word, from) if in_memory.contains(&kind) => match (kind, from) {
                (Some(kind), None) => Ok((kind, None)),
                (Some(kind), Some(_)) if word == Some(kind) => Ok((kind, None)),
                (kind, _) => {
                    let name = kind.map(TargetKind::name).unwrap_or_default();
                    Err(usage(format!("--target {name} takes no file: the device is in memory")))
                }
            },
            (Some(kind), _, None) => Ok((kind, None)),
            (kind, _, Some(path)) => {
                let path = absolute(path)?;
                let kind = match kind {
                    Some(kind) => kind,
                    None if self.volume.is_some() => TargetKind::Volume,
                    None => {
                        let is_pool = is_pool(&path).map_err(|source| ArgsError::Pool {
                            path: path.clone(),
                            source,
                        })?;
                        if is_pool { TargetKind::Fs } else { TargetKind::Loop }
                    }
                };
                Ok((kind, Some(path)))
            }
        }
    }

    /// Nothing is asked for that this kind of target does not know.
    fn check(&self, kind: TargetKind) -> Result<(), ArgsError> {
        let memory = &[TargetKind::Null, TargetKind::Mem][..];
        let given = [
            ("--size", self.size.is_some(), memory),
            ("--write-cache", self.write_cache.is_some(), memory),
            ("--buffered", self.buffered, &[TargetKind::Loop]),
            ("--volume", self.volume.is_some(), &[TargetKind::Volume]),
            ("--until-unmounted", self.connection.until_unmounted, &[TargetKind::Fs]),
            (
                "--block-size 512",
                self.block_size == Some(BlockSize::B512),
                &[TargetKind::Null, TargetKind::Mem, TargetKind::Loop],
            ),
        ];
        for (option, given, kinds) in given {
            if given && !kinds.contains(&kind) {
                return Err(usage(format!("{option} does not go with a {} device", kind.name())));
            }
        }
        Ok(())
    }
}

impl ConnectionArgs {
    fn spec(&self, target: TargetSpec) -> Spec {
        let defaults = Options::default();
        Spec {
            target,
            id: self.id,
            queues: self.queues.unwrap_or(defaults.queues),
            depth: self.depth.unwrap_or(defaults.depth),
            threads: self.threads.unwrap_or(defaults.threads),
            io_size: self.io_size.unwrap_or(defaults.io_size).get(),
            read_only: self.read_only,
            wishes: Wishes {
                transfer: self.transfer.and_then(TransferKind::wish),
                delivery: self
                    .batch
                    .map(|batch| if batch { Delivery::Batch } else { Delivery::Single }),
                unprivileged: self.unprivileged,
            },
            until_unmounted: self.until_unmounted,
        }
    }
}

impl TargetKind {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

fn absolute(path: &Path) -> Result<PathBuf, ArgsError> {
    path.canonicalize().map_err(|source| ArgsError::Path {
        path: path.to_owned(),
        source,
    })
}

const fn usage(text: String) -> ArgsError {
    ArgsError::Usage(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tempfile::NamedTempFile;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        from: Option<PathBuf>,
        #[command(flatten)]
        device: DeviceArgs,
    }

    fn wanted(line: &str) -> Result<Wanted, String> {
        let line = Line::try_parse_from(["add"].into_iter().chain(line.split_whitespace()));
        let line = line.map_err(|error| error.to_string())?;
        line.device
            .wanted(line.from.as_deref())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_option_reaches_its_place() {
        let line = "mem --size 64M --queues 2 --depth 16 --io-size 1MiB --block-size 4096 --id 7 --write-cache fua --read-only \
             --threads 3 --transfer user-copy --batch yes --unprivileged";
        let plain = Plain {
            size: 64 << 20,
            block_size: BlockSize::B4096,
            write_cache: WriteCache::FlushAndFua,
        };
        let spec = Spec {
            target: TargetSpec::Mem(plain),
            id: Some(7),
            queues: 2,
            depth: 16,
            threads: 3,
            io_size: 1 << 20,
            read_only: true,
            wishes: Wishes {
                transfer: Some(Transfer::UserCopy),
                delivery: Some(Delivery::Batch),
                unprivileged: true,
            },
            until_unmounted: false,
        };
        let memory = |spec: Spec| Wanted {
            backing: Backing::Memory {},
            devices: vec![spec],
        };
        assert_eq!(wanted(line), Ok(memory(spec.clone())));
        let line = line.replace("mem", "--target mem");
        assert_eq!(wanted(&line), Ok(memory(spec)));
    }

    #[test]
    fn what_a_file_holds_says_what_it_is_unless_the_command_does() {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(16 << 20).unwrap();
        let path = file.path().canonicalize().unwrap();
        let line = |rest: &str| format!("{} {rest}", path.display());
        let looped = |backing: &Wanted| matches!(backing.backing, Backing::File { .. });
        let found = wanted(&line("--buffered --block-size 512")).unwrap();
        assert!(looped(&found), "{found:?}");
        let target = TargetSpec::Loop {
            block_size: Some(BlockSize::B512),
            buffered: true,
        };
        assert_eq!(found.devices[0].target, target);

        let options = vexfs::pool::format::FormatOptions::default();
        vexfs::pool::format::format_path(&path, &options).unwrap();
        let pool = Backing::Pool { path: path.clone() };
        let of = |rest: &str| wanted(&line(rest)).unwrap();
        for line in ["", "--target fs"] {
            let found = of(line);
            assert_eq!(found.backing, pool);
            assert_eq!(found.devices[0].target, TargetSpec::Filesystem {});
        }
        for (name, expected) in [("a", "/volumes/a"), ("/x/y", "/x/y")] {
            let found = of(&format!("--volume {name}"));
            assert_eq!(found.backing, pool);
            assert_eq!(found.devices[0].target, TargetSpec::Volume { path: expected.into() });
        }
        assert!(looped(&of("--target loop")), "somebody may want the pool as bytes");
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        for wrong in [
            "",
            "null --size 1.5G",
            "null --block-size 1024",
            "null --queues -1",
            "null --id -1",
            "--target loop",
            "--target volume",
            "--target disk",
            "/dev/null/x",
            "/etc/passwd --target mem",
            "mem --target null",
            "/etc/passwd --target loop --size 1G",
            "/etc/passwd --target loop --write-cache fua",
            "null --buffered",
            "null --volume a",
            "null --until-unmounted",
            "/etc/passwd --volume /v --block-size 512",
            "/etc/passwd --target loop --volume /v",
            "/etc/passwd --target fs --volume /v",
            "/etc/passwd --target fs --block-size 512",
            "/etc/passwd --target volume",
        ] {
            let text = wanted(wrong).unwrap_err();
            assert!(text.len() > 10, "{wrong:?}: {text}");
        }
    }
}
