// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading directories while they change, and from remembered positions.

use std::collections::BTreeSet;
use std::fs;

use crate::support::Mounted;

fn make(mounted: &Mounted, count: usize) {
    fs::create_dir(mounted.at("d")).unwrap();
    for number in 0..count {
        fs::write(mounted.at(&format!("d/{number}")), "").unwrap();
    }
}

mounted_tests! {
    fn removing_while_reading_misses_nothing() {
        let mounted = Mounted::new();
        make(&mounted, 3000);
        let mut seen = 0;
        for entry in fs::read_dir(mounted.at("d")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
            seen += 1;
        }
        assert_eq!(seen, 3000);
        fs::remove_dir(mounted.at("d")).unwrap();
    }

    fn what_is_there_all_the_time_is_listed_once_whatever_comes_and_goes() {
        let mounted = Mounted::new();
        make(&mounted, 2000);
        let mut seen = BTreeSet::new();
        for (round, entry) in fs::read_dir(mounted.at("d")).unwrap().enumerate() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if let Ok(number) = name.parse::<usize>() {
                assert!(seen.insert(number), "{number} twice");
            }
            fs::write(mounted.at(&format!("d/new-{round}")), "").unwrap();
            let _ = fs::remove_file(mounted.at(&format!("d/new-{}", round / 2)));
            assert!(round < 20_000, "the listing does not end");
        }
        assert_eq!(seen.len(), 2000);
    }

    fn a_remembered_position_can_be_gone_back_to() {
        let mounted = Mounted::new();
        make(&mounted, 500);
        // Positions of the C library are the kernel's: ours.
        let script = "
import ctypes, os
c = ctypes.CDLL(None, use_errno=True)
c.opendir.restype = c.readdir.restype = ctypes.c_void_p
c.telldir.restype = ctypes.c_long
for f in (c.readdir, c.telldir, c.closedir): f.argtypes = [ctypes.c_void_p]
c.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
d = c.opendir(b'd')
def name():
    e = c.readdir(d)
    return e and ctypes.string_at(e + 19)
places = []
while True:
    at = c.telldir(d)
    n = name()
    if not n: break
    places.append((at, n))
assert len(places) == 502, len(places)
assert all(0 <= at for at, _ in places)
os.unlink(b'd/7')
for at, n in places[::17] + places[::-13]:
    if n == b'7': continue
    c.seekdir(d, at)
    assert name() == n
";
        mounted.run(&format!("cat >/dev/null; python3 - <<'E'\n{script}\nE"));
    }

    fn a_listing_with_attributes_shows_them_right() {
        let mut mounted = Mounted::new();
        make(&mounted, 300);
        mounted.run("cd d; for n in 1 2 3; do echo $n >$n; done; chmod 600 9; mkdir sub");
        mounted.unmount();
        mounted.mount("").unwrap();
        // Nothing is known to the kernel now: this reads names and attributes together.
        let list = mounted.run("ls -lR d");
        assert_eq!(list.lines().filter(|line| line.starts_with("-rw")).count(), 300);
        assert_eq!(list.lines().filter(|line| line.starts_with("-rw-------")).count(), 1);
        mounted.run("rm -r d");
        mounted.check();
    }

    fn directories_know_themselves_and_their_parent() {
        let mounted = Mounted::new();
        mounted.run("mkdir -p a/b; [ $(stat -c %i a) = $(stat -c %i a/b/..) ] && [ $(stat -c %i a) = $(stat -c %i a/.) ]");
        assert_eq!(mounted.run("ls -ai a/b | wc -l").trim(), "2");
        mounted.run("mkdir c && mv a/b c && [ $(stat -c %i c) = $(stat -c %i c/b/..) ]");
        assert_eq!(mounted.run("ls -ai c/b | awk '$2 == \"..\" { print $1 }'"), mounted.run("stat -c %i c"));
    }
}
