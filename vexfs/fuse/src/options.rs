// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mount options, as `-o` of mount(8) has them: words separated by commas, of which later ones win.

use nix::mount::MsFlags;
use vexfs::fs::MountOptions;
use vexfs::size::Size;
use vexfs_control::logging::LogControl;

/// Who may use the mounted files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody, as far as permissions let them. Default for root.
    All,
    /// Who mounted, and root.
    OwnerAndRoot,
    /// Who mounted. Default for everybody else.
    Owner,
}

/// How to mount.
#[derive(Debug, Clone)]
pub struct Options {
    /// Flags of mount(2).
    pub flags: MsFlags,
    /// Who may use the files.
    pub audience: Audience,
    /// Take the mount point away if the server dies.
    pub auto_unmount: bool,
    /// Let the kernel keep written bytes for a while, and learn of a full pool too late to tell the writer.
    pub writeback: bool,
    /// Threads that serve; by default as many as processors, 2 to 16.
    pub threads: Option<usize>,
    /// Memory of the engine.
    pub engine: MountOptions,
    /// The words of `-o` that were applied, for people.
    pub words: Vec<String>,
    /// Changes what is logged. Not an option of `-o`.
    pub log: Option<LogControl>,
    /// Give up what serving does not need. Not an option of `-o`.
    pub sandbox: bool,
}

/// Why options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error("unknown mount option {0:?}; see vexfs-ublk mount --help for those there are")]
    Unknown(String),
    /// An option whose value is none of those it may have.
    #[error("mount option {option}: {value:?} is not {wanted}")]
    Value {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        wanted: &'static str,
    },
}

const THREADS: std::ops::RangeInclusive<usize> = 1..=64;

impl Options {
    /// The defaults for who asks.
    pub fn new() -> Self {
        Self {
            flags: MsFlags::empty(),
            audience: if nix::unistd::geteuid().is_root() {
                Audience::All
            } else {
                Audience::Owner
            },
            auto_unmount: false,
            writeback: false,
            threads: None,
            engine: MountOptions::default(),
            words: Vec::new(),
            log: None,
            sandbox: true,
        }
    }

    /// Whether the pool is only read.
    pub const fn is_read_only(&self) -> bool {
        self.engine.read_only
    }

