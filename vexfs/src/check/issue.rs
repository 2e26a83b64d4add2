// SPDX-License-Identifier: MIT OR Apache-2.0

//! Everything that can be wrong with a pool.
//!
//! An [`Issue`] says what and where, in numbers; which path an inode number stands for is told beside it
//! ([`super::Report::paths`]). The list below is the one place that knows each issue's fields, severity, whether it can be
//! mended, and its sentence; [`Issue::NAMES`] lets a test ask whether each was provoked once.

use std::fmt;

use super::text::{Name, RecordKind};
use crate::fs::record::Kind;
use crate::units::{Block, Ino, Run, Seq};

/// How bad an issue is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// Nothing is lost and nothing behaves wrong.
    Warning,
    /// Something is wrong or lost; the rest of the pool is usable.
    Error,
    /// The pool cannot be used.
    Fatal,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        })
    }
}

macro_rules! issues {
    ($(
        $(#[$doc:meta])*
        $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? } $severity:ident $repairable:ident $text:literal
    )*) => {
        /// Something that is wrong. See the module.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Issue {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type),* },)*
        }

        impl Issue {
            /// The name of every kind of issue.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The name of this kind.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => stringify!($name),)*
                }
            }

            /// How bad it is.
            pub const fn severity(&self) -> Severity {
                match self {
                    $(Self::$name { .. } => Severity::$severity,)*
                }
            }

            /// Whether a check that may repair leaves it mended.
            pub const fn repairable(&self) -> bool {
                match self {
                    $(Self::$name { .. } => issues!(@$repairable),)*
                }
            }
        }

        impl fmt::Display for Issue {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name { $($field),* } => {
                        $(let _ = $field;)*
                        write!(f, $text)
                    })*
                }
            }
        }
    };
    (@mended) => { true };
    (@stays) => { false };
}

