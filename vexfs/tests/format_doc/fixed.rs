// SPDX-License-Identifier: MIT OR Apache-2.0

//! Layouts at fixed offsets: distinct values are encoded and found where the page says.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use vexfs::checksum::Crc;
use vexfs::disk::{Disk, MemDisk};
use vexfs::journal::{self, Journal};
use vexfs::pool::heartbeat::{self, Owner};
use vexfs::pool::{Features, Manifest, State, Superblock, Tail, Timestamp};
use vexfs::units::{BLOCK_SIZE, Block, Run, Seq};

use crate::page::{Fixed, bytes_of, bytes_of32, distinct, distinct32, table};

#[test]
fn the_superblock_is_laid_out_as_told() {
    let layout = Fixed::read("superblock", BLOCK_SIZE);
    let time = |number: u8| Timestamp {
        seconds: distinct(number).cast_signed(),
        nanos: distinct32(number),
    };
    let label = "a label";
    let superblock = Superblock {
        generation: distinct(0x21),
        uuid: Uuid::from_bytes(*b"0123456789abcdef"),
        label: label.into(),
        total_blocks: distinct(0x22),
        features: Features {
            compat: distinct(0x23),
            ro_compat: distinct(0x24),
            incompat: distinct(0x25),
        },
        created: time(0x26),
        state: State::Dirty,
        name_hash_key: *b"ghijklmnopqrstuv",
        journal: Run::new(Block(distinct(0x27)), distinct32(0x28)),
        needs_check: true,
        epoch: distinct(0x29),
        boot_id: *b"GHIJKLMNOPQRSTUV",
        tail: Tail {
            position: distinct(0x2a),
            seq: Seq(distinct(0x2b)),
            chain: Crc(distinct32(0x2c)),
        },
        manifest: Manifest {
            first: Some(Block(distinct(0x2d))),
            blocks: distinct32(0x2e),
            bytes: distinct(0x2f),
            crc: Crc(distinct32(0x30)),
        },
        durable_seq: Seq(distinct(0x31)),
        resumed_at: distinct(0x32),
        last_mounted: time(0x33),
        last_checked: time(0x34),
        error_count: distinct(0x35),
    };
    let block = superblock.encode();
    let mut label_bytes = label.as_bytes().to_vec();
    label_bytes.resize(63, 0);
    let crc = Crc::of(&block[..4092]).0;
    layout.compare(
        &block,
        &[
            ("magic", b"VEXFSPL1".to_vec()),
            ("version", bytes_of32(1)),
            ("block shift", bytes_of32(12)),
            ("generation", bytes_of(distinct(0x21))),
            ("uuid", b"0123456789abcdef".to_vec()),
            ("label length", vec![7]),
            ("label", label_bytes),
            ("total blocks", bytes_of(distinct(0x22))),
            ("compat", bytes_of(distinct(0x23))),
            ("ro_compat", bytes_of(distinct(0x24))),
            ("incompat", bytes_of(distinct(0x25))),
            ("created seconds", bytes_of(distinct(0x26))),
            ("created nanos", bytes_of32(distinct32(0x26))),
            ("state", bytes_of32(1)),
            ("name hash key", b"ghijklmnopqrstuv".to_vec()),
            ("journal start", bytes_of(distinct(0x27))),
            ("journal blocks", bytes_of32(distinct32(0x28))),
            ("flags", bytes_of32(1)),
            ("epoch", bytes_of(distinct(0x29))),
            ("boot id", b"GHIJKLMNOPQRSTUV".to_vec()),
            ("tail position", bytes_of(distinct(0x2a))),
            ("tail seq", bytes_of(distinct(0x2b))),
            ("tail chain", bytes_of32(distinct32(0x2c))),
            ("manifest blocks", bytes_of32(distinct32(0x2e))),
            ("manifest first", bytes_of(distinct(0x2d))),
            ("manifest bytes", bytes_of(distinct(0x2f))),
            ("manifest crc", bytes_of32(distinct32(0x30))),
            ("mounted nanos", bytes_of32(distinct32(0x33))),
            ("durable seq", bytes_of(distinct(0x31))),
            ("resumed at", bytes_of(distinct(0x32))),
            ("mounted seconds", bytes_of(distinct(0x33))),
            ("checked seconds", bytes_of(distinct(0x34))),
            ("checked nanos", bytes_of32(distinct32(0x34))),
            ("zero", vec![0; 4]),
            ("error count", bytes_of(distinct(0x35))),
            ("reserved", vec![0; 3788]),
            ("crc", bytes_of32(crc)),
        ],
    );
}

