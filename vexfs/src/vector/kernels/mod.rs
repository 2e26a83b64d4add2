// SPDX-License-Identifier: MIT OR Apache-2.0

//! The arithmetic of the index, in the widest instructions the machine has. The only place of `vector` with `unsafe`.
//!
//! # Contract
//!
//! - [`Kernels::best`] looks at the processor once; [`Kernels::of`] takes one set of instructions by name, for tests.
//! - Every function checks the lengths of what it is given, also in release builds, and panics if they do not fit: callers
//!   decide lengths, never input. Nothing else can go wrong: any bytes may be scanned.
//! - Integer results are the same on every machine. Float results differ in the last digits, because sums run in lanes.
//!
//! | module | what |
//! |---|---|
//! | `generic` | distances of exact elements, written once for all instruction sets |
//! | `scalar` | plain code; the reference |
//! | `avx2`, `avx512`, `neon` | the bodies compiled for their instructions, and scans of codes written in them |

#![expect(
    clippy::inline_always,
    reason = "a body that is not inlined is not compiled for its instruction set"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the operations of a block are instructions or loads that are sound for the same reason"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod generic;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

/// Items of a block of one-bit codes.
pub const ITEMS: usize = 32;
/// Bytes of a block's factors: three columns of [`ITEMS`] floats (addend, factor, error).
pub const FACTOR_BYTES: usize = 3 * 4 * ITEMS;
/// Groups of four dimensions after which 16-bit sums go over into 32 bits: `256 * 255 < 65,536`.
const FLUSH_GROUPS: usize = 256;

/// A set of instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isa {
    /// Plain code.
    Scalar,
    /// `AArch64`'s vectors.
    Neon,
    /// 256 bits, with FMA and F16C.
    Avx2,
    /// 512 bits, with VNNI, BW, VL, DQ, VPOPCNTDQ.
    Avx512,
}

impl Isa {
    /// All of them, the best last.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Neon, Self::Avx2, Self::Avx512];
}

/// One block to scan: estimates of 32 distances from one-bit codes.
///
/// `estimate = factors.0 + add + factors.1 * (scale * sum + bias)` and `low = estimate - factors.2 * spread`.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// 16 bytes per group of four dimensions; low nibbles are items 0 to 15, high nibbles items 16 to 31.
    pub codes: &'a [u8],
    /// [`FACTOR_BYTES`], little-endian floats.
    pub factors: &'a [u8],
    /// 16 bytes per group: the query's share for each of the 16 sign patterns.
    pub lut: &'a [u8],
    /// Turns sums of `lut` into a product with the signs.
    pub scale: f32,
    /// See `scale`.
    pub bias: f32,
    /// The query's and the leaf's share of the distance.
    pub add: f32,
    /// The query's distance to the leaf's centre, which the error is proportional to.
    pub spread: f32,
    /// Items whose lower bound is below this are reported.
    pub limit: f32,
}

/// What a scan says about its 32 items.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Scanned {
    /// Estimated distance.
    pub estimate: [f32; ITEMS],
    /// Below which the distance is very unlikely to be.
    pub low: [f32; ITEMS],
}

impl Default for Scanned {
    fn default() -> Self {
        Self {
            estimate: [0.0; ITEMS],
            low: [0.0; ITEMS],
        }
    }
}

type OfFloats = unsafe fn(&[f32], &[u8]) -> f32;
type OfBytes = unsafe fn(&[i8], &[u8]) -> i32;

/// One implementation of everything. A table may only be called on a processor that has its instructions.
#[derive(Clone, Copy)]
struct Table {
    dot_f32: OfFloats,
    square_f32: OfFloats,
    absolute_f32: OfFloats,
    norm_f32: OfFloats,
    dot_f16: OfFloats,
    square_f16: OfFloats,
    absolute_f16: OfFloats,
    norm_f16: OfFloats,
    dot_i8: OfBytes,
    square_i8: OfBytes,
    absolute_i8: OfBytes,
    norm_i8: OfBytes,
    hamming: unsafe fn(&[u8], &[u8]) -> u32,
    dot_four: unsafe fn([&[f32]; 4], &[f32]) -> [f32; 4],
    hadamard: unsafe fn(&mut [f32]),
    scan_sums: unsafe fn(&[u8], &[u8], &mut [u32; ITEMS]),
    scan: unsafe fn(&Scan<'_>, &mut Scanned) -> u32,
    nibble_dot: unsafe fn(&[u8], &[i8]) -> i32,
    byte_dot: unsafe fn(&[u8], &[i8]) -> i32,
}

/// The functions for one set of instructions, which this processor has.
#[derive(Clone, Copy)]
pub struct Kernels {
    isa: Isa,
    table: &'static Table,
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.isa)
    }
}