issues! {
    /// One of the four places of the superblock is not what was written.
    SuperblockCopy {
        /// The place.
        block: Block,
        /// In what way.
        what: String,
    } Warning mended "{block}: a copy of the superblock is damaged: {what}"
    /// Somebody met damage and asked for a check.
    NeedsCheck {
        /// Errors seen so far.
        errors: u64,
    } Warning mended "the pool was marked for a check after {errors} errors"
    /// The pool was not closed; the journal holds what the tables lack.
    NotClosed {
        /// Transactions in the journal.
        transactions: u64,
    } Warning mended "the pool was not closed; {transactions} transactions are in its journal only"
    /// The journal ends before what was promised to survive.
    JournalShort {
        /// Newest transaction that can be read.
        applied: Seq,
        /// Newest transaction promised.
        durable: Seq,
    } Error mended "the journal ends at {applied}, although everything up to {durable} was durable: what came between is lost"
    /// A transaction contradicts the state before it.
    JournalContradiction {
        /// The transaction.
        seq: Seq,
        /// In what way.
        what: String,
    } Error mended "the journal cannot be applied from {seq} on ({what}): it and what follows are lost"
    /// The list of tables cannot be read: nothing can be found.
    ManifestDamaged {
        /// Why.
        what: String,
    } Fatal stays "the list of metadata tables is lost ({what}); restore the pool from a backup"
    /// A page of a table cannot be read, or its keys are out of order.
    TablePage {
        /// The table.
        table: u64,
        /// The page.
        page: u32,
        /// Which records may have been in it.
        records: String,
        /// Why.
        what: String,
    } Error mended "{what}: lost are some of {records}"
    /// Index, checksums and filter of a table are lost; they follow from its pages.
    TableGuide {
        /// The table.
        table: u64,
        /// Why.
        what: String,
    } Error mended "the index of table {table} is damaged: {what}"
    /// The filter of a table denies what is in it.
    TableFilter {
        /// The table.
        table: u64,
        /// The page of the denied key.
        page: u32,
    } Error mended "the filter of table {table} denies a key of page {page}"
    /// The manifest counts other entries than a table has.
    TableCount {
        /// The table.
        table: u64,
        /// Entries as counted.
        counted: u64,
        /// Entries as found.
        found: u64,
    } Warning mended "table {table} has {found} entries, not {counted}"
    /// A record that cannot be decoded.
    UndecodableRecord {
        /// Its kind.
        kind: RecordKind,
        /// Its key.
        key: Name,
        /// Why.
        what: String,
    } Error mended "{kind} {key} cannot be decoded: {what}"
    /// Records of a kind that this engine does not know.
    UnknownTag {
        /// The first byte of their keys.
        tag: u8,
        /// How many.
        records: u64,
    } Error mended "{records} records are of the unknown kind {tag}"
    /// The pool's totals do not exist.
    TotalsMissing {} Error mended "the totals are missing"
    /// New files would get numbers that are taken.
    NextInoTooLow {
        /// The next number.
        next: Ino,
        /// The highest number in use.
        highest: Ino,
    } Error mended "the next file would be {next}, but there is {highest}"
    /// The number of files is wrong.
    InodeCountWrong {
        /// As counted.
        counted: u64,
        /// As found.
        found: u64,
    } Error mended "there are {found} files, not {counted}"
    /// The number of promised blocks is wrong.
    PromisedWrong {
        /// As counted.
        counted: u64,
        /// As found.
        found: u64,
    } Error mended "{found} blocks are promised to files, not {counted}"
    /// More blocks are promised than there are.
    PromisesExceedFree {
        /// Promised blocks.
        promised: u64,
        /// Free blocks.
        free: u64,
    } Error mended "{promised} blocks are promised to files, but only {free} are free"
    /// There is no root directory.
    RootMissing {} Error mended "the root directory is missing"
    /// The root is something else.
    RootNotDirectory {
        /// What it is.
        kind: Kind,
    } Error mended "the root is a {kind}"
    /// A file without names that is not being removed.
    InodeWithoutName {
        /// The file.
        ino: Ino,
        /// What it is.
        kind: Kind,
    } Error mended "{ino} (a {kind}) has no name"
    /// The number of names is wrong.
    LinkCountWrong {
        /// The file.
        ino: Ino,
        /// As counted.
        counted: u32,
        /// As found.
        found: u32,
    } Error mended "{ino} has {found} links, not {counted}"
    /// A directory says that it is in another one; or something else says that it is in one.
    ParentWrong {
        /// The directory.
        ino: Ino,
        /// Where it says it is.
        recorded: Ino,
        /// Where it is.
        found: Ino,
    } Error mended "{ino} says that its parent is {recorded}, not {found}"
    /// The number of entries of a directory is wrong.
    DirectorySizeWrong {
        /// The directory.
        ino: Ino,
        /// As counted.
        counted: u64,
        /// As found.
        found: u64,
    } Error mended "directory {ino} has {found} entries, not {counted}"
    /// A directory has two names.
    SecondParent {
        /// The directory.
        ino: Ino,
        /// The name that is one too many.
        name: Name,
        /// The directory it is in.
        directory: Ino,
    } Error mended "directory {ino} has a second name, {name} in {directory}"
    /// A directory is inside itself.
    DirectoryLoop {
        /// One of the directories.
        ino: Ino,
    } Error mended "directory {ino} contains itself and cannot be reached"
    /// An orphan record of nothing.
    OrphanWithoutInode {
        /// What it names.
        ino: Ino,
    } Error mended "{ino} is to be removed but does not exist"
    /// A file that is to be removed has names, or entries.
    OrphanInUse {
        /// The file.
        ino: Ino,
        /// Its names.
        names: u32,
        /// Its entries.
        entries: u64,
    } Error mended "{ino} is to be removed but has {names} names and {entries} entries"
    /// The number of a file's blocks is wrong.
    BlocksWrong {
        /// The file.
        ino: Ino,
        /// As counted.
        counted: u64,
        /// As found.
        found: u64,
    } Error mended "the map of {ino} names {found} blocks, not {counted}"
    /// Bytes stored in the map where they cannot be.
    InlineWrong {
        /// The file.
        ino: Ino,
        /// The chunk.
        chunk: u64,
        /// Bytes stored.
        bytes: u64,
        /// Size of the file.
        size: u64,
    } Error mended "{ino} of {size} bytes stores {bytes} bytes in chunk {chunk} of its map"
    /// The target of a symbolic link is not as long as the link says.
    SymlinkLength {
        /// The link.
        ino: Ino,
        /// As recorded.
        recorded: u64,
        /// As found.
        found: u64,
    } Error mended "the target of symbolic link {ino} has {found} bytes, not {recorded}"
    /// A symbolic link to nowhere: there is nothing to be saved of it.
    SymlinkWithoutTarget {
        /// The link.
        ino: Ino,
    } Error mended "symbolic link {ino} has lost its target"
    /// Entries in something that is not a directory.
    EntryWithoutDirectory {
        /// What they are in.
        directory: Ino,
        /// The entry's name.
        name: Name,
        /// What it names.
        ino: Ino,
    } Error mended "{name} (for {ino}) is an entry of {directory}, which is no directory"
    /// An entry of a file that does not exist.
    EntryNamesNothing {
        /// The directory.
        directory: Ino,
        /// The entry's name.
        name: Name,
        /// What it names.
        ino: Ino,
    } Error mended "{name} in directory {directory} names {ino}, which does not exist"
    /// An entry says another type than its file.
    EntryKindWrong {
        /// The directory.
        directory: Ino,
        /// The entry's name.
        name: Name,
        /// As the entry says.
        recorded: Kind,
        /// As the file says.
        found: Kind,
    } Error mended "{name} in directory {directory} is told to be a {recorded}, but is a {found}"
    /// An entry where its name is not looked for.
    EntryMisplaced {
        /// The directory.
        directory: Ino,
        /// The entry's name.
        name: Name,
        /// Where it is.
        cookie: u64,
    } Error mended "{name} in directory {directory} is at {cookie:#x}, where nobody looks for it"
    /// A name occurs twice.
    DuplicateName {
        /// The directory.
        directory: Ino,
        /// The name.
        name: Name,
        /// What the second one names.
        ino: Ino,
    } Error mended "{name} occurs twice in directory {directory}; the second names {ino}"
    /// Entries with equal hashes are not all found.
    BrokenChain {
        /// The directory.
        directory: Ino,
        /// The first cookie of the chain.
        cookie: u64,
    } Error mended "the chain of entries at {cookie:#x} in directory {directory} is broken"
    /// A file does not know one of its names: what it is called could not be told.
    NameUnknown {
        /// The file.
        ino: Ino,
        /// Where the name is.
        directory: Ino,
        /// The name.
        name: Name,
    } Error mended "{ino} does not know of its name {name} in directory {directory}"
    /// A file knows of a name that it does not have.
    NameGone {
        /// The file.
        ino: Ino,
        /// Where the name would be.
        directory: Ino,
        /// The place there.
        cookie: u64,
    } Error mended "{ino} knows of a name at {cookie:#x} in directory {directory} that does not exist"
    /// Rows of the map of a file that does not exist.
    RowOfMissingInode {
        /// What they name.
        ino: Ino,
        /// How many.
        rows: u64,
    } Error mended "there are {rows} rows of the map of {ino}, which does not exist"
    /// Rows of the map of something that has no bytes.
    RowOfNonFile {
        /// What it is.
        ino: Ino,
        /// Its type.
        kind: Kind,
        /// How many.
        rows: u64,
    } Error mended "{ino}, a {kind}, has {rows} rows of a map"
    /// A row behind the largest offset.
    RowBeyondLimit {
        /// The file.
        ino: Ino,
        /// The chunk.
        chunk: u64,
    } Error mended "the map of {ino} has chunk {chunk}, beyond what a file can have"
    /// A file names a block that the pool does not have.
    BlockOutside {
        /// The file.
        ino: Ino,
        /// Byte offset in the file.
        at: u64,
        /// The block.
        block: Block,
    } Error mended "{ino} names {block}, beyond the pool, for byte {at}: these bytes are lost"
    /// A file names a block of the pool's own.
    BlockInSystemArea {
        /// The file.
        ino: Ino,
        /// Byte offset in the file.
        at: u64,
        /// The block.
        block: Block,
    } Error mended "{ino} names {block}, which is the pool's own, for byte {at}: these bytes are lost"
    /// Blocks of files that would be given out again.
    BlocksNotAllocated {
        /// The blocks.
        run: Run,
    } Error mended "{run} are used by files but marked as free"
    /// Blocks that nobody uses and nobody can get.
    BlocksLeaked {
        /// The blocks.
        run: Run,
    } Warning mended "{run} are marked as used but nobody uses them"
    /// The pool's own blocks are told to be files'.
    SystemAllocated {
        /// The blocks.
        run: Run,
    } Error mended "{run} are the pool's own but marked as files'"
    /// The bitmap tells of blocks that the pool does not have.
    BitmapBeyondPool {
        /// The row.
        group: u64,
    } Error mended "bitmap row {group} tells of blocks beyond the pool"
    /// A block would become free while files use it.
    ReferencesTooLow {
        /// The block.
        block: Block,
        /// As counted.
        counted: u64,
        /// As found.
        found: u64,
    } Error mended "{block} is shared by {found} places, not {counted}: it would be freed too early"
    /// A block would never become free.
    ReferencesTooHigh {
        /// The block.
        block: Block,
        /// As counted.
        counted: u64,
        /// As found.
        found: u64,
    } Warning mended "{block} is used by {found} places, not {counted}: it would never be freed"
    /// Several files use a block that is not told to be shared; for all but one it may hold the wrong bytes.
    CrossLinked {
        /// The block.
        block: Block,
        /// Places that name it.
        found: u64,
        /// Some of the files.
        owners: super::text::Owners,
    } Error mended "{block} is used by {found} places ({owners}) without being shared"
    /// An attribute of a file that does not exist.
    AttributeOfMissingInode {
        /// What it names.
        ino: Ino,
        /// Its name.
        name: Name,
    } Error mended "attribute {name} belongs to {ino}, which does not exist"
    /// A name no attribute can have.
    AttributeName {
        /// The file.
        ino: Ino,
        /// Its name.
        name: Name,
    } Error mended "{ino} has an attribute of the impossible name {name}"
    /// A value no attribute can have.
    AttributeTooLarge {
        /// The file.
        ino: Ino,
        /// Its name.
        name: Name,
        /// Its size.
        bytes: u64,
    } Error mended "attribute {name} of {ino} has {bytes} bytes, more than allowed"
    /// A space whose store does not exist, or is something else: its slabs cannot be found.
    SpaceWithoutStore {
        /// The space.
        space: Ino,
        /// Its name.
        name: Name,
    } Error mended "space {name} ({space}) has no store; its vectors are lost"
    /// A name and a space do not agree.
    SpaceNameWrong {
        /// The space.
        space: Ino,
        /// The name.
        name: Name,
    } Error mended "the name {name} and the space {space} do not agree"
    /// A slab that cannot be one of its space.
    SlabWrong {
        /// The space.
        space: Ino,
        /// Its first block in the store.
        at: u64,
    } Error mended "slab {at} of space {space} cannot be; the vectors in it are lost"
    /// A file names a vector that is not its.
    EmbeddingOfNothing {
        /// The file.
        ino: Ino,
        /// The space.
        space: Ino,
        /// Which of the file's.
        ordinal: u64,
    } Error mended "vector {ordinal} of {ino} in space {space} does not exist"
    /// A vector that no file has.
    VectorOfNothing {
        /// The space.
        space: Ino,
        /// Its number.
        vector: u64,
    } Error mended "vector {vector} of space {space} belongs to no file"
    /// A vector whose bytes are nowhere.
    VectorLost {
        /// The space.
        space: Ino,
        /// Its number.
        vector: u64,
        /// The file.
        ino: Ino,
    } Error mended "the bytes of vector {vector} of space {space} are lost; it was one of {ino}"
    /// The number of living vectors of a slab is wrong.
    SlabCountWrong {
        /// The space.
        space: Ino,
        /// Its first block in the store.
        at: u64,
        /// As counted.
        counted: u64,
        /// As found.
        found: u64,
    } Error mended "slab {at} of space {space} has {found} vectors, not {counted}"
    /// The numbers of a space are wrong.
    SpaceCountsWrong {
        /// The space.
        space: Ino,
        /// Vectors as counted.
        counted: u64,
        /// As found.
        found: u64,
    } Error mended "space {space} has {found} vectors, not {counted}, or other counts of it are wrong"
    /// A vector whose record in its slab is another's. Told when data is verified.
    VectorDamaged {
        /// The space.
        space: Ino,
        /// Its number.
        vector: u64,
        /// The file.
        ino: Ino,
    } Error stays "the slab of vector {vector} of space {space}, one of {ino}, holds something else"
    /// An index, or leaves, of a space that does not exist or has none.
    IndexOfNothing {
        /// What it is of.
        space: Ino,
    } Error mended "there are leaves of an index of {space}, but no index or no space"
    /// An index is not what it should be. It goes, and is built again when the pool is next used.
    IndexWrong {
        /// The space.
        space: Ino,
        /// In what way.
        what: String,
    } Error mended "the index of space {space} is to be built again: {what}"
    /// What an inode says of its attributes is not so.
    MarksWrong {
        /// The file.
        ino: Ino,
        /// As recorded.
        recorded: u8,
        /// As found.
        found: u8,
    } Error mended "{ino} is marked {recorded:#x} for its attributes, which are {found:#x}"
    /// Bytes of a file do not match their checksum. They stay as they are, and fail to read.
    DataDamaged {
        /// The file.
        ino: Ino,
        /// Byte offset in the file.
        at: u64,
        /// Bytes that cannot be read.
        bytes: u64,
        /// The first block.
        block: Block,
    } Error stays "{ino}: {bytes} bytes from byte {at} on ({block}) do not match their checksum"
    /// The device cannot read bytes of a file.
    DataUnreadable {
        /// The file.
        ino: Ino,
        /// Byte offset in the file.
        at: u64,
        /// Bytes that cannot be read.
        bytes: u64,
        /// The first block.
        block: Block,
        /// What the device says.
        what: String,
    } Error stays "{ino}: {bytes} bytes from byte {at} on ({block}) cannot be read: {what}"
    /// Bytes that an earlier repair found lost, and that were not written since. Told when data is verified.
    DataLost {
        /// The file.
        ino: Ino,
        /// Byte offset in the file.
        at: u64,
        /// How many.
        bytes: u64,
    } Warning stays "{ino}: {bytes} bytes from byte {at} on were lost earlier"
}

