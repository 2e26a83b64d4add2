// SPDX-License-Identifier: MIT OR Apache-2.0

//! Vectors through the mounted filesystem: as attributes, and through the query file.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use nix::libc;

use crate::support::{Mounted, errno, get_xattr, remove_xattr, set_xattr};

fn open(mounted: &Mounted) -> File {
    let path = mounted.at(".vexfs/query");
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Writes a request and reads the answer on the same descriptor.
fn ask(mounted: &Mounted, request: &str) -> String {
    let mut query = open(mounted);
    query.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    query.read_to_string(&mut answer).unwrap();
    answer
}

const PYTHON: &str = r"python3 - <<'END'
import array, json, os
def ask(request):
    query = os.open('.vexfs/query', os.O_RDWR)
    os.write(query, json.dumps(request).encode())
    answer = b''
    while part := os.read(query, 65536):
        answer += part
    os.close(query)
    return json.loads(answer)
assert 'error' not in ask({'op': 'create_space', 'name': 'py', 'dimensions': 3, 'metric': 'l2'})
for number in range(5):
    name = f'file{number}'
    open(name, 'w').write(name)
    value = array.array('f', [number, 0, 1]).tobytes()
    os.setxattr(name, 'user.vexfs.vec.py', value)
    assert os.getxattr(name, 'user.vexfs.vec.py') == value
    assert os.listxattr(name) == ['user.vexfs.vec.py']
found = ask({'op': 'search', 'space': 'py', 'query': {'vector': [3.1, 0, 1]}, 'k': 2})
print([hit['path'] for hit in found['results'][0]])
END";

mounted_tests! {
    fn python_sets_vectors_and_finds_files() {
        let mut mounted = Mounted::new();
        assert_eq!(mounted.run(PYTHON), "['/file3', '/file4']\n");
        mounted.check();
    }

    /// `packaging/python`: its own tests, here.
    fn the_python_client_puts_gets_and_finds_vectors() {
        let mut mounted = Mounted::new();
        let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/python");
        let output = Command::new("python3")
            .args(["-B", "-W", "error", "-m", "unittest", "discover", "--start-directory", "tests"])
            .current_dir(client)
            .env("PYTHONPATH", "src")
            .env("VEXFS_MOUNT", mounted.root())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let tests = |said: &str| {
            let count = said.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse::<u32>().ok());
            count.unwrap()
        };
        // Nothing was skipped but what needs numpy.
        assert!(tests(&said) >= 12 && !said.contains("VEXFS_MOUNT names no mount"), "{said}");
        let skipped = said.lines().last().unwrap();
        assert!(["OK", "OK (skipped=1)"].contains(&skipped), "{said}");
        mounted.check();
    }

    fn an_attribute_is_a_vector_and_wrong_ones_are_refused() {
        let mut mounted = Mounted::new();
        let path = mounted.write("f", "");
        assert_eq!(errno(set_xattr(&path, "user.vexfs.vec.s", &[0; 8], 0)), libc::EOPNOTSUPP);
        let made = ask(&mounted, r#"{"op": "create_space", "name": "s", "dimensions": 2}"#);
        assert!(made.contains("\"id\""), "{made}");
        assert_eq!(errno(set_xattr(&path, "user.vexfs.vec.s", &[0; 7], 0)), libc::EINVAL);
        assert_eq!(errno(set_xattr(&path, "user.vexfs.vec.s", &[0xff; 8], 0)), libc::EINVAL);
        set_xattr(&path, "user.vexfs.vec.s", &[1; 16], 0).unwrap();
        mounted.unmount();
        mounted.mount("").unwrap();
        assert_eq!(get_xattr(&path, "user.vexfs.vec.s").unwrap(), [1; 16]);
        remove_xattr(&path, "user.vexfs.vec.s").unwrap();
        assert_eq!(errno(get_xattr(&path, "user.vexfs.vec.s")), libc::ENODATA);
        mounted.check();
    }

    fn each_open_descriptor_has_its_own_answer() {
        let mounted = Mounted::new();
        assert_eq!(mounted.run("ls -A"), "", "the directory is not listed");
        let about = std::fs::metadata(mounted.at(".vexfs/query")).unwrap();
        assert_eq!(about.mode() & 0o7777, 0o666);
        let (mut one, mut other) = (open(&mounted), open(&mounted));
        one.write_all(br#"{"op": "spaces"}"#).unwrap();
        other.write_all(br#"{"op": "#).unwrap();
        other.write_all(br#""nothing"}"#).unwrap();
        let read = |from: &mut File| {
            let mut answer = String::new();
            from.read_to_string(&mut answer).unwrap();
            answer
        };
        assert_eq!(read(&mut one), "{\"spaces\":[],\"version\":1}\n");
        assert!(read(&mut other).contains("EINVAL"));
        let again = one.write_all(b"{}").unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EBUSY));
        // A large answer, and a request of many pages.
        let mut large = open(&mounted);
        let request = format!("{}{}", " ".repeat(100_000), r#"{"op": "spaces"}"#);
        large.write_all(request.as_bytes()).unwrap();
        assert_eq!(read(&mut large), "{\"spaces\":[],\"version\":1}\n");
    }

    fn a_search_tells_nobody_what_he_could_not_find_himself() {
        let mounted = Mounted::new();
        mounted.run("chmod 755 .; mkdir -m 700 private; echo > open; echo > private/closed; chmod 644 open private/closed");
        ask(&mounted, r#"{"op": "create_space", "name": "s", "dimensions": 1, "metric": "l2"}"#);
        let put = r#"{"op": "put", "space": "s", "items":
            [{"path": "/open", "vectors": [[1]]}, {"path": "/private/closed", "vectors": [[2]]}]}"#;
        assert!(ask(&mounted, put).contains("\"vectors\":2"));
        let search = r#"exec 3<>.vexfs/query; echo '{"op": "search", "space": "s", "query": {"vector": [2]}}' >&3; cat <&3"#;
        let found = mounted.run_as(1000, 1000, search).unwrap();
        assert!(found.contains("\"/open\"") && !found.contains("closed"), "{found}");
        assert!(mounted.run(search).contains("/private/closed"));
    }
}
