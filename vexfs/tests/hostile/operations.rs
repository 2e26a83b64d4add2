// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations that no engine would have journalled: of any size, in any order, on any files.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vexfs::checksum::Crc;
use vexfs::disk::{Disk, SplitMix64};
use vexfs::fs::op::{Op, decode_transaction};
use vexfs::pool::Access;
use vexfs::units::{Block, FileBlock, Ino, Run};

use crate::forged::append;
use crate::images::Image;
use crate::raw::pick;
use crate::{limits, walk};

/// Operations that ask for as much as their fields can say.
#[test]
#[expect(clippy::too_many_lines, reason = "a list of operations")]
fn operations_of_any_size_cost_little() {
    let time = crate::images::NOW;
    let disk: Arc<dyn Disk> = Arc::new(Image::Rich.snapshot());
    let fs = crate::images::mount(&disk, Access::ReadOnly).unwrap();
    let find = |name: &[u8]| fs.lookup(Ino::ROOT, name).unwrap().ino;
    let (plain, sparse, bare) = (find(b"plain"), find(b"sparse"), find(b"bare"));
    drop(fs);
    let pool = Run::new(Block(0), 4096);
    let (from, count, end) = (FileBlock(0), (1 << 51) - 1, 0);
    let write = |ino, runs| Op::Write {
        ino,
        at: from,
        end,
        time,
        runs,
        checksums: Vec::new(),
    };
    let huge = [
        vec![Op::Preallocate {
            ino: sparse,
            from,
            count,
            end,
            time,
        }],
        vec![Op::Punch {
            ino: sparse,
            from,
            count,
            time,
        }],
        vec![Op::Collapse {
            ino: sparse,
            from,
            count: (1 << 38) - 1,
            time,
        }],
        vec![Op::Insert {
            ino: plain,
            from,
            count,
            time,
        }],
        vec![Op::Clone {
            from: sparse,
            from_block: from,
            to: plain,
            to_block: from,
            count,
            end,
            time,
        }],
        vec![Op::Clone {
            from: sparse,
            from_block: from,
            to: plain,
            to_block: from,
            count: 1 << 40,
            end,
            time,
        }],
        vec![Op::Truncate {
            ino: plain,
            size: u64::MAX,
            time,
        }],
        vec![write(bare, vec![pool; 80_000])],
        vec![write(bare, vec![Run::new(Block(5), u32::MAX - 5)])],
        (0..3000).map(|_| write(bare, vec![pool])).collect(),
        vec![Op::WritePacked {
            ino: plain,
            at: from,
            count: 32,
            algorithm: 1,
            bytes: u32::MAX,
            checksum: Crc(0),
            end,
            time,
            runs: vec![pool; 40_000],
        }],
        vec![Op::Purge {
            ino: plain,
            until: u64::MAX,
        }],
    ];
    limits::all(huge.into_iter().map(|operations| {
        let name = format!("{} of {}", operations.len(), operations[0].name());
        let mut bytes = Vec::new();
        for operation in &operations {
            operation.encode(&mut bytes);
        }
        assert_eq!(
            decode_transaction(&bytes).map(|decoded| decoded.len()).ok(),
            match operations[0] {
                Op::Write { ref runs, .. } if runs[0].count > 1 << 20 => Some(1),
                _ => Some(operations.len()),
            }
        );
        let case = move || {
            walk::use_it(append(Image::Rich.snapshot(), &[bytes], false), 1);
        };
        (name, Box::new(case) as Box<dyn FnOnce()>)
    }));
}

static VALUE: [u8; 70_000] = [7; 70_000];

