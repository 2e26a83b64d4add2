// SPDX-License-Identifier: MIT OR Apache-2.0

//! The requests of the kernel, answered by the engine.
//!
//! The kernel does what it can do without us: it checks permissions (mount option `default_permissions`), keeps locks,
//! caches names, attributes, bytes. Nobody else changes a mounted pool, so what it was told stays true, and it is told so
//! ([`convert::FOREVER`]). What it cannot know by itself it is told when it happens ([`VexFilesystem::forget_attributes`]).
//!
//! | module | job |
//! |---|---|
//! | [`negotiate`] | what both sides agree on at the beginning |
//! | [`names`] | looking up, making, linking, moving, removing |
//! | [`attributes`], [`flags`] | permissions, owner, times, size; what `chattr` sets |
//! | [`data`] | reading, writing, preallocating, seeking, copying |
//! | [`directories`] | listing |
//! | [`xattrs`], [`acls`] | extended attributes; access control lists |
//! | [`query`] | requests about vectors, as a file |
//! | [`room`] | a full pool from which files are just going |
//! | [`lookups`] | which files the kernel knows, and so keeps |
//! | [`callers`] | which groups a caller is in |
//! | [`convert`] | terms of the engine and of the protocol |
//!
//! Every request passes through [`crate::serve`]. The methods of the trait only take it apart and answer it.

mod acls;
mod attributes;
pub(crate) mod callers;
mod convert;
mod data;
mod directories;
mod flags;
pub(crate) mod lookups;
mod names;
mod negotiate;
mod query;
mod room;
mod xattrs;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, Generation, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, Notifier, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};
use nix::libc;
use vexfs::fs::{Attributes, Fs};
use vexfs::units::BLOCK_SIZE;

use self::attributes::Changes;
use self::callers::Callers;
use self::convert::{FOREVER, file_attributes, ino, no_file, timestamp};
use self::data::{Part, Place};
use self::lookups::Lookups;
use self::names::Wish;
use self::query::{NEVER, Queries};
use self::room::Room;
use self::xattrs::Answer;
use crate::serve::{Operation, Outcome, Served};

/// How to serve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Note when files are read.
    pub(crate) note_reads: bool,
    /// Let the kernel keep written bytes to itself for a while.
    pub(crate) writeback: bool,
}

/// An open pool as the kernel sees it.
pub(crate) struct VexFilesystem {
    fs: Fs,
    settings: Settings,
    lookups: Arc<Lookups>,
    room: Room,
    callers: Callers,
    queries: Queries,
    served: Served,
    /// The way to tell the kernel something unasked; there once the session is.
    notifier: Arc<OnceLock<Notifier>>,
}

impl VexFilesystem {
    /// Serves a pool. The caller puts the session's notifier where it is expected before the session runs, and closes the
    /// pool after it.
    pub(crate) fn new(
        fs: Fs,
        settings: Settings,
        lookups: Arc<Lookups>,
        callers: Callers,
        notifier: Arc<OnceLock<Notifier>>,
    ) -> Self {
        let served = Served::new();
        fs.metrics().add_family(served.times());
        Self {
            fs,
            settings,
            lookups,
            room: Room::default(),
            callers,
            queries: Queries::new(!settings.writeback),
            served,
            notifier,
        }
    }

    fn serve<T>(&self, operation: Operation, number: INodeNo, work: impl FnOnce() -> Outcome<T>) -> Result<T, Errno> {
        self.served.serve(operation, ino(number), work)
    }

