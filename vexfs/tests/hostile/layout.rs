// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the structures of a pool lie, worked out from the documented layout and not with the engine's code; and putting
//! bytes into them with every checksum above made right again.

use vexfs::checksum::Crc;
use vexfs::codec::Reader;
use vexfs::disk::{Disk, MemDisk};
use vexfs::pool::{Superblock, Survey};
use vexfs::units::{BLOCK_SIZE, Block, Run};

type Bytes = [u8; BLOCK_SIZE];
/// Bytes before the payload of a page, and of a block of the manifest.
const HEADER: usize = 24;
/// Bytes of a page's payload.
const PAYLOAD: usize = BLOCK_SIZE - HEADER;
/// The four places of superblocks.
const PLACES: [u64; 4] = [1, 2, 1025, 1026];

/// One table of the manifest.
pub(crate) struct Table {
    /// Its pages, in order: data, blob, guide.
    pub(crate) pages: Vec<Block>,
    /// Data pages.
    pub(crate) data: usize,
    /// Where the guide begins among them.
    pub(crate) guide: usize,
    guide_bytes: usize,
    /// Where the guide's checksum is in the manifest's stream.
    guide_crc_at: usize,
    /// Where the pages' checksums begin in the guide.
    crcs_at: usize,
}

/// A batch of the journal.
#[derive(Clone, Copy)]
pub(crate) struct Batch {
    /// Position in the journal.
    pub(crate) position: u64,
    /// Bytes of header and payload.
    pub(crate) bytes: usize,
}

/// See the module.
pub(crate) struct Layout {
    pub(crate) superblock: Superblock,
    /// Blocks of the manifest's chain.
    pub(crate) chain: Vec<Block>,
    /// Bytes of the manifest's stream.
    pub(crate) stream_bytes: usize,
    pub(crate) tables: Vec<Table>,
    pub(crate) batches: Vec<Batch>,
}

pub(crate) fn read(disk: &MemDisk, at: Block) -> Bytes {
    let mut bytes = [0; BLOCK_SIZE];
    disk.read(at.byte_at(), &mut bytes).unwrap();
    bytes
}

