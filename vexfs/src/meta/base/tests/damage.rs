// SPDX-License-Identifier: MIT OR Apache-2.0

//! Bytes that are not what was written.

use super::*;
use crate::error::Damage;

const BLOCKS: u64 = 300;

fn small_base() -> (Arc<Memory>, Base, Model) {
    let disk = Memory::new(BLOCKS);
    let source = Scatter::new(BLOCKS, 11, 5);
    let settings = Settings { run_limit: 4, ..tiny() };
    let base = Base::create(disk.clone(), settings);
    let mut model = Model::new();
    for round in 0..5_u32 {
        let key = |number: u32| format!("{:06}", number * (round + 1)).into_bytes();
        let value = |number: u32| {
            number
                .to_le_bytes()
                .repeat(if number.is_multiple_of(50) { 700 } else { 9 })
        };
        let entries = (0..250).map(|number| (key(number), (number % 7 > 0).then(|| value(number))));
        for (key, value) in entries.clone() {
            match value {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        let mut change = base.begin(&source).unwrap();
        change.write_run(entries).unwrap();
        if round == 3 {
            // A batch under way is part of what can be damaged.
            assert!(change.compact_step().unwrap());
        }
        install(&base, change, &source).unwrap();
    }
    assert!(base.stats().batch_runs > 0 && base.stats().level_bytes.iter().any(|bytes| *bytes > 0));
    (disk, base, model)
}

/// What can be read of a base is right.
fn read_all(disk: &Arc<Memory>, manifest: &ManifestRef, model: &Model) -> Result<()> {
    let base = Base::open(disk.clone(), BLOCKS, manifest, tiny())?;
    let mut failed = Ok(());
    for (key, value) in model {
        match base.get(key) {
            Ok(found) => assert_eq!(found.as_deref(), Some(value.as_slice())),
            Err(error) => failed = Err(error),
        }
    }
    for entry in base.scan(b"", b"\xff")? {
        let (key, value) = entry?;
        assert_eq!(model.get(&key).map(Vec::as_slice), Some(&*value));
    }
    // Gets need not meet a page whose keys are all hidden or deleted; the check reads it.
    match base.verify_all(|_| ControlFlow::Continue(()))?.first() {
        Some(issue) => Err(Damage::new("check", issue)),
        None => failed,
    }
}

#[test]
fn every_changed_block_in_use_is_noticed_and_nothing_wrong_is_read() {
    let (disk, base, model) = small_base();
    let manifest = base.manifest();
    read_all(&disk, &manifest, &model).unwrap();
    let mut at = 0;
    for block in blocks_of(&base) {
        // Each block at other places; in the end all bytes of a page were changed in some block.
        for step in 0..3 {
            at = (at + 797 + step) % BLOCK_SIZE;
            let place = usize::try_from(block).unwrap() * BLOCK_SIZE + at;
            disk.0.write()[place] ^= 1 << (at % 8);
            let error = read_all(&disk, &manifest, &model).expect_err("the change must be noticed");
            assert!(matches!(error, Error::Damaged(_)), "{error}");
            disk.0.write()[place] ^= 1 << (at % 8);
        }
    }
    read_all(&disk, &manifest, &model).unwrap();
}

#[test]
fn a_stale_page_with_a_right_checksum_is_noticed() {
    let (disk, base, model) = small_base();
    let blocks: Vec<_> = blocks_of(&base)
        .into_iter()
        .map(|block| usize::try_from(block).unwrap() * BLOCK_SIZE)
        .collect();
    let whole = disk.0.read().clone();
    for pair in blocks.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        disk.0.write()[to..to + BLOCK_SIZE].copy_from_slice(&whole[from..from + BLOCK_SIZE]);
        assert!(read_all(&disk, &base.manifest(), &model).is_err());
        disk.0.write()[to..to + BLOCK_SIZE].copy_from_slice(&whole[to..to + BLOCK_SIZE]);
    }
    // The same page of the same table with another content, as an abandoned change could have left it.
    let version = base.version();
    let table = version.tables().next().unwrap();
    let (block, _) = table.block_of(0).unwrap();
    let mut stale: page::PageBytes = whole[usize::try_from(block.byte_at()).unwrap()..][..BLOCK_SIZE]
        .try_into()
        .unwrap();
    stale[BLOCK_SIZE - 1] ^= 1;
    let counts = page::counts(&stale);
    page::seal(&mut stale, page::Kind::Data, table.info.id, 0, counts);
    disk.write(block.byte_at(), &stale).unwrap();
    assert!(read_all(&disk, &base.manifest(), &model).is_err());
}

#[test]
fn a_change_that_never_was_installed_leaves_the_old_version_whole() {
    let (disk, base, model) = small_base();
    let manifest = base.manifest();
    let source = Scatter::new(BLOCKS, 3, 3);
    for run in base.blocks_in_use() {
        for block in run.blocks() {
            source.state.lock().used[usize::try_from(block.0).unwrap()] = true;
        }
    }
    let mut change = base.begin(&source).unwrap();
    change
        .write_run((0..400_u32).map(|number| (number.to_be_bytes(), Some([1_u8; 40]))))
        .unwrap();
    while change.compact_step().unwrap() {}
    let prepared = change.prepare().unwrap();
    let new = prepared.manifest();
    // The machine stops here: the new manifest is complete, or the superblock never changed.
    std::mem::forget(prepared);
    read_all(&disk, &manifest, &model).unwrap();
    let newer = Base::open(disk, BLOCKS, &new, tiny()).unwrap();
    assert_eq!(newer.get(&7_u32.to_be_bytes()).unwrap().as_deref(), Some(&[1; 40][..]));
}

/// Makes every checksum of the base right again, from the pages up to the reference, so that only the content is wrong.
fn reseal(disk: &Memory, base: &Base, block: u64, at: usize, byte: u8) -> Option<ManifestRef> {
    let version = base.version();
    let place = usize::try_from(block).unwrap() * BLOCK_SIZE;
    let mut bytes = disk.0.write();
    bytes[place + at] = byte;
    let crc = crate::checksum::Crc::of(&bytes[place + 4..place + BLOCK_SIZE]);
    bytes[place..place + 4].copy_from_slice(&crc.0.to_le_bytes());
    drop(bytes);
    let mut reference = version.manifest.reference;
    if version
        .manifest
        .blocks
        .iter()
        .any(|run| run.blocks().any(|own| own.0 == block))
    {
        let mut stream = Vec::new();
        for block in version.manifest.blocks.iter().flat_map(|run| run.blocks()) {
            let mut bytes = [0; BLOCK_SIZE];
            disk.read(block.byte_at(), &mut bytes).unwrap();
            stream.extend_from_slice(&bytes[24..]);
        }
        stream.truncate(usize::try_from(reference.bytes).unwrap());
        reference.crc = crate::checksum::Crc::of(&stream);
        return Some(reference);
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_manifest_with_right_checksums_and_any_content_opens_or_fails(at: prop::sample::Index, byte: u8) {
        let (disk, base, _) = shared_base();
        let _guard = LOCK.lock();
        let whole = disk.0.read().clone();
        let block = base.version().manifest.blocks[0].start.0;
        let bytes = usize::try_from(base.manifest().bytes).unwrap();
        let reference = reseal(disk, base, block, 24 + at.index(bytes), byte).unwrap();
        if let Ok(other) = Base::open(disk.clone(), BLOCKS, &reference, tiny()) {
            let _ = everything(&other);
            let _ = other.get(b"000100");
            let source = Scatter::new(BLOCKS, 3, 3);
            for block in blocks_of(&other) {
                source.state.lock().used[usize::try_from(block).unwrap()] = true;
            }
            if let Ok(mut change) = other.begin(&source) {
                let _ = change.compact_step();
            }
            let _ = other.verify_all(|_| ControlFlow::Continue(()));
        }
        *disk.0.write() = whole;
    }

    #[test]
    fn any_stream_decodes_as_a_guide_or_fails(bytes: Vec<u8>, change in 0_usize..600, byte: u8) {
        let (disk, base, _) = shared_base();
        let version = base.version();
        for table in version.tables().take(3) {
            let _ = guide::Guide::decode(&bytes, &table.info);
            let mut stream = Vec::new();
            for index in table.info.data_pages + table.info.blob_pages..u32::try_from(table.info.pages()).unwrap() {
                let mut page = [0; BLOCK_SIZE];
                let _guard = LOCK.lock();
                disk.read(table.block_of(index).unwrap().0.byte_at(), &mut page).unwrap();
                stream.extend_from_slice(&page[page::HEADER..]);
            }
            stream.truncate(usize::try_from(table.info.guide_bytes).unwrap());
            let at = change % stream.len();
            stream[at] = byte;
            if let Ok(guide) = guide::Guide::decode(&stream, &table.info) {
                let _ = guide.fences.find(b"000100");
            }
        }
    }

    #[test]
    fn a_data_page_of_any_content_is_read_with_bounds(at in 4_usize..BLOCK_SIZE, bytes in proptest::collection::vec(any::<u8>(), 1..30)) {
        let (disk, base, _) = shared_base();
        let version = base.version();
        let table = version.tables().next().unwrap();
        let mut page = [0; BLOCK_SIZE];
        {
            let _guard = LOCK.lock();
            disk.read(table.block_of(0).unwrap().0.byte_at(), &mut page).unwrap();
        }
        for (place, byte) in page[at..].iter_mut().zip(&bytes) {
            *place = *byte;
        }
        if let Ok(data) = data::DataPage::new(&page) {
            let _ = data.find(b"000100");
            let _ = data.lower_bound(b"000100");
            let checked = data.check(&table.info.first, &table.info.last, true, 10_000);
            let all: std::result::Result<Vec<_>, _> = (0..data.len()).map(|slot| data.entry(slot).map(|entry| entry.rest.to_vec())).collect();
            if checked.is_ok() {
                prop_assert!(all.unwrap().is_sorted());
            }
        }
    }
}

static LOCK: Mutex<()> = Mutex::new(());

fn shared_base() -> &'static (Arc<Memory>, Base, Model) {
    static BASE: std::sync::OnceLock<(Arc<Memory>, Base, Model)> = std::sync::OnceLock::new();
    BASE.get_or_init(small_base)
}
