// SPDX-License-Identifier: MIT OR Apache-2.0

//! The file `.vexfs/query` of a mount by the kernel module.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab_guest::sys;
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, umount2};
use serde_json::{Value, json};

use crate::interfaces::Namespace;
use crate::served::{AT, Server, at, drop_caches};
use crate::syscalls::{handle_of, mount_mapped};

const QUERY: &str = ".vexfs/query";
/// The module waits so long and three times half of it; and what an emulated machine needs besides.
const TIMEOUT: &str = "timeout=1000";
const BOUND: Duration = Duration::from_secs(10);

fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(at(QUERY))
}

/// The answer to what was written to a descriptor, which stands behind it.
fn answer(query: &mut File) -> Result<Value> {
    let mut answer = Vec::new();
    query.read_to_end(&mut answer)?;
    serde_json::from_slice(&answer).with_context(|| String::from_utf8_lossy(&answer).into_owned())
}

fn ask(request: &Value) -> Result<Value> {
    let mut query = open()?;
    query.write_all(request.to_string().as_bytes())?;
    answer(&mut query)
}

fn done(request: &Value) -> Result<Value> {
    let answer = ask(request)?;
    ensure!(answer.get("error").is_none(), "{request}: {answer}");
    Ok(answer)
}

fn make_space() -> Result<Value> {
    done(&json!({"op": "create_space", "name": "s", "dimensions": 2, "metric": "l2"}))
}

fn search(vector: [f64; 2]) -> Value {
    json!({"op": "search", "space": "s", "query": {"vector": vector}})
}

fn paths(answer: &Value) -> Result<Vec<String>> {
    let hits = answer.pointer("/results/0").and_then(Value::as_array);
    let hits = hits.with_context(|| answer.to_string())?;
    Ok(hits
        .iter()
        .filter_map(|hit| Some(hit["path"].as_str()?.to_owned()))
        .collect())
}

/// What a shell does as another user.
fn as_user(user: u32, groups: &str, script: &str) -> Result<String> {
    let user = user.to_string();
    let groups = if groups.is_empty() {
        "--clear-groups".to_owned()
    } else {
        format!("--groups={groups}")
    };
    sys::output(
        "setpriv",
        &["--reuid", &user, "--regid", &user, &groups, "sh", "-ec", script],
    )
}

/// Searches as another user, below a mount point.
fn found_by(user: u32, groups: &str, mount: &str) -> Result<Vec<String>> {
    let script = format!("exec 3<>{mount}/{QUERY}; echo '{}' >&3; cat <&3", search([0.0, 0.0]));
    paths(&serde_json::from_str(&as_user(user, groups, &script)?)?)
}

fn refused<T>(what: &str, result: io::Result<T>, errno: Errno) -> Result<()> {
    match result {
        Ok(_) => bail!("{what} succeeded"),
        Err(error) => {
            ensure!(
                error.raw_os_error() == Some(errno as i32),
                "{what}: {error}, not {errno}"
            );
            Ok(())
        }
    }
}

