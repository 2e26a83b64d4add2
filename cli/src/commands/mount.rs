// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mounting a pool: `vexfs-ublk mount`, and `mount.vexfs` as mount(8) calls it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use vexfs_control::logging::{self, LogControl, Output};
use vexfs_fuse::daemon::{mount_here, mount_in_background};
use vexfs_fuse::options::Options;

use crate::failure::failed;
use crate::kernel_mount::{self, Asked, Way};
use crate::{failure, image, show};

/// Mount a pool, or a sealed image, on a directory.
///
/// By the kernel module where that is there, else through FUSE. Returns when the mount answers; the server goes on in the
/// background. Ends with 1 and the reason if there is no mount.
#[derive(Args)]
#[command(after_help = AFTER)]
#[expect(clippy::struct_excessive_bools, reason = "switches")]
pub(crate) struct Arguments {
    /// File or block device with the pool or sealed image; an image is mounted read-only
    pool: PathBuf,
    /// Directory to mount on
    directory: PathBuf,
    /// Through FUSE; the only way on a machine without the kernel module
    #[arg(long)]
    fuse: bool,
    /// By the kernel module, or not at all
    #[arg(long, conflicts_with_all = ["fuse", "foreground", "no_sandbox"])]
    kernel: bool,
    /// Mount options, separated by commas
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
    /// Serve in the foreground until unmounted, through FUSE
    #[arg(short, long)]
    foreground: bool,
    /// Append what the server has to say to a file, not to the journal of systemd
    #[arg(long, value_name = "FILE", conflicts_with = "foreground")]
    log_file: Option<PathBuf>,
    /// Keep all privileges while serving, to look into a problem
    #[arg(long)]
    no_sandbox: bool,
    /// Say what is done
    #[arg(short, long)]
    verbose: bool,
}

macro_rules! help {
    ($examples:literal) => {
        concat!(
            "Changes: the pool is marked as in use, and brought up to date if it was not closed in order.\n\n",
            "Mount options:\n",
            "  ro rw suid nosuid dev nodev exec noexec atime noatime sync async dirsync\n",
            "                     as mount(8) has them\n",
            "  kernel, fuse       by the kernel module, through FUSE; else what the machine can do, in this order\n",
            "  timeout=MS, retries=N  of the module's questions to its server (5000, 3)\n",
            "of FUSE, which they mean:\n",
            "  allow_other        everybody may use the files, as permissions let them (root's default)\n",
            "  allow_root         who mounts and root may\n",
            "  auto_unmount       take the mount point away if the server dies\n",
            "  writeback          let the kernel keep written bytes for a while: a full pool is then told to fsync and close, not to\n",
            "                     write, and bytes may be lost if nobody asks\n",
            "  threads=N          threads that serve (as many as processors, 2 to 16)\n",
            "  cache=SIZE         memory for pages of tables (64MiB)\n",
            "  cache_names=N      files and names kept in memory (262144)\n",
            "  cache_rows=N       rows of file maps kept in memory (65536)\n\n",
            "Examples:\n",
            $examples
        )
    };
}

const AFTER: &str = help!(
    "  vexfs-ublk mount pool.img /mnt
  vexfs-ublk mount -o ro,noatime --verbose pool.img /mnt
  vexfs-ublk mount --foreground -o auto_unmount,threads=4 pool.img /mnt"
);

const AFTER_HELPER: &str = help!(
    "  mount.vexfs pool.img /mnt
  mount.vexfs pool.img /mnt -o ro,noatime -v"
);

/// `mount.vexfs POOL DIR [-sfnv] [-o OPTIONS]`, see mount(8).
#[derive(Args)]
#[command(after_help = AFTER_HELPER)]
#[expect(clippy::struct_excessive_bools, reason = "the switches that mount passes")]
pub(crate) struct HelperArguments {
    /// File or block device with the pool
    pool: PathBuf,
    /// Directory to mount on
    directory: PathBuf,
    /// Mount options, separated by commas
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
    /// Pass over unknown mount options
    #[arg(short)]
    sloppy: bool,
    /// Check everything, but do not mount
    #[arg(short)]
    fake: bool,
    /// Accepted for mount(8): there is no file of mounts to write
    #[arg(short)]
    no_mtab: bool,
    /// Say what is done
    #[arg(short)]
    verbose: bool,
    /// Accepted for mount(8)
    #[arg(short = 't', value_name = "TYPE", hide = true)]
    kind: Option<String>,
}

/// As mount(8) and umount(8) have them.
pub(crate) const EXIT_CODES: &str = "0   done\n1   the call is wrong\n32  it failed";

/// Exit code of a call that cannot be understood.
pub(crate) const USAGE: u8 = 1;
/// Of what could not be done.
pub(crate) const FAILED: u8 = 32;

/// What a server logs unless somebody says otherwise.
pub(crate) const LOG: &str = "info";

