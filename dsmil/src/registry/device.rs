// SPDX-License-Identifier: MIT OR Apache-2.0

//! Devices whose state the compiler knows: a step that the state does not allow is not there to be called.
//!
//! A value is a claim, not a lock: the device may be pulled at any time. Each step asks the registry, and fails if the
//! claim has become untrue.

use std::marker::PhantomData;

use super::{Change, DeviceId, Registry, State};
use crate::error::{Error, Result};

/// States as types.
pub mod typed {
    /// See [`super::State::Offline`].
    #[derive(Debug)]
    pub struct Offline;
    /// See [`super::State::Initializing`].
    #[derive(Debug)]
    pub struct Initializing;
    /// See [`super::State::Ready`].
    #[derive(Debug)]
    pub struct Ready;
    /// See [`super::State::Active`].
    #[derive(Debug)]
    pub struct Active;
    /// See [`super::State::Error`].
    #[derive(Debug)]
    pub struct Failed;
}

use typed::{Active, Failed, Initializing, Offline, Ready};

/// A device in state `S`.
#[derive(Debug)]
#[must_use]
pub struct Device<'r, S> {
    registry: &'r Registry,
    id: DeviceId,
    state: PhantomData<S>,
}

impl<'r, S> Device<'r, S> {
    fn step<T>(self, change: Change) -> Result<Device<'r, T>> {
        self.registry.apply(self.id, change)?;
        Ok(Device {
            registry: self.registry,
            id: self.id,
            state: PhantomData,
        })
    }

    /// Which device it is.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// It was pulled.
    pub fn remove(self) -> Result<Device<'r, Offline>> {
        self.step(Change::Remove)
    }
}

impl<'r> Device<'r, Offline> {
    /// The device, if it is offline.
    pub fn claim(registry: &'r Registry, id: DeviceId) -> Result<Self> {
        match registry.state(id) {
            State::Offline => Ok(Self {
                registry,
                id,
                state: PhantomData,
            }),
            state => Err(Error::BadTransition {
                device: id,
                state,
                change: Change::Attach,
            }),
        }
    }

    /// It was plugged in.
    pub fn attach(self) -> Result<Device<'r, Initializing>> {
        self.step(Change::Attach)
    }
}

impl<'r> Device<'r, Initializing> {
    /// It answered as it should.
    pub fn initialized(self) -> Result<Device<'r, Ready>> {
        self.step(Change::Initialized)
    }

    /// It did not.
    pub fn fail(self) -> Result<Device<'r, Failed>> {
        self.step(Change::Fail)
    }
}

impl<'r> Device<'r, Ready> {
    /// Puts it in use.
    pub fn activate(self) -> Result<Device<'r, Active>> {
        self.step(Change::Activate)
    }
}

impl<'r> Device<'r, Active> {
    /// Takes it out of use.
    pub fn deactivate(self) -> Result<Device<'r, Ready>> {
        self.step(Change::Deactivate)
    }

    /// It broke.
    pub fn fail(self) -> Result<Device<'r, Failed>> {
        self.step(Change::Fail)
    }
}

impl<'r> Device<'r, Failed> {
    /// Tries it again.
    pub fn reset(self) -> Result<Device<'r, Initializing>> {
        self.step(Change::Reset)
    }
}
