// SPDX-License-Identifier: MIT OR Apache-2.0

//! PostgreSQL under pgbench, with its main process killed in the middle.
//!
//! pgbench moves money: whatever is committed, the balances of accounts, tellers and branches and the history of all
//! movements have the same sum. After each recovery they must, and every page passes its checksum.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::super::Session;
use super::super::session::ROOMY;
use crate::host::command::{Cmd, command};

const ROUNDS: (u32, u32) = (2, 12);
const SCALE: (&str, &str) = ("1", "10");
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn keeps_its_accounts_balanced(session: &Session) -> Result<()> {
    let mut random = session.random();
    let programs = programs()?;
    session.with_target(ROOMY, |target| {
        let home = target.directory().join("postgresql");
        fs::create_dir(&home)?;
        command("chown").arg("postgres:").arg(&home).run()?;
        let cluster = Cluster {
            programs,
            data: home.join("data"),
            sockets: home,
        };
        cluster
            .program("initdb")
            .args([
                "--data-checksums",
                "--no-locale",
                "--encoding=UTF8",
                "--auth=trust",
                "--pgdata",
            ])
            .arg(&cluster.data)
            .run()?;
        let mut server = cluster.start()?;
        cluster.client("createdb").arg("bench").run()?;
        cluster
            .client("pgbench")
            .args([
                "--initialize",
                "--quiet",
                "--scale",
                session.pick(SCALE.0, SCALE.1),
                "bench",
            ])
            .run()?;
        let mut movements = 0;
        for round in 0..session.pick(ROUNDS.0, ROUNDS.1) {
            let mut load = cluster.load()?;
            thread::sleep(Duration::from_millis(random.u64(1000..3000)));
            server.kill()?;
            server.wait()?;
            load.wait()?;
            wait_for_the_others()?;
            server = cluster.start().context("starting after a kill")?;
            let now = cluster.balance().with_context(|| format!("after kill {round}"))?;
            ensure!(
                now > movements,
                "no transaction was committed in round {round}: {now} after {movements}"
            );
            movements = now;
        }
        // An orderly end, and everything from the disk once more.
        stop(&cluster, &mut server)?;
        target.remount()?;
        cluster
            .program("pg_checksums")
            .args(["--check", "--pgdata"])
            .arg(&cluster.data)
            .run()?;
        server = cluster.start()?;
        ensure!(
            cluster.balance()? == movements,
            "movements were lost over an orderly end"
        );
        stop(&cluster, &mut server)?;
        println!("{movements} transactions");
        Ok(())
    })
}

struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
}

impl Cluster {
    /// One of PostgreSQL's own programs, run as its user: it refuses to run as root.
    fn program(&self, name: &str) -> Cmd {
        command("setpriv")
            .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
            .arg(self.programs.join(name))
            .dir(&self.sockets)
    }

    fn client(&self, name: &str) -> Cmd {
        self.program(name)
            .args(["--username=postgres", "--host"])
            .arg(&self.sockets)
    }

    fn query(&self, statement: &str) -> Result<String> {
        let answer = self
            .client("psql")
            .args(["--dbname=bench", "--no-align", "--tuples-only", "--command", statement])
            .read()?;
        Ok(answer.trim().to_owned())
    }

    /// Starts the server as a child of this process, so that its end is seen, and waits until it answers.
    fn start(&self) -> Result<Child> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.sockets.join("log"))?;
        let mut server = Command::new("setpriv")
            .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
            .arg(self.programs.join("postgres"))
            .arg("-D")
            .arg(&self.data)
            .arg("-k")
            .arg(&self.sockets)
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "wal_sync_method=fdatasync",
                "-c",
                "shared_buffers=32MB",
            ])
            .current_dir(&self.sockets)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting postgres")?;
        let start = Instant::now();
        while self.client("pg_isready").arg("--quiet").run().is_err() {
            let ended = server.try_wait()?;
            if ended.is_some() || start.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.sockets.join("log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
                bail!("postgres does not answer ({ended:?}):\n{}", last.join("\n"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Four clients that move money until the server is gone.
    fn load(&self) -> Result<Child> {
        Command::new("setpriv")
            .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
            .arg(self.programs.join("pgbench"))
            .args(["--username=postgres", "--host"])
            .arg(&self.sockets)
            .args(["--client=4", "--jobs=2", "--time=600", "--no-vacuum", "bench"])
            .current_dir(&self.sockets)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting pgbench")
    }

    /// Compares the sums; returns how many movements there were.
    fn balance(&self) -> Result<u64> {
        let sums = self.query(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
                    (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)",
        )?;
        let all: Vec<&str> = sums.split('|').collect();
        let first = all.first().copied().unwrap_or_default();
        ensure!(
            all.len() == 4 && all.iter().all(|sum| *sum == first),
            "the sums differ: {sums}"
        );
        let count = self.query("SELECT count(*) FROM pgbench_history")?;
        count.parse().with_context(|| format!("psql answered {count}"))
    }
}

fn stop(cluster: &Cluster, server: &mut Child) -> Result<()> {
    cluster
        .program("pg_ctl")
        .args(["stop", "--wait", "--mode=fast", "--pgdata"])
        .arg(&cluster.data)
        .run()?;
    server.wait()?;
    Ok(())
}

/// Waits until the processes of a killed server have noticed. All processes that are seen here are this case's own.
fn wait_for_the_others() -> Result<()> {
    let start = Instant::now();
    loop {
        let mut left = 0;
        for entry in fs::read_dir("/proc")?.flatten() {
            // The name and state: "12 (postgres) S …". What has ended but was not waited for is Z.
            let process = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            left += usize::from(process.contains("(postgres)") && !process.contains("(postgres) Z"));
        }
        if left == 0 {
            return Ok(());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{left} processes of a killed server do not end"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// The newest version's programs, which Debian keeps out of the search path.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("finding PostgreSQL's programs")?;
    let found = versions
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists());
    let number = |path: &PathBuf| -> Option<u32> { path.parent().and_then(Path::file_name)?.to_str()?.parse().ok() };
    found.max_by_key(number).context("PostgreSQL has no initdb")
}
