// SPDX-License-Identifier: MIT OR Apache-2.0

//! SQLite: several processes write to one database; they, or the server of the filesystem, are killed in the middle.
//!
//! After each kill the database is whole, and every transaction whose commit a writer had reported is in it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::Session;
use super::super::session::ROOMY;
use crate::host::command::command;

const WRITERS: usize = 3;
const ROUNDS: (u64, u64) = (4, 40);
/// More transactions than a writer gets to before it is killed.
const TRANSACTIONS: u64 = 10_000;

pub(super) fn keeps_what_it_committed_with_a_rollback_journal(session: &Session) -> Result<()> {
    keeps_what_it_committed(session, "DELETE")
}

pub(super) fn keeps_what_it_committed_with_a_write_ahead_log(session: &Session) -> Result<()> {
    keeps_what_it_committed(session, "WAL")
}

fn keeps_what_it_committed(session: &Session, journal: &str) -> Result<()> {
    let mut random = session.random();
    session.with_target(ROOMY, |target| {
        let database = target.directory().join("database");
        let mode = ask(&database, &format!("PRAGMA journal_mode={journal};"))?;
        ensure!(
            mode.trim().eq_ignore_ascii_case(journal),
            "SQLite chose the journal mode {mode}, not {journal}"
        );
        ask(
            &database,
            "CREATE TABLE entry(writer INTEGER, number INTEGER, text TEXT, PRIMARY KEY(writer, number));
             CREATE TABLE total(writer INTEGER PRIMARY KEY, count INTEGER);
             INSERT INTO total VALUES (0, 0), (1, 0), (2, 0);",
        )?;
        let mut first = [1; WRITERS];
        for round in 0..session.pick(ROUNDS.0, ROUNDS.1) {
            let life = Duration::from_millis(random.u64(200..1200));
            let with_server = round % 2 == 1;
            let mut writers = Vec::new();
            for (number, from) in first.iter().enumerate() {
                writers.push(Writer::start(session.scratch(), &database, number, *from)?);
            }
            thread::sleep(life);
            if with_server {
                target.kill_server()?;
            }
            let mut reported = [0; WRITERS];
            for (writer, last) in writers.into_iter().zip(&mut reported) {
                *last = writer.kill(with_server)?;
            }
            if with_server {
                target.remount()?;
            }
            for ((writer, from), last) in first.iter_mut().enumerate().zip(reported) {
                *from = check(&database, writer, last)
                    .with_context(|| format!("round {round}, server killed: {with_server}, after {life:?}"))?
                    + 1;
            }
        }
        println!("{} transactions", first.iter().sum::<u64>());
        Ok(())
    })
}

/// Returns the last transaction that is there.
fn check(database: &Path, writer: usize, reported: u64) -> Result<u64> {
    let sound = ask(database, "PRAGMA integrity_check;")?;
    ensure!(sound.trim() == "ok", "integrity_check: {sound}");
    let answer = ask(
        database,
        &format!(
            "SELECT count(*) || ' ' || ifnull(max(number), 0) || ' ' || (SELECT count FROM total WHERE writer={writer})
             FROM entry WHERE writer={writer};"
        ),
    )?;
    let numbers = answer
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<Vec<u64>, _>>();
    let numbers = numbers.with_context(|| format!("SQLite answered {answer}"))?;
    let [count, last, total] = numbers.as_slice() else {
        anyhow::bail!("SQLite answered {answer}");
    };
    ensure!(
        count == last && count == total,
        "writer {writer}: {count} rows up to {last}, total {total}"
    );
    ensure!(
        *last >= reported,
        "writer {writer} had committed {reported}, {last} are there"
    );
    Ok(*last)
}

struct Writer {
    process: Child,
    reader: thread::JoinHandle<u64>,
}

impl Writer {
    /// Starts a process that makes one transaction after another and prints the number of each once it is committed.
    fn start(scratch: &Path, database: &Path, number: usize, from: u64) -> Result<Self> {
        let script = scratch.join(format!("writer-{number}.sql"));
        let mut file = std::io::BufWriter::new(File::create(&script)?);
        writeln!(file, ".timeout 60000\nPRAGMA synchronous=FULL;")?;
        for transaction in from..from + TRANSACTIONS {
            writeln!(
                file,
                "BEGIN IMMEDIATE; INSERT INTO entry VALUES ({number}, {transaction}, hex(randomblob({})));
                 UPDATE total SET count = count + 1 WHERE writer = {number}; COMMIT; SELECT {transaction};",
                transaction * 37 % 900
            )?;
        }
        file.flush()?;
        drop(file);
        let mut process = Command::new("sqlite3")
            .arg("-bail")
            .arg(database)
            .stdin(fs::File::open(&script)?)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting sqlite3")?;
        let output = process.stdout.take().context("sqlite3 has no output")?;
        let reader = thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.filter_map(|line| line.parse().ok()).last().unwrap_or(0)
        });
        Ok(Self { process, reader })
    }

    /// Kills it; returns the last transaction that it reported. With a server it has no reason to fail before.
    fn kill(mut self, without_server: bool) -> Result<u64> {
        if let Some(status) = self.process.try_wait()? {
            ensure!(without_server || status.success(), "a writer failed: {status}");
        }
        self.process.kill()?;
        self.process.wait()?;
        self.reader
            .join()
            .map_err(|_| anyhow::anyhow!("reading from sqlite3 failed"))
    }
}

fn ask(database: &Path, statements: &str) -> Result<String> {
    command("sqlite3")
        .args(["-bail", "-cmd", ".timeout 60000"])
        .arg(database)
        .arg(statements)
        .read()
}
