// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a space is: the shape of its vectors, and the attributes it knows of their files.

use crate::vector::space::choices;
pub use crate::vector::space::{Element, MAX_DIMENSIONS, Metric};
use crate::vector::space::{LARGEST, Space};

choices! {
    /// What a declared attribute is for.
    FieldKind {
        /// Filters compare it.
        Filter = 1, "filter";
        /// Its words count in hybrid searches.
        Text = 2, "text";
    }
}

/// Why no space can be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Too few or too many.
    #[error("a space has 1 to {MAX_DIMENSIONS} dimensions, not {0}")]
    Dimensions(u32),
    /// Hamming and something else than bits.
    #[error("vectors of {0} cannot be compared by {1}: binary vectors by hamming, others by the other metrics")]
    Metric(Element, Metric),
}

/// Why bytes are no vectors of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a whole number of vectors.
    #[error("{given} bytes are no whole number of vectors of {vector} bytes")]
    Length {
        /// Bytes that came.
        given: usize,
        /// Bytes of one vector.
        vector: usize,
    },
    /// Not a number, or infinite.
    #[error("element {0} is not a finite number")]
    NotFinite(usize),
    /// Distances could not be told.
    #[error("element {0} is too large: distances would overflow")]
    TooLarge(usize),
    /// Bits behind the last dimension.
    #[error("bits behind the last dimension must be zero")]
    Padding,
}

/// What the vectors of a space are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Elements of a vector.
    pub dimensions: u32,
    /// What they are.
    pub element: Element,
    /// How they are compared.
    pub metric: Metric,
}

impl Shape {
    /// A shape that a space can have.
    pub fn new(dimensions: u32, element: Element, metric: Metric) -> Result<Self, ShapeError> {
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(ShapeError::Dimensions(dimensions));
        }
        if (element == Element::Binary) != (metric == Metric::Hamming) {
            return Err(ShapeError::Metric(element, metric));
        }
        Ok(Self {
            dimensions,
            element,
            metric,
        })
    }

    /// Bytes of a vector.
    pub const fn vector_bytes(self) -> usize {
        let dimensions = self.dimensions as usize;
        match self.element {
            Element::F32 => dimensions * 4,
            Element::F16 => dimensions * 2,
            Element::I8 => dimensions,
            Element::Binary => dimensions.div_ceil(8),
        }
    }

    /// How many vectors the bytes are.
    pub fn count(self, bytes: &[u8]) -> Result<usize, ValueError> {
        let vector = self.vector_bytes();
        let length = ValueError::Length {
            given: bytes.len(),
            vector,
        };
        if bytes.is_empty() || !bytes.len().is_multiple_of(vector) {
            return Err(length);
        }
        match self.element {
            Element::F32 => {
                for (at, four) in bytes.as_chunks().0.iter().enumerate() {
                    let value = f32::from_le_bytes(*four);
                    if !value.is_finite() {
                        return Err(ValueError::NotFinite(at));
                    }
                    if value.abs() > LARGEST {
                        return Err(ValueError::TooLarge(at));
                    }
                }
            }
            Element::F16 => {
                // All bits of the exponent are set.
                let bad = |two: &[u8; 2]| two[1] & 0x7c == 0x7c;
                if let Some(at) = bytes.as_chunks().0.iter().position(bad) {
                    return Err(ValueError::NotFinite(at));
                }
            }
            Element::I8 => {}
            Element::Binary => {
                let used = self.dimensions % 8;
                let clean = |vector: &[u8]| vector.last().is_none_or(|last| used == 0 || last >> used == 0);
                if !bytes.chunks_exact(vector).all(clean) {
                    return Err(ValueError::Padding);
                }
            }
        }
        Ok(bytes.len() / vector)
    }

    /// The same for the index.
    pub const fn space(self) -> Space {
        Space::of_shape(self.dimensions, self.element, self.metric)
    }
}

/// An attribute of files that a space declares.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    /// What for; see [`FieldKind`].
    pub kind: u8,
    /// Full name of the attribute.
    pub name: Box<[u8]>,
}

impl Field {
    /// With its use.
    pub fn new(kind: FieldKind, name: impl Into<Box<[u8]>>) -> Self {
        Self {
            kind: kind as u8,
            name: name.into(),
        }
    }

    /// What for.
    pub fn kind(&self) -> Option<FieldKind> {
        FieldKind::of_number(self.kind)
    }

    /// As operations carry it: the number of the use, then the name.
    pub fn encode(&self) -> Vec<u8> {
        [&[self.kind], &*self.name].concat()
    }

    /// The reverse, of untrusted bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, name) = bytes.split_first()?;
        FieldKind::of_number(kind)?;
        let fits = !name.is_empty() && name.len() <= crate::fs::MAX_XATTR_NAME && !name.contains(&0);
        fits.then(|| Self {
            kind,
            name: name.into(),
        })
    }
}

/// Whether a space may be called so: letters, digits, `.`, `_` and `-`, not beginning with `.`.
pub fn is_name(name: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    !name.is_empty() && name.len() <= super::MAX_SPACE_NAME && name[0] != b'.' && name.iter().all(plain)
}
