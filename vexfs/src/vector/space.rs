// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the vectors of a space are: dimension, elements, metric; checks of bytes; exact distances.
//!
//! A vector's bytes are its elements, little-endian, as the caller gave them. Binary vectors have a bit per dimension,
//! lowest bit of a byte first; unused bits of the last byte are zero. Distances are "smaller is nearer" in all metrics:
//! see [`Metric`].

use super::kernels::Kernels;

/// Most dimensions.
pub const MAX_DIMENSIONS: u32 = 16_384;

/// An enumeration with numbers for records and words for people.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $number:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$item_doc])* $item = $number,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$item,)*];

            /// From the number in records and operations.
            pub fn of_number(number: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|item| *item as u8 == number)
            }

            /// From the word that people write.
            pub fn of_text(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|item| item.text() == text)
            }

            /// The word that people write.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$item => $text,)*
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.text())
            }
        }
    };
}
pub(crate) use choices;

choices! {
    /// What a vector consists of.
    Element {
        /// 32 bit floating point, little-endian.
        F32 = 1, "f32";
        /// 16 bit floating point (IEEE 754 binary16), little-endian.
        F16 = 2, "f16";
        /// Signed bytes.
        I8 = 3, "i8";
        /// Bits, the lowest of a byte first; unused bits of the last byte are zero.
        Binary = 4, "binary";
    }
}

choices! {
    /// How far vectors are apart; less is nearer.
    Metric {
        /// One less the cosine of the angle; one from a vector of zeros.
        Cosine = 1, "cosine";
        /// Euclidean distance; the index compares its square, which is what [`Exact::distance`] gives.
        L2 = 2, "l2";
        /// The inner product with its sign changed.
        Dot = 3, "dot";
        /// Sum of absolute differences.
        L1 = 4, "l1";
        /// Bits that differ; of binary vectors, and only of them.
        Hamming = 5, "hamming";
    }
}

/// Why a space or a vector is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VectorError {
    /// The dimension is outside 1 to [`MAX_DIMENSIONS`].
    #[error("a vector has 1 to {MAX_DIMENSIONS} dimensions, not {0}")]
    Dimensions(u32),
    /// Elements and metric do not go together.
    #[error("{metric:?} is no metric of {element:?} vectors")]
    Metric {
        /// The metric.
        metric: Metric,
        /// The elements.
        element: Element,
    },
    /// Wrong number of bytes.
    #[error("a vector of this space has {expected} bytes, not {found}")]
    Length {
        /// What a vector has.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// An element is not a finite number.
    #[error("element {0} is not a finite number")]
    NotFinite(usize),
    /// The lengths of the numbers do not allow distances in single precision.
    #[error("element {0} is too large: distances would overflow")]
    TooLarge(usize),
    /// A bit beyond the last dimension is set.
    #[error("bits beyond the last dimension are set")]
    StrayBits,
}

/// The vectors of a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    dimensions: u32,
    element: Element,
    metric: Metric,
}

/// Largest magnitude of an element: the square of a distance of 16,384 of them is far from overflowing.
pub const LARGEST: f32 = 1e15;

impl Space {
    /// A space, if there can be such a one.
    pub fn new(dimensions: u32, element: Element, metric: Metric) -> Result<Self, VectorError> {
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(VectorError::Dimensions(dimensions));
        }
        if (element == Element::Binary) != (metric == Metric::Hamming) {
            return Err(VectorError::Metric { metric, element });
        }
        Ok(Self {
            dimensions,
            element,
            metric,
        })
    }

    /// Of numbers that were looked at before.
    pub(crate) const fn of_shape(dimensions: u32, element: Element, metric: Metric) -> Self {
        Self {
            dimensions,
            element,
            metric,
        }
    }

    /// Number of dimensions.
    pub const fn dimensions(&self) -> usize {
        self.dimensions as usize
    }

    /// The elements.
    pub const fn element(&self) -> Element {
        self.element
    }

    /// The metric.
    pub const fn metric(&self) -> Metric {
        self.metric
    }

    /// Bytes of a vector.
    pub const fn row_bytes(&self) -> usize {
        match self.element {
            Element::F32 => self.dimensions() * 4,
            Element::F16 => self.dimensions() * 2,
            Element::I8 => self.dimensions(),
            Element::Binary => self.dimensions().div_ceil(8),
        }
    }

    /// Whether bytes are a vector of this space.
    pub fn check(&self, bytes: &[u8]) -> Result<(), VectorError> {
        if bytes.len() != self.row_bytes() {
            return Err(VectorError::Length {
                expected: self.row_bytes(),
                found: bytes.len(),
            });
        }
        match self.element {
            Element::F32 | Element::F16 => {
                let values = self.floats(bytes);
                if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                    return Err(VectorError::NotFinite(at));
                }
                match values.iter().position(|value| value.abs() > LARGEST) {
                    Some(at) => Err(VectorError::TooLarge(at)),
                    None => Ok(()),
                }
            }
            Element::I8 => Ok(()),
            Element::Binary => {
                let used = self.dimensions() % 8;
                let stray = used != 0 && bytes.last().is_some_and(|last| last >> used != 0);
                if stray { Err(VectorError::StrayBits) } else { Ok(()) }
            }
        }
    }

    /// The elements as numbers. Bytes must have the length of a vector.
    pub fn floats(&self, bytes: &[u8]) -> Vec<f32> {
        match self.element {
            Element::F32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
            Element::F16 => {
                let halves = bytes.as_chunks().0.iter();
                halves.map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect()
            }
            Element::I8 => bytes.iter().map(|byte| f32::from(byte.cast_signed())).collect(),
            Element::Binary => (0..self.dimensions())
                .map(|bit| f32::from(bytes[bit / 8] >> (bit % 8) & 1))
                .collect(),
        }
    }

    /// A query for exact distances. Bytes must have passed [`Space::check`].
    pub fn query(&self, bytes: &[u8]) -> Exact {
        Exact::new(*self, bytes)
    }
}