/// An operation on files that exist, mostly, with fields that are possible, mostly.
#[expect(clippy::too_many_lines, reason = "one line per operation and field")]
fn operation(random: &mut SplitMix64, names: &[&'static [u8]], inodes: &[Ino]) -> Op<'static> {
    let time = crate::images::NOW;
    let small = [0, 1, 2, 3, 7, 31, 32, 33, 64, 4096, 32_768, 1 << 51];
    let (ino, parent, other) = (*pick(random, inodes), *pick(random, inodes), *pick(random, inodes));
    let (parent, to) = if random.below(2) == 0 {
        (Ino::ROOT, Ino::ROOT)
    } else {
        (parent, other)
    };
    let (name, new_name) = (*pick(random, names), *pick(random, names));
    let (from, count) = (FileBlock(*pick(random, &small)), *pick(random, &small));
    let (to_block, end) = (FileBlock(*pick(random, &small)), *pick(random, &small) << 12);
    let free = Run::new(
        Block(3000 + random.below(1000)),
        1 + u32::try_from(random.below(40)).unwrap(),
    );
    let number = Ino(*pick(
        random,
        &[0, 1, 2, 500, 501, 1 << 40, (1 << 62) - 1, 1 << 62, u64::MAX],
    ));
    let modes = [0o100_644, 0o040_755, 0o120_777, 0o010_644, 0, u16::MAX];
    match random.below(19) {
        0 => Op::Create {
            parent,
            ino: number,
            mode: *pick(random, &modes),
            uid: 1,
            gid: 1,
            device: 0,
            flags: [0, 4, 0x4000_0000, u32::MAX][usize::try_from(random.below(4)).unwrap()],
            time,
            name: new_name,
            target: if random.below(2) == 0 { b"" } else { b"target" },
        },
        1 => Op::Link {
            ino,
            parent,
            time,
            name: new_name,
        },
        2 => Op::Unlink { parent, time, name },
        3 => Op::RemoveDirectory { parent, time, name },
        4 => Op::Rename {
            from: parent,
            to,
            flags: random.below(9).to_le_bytes()[0],
            whiteout: number,
            time,
            name,
            new_name,
        },
        5 => Op::Truncate { ino, size: end, time },
        6 => Op::SetXattr {
            ino,
            flags: 0,
            time,
            name: b"user.forged",
            value: &VALUE[..usize::try_from(random.below(70_000)).unwrap()],
        },
        7 => Op::RemoveXattr {
            ino,
            time,
            name: b"user.small",
        },
        8 | 9 => Op::Write {
            ino,
            at: from,
            end,
            time,
            runs: vec![free],
            checksums: Vec::new(),
        },
        10 => Op::WriteInline {
            ino,
            at: u32::try_from(random.below(3000)).unwrap(),
            time,
            bytes: b"forged",
        },
        11 => Op::WritePacked {
            ino,
            at: from,
            count: 1 + random.below(33).to_le_bytes()[0],
            algorithm: 1,
            bytes: 5000,
            checksum: Crc(0),
            end,
            time,
            runs: vec![Run::new(free.start, 2)],
        },
        12 => Op::Preallocate {
            ino,
            from,
            count,
            end,
            time,
        },
        13 => Op::Punch { ino, from, count, time },
        14 => Op::Collapse { ino, from, count, time },
        15 => Op::Insert { ino, from, count, time },
        16 => Op::Clone {
            from: ino,
            from_block: from,
            to: other,
            to_block,
            count,
            end,
            time,
        },
        17 => Op::Purge {
            ino,
            until: *pick(random, &[0, 1, 5, u64::MAX]),
        },
        _ => Op::Adopt {
            ino,
            parent,
            time,
            name: new_name,
        },
    }
}

/// A replay is refused with the first operation that cannot be. So that many are tried together, what is refused is left
/// out again.
#[test]
fn operations_in_any_order_are_replayed_or_refused() {
    let disk: Arc<dyn Disk> = Arc::new(Image::Rich.snapshot());
    let fs = crate::images::mount(&disk, Access::ReadOnly).unwrap();
    let mut inodes = vec![Ino::ROOT, Ino(999)];
    let mut names: Vec<&'static [u8]> = vec![b"new", b"newer", b"", b"..", b"level 1"];
    for entry in fs.list_all(Ino::ROOT).unwrap() {
        inodes.push(entry.ino);
        names.push(Box::leak(entry.name));
    }
    drop((fs, disk));
    let opened = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&opened);
    limits::all(limits::cases(250).map(move |seed| {
        let mut random = SplitMix64::new(seed);
        let mut accepted: Vec<Vec<u8>> = Vec::new();
        let tries: Vec<Vec<u8>> = (0..8)
            .map(|_| {
                let mut bytes = Vec::new();
                operation(&mut random, &names, &inodes).encode(&mut bytes);
                bytes
            })
            .collect();
        let count = Arc::clone(&count);
        let case = move || {
            for operation in tries {
                accepted.push(operation);
                let disk: Arc<dyn Disk> = Arc::new(append(Image::Rich.snapshot(), &accepted, true));
                if let Err(error) = crate::images::mount(&disk, Access::ReadOnly) {
                    let text = error.to_string();
                    assert!(text.contains("sequence") || text.contains("promised"), "{text}");
                    accepted.pop();
                }
            }
            let outcome = walk::use_it(append(Image::Rich.snapshot(), &accepted, true), seed);
            count.fetch_add(u64::from(outcome.opened), Ordering::Relaxed);
        };
        (format!("operations, seed {seed}"), Box::new(case) as Box<dyn FnOnce()>)
    }));
    let opened = opened.load(Ordering::Relaxed);
    println!("{opened} pools opened");
    assert!(opened > 0, "nothing was tried beyond the replay");
}
