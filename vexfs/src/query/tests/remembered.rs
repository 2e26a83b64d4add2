// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is remembered of filters, while files change in every way that matters to one.

use super::*;
use crate::acl::ACCESS;
use crate::fs::SetAttributes;

const DIRECTORIES: [&str; 4] = ["/one", "/two", "/two/three", "/four"];

/// Two users' files in directories that move.
struct Model {
    fs: Fs,
    random: fastrand::Rng,
    directories: Vec<Ino>,
    files: Vec<Ino>,
    made: u32,
}

impl Model {
    fn new(seed: u64) -> Self {
        let fs = mount();
        let (permissions, now) = (Some(0o755), NOW);
        let open = SetAttributes {
            permissions,
            now,
            ..Default::default()
        };
        fs.set_attributes(Ino::ROOT, &open).unwrap();
        ask(
            &fs,
            json!({"op": "create_space", "name": "plane", "dimensions": 2, "metric": "l2",
            "fields": [{"name": "user.lang", "use": "filter"}]}),
        );
        let directories = DIRECTORIES.map(|path| make(&fs, path, Kind::Directory, 0o755, 1));
        let random = fastrand::Rng::with_seed(seed);
        let mut model = Self {
            fs,
            random,
            directories: directories.into(),
            files: Vec::new(),
            made: 0,
        };
        (0..24).for_each(|_| model.create());
        model
    }

    fn any(&mut self, inos: impl Fn(&Self) -> &Vec<Ino>) -> Option<Ino> {
        let count = inos(self).len();
        let at = (count > 0).then(|| self.random.usize(..count))?;
        Some(inos(self)[at])
    }

    fn put(&mut self, ino: Ino) {
        let vector = json!([self.random.f64() * 8.0, self.random.f64() * 8.0]);
        let Some(path) = self.fs.path_of(ino).unwrap() else {
            return;
        };
        let items = json!([{"path": String::from_utf8(path).unwrap(), "vectors": [vector], "whole": true}]);
        ask(&self.fs, json!({"op": "put", "space": "plane", "items": items}));
    }

    fn create(&mut self) {
        let directory = self.any(|model| &model.directories).unwrap();
        self.made += 1;
        let new = NewFile {
            kind: Kind::File,
            permissions: 0o644,
            uid: self.random.u32(1..3),
            gid: 1,
            device: 0,
            target: b"",
            now: NOW,
        };
        let name = format!("{}.{}", self.made, ["txt", "md"][self.random.usize(..2)]);
        let ino = self.fs.create(directory, name.as_bytes(), &new).unwrap().ino;
        self.files.push(ino);
        self.put(ino);
    }

    fn set(&mut self, ino: Ino, set: &SetAttributes) {
        self.fs.set_attributes(ino, set).unwrap();
    }

    /// Moves a name somewhere else, if it may go there.
    fn rename(&mut self, ino: Ino) {
        let to = self.any(|model| &model.directories).unwrap();
        let Some(called) = self.fs.names_of(ino, 1).unwrap().pop() else {
            return;
        };
        self.made += 1;
        let name = format!("{}.txt", self.made);
        // Not into itself.
        let _ = self
            .fs
            .rename(called.directory, &called.name, to, name.as_bytes(), 0, NOW);
    }

    fn act(&mut self) {
        let now = NOW;
        let permissions = Some([0o755, 0o700, 0o750, 0o711][self.random.usize(..4)]);
        let (file, directory) = (
            self.any(|model| &model.files),
            self.any(|model| &model.directories).unwrap(),
        );
        let Some(file) = file else {
            return self.create();
        };
        let uid = Some(self.random.u32(1..3));
        match self.random.u8(..13) {
            0 | 1 => self.create(),
            2 => {
                let called = self.fs.names_of(file, 1).unwrap().pop().unwrap();
                self.fs.unlink(called.directory, &called.name, NOW).unwrap();
                if self.fs.attributes(file).is_err() {
                    self.files.retain(|other| *other != file);
                }
            }
            3 => self.put(file),
            4 => self.set(
                file,
                &SetAttributes {
                    permissions,
                    now,
                    ..Default::default()
                },
            ),
            5 => self.set(
                file,
                &SetAttributes {
                    uid,
                    now,
                    ..Default::default()
                },
            ),
            6 => self.set(
                directory,
                &SetAttributes {
                    permissions,
                    now,
                    ..Default::default()
                },
            ),
            7 => self.rename(file),
            8 => self.rename(directory),
            9 => {
                let lang = ["en", "fr"][self.random.usize(..2)].as_bytes();
                self.fs.set_xattr(file, b"user.lang", lang, 0, NOW).unwrap();
            }
            10 => {
                self.made += 1;
                let name = format!("{}.md", self.made);
                self.fs.link(file, directory, name.as_bytes(), NOW).unwrap();
            }
            11 => {
                let length = self.random.usize(1..900);
                self.fs.write(file, 0, &vec![b'x'; length], NOW).unwrap();
            }
            _ => {
                // user 2 may do nothing with it, whatever its mode says.
                let entries: [(u16, u16, u32); 5] = [(1, 7, !0), (2, 0, 2), (4, 5, !0), (16, 5, !0), (32, 5, !0)];
                let mut list = 2_u32.to_le_bytes().to_vec();
                for (tag, bits, id) in entries {
                    list.extend([tag.to_le_bytes(), bits.to_le_bytes()].concat());
                    list.extend(id.to_le_bytes());
                }
                let whose = if self.random.bool() { file } else { directory };
                self.fs.set_xattr(whose, ACCESS, &list, 0, NOW).unwrap();
            }
        }
        if self.random.u8(..16) == 0 {
            self.fs.seal_vectors().unwrap();
        }
    }

    /// Every filter finds the same as looking at everything.
    fn compare(&mut self) {
        let filters = [
            json!({"and": []}),
            json!({"under": "/two"}),
            json!({"owner": 2}),
            json!({"name": "*.md"}),
            json!({"xattr": {"name": "user.lang", "is": "en"}}),
            json!({"and": [{"size": {"from": 100}}, {"not": {"under": "/one"}}]}),
            json!({"or": [{"owner": 1}, {"name": "1*"}]}),
        ];
        let vector = json!([self.random.f64() * 8.0, self.random.f64() * 8.0]);
        for (uid, filter) in [0, 1, 2]
            .into_iter()
            .flat_map(|uid| filters.iter().map(move |filter| (uid, filter)))
        {
            let request = |exact: bool| {
                json!({"op": "search", "space": "plane", "query": {"vector": vector}, "k": 5, "filter": filter,
                    "exact": exact, "attributes": ["ino"]})
            };
            let (found, all) = (
                ask_as(&self.fs, uid, &request(false)),
                ask_as(&self.fs, uid, &request(true)),
            );
            assert_eq!(found.get("error"), all.get("error"), "{found} {all}");
            assert_eq!(found["results"], all["results"], "user {uid}, {filter}");
        }
    }
}

#[test]
fn a_filter_lets_pass_what_passes_now_whatever_happened_since_it_was_last_used() {
    for seed in 0..4 {
        let mut model = Model::new(seed);
        for _ in 0..150 {
            model.act();
            if model.random.bool() {
                model.compare();
            }
        }
    }
}