pub(crate) fn write(disk: &MemDisk, at: Block, bytes: &Bytes) {
    disk.write(at.byte_at(), bytes).unwrap();
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

impl Layout {
    /// Of an intact pool.
    pub(crate) fn of(disk: &MemDisk) -> Self {
        let superblock = Survey::of(disk).newest().unwrap().clone();
        let mut layout = Self {
            chain: Vec::new(),
            stream_bytes: usize::try_from(superblock.manifest.bytes).unwrap(),
            tables: Vec::new(),
            batches: Vec::new(),
            superblock,
        };
        let mut next = layout.superblock.manifest.first;
        while let Some(at) = next {
            layout.chain.push(at);
            let after = Reader::new(&read(disk, at)[16..]).u64("next").unwrap();
            next = (after != 0).then_some(Block(after));
        }
        if !layout.chain.is_empty() {
            let stream = layout.stream(disk);
            layout.tables = tables(disk, &stream);
        }
        layout.find_batches(disk);
        layout
    }

    /// The stream of the manifest.
    pub(crate) fn stream(&self, disk: &MemDisk) -> Vec<u8> {
        let blocks = self.chain.iter().flat_map(|at| read(disk, *at)[HEADER..].to_vec());
        blocks.take(self.stream_bytes).collect()
    }

    /// Writes the stream of the manifest, which has the length it had.
    pub(crate) fn put_stream(&self, disk: &MemDisk, stream: &[u8]) {
        for (at, payload) in self.chain.iter().zip(stream.chunks(PAYLOAD)) {
            let mut block = read(disk, *at);
            block[HEADER..HEADER + payload.len()].copy_from_slice(payload);
            write(disk, *at, &block);
        }
    }

    fn find_batches(&mut self, disk: &MemDisk) {
        let mut position = self.superblock.tail.position;
        let mut chain = self.superblock.tail.chain.0;
        loop {
            let mut header = [0; 56];
            self.read_journal(disk, position, &mut header);
            let mut reader = Reader::new(&header);
            let magic = reader.array::<4>("magic").unwrap();
            let crc = reader.u32("crc").unwrap();
            let before = reader.u32("chain").unwrap();
            let length = reader.u32("length").unwrap() as usize;
            if magic != *b"VXJB" || before != chain || reader.u64("position").unwrap() != position {
                return;
            }
            self.batches.push(Batch {
                position,
                bytes: 56 + length,
            });
            chain = crc;
            position += (56 + length) as u64;
        }
    }

    fn journal_parts(&self, position: u64, length: usize) -> Vec<(u64, std::ops::Range<usize>)> {
        let Run { start, .. } = self.superblock.journal;
        let inside = position % self.superblock.journal.bytes();
        let now = usize::try_from(self.superblock.journal.bytes() - inside)
            .unwrap()
            .min(length);
        vec![(start.byte_at() + inside, 0..now), (start.byte_at(), now..length)]
    }

    /// Bytes of the ring.
    pub(crate) fn read_journal(&self, disk: &MemDisk, position: u64, into: &mut [u8]) {
        for (at, range) in self.journal_parts(position, into.len()) {
            disk.read(at, &mut into[range]).unwrap();
        }
    }

    /// The same for writing.
    pub(crate) fn write_journal(&self, disk: &MemDisk, position: u64, from: &[u8]) {
        for (at, range) in self.journal_parts(position, from.len()) {
            disk.write(at, &from[range]).unwrap();
        }
    }

    /// Makes the checksums of all batches right again.
    pub(crate) fn seal_journal(&self, disk: &MemDisk) {
        let mut chain = None;
        for batch in &self.batches {
            let mut bytes = vec![0; batch.bytes];
            self.read_journal(disk, batch.position, &mut bytes);
            if let Some(chain) = chain {
                put_u32(&mut bytes, 8, chain);
            }
            let crc = Crc::of(&bytes[8..]).0;
            put_u32(&mut bytes, 4, crc);
            chain = Some(crc);
            self.write_journal(disk, batch.position, &bytes);
        }
    }

    /// Makes every checksum of tables, manifest and superblocks right again, from the bottom up.
    pub(crate) fn seal_tables(&self, disk: &MemDisk) {
        let mut stream = self.stream(disk);
        for table in &self.tables {
            let mut guide = table.guide(disk);
            for (index, at) in table.pages[..table.guide].iter().enumerate() {
                let crc = seal_page(disk, *at);
                put_u32(&mut guide, table.crcs_at + 4 * index, crc);
            }
            for (at, payload) in table.pages[table.guide..].iter().zip(guide.chunks(PAYLOAD)) {
                let mut page = read(disk, *at);
                page[HEADER..HEADER + payload.len()].copy_from_slice(payload);
                write(disk, *at, &page);
                seal_page(disk, *at);
            }
            put_u32(&mut stream, table.guide_crc_at, Crc::of(&guide).0);
        }
        self.seal_manifest(disk, &stream);
    }

    /// Writes a stream of the manifest, and makes the checksums above it right.
    pub(crate) fn seal_manifest(&self, disk: &MemDisk, stream: &[u8]) {
        self.put_stream(disk, stream);
        for at in &self.chain {
            seal_page(disk, *at);
        }
        let crc = Crc::of(stream).0;
        seal_superblocks(disk, |block| {
            if !self.chain.is_empty() {
                put_u32(block, 248, crc);
            }
        });
    }
}

/// The first four bytes of a page or a block of the manifest are the checksum of the others.
pub(crate) fn seal_page(disk: &MemDisk, at: Block) -> u32 {
    let mut page = read(disk, at);
    let crc = Crc::of(&page[4..]).0;
    put_u32(&mut page, 0, crc);
    write(disk, at, &page);
    crc
}

/// Changes every superblock in the same way, and makes their checksums right.
pub(crate) fn seal_superblocks(disk: &MemDisk, mut change: impl FnMut(&mut Bytes)) {
    for at in PLACES.map(Block) {
        let mut block = read(disk, at);
        change(&mut block);
        let crc = Crc::of(&block[..BLOCK_SIZE - 4]).0;
        put_u32(&mut block, BLOCK_SIZE - 4, crc);
        write(disk, at, &block);
    }
}

impl Table {
    /// The stream of the guide.
    pub(crate) fn guide(&self, disk: &MemDisk) -> Vec<u8> {
        let pages = self.pages[self.guide..].iter();
        pages
            .flat_map(|at| read(disk, *at)[HEADER..].to_vec())
            .take(self.guide_bytes)
            .collect()
    }
}

fn tables(disk: &MemDisk, stream: &[u8]) -> Vec<Table> {
    let mut reader = Reader::new(stream);
    let mut found = Vec::new();
    reader.u16("format").unwrap();
    reader.varint("next table").unwrap();
    let runs = reader.varint("runs").unwrap();
    reader.varint("batch").unwrap();
    reader.counted("cursor").unwrap();
    for _ in 0..runs {
        run(disk, stream, &mut reader, &mut found);
    }
    for _ in 0..reader.varint("levels").unwrap() {
        reader.counted("next").unwrap();
        run(disk, stream, &mut reader, &mut found);
    }
    reader.end().unwrap();
    found
}

fn run(disk: &MemDisk, stream: &[u8], reader: &mut Reader<'_>, found: &mut Vec<Table>) {
    for _ in 0..reader.varint("tables").unwrap() {
        let mut number = || usize::try_from(reader.varint("number").unwrap()).unwrap();
        let (_, data, blob, _, guide_bytes) = (number(), number(), number(), number(), number());
        let guide_crc_at = stream.len() - reader.remaining();
        reader.u32("checksum").unwrap();
        for _ in 0..2 {
            reader.varint("entries").unwrap();
        }
        for _ in 0..2 {
            reader.counted("key").unwrap();
        }
        let mut pages = Vec::new();
        for _ in 0..reader.varint("runs").unwrap() {
            let start = Block(reader.varint("start").unwrap());
            let count = reader.varint32("count").unwrap();
            pages.extend(Run::new(start, count).blocks());
        }
        let mut table = Table {
            pages,
            data,
            guide: data + blob,
            guide_bytes,
            guide_crc_at,
            crcs_at: 0,
        };
        let guide = table.guide(disk);
        let mut fences = Reader::new(&guide);
        for _ in 1..data {
            fences.varint("shared").unwrap();
            fences.counted("fence").unwrap();
        }
        table.crcs_at = guide.len() - fences.remaining();
        found.push(table);
    }
}
