// SPDX-License-Identifier: MIT OR Apache-2.0

//! The application is believed when it finds fault, and when it finds none: both are tried here.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::plan::{PAGE, Way};
use super::*;

const SEED: u64 = 7;

/// Where a worker did so many steps, and how many of them are durable.
struct Scene {
    root: TempDir,
    worker: Worker,
    promised: u64,
}

impl Scene {
    fn after(steps: u64) -> Self {
        // Attributes of users need a real filesystem.
        let root = TempDir::new_in("/var/tmp").unwrap();
        let mut scene = Self {
            worker: Worker::found(root.path(), SEED, 0, 0).unwrap(),
            root,
            promised: 0,
        };
        while scene.worker.done < steps {
            scene.step();
        }
        scene
    }

    fn next(&self) -> Step {
        self.worker.plan.step(self.worker.done, &self.worker.state)
    }

    fn step(&mut self) {
        let step = self.next();
        perform(&self.worker.directory, &step).unwrap();
        self.worker.state.apply(&step);
        self.worker.done += 1;
        if step.is_durable() {
            self.promised = self.worker.done;
        }
    }

    /// Goes on until this kind of step is next.
    fn until(&mut self, wanted: impl Fn(&Step) -> bool) -> Step {
        while !wanted(&self.next()) {
            self.step();
        }
        self.next()
    }

    fn look(&self) -> Result<u64> {
        Worker::found(self.root.path(), SEED, 0, self.promised).map(|worker| worker.done)
    }

    fn path(&self, name: u8) -> PathBuf {
        self.worker.directory.join(perform::name_of(name))
    }
}

#[test]
fn what_was_done_is_found_wherever_it_stopped() {
    let mut scene = Scene::after(0);
    for _ in 0..300 {
        scene.step();
        let found = scene.look().unwrap();
        assert!(scene.promised <= found && found <= scene.worker.done);
    }
}

#[test]
fn it_goes_on_from_what_it_finds() {
    let mut scene = Scene::after(100);
    for _ in 0..20 {
        scene.worker = Worker::found(scene.root.path(), SEED, 0, scene.promised).unwrap();
        for _ in 0..13 {
            scene.step();
        }
    }
    assert!(scene.look().is_ok());
}

#[test]
fn a_lost_promise_is_found() {
    let scene = Scene::after(200);
    let names: Vec<u8> = scene.worker.state.names().collect();
    for name in names {
        let path = scene.path(name);
        let kept = scene.root.path().join("kept");
        fs::rename(&path, &kept).unwrap();
        let told = scene.look().map(drop).unwrap_err().to_string();
        assert!(told.contains("is missing"), "{told}");
        fs::rename(&kept, &path).unwrap();
    }
    assert!(scene.look().is_ok());
    fs::write(scene.worker.directory.join("file-99"), "").unwrap();
    assert!(scene.look().is_err(), "a file that nobody made");
}

#[test]
fn one_wrong_byte_or_attribute_is_found() {
    let scene = Scene::after(203);
    let largest = scene
        .worker
        .state
        .names()
        .max_by_key(|&name| scene.worker.state.size(name))
        .unwrap();
    let path = scene.path(largest);
    let bytes = fs::read(&path).unwrap();
    for at in [0, bytes.len() / 2, bytes.len() - 1] {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        fs::write(&path, wrong).unwrap();
        assert!(scene.look().is_err(), "byte {at}");
    }
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(scene.look().is_err(), "a lost end");
    fs::write(&path, &bytes).unwrap();
    assert!(scene.look().is_ok());
    xattr::set(&path, perform::ATTRIBUTE, b"another").unwrap();
    assert!(scene.look().is_err());
}

#[test]
fn of_a_write_under_way_pages_may_be_there_and_nothing_else() {
    let mut scene = Scene::after(40);
    let large = |step: &Step| matches!(step, Step::Write { piece, way: Way::Synced, .. } if piece.length > 3 * PAGE);
    let Step::Write { name, piece, .. } = scene.until(large) else {
        unreachable!()
    };
    let file = fs::File::options().write(true).open(scene.path(name)).unwrap();
    let before = fs::read(scene.path(name)).unwrap();
    let bytes = perform::bytes_of(&piece);
    let first = usize::try_from(PAGE - piece.at % PAGE).unwrap();
    file.write_all_at(&bytes[..first], piece.at).unwrap();
    assert!(scene.look().is_ok(), "the first page");
    file.write_all_at(&bytes[..=first], piece.at).unwrap();
    let whole = before.len() as u64 >= piece.end();
    assert_eq!(scene.look().is_err(), whole, "a byte of the second, over others");
    file.write_all_at(&[bytes[0] ^ 1], piece.at).unwrap();
    assert!(scene.look().is_err(), "another byte");
}

#[test]
fn bytes_may_be_there_before_the_name_that_the_file_had_got_and_no_longer_file() {
    let mut scene = Scene::after(40);
    // A file gets a name, and is written to.
    let (to, from, piece) = loop {
        let Step::Rename { from, to } = scene.until(|step| matches!(step, Step::Rename { .. })) else {
            unreachable!()
        };
        let state = &scene.worker.state;
        let mut later = state.clone();
        later.apply(&Step::Rename { from, to });
        match scene.worker.plan.step(scene.worker.done + 1, &later) {
            Step::Write { name, piece, .. } if name == to && from != to && piece.end() <= state.size(from) => {
                break (to, from, piece);
            }
            _ => scene.step(),
        }
    };
    let write = |bytes: &[u8], at| {
        let file = fs::File::options().write(true).open(scene.path(from)).unwrap();
        file.write_all_at(bytes, at).unwrap();
    };
    let before = fs::read(scene.path(from)).unwrap();
    write(&perform::bytes_of(&piece), piece.at);
    assert_eq!(scene.look().unwrap(), scene.worker.done, "{from} was to become {to}");
    write(b"more", before.len() as u64);
    assert!(scene.look().is_err(), "a longer file");
    fs::write(scene.path(from), &before).unwrap();
    write(&[before[0] ^ 1], 0);
    assert!(scene.look().is_err(), "another byte");
}

#[test]
fn of_two_steps_the_second_alone_is_refused() {
    let mut scene = Scene::after(40);
    // Two in a row of which nothing is promised, on files that have nothing to do with each other.
    let (first, second) = loop {
        let first = scene.until(|step| matches!(step, Step::Remove { .. }));
        let mut later = scene.worker.state.clone();
        later.apply(&first);
        let second = scene.worker.plan.step(scene.worker.done + 1, &later);
        if matches!(second, Step::Attribute { .. }) {
            break (first, second);
        }
        scene.step();
    };
    perform(&scene.worker.directory, &second).unwrap();
    assert!(scene.look().is_err(), "{second:?} without {first:?}");
    perform(&scene.worker.directory, &first).unwrap();
    assert_eq!(scene.look().unwrap(), scene.worker.done + 2);
}

#[test]
fn pieces_make_the_bytes_that_writing_them_makes() {
    let mut scene = Scene::after(60);
    let truncated = |step: &Step| matches!(step, Step::Truncate { length, .. } if *length > 0);
    for _ in 0..10 {
        scene.until(truncated);
        scene.step();
        scene.step();
        assert!(scene.look().is_ok());
    }
    let cut = Piece {
        at: 0,
        length: 5,
        tag: 3,
    };
    let whole = Piece { length: 20, ..cut };
    assert!(perform::bytes_of(&whole).starts_with(&perform::bytes_of(&cut)));
}