/// A query that measures exact distances to stored vectors.
#[derive(Clone, Debug)]
pub struct Exact {
    space: Space,
    kernels: Kernels,
    /// Of elements F32, F16; scaled to length one for cosine.
    floats: Vec<f32>,
    /// Of elements I8.
    bytes: Vec<i8>,
    /// Of binary elements.
    bits: Vec<u8>,
    /// Length of an I8 query.
    length: f32,
}

impl Exact {
    fn new(space: Space, row: &[u8]) -> Self {
        let mut exact = Self {
            space,
            kernels: Kernels::best(),
            floats: Vec::new(),
            bytes: Vec::new(),
            bits: Vec::new(),
            length: 0.0,
        };
        match space.element {
            Element::F32 | Element::F16 => {
                exact.floats = space.floats(row);
                if space.metric == Metric::Cosine {
                    normalise(&mut exact.floats);
                }
            }
            Element::I8 => {
                exact.bytes = row.iter().map(|byte| byte.cast_signed()).collect();
                exact.length = root(exact.kernels.norm_i8(&exact.bytes, row));
            }
            Element::Binary => exact.bits = row.to_vec(),
        }
        exact
    }

    /// The distance to a vector of the same space.
    #[inline]
    #[expect(
        clippy::cast_precision_loss,
        reason = "sums of bytes need one digit more than f32 has only where nobody cares"
    )]
    pub fn distance(&self, row: &[u8]) -> f32 {
        let (kernels, floats, bytes) = (&self.kernels, self.floats.as_slice(), self.bytes.as_slice());
        match (self.space.element, self.space.metric) {
            (Element::F32, Metric::Cosine) => {
                cosine(kernels.dot_f32(floats, row), kernels.norm_f32(floats, row).sqrt())
            }
            (Element::F32, Metric::L2) => kernels.square_f32(floats, row),
            (Element::F32, Metric::Dot) => -kernels.dot_f32(floats, row),
            (Element::F32, _) => kernels.absolute_f32(floats, row),
            (Element::F16, Metric::Cosine) => {
                cosine(kernels.dot_f16(floats, row), kernels.norm_f16(floats, row).sqrt())
            }
            (Element::F16, Metric::L2) => kernels.square_f16(floats, row),
            (Element::F16, Metric::Dot) => -kernels.dot_f16(floats, row),
            (Element::F16, _) => kernels.absolute_f16(floats, row),
            (Element::I8, Metric::Cosine) => {
                let product = kernels.dot_i8(bytes, row) as f32;
                cosine(product, self.length * root(kernels.norm_i8(bytes, row)))
            }
            (Element::I8, Metric::L2) => kernels.square_i8(bytes, row) as f32,
            (Element::I8, Metric::Dot) => -(kernels.dot_i8(bytes, row) as f32),
            (Element::I8, _) => kernels.absolute_i8(bytes, row) as f32,
            (Element::Binary, _) => kernels.hamming(&self.bits, row) as f32,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a length")]
fn root(square: i32) -> f32 {
    (square as f32).sqrt()
}

/// `1 - cos` from a product and the product of the lengths.
fn cosine(product: f32, lengths: f32) -> f32 {
    if lengths > 0.0 { 1.0 - product / lengths } else { 1.0 }
}

/// Scales to length one; a zero vector stays.
pub(super) fn normalise(values: &mut [f32]) {
    let square: f64 = values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    if square > 0.0 {
        let scale = 1.0 / square.sqrt();
        for value in values {
            #[expect(clippy::cast_possible_truncation, reason = "of a number below one")]
            let scaled = (f64::from(*value) * scale) as f32;
            *value = scaled;
        }
    }
}
