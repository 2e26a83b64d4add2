// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pool in memory, its server, and a client that makes one call at a time.

use std::sync::Arc;

use vexfs::checksum::Crc;
use vexfs::client::wire::{self, Opcode};
use vexfs::client::{Bell, Handled, Server};
use vexfs::disk::{Disk, SimDisk};
use vexfs::fs::op::Op;
use vexfs::fs::record::Timestamp;
use vexfs::fs::{Fs, MountOptions, Patience};
use vexfs::pool::format::{FormatOptions, Seeds, format_disk};
use vexfs::pool::{Access, Host, OpenOptions, Pool};
use vexfs::units::Ino;

use crate::peer::{Ask, Reply};

pub const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

pub struct Bench {
    pub disk: Arc<SimDisk>,
    boot: u8,
    pub server: Server,
    pub session: u64,
    pub seq: u64,
    /// Numbers that were granted and not used.
    numbers: std::ops::Range<u64>,
}

fn host(boot: u8) -> Host {
    let mut host = Host::this();
    host.identity.boot_id = [boot; 16];
    host
}

fn serve(disk: &Arc<SimDisk>, boot: u8) -> Server {
    let shared: Arc<dyn Disk> = Arc::clone(disk) as Arc<dyn Disk>;
    let open = OpenOptions {
        host: host(boot),
        ..OpenOptions::new(Access::ReadWrite)
    };
    let pool = Pool::open_disk(shared, &open).unwrap();
    let options = MountOptions {
        background: false,
        keep_session: true,
        ..MountOptions::default()
    };
    Server::new(Fs::mount(pool, &options).unwrap())
}

impl Bench {
    /// With a session, and numbers.
    pub fn new() -> Self {
        let disk = Arc::new(SimDisk::new(64 << 20, 1));
        format_disk(&*disk, &FormatOptions::default(), &Seeds::from_number(1), &host(1)).unwrap();
        let server = serve(&disk, 1);
        let mut bench = Self {
            disk,
            boot: 1,
            server,
            session: 0,
            seq: 0,
            numbers: 0..0,
        };
        bench.hello(1);
        bench.more_numbers();
        bench
    }

    pub fn hello(&mut self, nonce: u64) -> wire::Welcome {
        self.session = 0;
        self.numbers = 0..0;
        let reply = self.call(&Ask::hello(nonce));
        assert_eq!(reply.status(), 0);
        let (welcome, _) = reply.take::<wire::Welcome>();
        self.session = welcome.session.get();
        welcome
    }

    fn more_numbers(&mut self) {
        let reply = self.call(&Ask::grant(100, 0, 0, 0));
        assert_eq!(reply.status(), 0);
        let from = reply.fixed.ino_from.get();
        self.numbers = from..from + u64::from(reply.fixed.ino_count.get());
    }

    pub fn number(&mut self) -> Ino {
        if self.numbers.is_empty() {
            self.more_numbers();
        }
        Ino(self.numbers.next().unwrap())
    }

    /// The server's process ends; another one begins.
    pub fn kill(&mut self) {
        self.disk = Arc::new(self.disk.process_crash());
        self.server = serve(&self.disk, self.boot);
    }

    /// The machine loses power, and comes back.
    pub fn cut_power(&mut self, seed: u64) {
        self.disk = Arc::new(self.disk.crash(seed));
        self.boot += 1;
        self.server = serve(&self.disk, self.boot);
    }

    /// Carries out a request as the target does. Nothing waits here, so the reply is there when the READ comes.
    pub fn send(&self, slot: u16, bytes: &[u8]) {
        if self.server.request(slot, bytes, Patience::Refuse) != Handled::Done {
            assert_eq!(self.server.run(bytes, Patience::Wait), Handled::Done);
        }
        while let Some(request) = self.server.ready() {
            self.server.run(&request, Patience::Wait);
        }
    }

    /// The reply of a slot; AGAIN if there is none.
    pub fn fetch(&self, slot: u16) -> Reply {
        let mut into = vec![0xaa; 128 << 10];
        let bell: Bell = Arc::new(|| ());
        if let Some(ticket) = self.server.read(slot, &mut into, bell) {
            assert!(self.server.look_again(slot, ticket, true, &mut into));
        }
        Reply::of(&into).unwrap()
    }

    pub fn call_as(&self, slot: u16, seq: u64, ask: &Ask) -> Reply {
        self.send(slot, &ask.encode(self.session, slot, seq));
        self.fetch(slot)
    }

    pub fn call(&mut self, ask: &Ask) -> Reply {
        self.seq += 1;
        self.call_as(0, self.seq, ask)
    }

    pub fn apply(&mut self, operations: &[Op<'_>]) -> i32 {
        self.call(&Ask::apply(operations, [0; 4])).status()
    }

    pub fn create(&mut self, parent: Ino, name: &[u8], mode: u16) -> Ino {
        let ino = self.number();
        let status = self.apply(&[create(parent, ino, name, mode)]);
        assert_eq!(status, 0, "{}", String::from_utf8_lossy(name));
        ino
    }

    pub fn attr(&mut self, ino: Ino) -> Result<wire::Attr, i32> {
        let reply = self.call(&Ask::inode(Opcode::Getattr, ino.0));
        match reply.status() {
            0 => Ok(reply.take::<wire::Attr>().0),
            error => Err(error),
        }
    }

    /// What the device shows at a place of a file, beyond its end too.
    pub fn stored(&self, ino: Ino, at: u64, length: usize) -> Vec<u8> {
        let fs = self.server.fs();
        let mut plan = fs.plan_read(ino, at, length, vexfs::fs::Until::Asked).unwrap();
        let mut bytes = vec![0xbb; length];
        for (at, into) in plan.transfers(&mut bytes) {
            self.disk.read(at, into).unwrap();
        }
        assert!(fs.finish_read(&plan, &mut bytes, Ok(())).unwrap());
        bytes
    }

    /// Checks the pool as it is after the server's end.
    pub fn check(self) {
        let Self { disk, server, .. } = self;
        server.fs().clone().close().unwrap();
        drop(server);
        vexfs::check::assert_sound(disk).unwrap();
    }
}

pub fn create(parent: Ino, ino: Ino, name: &[u8], mode: u16) -> Op<'_> {
    Op::Create {
        parent,
        ino,
        mode,
        uid: 1000,
        gid: 100,
        device: 0,
        flags: 0,
        time: NOW,
        name,
        target: b"",
    }
}

pub fn pattern(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    for index in 0.. {
        if bytes.len() >= length {
            break;
        }
        let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index;
        bytes.extend(Crc::of(&word.to_le_bytes()).0.max(1).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
