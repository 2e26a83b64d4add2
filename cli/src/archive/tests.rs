// SPDX-License-Identifier: MIT OR Apache-2.0

//! Archives without other programs: what is written is read back, and hostile ones give errors.

use std::io::Read;

use proptest::prelude::*;
use vexfs::fs::record::{FileFlags, Kind, Timestamp};
use vexfs::fs::vectors::Run;
use vexfs::fs::vectors::space::{Element, Field, FieldKind, Metric, Shape};

use super::acl::{AclError, Who, from_text, permissions, to_text};
use super::pax::{Records, time_text, time_value};
use super::reader::Reader;
use super::sparse::Map;
use super::writer::Writer;
use super::*;
use crate::copy::Node;
use crate::copy::embeddings::{Described, Embeddings};

/// An archive of one file with contents of one byte over and over.
fn archive(name: &[u8], node: &Node, map: &Map) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), false);
    writer.file(name, node, map).unwrap();
    for region in &map.regions {
        let length = usize::try_from(region.end - region.start).unwrap();
        writer.contents(&vec![7; length]).unwrap();
    }
    writer.fill().unwrap();
    writer.end().unwrap()
}

/// Reads a whole archive; the names and what each file got.
fn read(bytes: &[u8]) -> anyhow::Result<Vec<(Vec<u8>, Node, u64)>> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some(member) = reader.next()? {
        let mut stored = 0;
        if member.node.kind == Kind::File && member.link.is_none() {
            reader.contents(|_, bytes| {
                stored += bytes.len() as u64;
                Ok(())
            })?;
        }
        found.push((member.name, member.node, stored));
    }
    Ok(found)
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

/// A header of any type and size, with the right checksum, and what follows.
fn raw(kind: u8, size: u64, follows: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..4].copy_from_slice(b"name");
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(follows);
    let fill = padding(bytes.len() as u64);
    bytes.resize(bytes.len() + usize::try_from(fill).unwrap(), 0);
    bytes
}

/// Records in a header before an empty file.
fn with_records(records: &[(&str, &str)], contents: &[u8]) -> Vec<u8> {
    let mut encoded = Records::default();
    for (keyword, value) in records {
        encoded.push(*keyword, *value);
    }
    let encoded = encoded.encode();
    let mut bytes = raw(b'x', encoded.len() as u64, &encoded);
    bytes.extend(raw(b'0', contents.len() as u64, contents));
    bytes.extend([0; 1024]);
    bytes
}

proptest! {
    #[test]
    fn records_of_any_bytes_are_read_back(
        pairs in proptest::collection::vec(("[a-zA-Z.]{1,20}", proptest::collection::vec(any::<u8>(), 0..300)), 0..20)
    ) {
        let mut records = Records::default();
        for (keyword, value) in &pairs {
            records.push(keyword.as_bytes(), value.as_slice());
        }
        prop_assert_eq!(Records::decode(&records.encode()).unwrap(), records);
    }

    #[test]
    fn times_are_read_back_to_the_nanosecond(time in any::<i64>()) {
        // The least number has no positive twin.
        let time = Timestamp(time.max(-i64::MAX));
        prop_assert_eq!(time_value(time_text(time).as_bytes()), Some(time));
    }

    #[test]
    fn any_bytes_in_place_of_an_archive_give_an_error_or_members(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        valid in any::<bool>(),
    ) {
        if valid && bytes.len() >= 512 {
            // Past the checksum.
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes().copy_from_slice(&bytes[..512]);
            header.set_cksum();
            bytes[..512].copy_from_slice(header.as_bytes());
        }
        let _ = read(&bytes);
    }

    #[test]
    fn one_changed_byte_of_an_archive_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let map = Map::new(100_000, [(4096, 4096), (90_000, 10_000)]).unwrap();
        let mut node = Node { size: 100_000, ..Node::new(Kind::File) };
        node.attributes.push((b"user.a".as_slice().into(), b"b".to_vec()));
        let mut bytes = archive(b"name", &node, &map);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = read(&bytes);
    }
}

