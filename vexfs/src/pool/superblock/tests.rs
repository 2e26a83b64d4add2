// SPDX-License-Identifier: MIT OR Apache-2.0

use proptest::prelude::*;

use super::*;

pub(in crate::pool) fn example() -> Superblock {
    let time = |number: u32| Timestamp {
        seconds: -1 - i64::from(number),
        nanos: 999_999_999 - number,
    };
    Superblock {
        generation: 0x0102_0304,
        uuid: Uuid::from_bytes(*b"0123456789abcdef"),
        label: "Größe".into(),
        total_blocks: 1 << 20,
        features: Features {
            compat: 1 << 63,
            ..Features::default()
        },
        created: time(1),
        state: State::Dirty,
        name_hash_key: [7; 16],
        journal: Superblock::journal_of(2048),
        needs_check: true,
        epoch: 3,
        boot_id: [9; 16],
        tail: Tail {
            position: 40960,
            seq: Seq(77),
            chain: Crc(0xdead_beef),
        },
        manifest: Manifest {
            first: Some(Block(5000)),
            blocks: 2,
            bytes: 4097,
            crc: Crc(1),
        },
        durable_seq: Seq(78),
        resumed_at: 12,
        last_mounted: time(2),
        last_checked: time(3),
        error_count: 5,
    }
}

fn block_of(superblock: &Superblock) -> [u8; BLOCK_SIZE] {
    superblock.encode().try_into().unwrap()
}

fn seal(block: &mut [u8; BLOCK_SIZE]) {
    let crc = Crc::of(&block[..CRC_AT]);
    block[CRC_AT..].copy_from_slice(&crc.0.to_le_bytes());
}

#[test]
fn the_layout_does_not_change_by_accident() {
    let block = block_of(&example());
    assert_eq!(&block[..8], b"VEXFSPL1");
    assert_eq!(block[16..20], [4, 3, 2, 1]);
    assert_eq!(block[24..40], *b"0123456789abcdef");
    assert_eq!(block[40..48], *b"\x07Gr\xc3\xb6\xc3\x9fe");
    assert_eq!(
        block[168..170],
        [4, 4],
        "the journal of 2048 blocks begins at block 1028"
    );
    assert_eq!(block[224..228], [0xef, 0xbe, 0xad, 0xde]);
    assert_eq!(block[232..234], [0x88, 0x13]);
    assert_eq!(block[264], 12);
    assert_eq!(block[296], 5);
    assert_eq!(
        Crc::of(&block[..CRC_AT]).0,
        GOLDEN,
        "a field moved: that needs a new format version"
    );
    assert_eq!(Superblock::decode(&block), Ok(example()));
}

const GOLDEN: u32 = 0x04a3_20b2;

#[test]
fn the_journal_lies_between_the_fixed_areas_or_after_them() {
    assert_eq!(Superblock::journal_of(1019), Run::new(Block(4), 1019));
    assert_eq!(Superblock::journal_of(1020), Run::new(Block(1028), 1020));
    for blocks in [64, 1019, 1020, 2000] {
        let journal = Superblock::journal_of(blocks);
        let superblock = Superblock { journal, ..example() };
        assert_eq!(superblock.validate(), Ok(()));
    }
}

#[test]
fn every_rule_refuses_what_it_is_there_for() {
    type Change = fn(&mut Superblock);
    let changes: &[(&str, Change)] = &[
        ("generation", |s| s.generation = 0),
        ("uuid", |s| s.uuid = Uuid::nil()),
        ("label", |s| s.label = "a\nb".into()),
        ("pool size", |s| s.total_blocks = MIN_BLOCKS - 1),
        ("pool size", |s| s.total_blocks = Block::LIMIT + 1),
        ("nanoseconds", |s| s.created.nanos = 1_000_000_000),
        ("nanoseconds", |s| s.last_mounted.nanos = u32::MAX),
        ("nanoseconds", |s| s.last_checked.nanos = u32::MAX),
        ("journal size", |s| s.journal.count = 0),
        ("journal size", |s| s.journal.count = u32::MAX),
        ("journal", |s| s.journal.start = Block(u64::MAX)),
        ("journal", |s| s.journal.start = Block(3)),
        ("journal", |s| s.journal.start = Block(1000)),
        ("journal tail", |s| s.tail.position = u64::MAX),
        ("journal tail", |s| s.tail.seq = Seq(u64::MAX)),
        ("durable sequence", |s| s.durable_seq = Seq(u64::MAX)),
        ("resumed at", |s| s.resumed_at = u64::MAX),
        ("epoch", |s| s.epoch = u64::MAX),
        ("manifest", |s| s.manifest.first = None),
        ("manifest", |s| s.manifest.first = Some(Block(1 << 20))),
        ("manifest", |s| s.manifest.first = Some(Block(2))),
        ("manifest", |s| s.manifest.first = Some(Block(1030))),
        ("manifest size", |s| s.manifest.blocks = 0),
        ("generation", |s| s.generation = 1 << 63),
        ("manifest size", |s| s.manifest.bytes = 8193),
        ("manifest size", |s| s.manifest.bytes = u64::MAX),
    ];
    for (what, change) in changes {
        let mut superblock = example();
        change(&mut superblock);
        let error = superblock.validate().unwrap_err().to_string();
        assert!(error.starts_with(what), "{what}: {error}");
        assert!(
            matches!(
                Superblock::decode(&block_of(&superblock)),
                Err(SuperblockError::Field(_))
            ),
            "{what}"
        );
    }
}