impl Issue {
    /// The file it is about, if it is about one.
    pub const fn ino(&self) -> Option<Ino> {
        match self {
            Self::InodeWithoutName { ino, .. }
            | Self::LinkCountWrong { ino, .. }
            | Self::ParentWrong { ino, .. }
            | Self::DirectorySizeWrong { ino, .. }
            | Self::SecondParent { ino, .. }
            | Self::NameUnknown { ino, .. }
            | Self::NameGone { ino, .. }
            | Self::EmbeddingOfNothing { ino, .. }
            | Self::VectorLost { ino, .. }
            | Self::VectorDamaged { ino, .. }
            | Self::OrphanInUse { ino, .. }
            | Self::BlocksWrong { ino, .. }
            | Self::InlineWrong { ino, .. }
            | Self::SymlinkLength { ino, .. }
            | Self::SymlinkWithoutTarget { ino }
            | Self::RowOfNonFile { ino, .. }
            | Self::RowBeyondLimit { ino, .. }
            | Self::BlockOutside { ino, .. }
            | Self::BlockInSystemArea { ino, .. }
            | Self::AttributeName { ino, .. }
            | Self::AttributeTooLarge { ino, .. }
            | Self::MarksWrong { ino, .. }
            | Self::DataDamaged { ino, .. }
            | Self::DataUnreadable { ino, .. }
            | Self::DataLost { ino, .. } => Some(*ino),
            Self::EntryNamesNothing { directory, .. }
            | Self::EntryKindWrong { directory, .. }
            | Self::EntryMisplaced { directory, .. }
            | Self::DuplicateName { directory, .. }
            | Self::BrokenChain { directory, .. } => Some(*directory),
            _ => None,
        }
    }
}