#[test]
fn the_heartbeat_is_laid_out_as_told() {
    let layout = Fixed::read("heartbeat", BLOCK_SIZE);
    let record = heartbeat::Record {
        pool: Uuid::from_bytes(*b"0123456789abcdef"),
        owner: Owner {
            machine_id: *b"ghijklmnopqrstuv",
            boot_id: *b"GHIJKLMNOPQRSTUV",
            process: distinct32(0x21),
            host_name: "a host".into(),
        },
        interval: Duration::from_millis(u64::from(distinct32(0x22))),
        counter: distinct(0x23),
        claim: distinct(0x24),
    };
    let block = record.encode();
    let mut name = b"a host".to_vec();
    name.resize(64, 0);
    let crc = Crc::of(&block[..4092]).0;
    layout.compare(
        &block[..],
        &[
            ("magic", b"VEXFSHB1".to_vec()),
            ("version", bytes_of32(1)),
            ("state", bytes_of32(1)),
            ("pool", b"0123456789abcdef".to_vec()),
            ("machine", b"ghijklmnopqrstuv".to_vec()),
            ("boot", b"GHIJKLMNOPQRSTUV".to_vec()),
            ("process", bytes_of32(distinct32(0x21))),
            ("interval", bytes_of32(distinct32(0x22))),
            ("counter", bytes_of(distinct(0x23))),
            ("claim", bytes_of(distinct(0x24))),
            ("name length", vec![6]),
            ("name", name),
            ("zero", vec![0; 3939]),
            ("crc", bytes_of32(crc)),
        ],
    );
    assert_eq!(layout.number(&record.encode_free()[..], "state"), 0);
    let row = table("heartbeat").into_iter().find(|row| row[2] == "interval").unwrap();
    let [shortest, longest] = heartbeat::INTERVALS.map(|interval| interval.as_millis());
    assert!(
        row[3].ends_with(&format!("nearest of {shortest} to {longest}")),
        "{}",
        row[3]
    );
}

#[test]
fn a_batch_is_laid_out_as_told() {
    let layout = Fixed::read("batch", journal::HEADER_BYTES);
    let disk = Arc::new(MemDisk::new(64 * BLOCK_SIZE as u64));
    let end = Tail {
        position: distinct(0x21),
        seq: Seq(distinct(0x22)),
        chain: Crc(distinct32(0x23)),
    };
    let ring = Run::new(Block(0), 64);
    let shared: Arc<dyn Disk> = Arc::clone(&disk) as Arc<dyn Disk>;
    let mut journal = Journal::resume(shared, ring, distinct(0x24), end.position, end);
    journal.push(|out| out.extend_from_slice(b"one"));
    journal.push(|out| out.extend_from_slice(b"three"));
    journal.write_out(Seq(distinct(0x25))).unwrap();
    let mut batch = vec![0; 56 + 4 + 3 + 4 + 5];
    disk.read(end.position % ring.bytes(), &mut batch).unwrap();
    let crc = Crc::of(&batch[8..]).0;
    layout.compare(
        &batch,
        &[
            ("magic", b"VXJB".to_vec()),
            ("crc", bytes_of32(crc)),
            ("chain", bytes_of32(distinct32(0x23))),
            ("payload bytes", bytes_of32(16)),
            ("position", bytes_of(distinct(0x21))),
            ("epoch", bytes_of(distinct(0x24))),
            ("first seq", bytes_of(distinct(0x22) + 1)),
            ("durable seq", bytes_of(distinct(0x25))),
            ("transactions", bytes_of32(2)),
            ("zero", vec![0; 4]),
        ],
    );
    assert_eq!(batch[56..], *b"\x03\0\0\0one\x05\0\0\0three");
}
