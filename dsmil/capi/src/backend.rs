// SPDX-License-Identifier: MIT OR Apache-2.0

//! The ways to a device: through `dsmild`, or with a driver in this process.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dsmil::registry::{Mode, State};
use dsmil::smi::{RegionAddress, Request as Operation, Timeout, Token, TokenPosition};
use dsmil::transport::Address;
use dsmil::{Config, Driver, Error, Service};
use dsmil_client::protocol::{Device, Request, Status, Word};
use dsmil_client::{Client, Failure, default_socket};
use parking_lot::Mutex;
use serde_json::Value;

use crate::Code;

const EINVAL: Code = 22;
const EIO: Code = 5;
/// Longer than any operation may take with all its attempts.
const BOUND: Duration = Duration::from_secs(5);

/// What every way can do.
pub(crate) trait Backend: Send + Sync {
    fn activate(&self, group: u8, position: u8) -> Result<(u8, State), Code>;
    fn active(&self) -> Result<u16, Code>;
    fn read_token(&self, position: u8, group: u8) -> Result<u32, Code>;
    fn write_token(&self, position: u8, group: u8, value: u32) -> Result<(), Code>;
    fn unlock(&self, address: u64) -> Result<(), Code>;
    fn verify(&self) -> Result<(), Code>;
}

/// Connects the way that `device` says.
pub(crate) fn connect(device: Option<&OsStr>, smi: bool) -> Result<Arc<dyn Backend>, Code> {
    let text = match device {
        None => return remote(&default_socket()),
        Some(text) => text.to_str().ok_or(EINVAL)?,
    };
    if let Some(path) = text.strip_prefix("unix:") {
        return remote(Path::new(path));
    }
    let address: Address = text.parse().map_err(|_| EINVAL)?;
    let config = Config {
        smi,
        ..Config::default()
    };
    let driver = address.open().and_then(|transport| Driver::attach(transport, config));
    let service = Service::start(driver.map_err(|error| code(&error))?);
    Ok(Arc::new(Local(
        service.map_err(|error| error.raw_os_error().unwrap_or(EIO))?,
    )))
}

fn code(error: &Error) -> Code {
    error.errno() as Code
}

/// A driver in this process.
struct Local(Service);

impl Local {
    fn operate(&self, operation: Operation) -> Result<u32, Code> {
        let ticket = self
            .0
            .submit(operation, Timeout::default())
            .map_err(|error| code(&error))?;
        let outcome = ticket.wait(BOUND).ok_or(EIO)?;
        outcome.map_err(|error| code(&error))
    }

    fn token(&self, position: u8, group: u8) -> Result<Token, Code> {
        let position = TokenPosition::try_from(position).map_err(|error| code(&error))?;
        Token::new(self.mode(), group, position).map_err(|error| code(&error))
    }

    fn mode(&self) -> Mode {
        self.0.driver().mode()
    }
}

impl Backend for Local {
    fn activate(&self, group: u8, position: u8) -> Result<(u8, State), Code> {
        let device = self.mode().device(group, position).map_err(|error| code(&error))?;
        let info = self.0.driver().activate(device).map_err(|error| code(&error))?;
        Ok((device.number(), info.state))
    }

    fn active(&self) -> Result<u16, Code> {
        let active = self.0.driver().registry().count(State::Active);
        u16::try_from(active).map_err(|_| EIO)
    }

    fn read_token(&self, position: u8, group: u8) -> Result<u32, Code> {
        self.operate(Operation::Read(self.token(position, group)?))
    }

    fn write_token(&self, position: u8, group: u8, value: u32) -> Result<(), Code> {
        self.operate(Operation::Write(self.token(position, group)?, value))
            .map(drop)
    }

    fn unlock(&self, address: u64) -> Result<(), Code> {
        let address = RegionAddress::new(address).map_err(|error| code(&error))?;
        self.operate(Operation::Unlock(address)).map(drop)
    }

    fn verify(&self) -> Result<(), Code> {
        self.operate(Operation::Verify).map(drop)
    }
}

fn remote(path: &Path) -> Result<Arc<dyn Backend>, Code> {
    let client = Client::connect(path).map_err(|failure| failure.errno())?;
    Ok(Arc::new(Remote {
        path: path.to_owned(),
        client: Mutex::new(Some(client)),
    }))
}

/// A connection to `dsmild`. One that broke is made anew by the next call, so a server may be restarted meanwhile; the
/// call that met the break fails, because nobody knows whether it was carried out.
struct Remote {
    path: std::path::PathBuf,
    client: Mutex<Option<Client>>,
}

impl Remote {
    fn call<T: serde::de::DeserializeOwned>(&self, request: &Request) -> Result<T, Code> {
        let mut slot = self.client.lock();
        let mut client = match slot.take() {
            Some(client) => client,
            None => Client::connect(&self.path).map_err(|failure| failure.errno())?,
        };
        let reply = client.call(request);
        if !matches!(reply, Err(Failure::Connection { .. } | Failure::Protocol { .. })) {
            *slot = Some(client);
        }
        reply.map_err(|failure| failure.errno())
    }
}

fn token(position: u8) -> Result<TokenPosition, Code> {
    TokenPosition::try_from(position).map_err(|error| code(&error))
}

impl Backend for Remote {
    fn activate(&self, group: u8, position: u8) -> Result<(u8, State), Code> {
        let device: Device = self.call(&Request::Activate { group, position })?;
        Ok((device.number, device.state))
    }

    fn active(&self) -> Result<u16, Code> {
        let status: Status = self.call(&Request::Status {})?;
        let active = status.telemetry.map_or(0, |telemetry| telemetry.active);
        u16::try_from(active).map_err(|_| EIO)
    }

    fn read_token(&self, position: u8, group: u8) -> Result<u32, Code> {
        let token = token(position)?;
        let word: Word = self.call(&Request::ReadToken { group, token })?;
        Ok(word.value)
    }

    fn write_token(&self, position: u8, group: u8, value: u32) -> Result<(), Code> {
        let token = token(position)?;
        self.call::<Value>(&Request::WriteToken { group, token, value })
            .map(drop)
    }

    fn unlock(&self, address: u64) -> Result<(), Code> {
        self.call::<Value>(&Request::Unlock { address }).map(drop)
    }

    fn verify(&self) -> Result<(), Code> {
        self.call::<Value>(&Request::Verify {}).map(drop)
    }
}