    /// Applies a list. `sloppy`: what is unknown is passed over.
    pub fn apply(&mut self, list: &str, sloppy: bool) -> Result<(), OptionError> {
        for word in list.split(',').filter(|word| !word.is_empty()) {
            match self.apply_one(word) {
                Ok(()) => self.words.push(word.to_owned()),
                Err(OptionError::Unknown(_)) if sloppy => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn apply_one(&mut self, word: &str) -> Result<(), OptionError> {
        match word {
            "ro" | "rw" => {
                self.engine.read_only = word == "ro";
                self.flags.set(MsFlags::MS_RDONLY, word == "ro");
            }
            "suid" | "nosuid" => self.flags.set(MsFlags::MS_NOSUID, word == "nosuid"),
            "dev" | "nodev" => self.flags.set(MsFlags::MS_NODEV, word == "nodev"),
            "exec" | "noexec" => self.flags.set(MsFlags::MS_NOEXEC, word == "noexec"),
            "atime" | "noatime" => self.flags.set(MsFlags::MS_NOATIME, word == "noatime"),
            "diratime" | "nodiratime" => self.flags.set(MsFlags::MS_NODIRATIME, word == "nodiratime"),
            "async" | "sync" => self.flags.set(MsFlags::MS_SYNCHRONOUS, word == "sync"),
            "dirsync" => self.flags |= MsFlags::MS_DIRSYNC,
            "allow_other" => self.audience = Audience::All,
            "allow_root" => self.audience = Audience::OwnerAndRoot,
            "auto_unmount" => self.auto_unmount = true,
            "writeback" => self.writeback = true,
            // What happens anyway, or is for mount(8) and systemd.
            "default_permissions"
            | "defaults"
            | "relatime"
            | "auto"
            | "noauto"
            | "nofail"
            | "_netdev"
            | "user"
            | "nouser"
            | "users"
            | "owner"
            | "group" => {}
            word if word.starts_with("x-") || word.starts_with("X-") || word.starts_with("comment=") => {}
            word => return self.apply_value(word),
        }
        Ok(())
    }

    fn apply_value(&mut self, word: &str) -> Result<(), OptionError> {
        let unknown = || OptionError::Unknown(word.to_owned());
        let (name, value) = word.split_once('=').ok_or_else(unknown)?;
        let wrong = |option, wanted| OptionError::Value {
            option,
            value: value.to_owned(),
            wanted,
        };
        let count = |option| {
            let count = value.parse().ok().filter(|&count: &usize| count > 0);
            count.ok_or_else(|| wrong(option, "a number above 0"))
        };
        match name {
            "threads" => {
                let threads = value.parse().ok().filter(|threads| THREADS.contains(threads));
                self.threads = Some(threads.ok_or_else(|| wrong("threads", "a number from 1 to 64"))?);
            }
            "cache" => {
                let size: Option<Size> = value.parse().ok();
                let bytes = size.and_then(|Size(bytes)| usize::try_from(bytes).ok());
                self.engine.page_cache_bytes = bytes.ok_or_else(|| wrong("cache", "a size, as 64MiB"))?;
            }
            "cache_names" => self.engine.caches.names = count("cache_names")?,
            "cache_rows" => self.engine.caches.rows = count("cache_rows")?,
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// The number of threads to serve with.
    pub fn thread_count(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        self.threads.unwrap_or(processors.clamp(2, 16))
    }

    /// The flags as words, for a helper that takes words.
    pub(crate) fn flag_words(&self) -> Vec<&'static str> {
        let words = [
            (MsFlags::MS_RDONLY, "ro"),
            (MsFlags::MS_NOSUID, "nosuid"),
            (MsFlags::MS_NODEV, "nodev"),
            (MsFlags::MS_NOEXEC, "noexec"),
            (MsFlags::MS_NOATIME, "noatime"),
            (MsFlags::MS_SYNCHRONOUS, "sync"),
            (MsFlags::MS_DIRSYNC, "dirsync"),
        ];
        let set = words.iter().filter(|(flag, _)| self.flags.contains(*flag));
        set.map(|(_, word)| *word).collect()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(list: &str) -> Result<Options, OptionError> {
        let mut options = Options::new();
        options.apply(list, false).map(|()| options)
    }

    #[test]
    fn later_options_win() {
        let options = applied("ro,nosuid,rw,noexec,suid,allow_root,threads=3,cache=1MiB").unwrap();
        assert!(!options.is_read_only());
        assert_eq!(options.flags, MsFlags::MS_NOEXEC);
        assert_eq!(options.audience, Audience::OwnerAndRoot);
        assert_eq!(options.thread_count(), 3);
        assert_eq!(options.engine.page_cache_bytes, 1 << 20);
        assert!(applied("ro").unwrap().is_read_only());
    }

    #[test]
    fn what_belongs_to_others_is_passed_over() {
        assert!(applied("defaults,noauto,x-systemd.automount,comment=yes,_netdev,nofail").is_ok());
    }

    #[test]
    fn unknown_options_and_values_are_named() {
        assert_eq!(applied("ro,fast").unwrap_err(), OptionError::Unknown("fast".into()));
        assert_eq!(applied("speed=9").unwrap_err(), OptionError::Unknown("speed=9".into()));
        for wrong in ["threads=0", "threads=x", "cache=much", "cache_names=0", "cache_rows=-1"] {
            let text = applied(wrong).unwrap_err().to_string();
            assert!(text.contains(" is not "), "{text}");
        }
        assert!(Options::new().apply("fast,ro", true).is_ok());
    }
}