#[lab_guest::test(modules = ["vexfs"], timeout = 240)]
fn files_are_found_by_their_vectors_as_far_as_the_caller_may_see_them() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    fs::set_permissions(AT, fs::Permissions::from_mode(0o755))?;
    make_space()?;
    fs::create_dir(at("private"))?;
    for (name, owner, mode) in [
        ("open", 0, 0o644),
        ("of 1000", 1000, 0o600),
        ("of group 7", 0, 0o640),
        ("private/closed", 0, 0o644),
    ] {
        fs::write(at(name), name)?;
        chown(at(name), Some(owner), Some(if name.contains('7') { 7 } else { 0 }))?;
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode))?;
    }
    fs::set_permissions(at("private"), fs::Permissions::from_mode(0o700))?;

    // As an attribute, and through the file.
    let vector: Vec<u8> = [1.0_f32, 0.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    xattr::set(at("open"), "user.vexfs.vec.s", &vector)?;
    let changed = fs::metadata(at("of 1000"))?.ctime_nsec();
    ensure!(xattr::list(at("of 1000"))?.count() == 0);
    let items = ["of 1000", "of group 7", "private/closed"].iter().zip(2..);
    let items: Vec<Value> = items
        .map(|(name, number)| json!({"path": format!("/{name}"), "vectors": [[number, 0]]}))
        .collect();
    let put = done(&json!({"op": "put", "space": "s", "items": items}))?;
    ensure!(put["vectors"] == 3, "{put}");
    // What was cached of the file is asked for again.
    ensure!(
        fs::metadata(at("of 1000"))?.ctime_nsec() != changed,
        "its time of change is old"
    );
    let names: Vec<_> = xattr::list(at("of 1000"))?.collect();
    ensure!(names == ["user.vexfs.vec.s"], "{names:?}");

    let all = ["/open", "/of 1000", "/of group 7", "/private/closed"];
    ensure!(paths(&done(&search([0.0, 0.0]))?)? == all);
    ensure!(found_by(5, "", AT)? == ["/open"]);
    ensure!(found_by(5, "9,7", AT)? == ["/open", "/of group 7"]);
    ensure!(found_by(1000, "", AT)? == ["/open", "/of 1000"]);
    let script = format!(
        "exec 3<>{AT}/{QUERY}; echo '{}' >&3; cat <&3",
        json!({"op": "create_space", "name": "t", "dimensions": 2})
    );
    let refused = as_user(5, "", &script)?;
    ensure!(refused.contains("EPERM"), "{refused}");
    // Who opened the file is the caller, whoever writes to it.
    let script = format!("exec 3<>{AT}/{QUERY}; setpriv --reuid 5 --clear-groups sh -c 'cat >&3; cat <&3'");
    let mut child = Command::new("sh")
        .args(["-ec", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let request = search([0.0, 0.0]).to_string();
    child.stdin.take().context("no input")?.write_all(request.as_bytes())?;
    let told = child.wait_with_output()?;
    ensure!(paths(&serde_json::from_slice(&told.stdout)?)? == all);
    ensure!(mount.counter("hostile")? == 0 && mount.counter("degraded")? == 0);
    mount.unmount()?;
    server.stop_and_check()
}

/// Only the root's file of that name.
fn listed() -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(AT)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

#[lab_guest::test(modules = ["vexfs"], timeout = 240)]
fn the_query_file_is_hidden_and_stays_as_it_is() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    fs::create_dir(at("directory"))?;
    fs::write(at("file"), "bytes")?;
    let look = || -> Result<()> {
        ensure!(listed()? == ["directory", "file"], "{:?}", listed()?);
        let (directory, query) = (fs::metadata(at(".vexfs"))?, fs::metadata(at(QUERY))?);
        ensure!(directory.mode() == libc::S_IFDIR | 0o555, "{directory:?}");
        ensure!(query.mode() == libc::S_IFREG | 0o666, "{query:?}");
        ensure!(fs::read_dir(at(".vexfs"))?.count() == 0);
        ensure!(done(&json!({"op": "spaces"}))?["spaces"] == json!([]));
        Ok(())
    };
    look()?;
    drop_caches()?;
    look().context("after dropping caches")?;
    let mount = mount.again(&server)?;
    look().context("after mounting again")?;
    // Of a directory that is known as a whole nothing is asked.
    look().context("in a directory that is complete")?;

    let (hidden, query) = (at(".vexfs"), at(QUERY));
    refused("mkdir of it", fs::create_dir(&hidden), Errno::EEXIST)?;
    refused("link to it", fs::hard_link(&query, at("linked")), Errno::EPERM)?;
    refused("link over it", fs::hard_link(at("file"), &hidden), Errno::EEXIST)?;
    refused("symlink over it", symlink("file", &hidden), Errno::EEXIST)?;
    refused("rmdir", fs::remove_dir(&hidden), Errno::EPERM)?;
    refused("unlink", fs::remove_file(&query), Errno::EPERM)?;
    refused("rename", fs::rename(&hidden, at("other")), Errno::EPERM)?;
    refused("rename over it", fs::rename(at("directory"), &hidden), Errno::EPERM)?;
    refused("rename out of it", fs::rename(&query, at("other")), Errno::EPERM)?;
    refused(
        "rename into it",
        fs::rename(at("file"), at(".vexfs/other")),
        Errno::ENOENT,
    )?;
    refused("another name", fs::metadata(at(".vexfs/other")), Errno::ENOENT)?;
    refused("mkdir in it", fs::create_dir(at(".vexfs/other")), Errno::ENOENT)?;
    refused("a file in it", File::create(at(".vexfs/other")), Errno::ENOENT)?;
    for path in [&hidden, &query] {
        refused(
            "chmod",
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
            Errno::EPERM,
        )?;
        refused("chown", chown(path, Some(1), None), Errno::EPERM)?;
        refused(
            "an attribute",
            xattr::set(path, "user.some", b"value"),
            Errno::EOPNOTSUPP,
        )?;
        refused("a handle", handle_of(path), Errno::EOVERFLOW)?;
    }
    refused("an open of the directory", File::create(&hidden), Errno::EISDIR)?;
    look().context("after all this")?;
    // Names below other directories are as any.
    fs::create_dir(at("directory/.vexfs"))?;
    fs::rename(at("directory/.vexfs"), at("directory/other"))?;
    ensure!(mount.counter("hostile")? == 0 && mount.counter("degraded")? == 0);
    mount.unmount()?;
    server.stop_and_check()
}

#[lab_guest::test(modules = ["vexfs"], timeout = 240)]
fn each_descriptor_is_a_transaction_and_requests_have_limits() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    let (mut one, mut other) = (open()?, open()?);
    one.write_all(br#"{"op": "spaces"}"#)?;
    other.write_all(br#"{"op": "#)?;
    ensure!(other.read(&mut [0; 9])? == 0, "half a request was answered");
    other.write_all(br#""nothing"}"#)?;
    ensure!(answer(&mut one)?["spaces"] == json!([]));
    ensure!(answer(&mut other)?["error"]["name"] == "EINVAL");
    refused("a second write", one.write(b"{}"), Errno::EBUSY)?;
    // The file is the request and the answer.
    ensure!(one.seek(SeekFrom::Start(1))? == 1);
    let mut whole = String::new();
    one.read_to_string(&mut whole)?;
    ensure!(whole == "\"op\": \"spaces\"}{\"spaces\":[],\"version\":1}\n", "{whole}");
    ensure!(one.seek(SeekFrom::End(0))? == whole.len() as u64 + 1);
    // Anew.
    one.set_len(0)?;
    refused("another length", one.set_len(5), Errno::EINVAL)?;
    one.rewind()?;
    one.write_all(br#"{"op": "flush"}"#)?;
    ensure!(answer(&mut one)? == json!({"version": 1}));
    let truncated = OpenOptions::new().write(true).truncate(true).open(at(QUERY));
    truncated.context("opening with O_TRUNC")?;
    refused(
        "direct I/O",
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(at(QUERY)),
        Errno::EINVAL,
    )?;

    drop((one, other));

    // A request and an answer of many pieces.
    make_space()?;
    let names: Vec<String> = (0..3000).map(|number| format!("/{number:0>200}")).collect();
    let items: Vec<Value> = names
        .iter()
        .map(|name| json!({"path": name, "vectors": [[1, 1]]}))
        .collect();
    let put = done(&json!({"op": "put", "space": "s", "items": items}))?;
    let errors = put["errors"].as_array().context("errors")?;
    ensure!(put["vectors"] == 0 && errors.len() == 3000 && put.to_string().len() > 300_000);
    let mut large = open()?;
    let space = vec![b' '; 16 << 20];
    large.write_all(&space)?;
    refused("a request that is too long", large.write(b"{"), Errno::EFBIG)?;
    // It is all there is room for, three times.
    let mut more = [open()?, open()?, open()?, open()?];
    let room = more.iter_mut().filter_map(|query| query.write_all(&space).ok()).count();
    ensure!(room == 3, "{room} requests of 16 MiB besides one");
    drop((large, more));
    ensure!(make_space().is_err_and(|error| error.to_string().contains("EEXIST")));

    // Several at a time, more than there are lanes.
    std::thread::scope(|scope| -> Result<()> {
        let askers: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| (0..20).try_for_each(|_| done(&search([1.0, 2.0])).map(drop))))
            .collect();
        for asker in askers {
            asker.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })?;
    ensure!(mount.counter("hostile")? == 0 && mount.counter("degraded")? == 0);
    mount.unmount()?;
    server.stop_and_check()
}

#[lab_guest::test(modules = ["vexfs"], timeout = 300)]
fn a_request_outlives_its_server_and_waits_for_none_that_does_not_answer() -> Result<()> {
    let mut server = Server::of_new_pool()?;
    let mount = server.mount("timeout=20000")?;
    make_space()?;
    fs::write(at("file"), "bytes")?;
    // Between write and read.
    let mut put = open()?;
    let request = json!({"op": "put", "space": "s", "items": [{"path": "/file", "vectors": [[1, 2]]}]}).to_string();
    let (head, tail) = request.split_at(20);
    put.write_all(head.as_bytes())?;
    server.replace()?;
    put.write_all(tail.as_bytes())?;
    server.replace()?;
    ensure!(answer(&mut put)?["vectors"] == 1);
    drop(put);
    server.replace()?;
    ensure!(paths(&done(&search([1.0, 2.0]))?)? == ["/file"]);

    // While requests are carried out: every vector is put once, and every answer is right.
    let asking = std::thread::spawn(|| -> Result<u32> {
        let begin = Instant::now();
        let mut round = 0;
        while begin.elapsed() < Duration::from_secs(30) {
            round += 1;
            let name = format!("space{round}");
            let item = json!({"path": "/file", "whole": true, "vectors": vec![[round, 1]; 2000]});
            done(&json!({"op": "create_space", "name": name, "dimensions": 2, "metric": "l2"}))?;
            let put = done(&json!({"op": "put", "space": name, "items": [item]}))?;
            ensure!(put == json!({"vectors": 2000, "errors": [], "version": 1}), "{put}");
            let query = json!({"vector": [round, 1]});
            let found = done(&json!({"op": "search", "space": name, "query": query, "k": 2001}))?;
            ensure!(paths(&found)?.len() == 2000);
            done(&json!({"op": "drop_space", "name": name}))?;
        }
        Ok(round)
    });
    let mut servers = 0;
    while !asking.is_finished() {
        // Long enough for a request: one whose server is always replaced before it answers is never answered.
        std::thread::sleep(Duration::from_secs(3));
        server.replace()?;
        servers += 1;
    }
    let rounds = asking.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    println!("{rounds} rounds, {servers} servers");
    ensure!(rounds > 1 && servers > 1);
    ensure!(mount.counter("hostile")? == 0 && mount.counter("degraded")? == 0);
    mount.unmount()?;

    let mount = server.mount(TIMEOUT)?;
    let mut late = open()?;
    late.write_all(search([1.0, 2.0]).to_string().as_bytes())?;
    server.signal("-STOP")?;
    let start = Instant::now();
    let first = late.read(&mut [0; 10]);
    let took = start.elapsed();
    let start = Instant::now();
    let second = late.read(&mut [0; 10]);
    let at_once = start.elapsed();
    server.signal("-CONT")?;
    refused("a read without a server", first, Errno::EIO)?;
    refused("a read of a degraded mount", second, Errno::EIO)?;
    ensure!(
        took < BOUND && at_once < Duration::from_secs(1),
        "{took:?}, {at_once:?}"
    );
    sys::wait_for("the mount to heal", BOUND, || {
        mount.attribute("health").is_ok_and(|health| health == "HEALTHY")
    })?;
    // The same descriptor.
    ensure!(paths(&answer(&mut late)?)? == ["/file"]);
    drop(late);
    mount.unmount()?;
    server.stop_and_check()
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn a_mount_that_maps_owners_maps_the_caller() -> Result<()> {
    const MAPPED: &str = "/run/mapped-query";
    let server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    fs::set_permissions(AT, fs::Permissions::from_mode(0o755))?;
    make_space()?;
    for (name, owner) in [("of 0", 0), ("of 5", 5), ("of group 8", 0)] {
        fs::write(at(name), name)?;
        let (group, mode) = if name == "of group 8" { (8, 0o640) } else { (0, 0o600) };
        chown(at(name), Some(owner), Some(group))?;
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode))?;
        let item = json!({"path": format!("/{name}"), "vectors": [[owner + group, 1]]});
        done(&json!({"op": "put", "space": "s", "items": [item]}))?;
    }
    let (_held, namespace) = Namespace::new()?;
    fs::create_dir_all(MAPPED)?;
    mount_mapped(Path::new(AT), Path::new(MAPPED), namespace.as_fd()).context("mounting with owners mapped")?;
    ensure!(fs::metadata(format!("{MAPPED}/{QUERY}"))?.uid() == 100_000);
    ensure!(found_by(100_005, "", MAPPED)? == ["/of 5"]);
    ensure!(found_by(100_009, "100008", MAPPED)? == ["/of group 8"]);
    // Who is 0 in the pool owns what is of 0 there, and may no more than that.
    ensure!(found_by(100_000, "", MAPPED)? == ["/of 0", "/of group 8"]);
    ensure!(found_by(5, "", MAPPED)?.is_empty(), "somebody who is nobody there");
    ensure!(found_by(100_005, "", AT)?.is_empty());
    umount2(MAPPED, MntFlags::empty())?;
    mount.unmount()?;
    server.stop_and_check()
}

/// `packaging/python`: its own tests, on this mount.
#[lab_guest::test(modules = ["vexfs"], timeout = 400)]
fn the_python_client_puts_gets_and_finds_vectors() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/python");
    let output = Command::new("python3")
        .args([
            "-B",
            "-W",
            "error",
            "-m",
            "unittest",
            "discover",
            "--start-directory",
            "tests",
        ])
        .current_dir(client)
        .env("PYTHONPATH", "src")
        .env("VEXFS_MOUNT", AT)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    // Nothing was skipped but what needs numpy.
    let last = said.lines().last().unwrap_or_default();
    ensure!(["OK", "OK (skipped=1)"].contains(&last), "{said}");
    ensure!(mount.counter("hostile")? == 0);
    mount.unmount()?;
    server.stop_and_check()
}
