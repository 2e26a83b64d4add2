// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is measured: how each filesystem is made, mounted and unmounted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::host::command::command;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};

use super::OURS;

/// Size of images: sparse, and more than the work needs.
const SIZE: u64 = 4 << 30;
const PATIENCE: Duration = Duration::from_secs(60);
const CACHED: &str = "attr_timeout=86400,entry_timeout=86400,negative_timeout=86400";

/// A filesystem to be measured.
pub(super) struct Subject {
    pub(super) name: &'static str,
    storage: PathBuf,
    directory: PathBuf,
    make: Make,
    /// The command that serves it in the foreground; `STORAGE` and `DIR` stand for the places.
    serve: Vec<String>,
}

/// How empty storage is made.
#[derive(Clone)]
enum Make {
    /// A directory of the host.
    Directory,
    /// An image, by this command.
    Image(Vec<String>),
}

/// All of them, ours first.
pub(super) fn all(program: &Path, storage: &Path) -> Result<Vec<Subject>> {
    let place = Path::new("/mnt");
    // Seen by this process only; every user may pass through it.
    mount(Some("none"), place, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).context("mounting on /mnt")?;
    let ours = program.to_string_lossy().into_owned();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let with = |first: &str, rest: &str| [vec![first.to_owned()], words(rest)].concat();
    let pool = Make::Image(with(&ours, "mkfs --force"));
    let ext4 = Make::Image(words("mkfs.ext4 -q -F"));
    let merger = "mergerfs -f -o category.create=ff,minfreespace=0";
    let list: Vec<(&'static str, Make, Vec<String>)> = vec![
        (OURS, pool, with(&ours, "mount -f STORAGE DIR")),
        ("bindfs", Make::Directory, words("bindfs -f STORAGE DIR")),
        (
            "bindfs, cached",
            Make::Directory,
            words(&format!(
                "bindfs -f --multithreaded -o kernel_cache,{CACHED} STORAGE DIR"
            )),
        ),
        ("mergerfs", Make::Directory, words(&format!("{merger} STORAGE DIR"))),
        (
            "mergerfs, cached",
            Make::Directory,
            words(&format!(
                "{merger},cache.files=auto-full,cache.attr=86400,cache.entry=86400,cache.negative_entry=86400,\
                 cache.readdir=true,cache.statfs=86400 STORAGE DIR"
            )),
        ),
        ("fuse2fs", ext4.clone(), words("fuse2fs -f STORAGE DIR")),
        (
            "fuse2fs, cached",
            ext4,
            words(&format!("fuse2fs -f -o kernel_cache,big_writes,{CACHED} STORAGE DIR")),
        ),
        (
            "ntfs-3g, cached",
            Make::Image(words("mkntfs --quick --force --quiet")),
            words(&format!("ntfs-3g -o no_detach,big_writes,noatime,{CACHED} STORAGE DIR")),
        ),
    ];
    let subject = |(name, make, serve): (&'static str, Make, Vec<String>)| -> Result<Subject> {
        let file: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let directory = place.join(&file);
        fs::create_dir(&directory)?;
        Ok(Subject {
            name,
            storage: storage.join(&file),
            directory,
            make,
            serve,
        })
    };
    fs::create_dir_all(storage).with_context(|| format!("making {}", storage.display()))?;
    list.into_iter().map(subject).collect()
}

impl Subject {
    /// Makes its storage anew and mounts it.
    pub(super) fn make(&self) -> Result<Mounted<'_>> {
        self.remove()?;
        match &self.make {
            Make::Directory => fs::create_dir(&self.storage)?,
            Make::Image(words) => {
                File::create(&self.storage)?.set_len(SIZE)?;
                let (program, arguments) = words.split_first().context("no command")?;
                command(program).args(arguments).arg(&self.storage).run()?;
            }
        }
        let mut mounted = Mounted {
            subject: self,
            server: None,
        };
        mounted.start()?;
        Ok(mounted)
    }

    fn remove(&self) -> Result<()> {
        let removed = match &self.make {
            Make::Directory => fs::remove_dir_all(&self.storage),
            Make::Image(_) => fs::remove_file(&self.storage),
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("removing old storage"),
            _ => Ok(()),
        }
    }
}

/// A mounted one.
pub(super) struct Mounted<'a> {
    subject: &'a Subject,
    server: Option<Child>,
}

impl Mounted<'_> {
    /// Where it is mounted.
    pub(super) fn directory(&self) -> &Path {
        &self.subject.directory
    }

    fn start(&mut self) -> Result<()> {
        let Subject {
            storage,
            directory,
            serve,
            ..
        } = self.subject;
        let word = |word: &String| match word.as_str() {
            "STORAGE" => storage.as_os_str().to_owned(),
            "DIR" => directory.as_os_str().to_owned(),
            plain => plain.into(),
        };
        let (program, arguments) = serve.split_first().context("no command")?;
        let log = storage.with_extension("log");
        let said = File::options().create(true).append(true).open(&log)?;
        let mut server = Command::new(program)
            .args(arguments.iter().map(word))
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        let start = Instant::now();
        while !statfs(directory).is_ok_and(|stat| stat.filesystem_type() == FUSE_SUPER_MAGIC) {
            if let Some(status) = server.try_wait()? {
                bail!("{program} ended before it served, with {status}: see {}", log.display());
            }
            ensure!(start.elapsed() < PATIENCE, "{program} does not serve");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.server = Some(server);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        umount(&self.subject.directory).context("unmounting")?;
        if let Some(mut server) = self.server.take() {
            server.wait().context("waiting for the server")?;
        }
        Ok(())
    }

    /// Mounts it anew with nothing cached, in the server, in the kernel, or of its storage.
    pub(super) fn chill(&mut self) -> Result<()> {
        self.stop()?;
        nix::unistd::sync();
        fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the host's caches")?;
        self.start()
    }

    /// Unmounts it and removes its storage.
    pub(super) fn end(mut self) -> Result<()> {
        self.stop()?;
        self.subject.remove()
    }
}