fn options(lists: &[String], sloppy: bool) -> Result<Options> {
    let mut options = Options::new();
    for list in lists {
        options.apply(list, sloppy)?;
    }
    Ok(options)
}

/// `device`: by the kernel module.
fn announce(pool: &Path, directory: &Path, device: Option<&str>, json: bool) {
    let through = if device.is_some() { "kernel" } else { "fuse" };
    if json {
        show::document(json!({
            "pool": pool.display().to_string(),
            "directory": directory.display().to_string(),
            "through": through,
            "device": device,
        }));
        return;
    }
    let (pool, directory) = (pool.display(), directory.display());
    match device {
        Some(device) => println!("{pool} is mounted on {directory} as {device}"),
        None => println!("{pool} is mounted on {directory} through FUSE"),
    }
}

/// Whether the kernel module is to mount; if it may and cannot, why.
fn chosen(asked: &Asked, pool: &Path) -> Result<std::result::Result<(), String>> {
    if image::is_image(pool) {
        let reason = if asked.way == Way::Fuse {
            Some("FUSE does not know sealed images".to_owned())
        } else {
            kernel_mount::without_module()
        };
        return match reason {
            None => Ok(Ok(())),
            Some(reason) => Err(failed(reason, "a sealed image is mounted by the kernel module")),
        };
    }
    if asked.way == Way::Fuse {
        return Ok(Err("the options say so".to_owned()));
    }
    match kernel_mount::unusable() {
        None => Ok(Ok(())),
        Some(reason) if asked.way == Way::Kernel || kernel_mount::is_device(pool) => {
            Err(failed(reason, "vexfs-ublk doctor says what this machine can do"))
        }
        Some(reason) => {
            tracing::debug!(reason, pool = %pool.display(), "FUSE is used");
            Ok(Err(reason))
        }
    }
}

impl Arguments {
    /// Where the server logs to: a process in the background has nobody who reads its standard error.
    pub(crate) const fn log_output(&self) -> Output {
        if self.foreground || self.log_file.is_some() {
            Output::Errors
        } else {
            Output::Journal
        }
    }
}

pub(crate) fn run(arguments: &Arguments, log: LogControl, json: bool) -> Result<()> {
    let mut asked = Asked::read(&arguments.options);
    if arguments.kernel {
        asked.way = Way::Kernel;
    } else if arguments.fuse || arguments.foreground || arguments.no_sandbox {
        asked.way = Way::Fuse;
    }
    let mut options = options(&asked.fuse, false)?;
    options.log = Some(log);
    options.sandbox = !arguments.no_sandbox;
    let (pool, directory) = (&arguments.pool, &arguments.directory);
    let log_file = arguments.log_file.as_deref();
    let reason = match chosen(&asked, pool)? {
        Ok(()) => {
            let device = kernel_mount::mount_pool(pool, directory, &asked, log_file)?;
            if arguments.verbose || json {
                announce(pool, directory, Some(&device), json);
            }
            return Ok(());
        }
        Err(reason) => reason,
    };
    if arguments.verbose && !arguments.fuse && !json {
        println!("FUSE is used: {reason}");
    }
    if arguments.foreground {
        mount_here(pool, directory, options, || announce(pool, directory, None, json))?;
    } else {
        mount_in_background(pool, directory, options, log_file)?;
        if arguments.verbose || json {
            announce(pool, directory, None, json);
        }
    }
    Ok(())
}

/// Under the name `mount.vexfs`.
pub(crate) fn run_helper(arguments: &HelperArguments) -> ExitCode {
    let asked = Asked::read(&arguments.options);
    let mut options = match options(&asked.fuse, arguments.sloppy) {
        Ok(options) => options,
        Err(error) => {
            return failure::tell_with(&error, false, USAGE);
        }
    };
    match logging::start(None, LOG, Output::Journal) {
        Ok(log) => options.log = Some(log),
        Err(error) => return failure::tell_with(&error.into(), false, USAGE),
    }
    let (pool, directory) = (&arguments.pool, &arguments.directory);
    let mounted = chosen(&asked, pool).and_then(|chosen| {
        if let (Err(reason), true) = (&chosen, arguments.verbose) {
            println!("FUSE is used: {reason}");
        }
        if arguments.fake {
            return Ok(None);
        }
        if chosen.is_ok() {
            return kernel_mount::mount_pool(pool, directory, &asked, None).map(|device| Some(Some(device)));
        }
        mount_in_background(pool, directory, options, None)?;
        Ok(Some(None))
    });
    match mounted {
        Ok(mounted) => {
            if let (Some(device), true) = (mounted, arguments.verbose) {
                announce(pool, directory, device.as_deref(), false);
            }
            ExitCode::SUCCESS
        }
        Err(error) => failure::tell_with(&error, false, FAILED),
    }
}
