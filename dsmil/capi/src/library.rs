// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state behind the functions: connected or not.
//!
//! Callers hold the connection while they use it, and never the lock: an operation that hangs keeps nobody from
//! anything, `cleanup` included.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::Code;
use crate::backend::{Backend, connect};

const EALREADY: Code = 114;
const ENODEV: Code = 19;
const EOPNOTSUPP: Code = 95;

/// The one there is.
pub(crate) static LIBRARY: Library = Library {
    connection: Mutex::new(None),
};

pub(crate) struct Library {
    connection: Mutex<Option<Arc<dyn Backend>>>,
}

impl Library {
    pub(crate) fn init(&self, smi: bool) -> Result<(), Code> {
        let mut connection = self.connection.lock();
        if connection.is_some() {
            return Err(EALREADY);
        }
        let device = std::env::var_os("DSMIL_DEVICE");
        let backend = connect(device.as_deref(), smi)?;
        *connection = Some(if smi { backend } else { Arc::new(WithoutSmi(backend)) });
        Ok(())
    }

    pub(crate) fn cleanup(&self) {
        // Dropped after the lock: ending a driver waits for its thread.
        let connection = self.connection.lock().take();
        drop(connection);
    }

    pub(crate) fn with<T>(&self, body: impl FnOnce(&dyn Backend) -> Result<T, Code>) -> Result<T, Code> {
        let connection = self.connection.lock().clone();
        body(&*connection.ok_or(ENODEV)?)
    }
}

/// A connection whose owner does not want SMI operations.
struct WithoutSmi(Arc<dyn Backend>);

impl Backend for WithoutSmi {
    fn activate(&self, group: u8, position: u8) -> Result<(u8, dsmil::registry::State), Code> {
        self.0.activate(group, position)
    }

    fn active(&self) -> Result<u16, Code> {
        self.0.active()
    }

    fn read_token(&self, _position: u8, _group: u8) -> Result<u32, Code> {
        Err(EOPNOTSUPP)
    }

    fn write_token(&self, _position: u8, _group: u8, _value: u32) -> Result<(), Code> {
        Err(EOPNOTSUPP)
    }

    fn unlock(&self, _address: u64) -> Result<(), Code> {
        Err(EOPNOTSUPP)
    }

    fn verify(&self) -> Result<(), Code> {
        Err(EOPNOTSUPP)
    }
}