#[test]
fn unknown_features_decide_what_may_be_done() {
    let mut superblock = example();
    superblock.features.ro_compat = 1 << 5;
    assert_eq!(Superblock::decode(&block_of(&superblock)), Ok(superblock.clone()));
    superblock.features.incompat = 1 << 40 | 1;
    let error = Superblock::decode(&block_of(&superblock)).unwrap_err();
    assert!(error.is_unsupported());
    assert!(
        error.to_string().ends_with("incompat bit 0, incompat bit 40"),
        "{error}"
    );
}

#[test]
fn reserved_bytes_are_zero_unless_an_unknown_feature_may_use_them() {
    let mut superblock = example();
    for (ro_compat, accepted) in [(0, false), (2, true)] {
        superblock.features.ro_compat = ro_compat;
        let mut block = block_of(&superblock);
        block[4000] = 1;
        seal(&mut block);
        assert_eq!(Superblock::decode(&block).is_ok(), accepted);
    }
}

#[test]
fn a_newer_version_is_not_called_damage() {
    let mut block = block_of(&example());
    block[8] = 2;
    block[100..200].fill(0xff);
    seal(&mut block);
    assert_eq!(Superblock::decode(&block), Err(SuperblockError::Version(2)));
    assert_eq!(Superblock::generation_of(&block), 0x0102_0304);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn hostile_bytes_are_refused_or_valid(
        changes in prop::collection::vec((0..BLOCK_SIZE, any::<u8>()), 1..4),
        near_start in prop::collection::vec((8..304_usize, any::<u8>()), 0..4),
        sealed: bool,
    ) {
        let intact = block_of(&example());
        let mut block = intact;
        for (at, byte) in changes.into_iter().chain(near_start) {
            block[at] = byte;
        }
        let changed = block[..CRC_AT] != intact[..CRC_AT];
        if sealed {
            seal(&mut block);
        }
        match Superblock::decode(&block) {
            Ok(found) => {
                prop_assert!(sealed || block == intact);
                prop_assert_eq!(found.validate(), Ok(()));
                // Nothing is lost or invented: the same bytes come back, but for those of a feature we do not write.
                prop_assert!(found.features.ro_compat != 0 || found.encode() == block);
            }
            Err(_) => prop_assert!(changed || block != intact),
        }
    }

    #[test]
    fn noise_is_no_superblock(mut block in prop::collection::vec(any::<u8>(), BLOCK_SIZE), magic: bool) {
        if magic {
            block[..8].copy_from_slice(&MAGIC);
        }
        prop_assert!(Superblock::decode(&block.try_into().unwrap()).is_err());
    }
}

#[test]
fn a_manifest_may_have_any_length_and_its_chain_may_begin_in_the_last_block() {
    let mut superblock = example();
    // Each block of the chain holds 4072 bytes of it: 4080 bytes take two blocks, though they would fit into one.
    for (bytes, blocks) in [(1, 1), (4072, 1), (4073, 2), (4080, 2), (4096, 2), (1_000_000, 246)] {
        superblock.manifest.bytes = bytes;
        superblock.manifest.blocks = blocks;
        superblock.manifest.first = Some(Block(superblock.total_blocks - 1));
        assert_eq!(superblock.validate(), Ok(()), "{bytes} bytes");
    }
}
