// SPDX-License-Identifier: MIT OR Apache-2.0

//! A value that was read: mostly a part of a cached page, without a copy.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::page::Page;

/// Bytes of a value. Keeps the page they lie in in memory as long as it lives.
#[derive(Clone)]
pub struct Value(Held);

#[derive(Clone)]
enum Held {
    Page { page: Arc<Page>, at: u16, bytes: u16 },
    Own(Arc<[u8]>),
}

impl Value {
    pub(super) fn of_page(page: Arc<Page>, at: usize, bytes: usize) -> Option<Self> {
        page.bytes.get(at..at.checked_add(bytes)?)?;
        let (at, bytes) = (u16::try_from(at).ok()?, u16::try_from(bytes).ok()?);
        Some(Self(Held::Page { page, at, bytes }))
    }

    pub(super) fn own(bytes: Vec<u8>) -> Self {
        Self(Held::Own(bytes.into()))
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Page { page, at, bytes } => {
                let at = usize::from(*at);
                &page.bytes[at..at + usize::from(*bytes)]
            }
            Held::Own(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