    fn answer_entry(reply: ReplyEntry, result: Result<Attributes, Errno>) {
        match result {
            Ok(found) => reply.entry(&FOREVER, &file_attributes(&found), Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn answer_attributes(reply: ReplyAttr, result: Result<Attributes, Errno>) {
        match result {
            Ok(found) => reply.attr(&FOREVER, &file_attributes(&found)),
            Err(errno) => reply.error(errno),
        }
    }

    fn answer_empty(reply: ReplyEmpty, result: Result<(), Errno>) {
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn answer_xattr(reply: ReplyXattr, result: Result<Answer, Errno>) {
        match result {
            Ok(Answer::Size(size)) => reply.size(size),
            Ok(Answer::Bytes(bytes)) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn forget_times(&self, number: INodeNo, times: u64) {
        if Queries::is_ours(number) {
            self.queries.forget(number, times);
            return;
        }
        let work = || {
            self.room
                .making(|| Ok(self.lookups.forget(&self.fs, ino(number), times)?))
        };
        if let Err(errno) = self.serve(Operation::Forget, number, work) {
            tracing::warn!(
                ino = number.0,
                ?errno,
                "a file without a name stays until the next mount"
            );
        }
    }
}

fn wish<'a>(request: &Request, mode: u32, umask: u32) -> Wish<'a> {
    Wish {
        uid: request.uid(),
        gid: request.gid(),
        pid: request.pid(),
        mode,
        umask,
        device: 0,
        target: b"",
    }
}

/// Whether a caller counts as one who may keep set-ID bits, where the kernel does not say.
fn is_privileged(request: &Request) -> bool {
    request.uid() == 0
}

impl fuser::Filesystem for VexFilesystem {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        negotiate::negotiate(config, self.settings.writeback);
        Ok(())
    }

    fn destroy(&mut self) {
        self.lookups.forget_all(&self.fs);
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if Queries::is_ours(parent) {
            match self.serve(Operation::Lookup, parent, || self.find_query(parent, name.as_bytes())) {
                Ok(found) => reply.entry(&NEVER, &found, Generation(0)),
                Err(errno) => reply.error(errno),
            }
            return;
        }
        if self.queries.is_directory_name(ino(parent), name.as_bytes()) {
            reply.entry(&FOREVER, &Self::query_directory(), Generation(0));
            return;
        }
        match self.serve(Operation::Lookup, parent, || self.find(ino(parent), name.as_bytes())) {
            Ok(Some(found)) => reply.entry(&FOREVER, &file_attributes(&found), Generation(0)),
            Ok(None) => reply.entry(&FOREVER, &no_file(), Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _request: &Request, number: INodeNo, times: u64) {
        self.forget_times(number, times);
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        if Queries::is_ours(number) {
            match self.serve(Operation::Getattr, number, || self.query_attributes(number)) {
                Ok(found) => reply.attr(&NEVER, &found),
                Err(errno) => reply.error(errno),
            }
            return;
        }
        let result = self.serve(Operation::Getattr, number, || Ok(self.fs.attributes(ino(number))?));
        Self::answer_attributes(reply, result);
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_mac: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if Queries::is_ours(number) {
            match self.serve(Operation::Setattr, number, || self.set_query(number, size)) {
                Ok(found) => reply.attr(&NEVER, &found),
                Err(errno) => reply.error(errno),
            }
            return;
        }
        let wanted = Changes {
            mode,
            uid,
            gid,
            size,
            accessed,
            modified,
            changed: changed.map(timestamp),
            privileged: is_privileged(request),
        };
        let result = self.serve(Operation::Setattr, number, || self.set(ino(number), &wanted));
        Self::answer_attributes(reply, result);
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        match self.serve(Operation::Readlink, number, || self.target(ino(number))) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let wish = Wish {
            device,
            ..wish(request, mode, umask)
        };
        let work = || self.make(ino(parent), name.as_bytes(), &wish);
        Self::answer_entry(reply, self.serve(Operation::Mknod, parent, work));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let wish = wish(request, mode & 0o7777 | libc::S_IFDIR, umask);
        let work = || self.make(ino(parent), name.as_bytes(), &wish);
        Self::answer_entry(reply, self.serve(Operation::Mkdir, parent, work));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let wish = Wish {
            target: target.as_os_str().as_bytes(),
            ..wish(request, libc::S_IFLNK | 0o777, 0)
        };
        let work = || self.make(ino(parent), name.as_bytes(), &wish);
        Self::answer_entry(reply, self.serve(Operation::Symlink, parent, work));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let wish = wish(request, mode & 0o7777 | libc::S_IFREG, umask);
        let work = || self.make(ino(parent), name.as_bytes(), &wish);
        match self.serve(Operation::Create, parent, work) {
            Ok(child) => reply.created(
                &FOREVER,
                &file_attributes(&child),
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn link(&self, _request: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let work = || self.give_name(ino(number), ino(parent), name.as_bytes());
        Self::answer_entry(reply, self.serve(Operation::Link, number, work));
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = || self.remove_name(ino(parent), name.as_bytes());
        Self::answer_empty(reply, self.serve(Operation::Unlink, parent, work));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = || self.remove_directory(ino(parent), name.as_bytes());
        Self::answer_empty(reply, self.serve(Operation::Rmdir, parent, work));
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let work = || {
            self.move_name(
                ino(parent),
                name.as_bytes(),
                ino(new_parent),
                new_name.as_bytes(),
                flags.bits(),
            )
        };
        Self::answer_empty(reply, self.serve(Operation::Rename, parent, work));
    }

    /// Not needed: from this answer on the kernel opens by itself.
    fn open(&self, _request: &Request, _number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _request: &Request, _number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    /// Called when a file is closed: nothing waits for that.
    fn flush(&self, _request: &Request, _number: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if Queries::is_ours(number) {
            match self.serve(Operation::Read, number, || self.read_query(number, offset, size)) {
                Ok(bytes) => reply.data(&bytes),
                Err(errno) => reply.error(errno),
            }
            return;
        }
        let from = Place {
            ino: ino(number),
            at: offset,
        };
        self.read_and_answer(from, size, flags.0, reply, |work| {
            self.serve(Operation::Read, number, work)
        });
    }

    fn write(
        &self,
        request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let to = Place {
            ino: ino(number),
            at: offset,
        };
        let keep = !write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let caller = (request.uid(), request.gid(), request.pid());
        let work = || {
            if Queries::is_ours(number) {
                self.write_query(number, offset, data, caller)
            } else {
                self.write(to, data, keep, flags.0, Part::of(write_flags, flags.0))
            }
        };
        match self.serve(Operation::Write, number, work) {
            Ok(count) => reply.written(count),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsync(&self, _request: &Request, number: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        let result = self.serve(Operation::Fsync, number, || Ok(self.fs.flush()?));
        Self::answer_empty(reply, result);
    }

    fn fsyncdir(&self, _request: &Request, number: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        let result = self.serve(Operation::Fsyncdir, number, || Ok(self.fs.flush()?));
        Self::answer_empty(reply, result);
    }

    fn fallocate(
        &self,
        request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let work = || self.preallocate(ino(number), offset, length, mode, is_privileged(request));
        Self::answer_empty(reply, self.serve(Operation::Fallocate, number, work));
    }

    fn lseek(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        if self.settings.writeback {
            // The kernel holds bytes that we know nothing of: it must not skip what only we take for a hole.
            reply.error(Errno::ENOSYS);
            return;
        }
        match self.serve(Operation::Lseek, number, || self.seek(ino(number), offset, whence)) {
            Ok(at) => reply.offset(at),
            Err(errno) => reply.error(errno),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _from_handle: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _to_handle: FileHandle,
        to_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let source = Place {
            ino: ino(from),
            at: from_offset,
        };
        let target = Place {
            ino: ino(to),
            at: to_offset,
        };
        let work = || self.copy(source, target, length, is_privileged(request));
        match self.serve(Operation::CopyFileRange, to, work) {
            Ok(count) => reply.written(count),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if Queries::is_ours(number) {
            // Its one name stands for another file at each lookup: there is nothing to list.
            reply.ok();
            return;
        }
        match self.serve(Operation::Readdir, number, || {
            self.fill(ino(number), offset, &mut reply)
        }) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        if Queries::is_ours(number) {
            reply.ok();
            return;
        }
        let result = self.serve(Operation::Readdirplus, number, || {
            self.fill_plus(ino(number), offset, &mut reply)
        });
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn statfs(&self, _request: &Request, number: INodeNo, reply: ReplyStatfs) {
        match self.serve(Operation::Statfs, number, || Ok(self.fs.statistics())) {
            Ok(numbers) => {
                let block = u32::try_from(BLOCK_SIZE).unwrap_or(4096);
                // A file without bytes takes some 128 bytes of a block.
                let more_files = numbers.available_blocks.saturating_mul(32);
                reply.statfs(
                    numbers.total_blocks,
                    numbers.free_blocks,
                    numbers.available_blocks,
                    numbers.inodes.saturating_add(more_files),
                    more_files,
                    block,
                    255,
                    block,
                );
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn getxattr(&self, _request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if Queries::is_ours(number) {
            reply.error(Errno::ENODATA);
            return;
        }
        let work = || self.attribute(ino(number), name.as_bytes(), size);
        Self::answer_xattr(reply, self.serve(Operation::Getxattr, number, work));
    }

    fn listxattr(&self, request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        if Queries::is_ours(number) {
            reply.size(0);
            return;
        }
        let work = || self.attribute_names(ino(number), request.uid(), size);
        Self::answer_xattr(reply, self.serve(Operation::Listxattr, number, work));
    }

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let caller = (request.uid(), request.gid(), request.pid());
        let work = || self.set_attribute(ino(number), name.as_bytes(), value, flags, caller);
        Self::answer_empty(reply, self.serve(Operation::Setxattr, number, work));
    }

    fn removexattr(&self, _request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = || self.remove_attribute(ino(number), name.as_bytes());
        Self::answer_empty(reply, self.serve(Operation::Removexattr, number, work));
    }

    fn ioctl(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        command: u32,
        data: &[u8],
        _room: u32,
        reply: ReplyIoctl,
    ) {
        let result = self.serve(Operation::Ioctl, number, || self.control(ino(number), command, data));
        match result {
            Ok(bytes) => reply.ioctl(0, &bytes),
            Err(errno) => reply.error(errno),
        }
    }
}