/// A method for each function of exact elements: checks lengths, calls.
macro_rules! exact {
    ($($(#[$doc:meta])* $name:ident: $query:ty, $bytes:literal => $result:ty;)*) => {
        $(
            $(#[$doc])*
            #[inline]
            pub fn $name(&self, query: &[$query], row: &[u8]) -> $result {
                assert_eq!(row.len(), query.len() * $bytes, "a row has as many elements as the query");
                // SAFETY: `Kernels` exists only for instructions that this processor has.
                unsafe { (self.table.$name)(query, row) }
            }
        )*
    };
}

impl Kernels {
    /// The best this processor has.
    pub fn best() -> Self {
        static BEST: OnceLock<Kernels> = OnceLock::new();
        *BEST.get_or_init(|| {
            let found = Isa::ALL.into_iter().rev().find_map(Self::of);
            found.unwrap_or(Self {
                isa: Isa::Scalar,
                table: &scalar::TABLE,
            })
        })
    }

    /// Those of one set of instructions, if this processor has it.
    pub fn of(isa: Isa) -> Option<Self> {
        let table = match isa {
            Isa::Scalar => &scalar::TABLE,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if std::arch::is_aarch64_feature_detected!("neon") => &neon::TABLE,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if has_avx2() => &avx2::TABLE,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if has_avx2() && has_avx512() => &avx512::TABLE,
            _ => return None,
        };
        Some(Self { isa, table })
    }

    /// Which instructions these are.
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    exact! {
        /// Product of a query with a row of `f32`.
        dot_f32: f32, 4 => f32;
        /// Squared Euclidean distance to a row of `f32`.
        square_f32: f32, 4 => f32;
        /// Sum of absolute differences to a row of `f32`.
        absolute_f32: f32, 4 => f32;
        /// Squared length of a row of `f32`; the query only says how many elements.
        norm_f32: f32, 4 => f32;
        /// Product with a row of `f16`.
        dot_f16: f32, 2 => f32;
        /// Squared Euclidean distance to a row of `f16`.
        square_f16: f32, 2 => f32;
        /// Sum of absolute differences to a row of `f16`.
        absolute_f16: f32, 2 => f32;
        /// Squared length of a row of `f16`.
        norm_f16: f32, 2 => f32;
        /// Product with a row of `i8`.
        dot_i8: i8, 1 => i32;
        /// Squared Euclidean distance to a row of `i8`.
        square_i8: i8, 1 => i32;
        /// Sum of absolute differences to a row of `i8`.
        absolute_i8: i8, 1 => i32;
        /// Squared length of a row of `i8`.
        norm_i8: i8, 1 => i32;
        /// Bits that differ.
        hamming: u8, 1 => u32;
    }

    /// Products of four vectors with one.
    #[inline]
    pub fn dot_four(&self, four: [&[f32]; 4], one: &[f32]) -> [f32; 4] {
        assert!(
            four.iter().all(|many| many.len() == one.len()),
            "vectors are of one length"
        );
        // SAFETY: as above.
        unsafe { (self.table.dot_four)(four, one) }
    }

    /// The Hadamard transform in place, scaled so that lengths stay.
    #[inline]
    pub fn hadamard(&self, values: &mut [f32]) {
        assert!(values.len().is_power_of_two(), "the transform works on powers of two");
        // SAFETY: as above.
        unsafe { (self.table.hadamard)(values) }
    }

    /// The sums of a block's looked-up bytes alone: what [`Kernels::scan`] begins with.
    pub fn scan_sums(&self, codes: &[u8], lut: &[u8], sums: &mut [u32; ITEMS]) {
        check_codes(codes, lut);
        // SAFETY: as above.
        unsafe { (self.table.scan_sums)(codes, lut, sums) }
    }

    /// Estimates a block's distances. Bit `i` of the answer is set if item `i` may be below the limit.
    #[inline]
    pub fn scan(&self, scan: &Scan<'_>, scanned: &mut Scanned) -> u32 {
        check_codes(scan.codes, scan.lut);
        assert_eq!(scan.factors.len(), FACTOR_BYTES, "three factors for each item");
        // SAFETY: as above.
        unsafe { (self.table.scan)(scan, scanned) }
    }

    /// Product of a row of four-bit codes with a query. Of every 64 dimensions, byte `j` of 32 holds `j` in its low and
    /// `j + 32` in its high nibble.
    #[inline]
    pub fn nibble_dot(&self, row: &[u8], query: &[i8]) -> i32 {
        assert!(
            query.len() == row.len() * 2 && query.len().is_multiple_of(64),
            "whole groups of 64"
        );
        // SAFETY: as above.
        unsafe { (self.table.nibble_dot)(row, query) }
    }

    /// Product of a row of eight-bit codes with a query.
    #[inline]
    pub fn byte_dot(&self, row: &[u8], query: &[i8]) -> i32 {
        assert!(
            query.len() == row.len() && query.len().is_multiple_of(64),
            "whole groups of 64"
        );
        // SAFETY: as above.
        unsafe { (self.table.byte_dot)(row, query) }
    }

    /// Asks the processor to have these bytes at hand soon.
    #[inline]
    pub fn prefetch(bytes: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        for line in bytes.chunks(64) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch has no effect but on caches, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = bytes;
    }
}

fn check_codes(codes: &[u8], lut: &[u8]) {
    assert!(
        codes.len() == lut.len() && codes.len().is_multiple_of(256),
        "codes and table have 16 bytes for each group of a multiple of 64 dimensions"
    );
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2") && has!("fma") && has!("f16c") && has!("popcnt")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    let base = has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq");
    base && has!("avx512vnni") && has!("avx512vpopcntdq")
}
