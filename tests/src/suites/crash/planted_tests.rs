// SPDX-License-Identifier: MIT OR Apache-2.0

//! The crash loop's judge is judged: faults are planted, and each must be told.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::model::{How, Node, Op, Pending, State};
use super::recognise;
use super::workload::{Writer, perform};

/// Damages a tree.
type Plant = fn(&Path);

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("lab-crash-{}-{name}", std::process::id()));
        let _fresh = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        Self(place)
    }

    fn writer(&self, seed: u64) -> Writer {
        let random = fastrand::Rng::with_seed(seed);
        Writer::new(self.0.join("tree"), random, &self.0.join("log")).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// A tree that a writer made with some hundred calls.
fn worked(place: &Place, seed: u64) -> Writer {
    let mut writer = place.writer(seed);
    for _ in 0..600 {
        writer.step().unwrap();
    }
    writer
}

fn example(writer: &mut Writer, ops: &[Op]) {
    for op in ops {
        let count = perform(&writer.root, op).unwrap();
        writer.state.apply(op, count);
    }
}

fn write(path: &str, offset: u64, length: usize, seed: u64) -> Op {
    Op::Write {
        path: path.into(),
        offset,
        length,
        seed,
        how: How::Plain,
    }
}

/// One file of each property that the judge looks at.
fn small_tree(writer: &mut Writer) {
    let create = |path: &str| Op::Create {
        path: path.into(),
        mode: 0o644,
    };
    example(
        writer,
        &[
            create("a"),
            write("a", 0, 10_000, 1),
            Op::Link {
                from: "a".into(),
                to: "b".into(),
            },
            Op::MakeDirectory { path: "d".into() },
            create("d/c"),
            write("d/c", 0, 300_000, 2),
            Op::SetAttribute {
                path: "d/c".into(),
                value: b"value".to_vec(),
            },
            Op::SetTimes {
                path: "d/c".into(),
                modified: (1_000_000, 7),
            },
            Op::Symlink {
                path: "l".into(),
                target: "a".into(),
            },
        ],
    );
}

fn differences(writer: &Writer) -> Vec<String> {
    writer.state.differences(&State::read(&writer.root).unwrap())
}

#[test]
fn what_a_writer_did_is_what_it_says_it_did() {
    for seed in 1..6 {
        let place = Place::new(&format!("honest-{seed}"));
        let writer = worked(&place, seed);
        assert_eq!(differences(&writer), Vec::<String>::new(), "seed {seed}");
        assert!(writer.state.names.len() > 10, "the writer leaves something to look at");
    }
}

#[test]
fn every_planted_fault_is_told() {
    let faults: [(&str, Plant); 11] = [
        ("a file is gone", |root| fs::remove_file(root.join("d/c")).unwrap()),
        ("an unlinked file is back", |root| {
            fs::write(root.join("d/old"), "").unwrap();
        }),
        ("one bit differs", |root| {
            let file = File::options().read(true).write(true).open(root.join("a")).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, 5000).unwrap();
            file.write_all_at(&[byte[0] ^ 1], 5000).unwrap();
        }),
        ("the end is cut", |root| truncate(&root.join("a"), 9_999)),
        ("the end has grown", |root| truncate(&root.join("a"), 10_001)),
        ("a block reads as zeros", |root| {
            let file = File::options().write(true).open(root.join("d/c")).unwrap();
            file.write_all_at(&[0; 4096], 8192).unwrap();
        }),
        ("an attribute is gone", |root| {
            xattr::remove(root.join("d/c"), "user.suite").unwrap();
        }),
        ("the mode is another", |root| {
            fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("a time is another", |root| {
            let file = File::options().write(true).open(root.join("d/c")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }),
        ("a link became a copy", |root| {
            fs::remove_file(root.join("b")).unwrap();
            fs::copy(root.join("a"), root.join("b")).unwrap();
        }),
        ("a name stands for something else", |root| {
            fs::remove_file(root.join("l")).unwrap();
            fs::create_dir(root.join("l")).unwrap();
        }),
    ];
    for (number, (name, plant)) in faults.into_iter().enumerate() {
        let place = Place::new(&format!("planted-{number}"));
        let mut writer = place.writer(0);
        small_tree(&mut writer);
        assert_eq!(differences(&writer), Vec::<String>::new());
        plant(&writer.root);
        assert_ne!(differences(&writer), Vec::<String>::new(), "{name}");
    }
}

fn truncate(path: &Path, length: u64) {
    File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

#[test]
fn an_answered_call_that_left_no_trace_is_told() {
    let place = Place::new("dropped");
    let mut told = 0;
    for seed in 1..4 {
        let inner = Place(place.0.join(seed.to_string()));
        fs::create_dir_all(&inner.0).unwrap();
        let mut writer = worked(&inner, seed);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..100 {
            // The book says it was done; the tree knows nothing of it.
            let op = super::workload::choose(&writer.state, &mut random);
            let before = writer.state.clone();
            writer.state.apply(&op, op.length());
            let told_now = !differences(&writer).is_empty();
            let visible = writer.state.differences(&before).len() + before.differences(&writer.state).len() > 0;
            assert_eq!(told_now, visible, "{op:?}");
            told += u32::from(told_now);
            writer.state = before;
        }
    }
    assert!(told > 100, "most calls can be seen: {told}");
}

fn recognised(pending: &Pending, writer: &Writer) -> bool {
    recognise(writer.state.outcomes(pending), &State::read(&writer.root).unwrap()).is_ok()
}

#[test]
fn of_a_write_that_was_cut_short_the_answered_bytes_are_there_and_more_may_be() {
    let place = Place::new("cut");
    let mut writer = place.writer(0);
    small_tree(&mut writer);
    let op = write("a", 100, 200_000, 9);
    let cut = Pending {
        op: op.clone(),
        answered: 8192 - 100,
    };
    assert!(!recognised(&cut, &writer), "nothing of it");
    perform(&writer.root, &write("a", 100, 4096 - 100, 9)).unwrap();
    assert!(!recognised(&cut, &writer), "less than was answered");
    perform(&writer.root, &write("a", 100, 8192 - 100, 9)).unwrap();
    assert!(recognised(&cut, &writer), "what was answered");
    perform(&writer.root, &op).unwrap();
    assert!(recognised(&cut, &writer), "the rest was done, and nobody told of it");
}

#[test]
fn a_write_past_the_page_cache_may_end_between_its_bytes_and_the_growth_of_the_file() {
    let place = Place::new("growth");
    let mut writer = place.writer(0);
    let create = Op::Create {
        path: "a".into(),
        mode: 0o644,
    };
    example(&mut writer, &[create, write("a", 0, 20_000, 8)]);
    let direct = Op::Write {
        path: "a".into(),
        offset: 16_384,
        length: 200_704,
        seed: 9,
        how: How::Direct,
    };
    let pending = Pending::new(direct.clone());
    perform(&writer.root, &direct).unwrap();
    truncate(&writer.root.join("a"), 20_000);
    assert!(recognised(&pending, &writer), "the bytes, not the growth");
    truncate(&writer.root.join("a"), 19_999);
    assert!(!recognised(&pending, &writer), "shorter than it was");
    truncate(&writer.root.join("a"), 20_001);
    assert!(
        !recognised(&pending, &writer),
        "neither the old size nor one that was written"
    );
}

#[test]
fn of_a_write_that_failed_the_time_may_be_there_and_of_another_call_not() {
    let place = Place::new("time");
    let mut writer = place.writer(0);
    small_tree(&mut writer);
    let modified = (1_000_000, 5);
    let times = Op::SetTimes {
        path: "a".into(),
        modified,
    };
    let create = Op::Create {
        path: "other".into(),
        mode: 0o644,
    };
    example(&mut writer, &[times, create]);
    let file = fs::File::options().write(true).open(writer.root.join("a")).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
    assert!(recognised(&Pending::new(write("a", 100, 3_000, 9)), &writer));
    assert!(
        !recognised(&Pending::new(write("other", 100, 3_000, 9)), &writer),
        "another file's"
    );
    let mode = Op::SetMode {
        path: "a".into(),
        mode: 0o600,
    };
    assert!(!recognised(&Pending::new(mode), &writer));
}

#[test]
fn of_a_hole_that_failed_the_ends_may_be_zeros_and_nothing_else() {
    let place = Place::new("hole");
    let mut writer = place.writer(0);
    small_tree(&mut writer);
    let hole = |offset, length| Op::Punch {
        path: "d/c".into(),
        offset,
        length,
    };
    let whole = Pending::new(hole(5000, 20_000));
    perform(&writer.root, &hole(5000, 8192 - 5000)).unwrap();
    assert!(recognised(&whole, &writer), "the head");
    perform(&writer.root, &hole(24_576, 25_000 - 24_576)).unwrap();
    assert!(recognised(&whole, &writer), "both ends");
    perform(&writer.root, &hole(12_288, 4096)).unwrap();
    assert!(!recognised(&whole, &writer), "a block between them");
    perform(&writer.root, &hole(5000, 20_000)).unwrap();
    assert!(recognised(&whole, &writer), "done");
}

#[test]
fn an_interrupted_call_may_be_done_or_not_but_not_half_of_a_page() {
    let place = Place::new("interrupted");
    let mut writer = place.writer(0);
    small_tree(&mut writer);
    let short = write("a", 100, 3_000, 9);
    let long = write("a", 100, 200_000, 9);
    let allowed = |op: &Op, writer: &Writer| recognised(&Pending::new(op.clone()), writer);
    assert!(allowed(&short, &writer) && allowed(&long, &writer), "not done");
    perform(&writer.root, &write("a", 100, 1_000, 9)).unwrap();
    assert!(!allowed(&short, &writer), "half of one within a page");
    perform(&writer.root, &write("a", 100, 8192 - 100, 9)).unwrap();
    assert!(allowed(&long, &writer), "the beginning of a long one, up to a page");
    perform(&writer.root, &write("a", 100, 8292, 9)).unwrap();
    assert!(!allowed(&long, &writer), "up to the middle of a page");
    perform(&writer.root, &long).unwrap();
    assert!(allowed(&long, &writer), "done");
    let rename = Op::Rename {
        from: "a".into(),
        to: "z".into(),
    };
    let mut writer = writer;
    writer.state = State::read(&writer.root).unwrap();
    assert!(allowed(&rename, &writer));
    fs::hard_link(writer.root.join("a"), writer.root.join("z")).unwrap();
    assert!(!allowed(&rename, &writer), "both names at once");
    fs::remove_file(writer.root.join("a")).unwrap();
    assert!(allowed(&rename, &writer));
    assert!(matches!(writer.state.names[Path::new("b")], Node::File(_)));
    assert_eq!(fs::metadata(writer.root.join("z")).unwrap().nlink(), 2);
}