#[test]
fn times_are_written_as_other_programs_write_them() {
    for (nanos, text) in [
        (0, "0"),
        (1_500_000_000, "1.5"),
        (-1, "-0.000000001"),
        (-1_250_000_000, "-1.25"),
        (1_700_000_000_123_456_789, "1700000000.123456789"),
    ] {
        assert_eq!(time_text(Timestamp(nanos)), text);
    }
    for text in ["", "-", "x", "1.2.3", "1e9", "--1", " 1"] {
        assert_eq!(time_value(text.as_bytes()), None, "{text}");
    }
    assert_eq!(time_value(b"99999999999999999999"), Some(Timestamp(i64::MAX)));
}

#[test]
fn access_lists_become_text_and_text_of_other_programs_becomes_lists() {
    let look_up = |who, name: &str| (who == Who::User && name == "ada").then_some(1000);
    let text = "user::rwx\nuser:1000:r-x\ngroup::r--\ngroup:50:rw-\nmask::rwx\nother::---\n";
    let bytes = from_text(text, look_up).unwrap();
    assert_eq!(bytes.len(), 4 + 6 * 8);
    assert_eq!(permissions(&bytes), Some(0o770));
    assert_eq!(to_text(&bytes).unwrap(), text);
    // As star and bsdtar write it, in another order, with names and ids.
    let star = "user::rwx,group::r--,mask::rwx,other::---,group:staff:rw-:50,user:ada:r-x:1000";
    assert_eq!(from_text(star, |_, _| None).unwrap(), bytes);
    let named = text.replace("user:1000", "user:ada");
    assert_eq!(from_text(&named, look_up).unwrap(), bytes);
    assert_eq!(from_text("default:user::rwx", look_up).unwrap().len(), 12);
    assert_eq!(from_text("user:bob:rwx", look_up), Err(AclError::Unknown("bob".into())));
    for wrong in ["nobody::rwx", "user", "user::rwz", "mask:5:rwx"] {
        assert!(matches!(from_text(wrong, look_up), Err(AclError::Entry(_))), "{wrong}");
    }
    for bytes in [
        &b""[..],
        &[2, 0, 0, 0, 1],
        &[3, 0, 0, 0],
        &[2, 0, 0, 0, 1, 0, 9, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(to_text(bytes), None);
    }
}

fn embeddings(name: &str, runs: Vec<(u32, i64, Vec<u8>)>) -> Embeddings {
    let run = |(ordinal, of, bytes)| Run {
        ordinal,
        of: Timestamp(of),
        bytes,
    };
    Embeddings {
        space: Described {
            name: name.as_bytes().into(),
            shape: Shape::new(3, Element::F32, Metric::L2).unwrap(),
            effort: 300,
            fields: vec![
                Field::new(FieldKind::Text, b"user.=\n".as_slice()),
                Field::new(FieldKind::Filter, [b'f'; 255]),
            ],
        },
        runs: runs.into_iter().map(run).collect(),
    }
}

#[test]
fn nonsense_about_vectors_is_an_error_that_names_the_space() {
    let space = "\u{3}\0\0\0\u{1}\u{2}\0\0";
    let vector = format!("\0\0\0\0{}\u{c}\0\0\0{}", "\0".repeat(8), "\0".repeat(12));
    let known = [("VEXFS.space.s", space), ("VEXFS.vectors.s", &vector)];
    assert_eq!(
        read(&with_records(&known, b"")).unwrap()[0].1.embeddings[0].runs.len(),
        1
    );
    for wrong in [
        &known[1..],
        &[("VEXFS.space.", space)],
        &[("VEXFS.space.s/", space)],
        &[("VEXFS.space.s", &space[..7])],
        &[("VEXFS.space.s", &space.replace('\u{2}', "\u{9}"))],
        &[("VEXFS.space.s", &space.replace('\u{3}', "\0"))],
        &[("VEXFS.space.s", &format!("{space}\u{4}\0\u{1}us"))],
        &[known[0], ("VEXFS.vectors.s", &vector[..vector.len() - 1])],
        &[known[0], ("VEXFS.vectors.s", &vector[..10])],
    ] {
        let told = refusal(&with_records(wrong, b""));
        assert!(told.contains("vectors in the space"), "{wrong:?}: {told}");
    }
}

#[test]
fn everything_about_a_file_is_read_back() {
    let node = Node {
        permissions: 0o6751,
        uid: u32::MAX - 1,
        gid: 3_000_000,
        size: 20_000_000_000,
        modified: Timestamp(-1_234_567_891),
        accessed: Some(Timestamp(5)),
        born: Some(Timestamp(-9)),
        flags: Some(FileFlags(FileFlags::IMMUTABLE.0 | FileFlags::COMPRESS.0)),
        attributes: vec![
            (b"user.a=b%3D".as_slice().into(), b"\0\n=x".to_vec()),
            (b"user.empty".as_slice().into(), Vec::new()),
        ],
        embeddings: vec![
            embeddings("one", vec![(0, -5, vec![0; 12]), (7, i64::MAX, b"\n=\0".repeat(4000))]),
            embeddings("t_w.o-", Vec::new()),
        ],
        promised: vec![0..4096, 1 << 40..(1 << 40) + 4096],
        ..Node::new(Kind::File)
    };
    let map = Map::new(node.size, [(4096, 4096), (19_999_995_904, 4096)]).unwrap();
    let name = [b"./".as_slice(), &[b'n'; 300]].concat();
    let found = read(&archive(&name, &node, &map)).unwrap();
    assert_eq!(found, [(name, node, 8192)]);
}

#[test]
fn devices_links_and_sockets_are_read_back() {
    let mut writer = Writer::new(Vec::new(), false);
    let mut nodes = Vec::new();
    for (kind, device, target) in [
        (Kind::Character, nix::sys::stat::makedev(511, 1 << 19), Vec::new()),
        (Kind::Block, nix::sys::stat::makedev(8, 1), Vec::new()),
        (Kind::Fifo, 0, Vec::new()),
        (Kind::Socket, 0, Vec::new()),
        (Kind::Directory, 0, Vec::new()),
        (Kind::Symlink, 0, vec![b't'; 101]),
    ] {
        let node = Node {
            device,
            target,
            ..Node::new(kind)
        };
        writer.file(b"name", &node, &Map::whole(0)).unwrap();
        nodes.push(node);
    }
    let found = read(&writer.end().unwrap()).unwrap();
    let found: Vec<_> = found.into_iter().map(|(_, node, _)| node).collect();
    for (one, other) in nodes.iter_mut().zip(&found) {
        one.flags = other.flags;
        one.accessed = other.accessed;
    }
    assert_eq!(found, nodes);
}

#[test]
fn maps_of_all_forms_say_the_same() {
    let map = Map::new(1_000_000, [(0, 512), (4096, 1024), (1_000_000, 0)]).unwrap();
    let contents = [1; 1536];
    let name = ("GNU.sparse.name", "real");
    let size = ("GNU.sparse.size", "1000000");
    let one = [
        name,
        size,
        ("GNU.sparse.numblocks", "3"),
        ("GNU.sparse.map", "0,512,4096,1024,1000000,0"),
    ];
    let zero = [
        name,
        size,
        ("GNU.sparse.offset", "0"),
        ("GNU.sparse.numbytes", "512"),
        ("GNU.sparse.offset", "4096"),
        ("GNU.sparse.numbytes", "1024"),
    ];
    for records in [&one[..], &zero[..]] {
        let mut reader = &with_records(records, &contents)[..];
        let mut reader = Reader::new(reader.by_ref());
        let member = reader.next().unwrap().unwrap();
        assert_eq!((&member.name[..], member.node.size), (&b"real"[..], 1_000_000));
        let mut places = Vec::new();
        reader
            .contents(|at, bytes| {
                places.push((at, bytes.len()));
                Ok(())
            })
            .unwrap();
        assert_eq!(places, [(0, 512), (4096, 1024)]);
    }
    assert_eq!(map.stored(), 1536);
}

#[test]
fn hostile_archives_give_errors_and_take_no_memory() {
    // Each claims much more than there is.
    assert!(refusal(&raw(b'x', 1 << 40, b"")).contains("of 1099511627776 bytes"));
    assert!(refusal(&raw(b'L', 1 << 30, b"")).contains("a name of"));
    assert!(refusal(&raw(b'x', 30 << 20, b"")).contains("cut short"));
    assert!(refusal(&raw(b'0', 1 << 62, b"")).contains("cut short"));
    assert!(refusal(&raw(b'M', 0, b"")).contains("volumes"));
    let long = "n".repeat(MAX_NAME + 1);
    assert!(refusal(&with_records(&[("path", &long)], b"")).contains("a name of"));
    for (records, text) in [
        (&[("size", "99999999999999999999")][..], "size"),
        (&[("size", "-1")], "size"),
        (&[("size", "18446744073709551615")], "size"),
        (
            &[("GNU.sparse.size", "18446744073709551615"), ("GNU.sparse.map", "")],
            "larger",
        ),
        (&[("uid", "4294967296")], "uid"),
        (&[("mtime", "never")], "mtime"),
        (&[("VEXFS.flags", "0xffffffff")], "VEXFS.flags"),
        (&[("VEXFS.promised", "0+0")], "VEXFS.promised"),
        (&[("VEXFS.promised", "18446744073709551615+2")], "VEXFS.promised"),
        (&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")], "version"),
        (
            &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")],
            "size of the file",
        ),
        (
            &[("GNU.sparse.size", "100"), ("GNU.sparse.map", "0,200")],
            "overlap or leave",
        ),
        (
            &[("GNU.sparse.size", "100"), ("GNU.sparse.map", "50,10,0,10")],
            "overlap or leave",
        ),
        (&[("GNU.sparse.size", "100"), ("GNU.sparse.map", "0")], "missing"),
        (
            &[("GNU.sparse.size", "100"), ("GNU.sparse.map", "0,100")],
            "length of the contents",
        ),
    ] {
        let told = refusal(&with_records(records, b""));
        assert!(told.contains(text), "{records:?}: {told}");
    }
    let map = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.realsize", "9000"),
    ];
    let numbers = format!("999\n{}", "0\n".repeat(254));
    for (contents, text) in [
        (&b"99999999999\n"[..], "too many"),
        (numbers.as_bytes(), "does not end"),
        (b"x\n", "missing"),
        (&[b'1'; 512], "too long"),
    ] {
        let mut block = contents.to_vec();
        block.resize(512, b'1');
        let told = refusal(&with_records(&map, &block));
        assert!(told.contains(text), "{text}: {told}");
    }
    for malformed in [
        &b"5 a=b\n"[..],
        b"9999 a=b\n",
        b"0 a=b\n",
        b"-6 a=b\n",
        b"6 a=bc",
        b"6 abc\n",
        b"99999999999999999999999 a",
    ] {
        let told = refusal(&raw(b'x', malformed.len() as u64, malformed));
        assert!(told.contains("malformed"), "{malformed:?}: {told}");
    }
    // Records that are for all members may not grow from header to header.
    let mut many = Vec::new();
    for index in 0..40 {
        let mut records = Records::default();
        records.push(format!("comment{index}"), vec![b'x'; 8000]);
        let encoded = records.encode();
        many.extend(raw(b'g', encoded.len() as u64, &encoded));
    }
    assert!(refusal(&many).contains("extended records of"));
}

#[test]
fn what_is_no_archive_or_not_all_of_one_is_told() {
    assert!(refusal(b"").contains("no tar archive"));
    assert!(refusal(&[b'x'; 600]).contains("no tar archive"));
    let mut compressed = vec![0x28, 0xb5, 0x2f, 0xfd];
    compressed.resize(600, 1);
    assert!(refusal(&compressed).contains("zstd -dc"));
    let node = Node {
        size: 1000,
        ..Node::new(Kind::File)
    };
    let whole = archive(b"name", &node, &Map::whole(1000));
    for length in (1..2560).step_by(7).chain([2048, 2560]) {
        let told = refusal(&whole[..length]);
        let expected = ["cut short", "no tar archive", "end mark"];
        assert!(expected.iter().any(|text| told.contains(text)), "{length}: {told}");
    }
    let mut damaged = whole.clone();
    damaged[1024 + 100] ^= 1;
    assert!(refusal(&damaged).contains("checksum"));
    assert_eq!(read(&whole).unwrap().len(), 1);
}
