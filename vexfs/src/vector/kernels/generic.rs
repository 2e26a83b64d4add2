// SPDX-License-Identifier: MIT OR Apache-2.0

//! Bodies that are written once for all instruction sets: distances of exact elements, the Hadamard transform.
//!
//! Each is inlined into one function per instruction set (see [`instantiate`]). Floats are summed in [`Lanes`], a register
//! each, four of them independent; only the order of additions differs from a plain loop. Sums of bytes and bits are plain
//! loops that the compiler vectorises by itself.

/// Several floats in one register, or what stands for one.
///
/// # Safety
///
/// The methods may only be called where the processor has the instructions of the implementation. Loads read as many
/// elements as there are lanes, from any alignment.
pub(super) trait Lanes: Copy {
    const COUNT: usize;

    unsafe fn zero() -> Self;
    unsafe fn query(from: *const f32) -> Self;
    unsafe fn single(from: *const u8) -> Self;
    unsafe fn half(from: *const u8) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn subtract(self, other: Self) -> Self;
    unsafe fn absolute(self) -> Self;
    /// `self * other + sum`.
    unsafe fn multiply_add(self, other: Self, sum: Self) -> Self;
    unsafe fn total(self) -> f32;
}

/// One float: plain code, in eight lanes that the compiler may put into registers.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 8]);

impl Lanes for Plain {
    const COUNT: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 8])
    }

    #[inline(always)]
    unsafe fn query(from: *const f32) -> Self {
        // SAFETY: the caller says that so many elements are there.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn single(from: *const u8) -> Self {
        // SAFETY: as above.
        let bytes = unsafe { from.cast::<[[u8; 4]; 8]>().read_unaligned() };
        Self(bytes.map(f32::from_le_bytes))
    }

    #[inline(always)]
    unsafe fn half(from: *const u8) -> Self {
        // SAFETY: as above.
        let bytes = unsafe { from.cast::<[[u8; 2]; 8]>().read_unaligned() };
        Self(bytes.map(Half::load))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
    }

    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] - other.0[lane]))
    }

    #[inline(always)]
    unsafe fn absolute(self) -> Self {
        Self(self.0.map(f32::abs))
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Self, sum: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] * other.0[lane] + sum.0[lane]))
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        let four: [f32; 4] = std::array::from_fn(|lane| self.0[lane] + self.0[lane + 4]);
        (four[0] + four[1]) + (four[2] + four[3])
    }
}

/// How stored elements become numbers.
pub(super) trait Element {
    /// Bytes of one.
    const BYTES: usize;

    /// One element.
    fn one(bytes: &[u8]) -> f32;

    /// As many as there are lanes. Unsafe as [`Lanes`] is.
    unsafe fn lanes<L: Lanes>(from: *const u8) -> L;
}

/// Little-endian `f32`.
pub(super) struct Single;
/// Little-endian IEEE half precision, finite.
pub(super) struct Half;

impl Element for Single {
    const BYTES: usize = 4;

    #[inline(always)]
    fn one(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    #[inline(always)]
    unsafe fn lanes<L: Lanes>(from: *const u8) -> L {
        // SAFETY: the caller's.
        unsafe { L::single(from) }
    }
}

impl Half {
    /// The exponent's bias is corrected by a multiplication, which is exact and makes subnormal halves right too.
    #[inline(always)]
    fn load(bytes: [u8; 2]) -> f32 {
        let half = u32::from(u16::from_le_bytes(bytes));
        let magnitude = f32::from_bits((half & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
        f32::from_bits(magnitude.to_bits() | (half & 0x8000) << 16)
    }
}

impl Element for Half {
    const BYTES: usize = 2;

    #[inline(always)]
    fn one(bytes: &[u8]) -> f32 {
        Self::load([bytes[0], bytes[1]])
    }

    #[inline(always)]
    unsafe fn lanes<L: Lanes>(from: *const u8) -> L {
        // SAFETY: the caller's.
        unsafe { L::half(from) }
    }
}

/// What is summed over the elements of a query and a row.
pub(super) trait Sum {
    fn step(sum: f32, query: f32, row: f32) -> f32;

    /// The same in lanes. Unsafe as [`Lanes`] is.
    unsafe fn lanes<L: Lanes>(sum: L, query: L, row: L) -> L;
}

pub(super) struct Dot;
pub(super) struct Square;
pub(super) struct Absolute;
/// The row's own squared length.
pub(super) struct Norm;

impl Sum for Dot {
    #[inline(always)]
    fn step(sum: f32, query: f32, row: f32) -> f32 {
        query * row + sum
    }

    #[inline(always)]
    unsafe fn lanes<L: Lanes>(sum: L, query: L, row: L) -> L {
        // SAFETY: the caller's.
        unsafe { query.multiply_add(row, sum) }
    }
}

impl Sum for Square {
    #[inline(always)]
    fn step(sum: f32, query: f32, row: f32) -> f32 {
        (query - row) * (query - row) + sum
    }

    #[inline(always)]
    unsafe fn lanes<L: Lanes>(sum: L, query: L, row: L) -> L {
        // SAFETY: the caller's.
        let difference = unsafe { query.subtract(row) };
        // SAFETY: the caller's.
        unsafe { difference.multiply_add(difference, sum) }
    }
}

impl Sum for Absolute {
    #[inline(always)]
    fn step(sum: f32, query: f32, row: f32) -> f32 {
        sum + (query - row).abs()
    }

    #[inline(always)]
    unsafe fn lanes<L: Lanes>(sum: L, query: L, row: L) -> L {
        // SAFETY: the caller's.
        let difference = unsafe { query.subtract(row) };
        // SAFETY: the caller's.
        let magnitude = unsafe { difference.absolute() };
        // SAFETY: the caller's.
        unsafe { sum.add(magnitude) }
    }
}

impl Sum for Norm {
    #[inline(always)]
    fn step(sum: f32, _: f32, row: f32) -> f32 {
        row * row + sum
    }

    #[inline(always)]
    unsafe fn lanes<L: Lanes>(sum: L, _: L, row: L) -> L {
        // SAFETY: the caller's.
        unsafe { row.multiply_add(row, sum) }
    }
}

/// The sum over a query and a row of as many elements.
///
/// # Safety
///
/// As of [`Lanes`].
#[inline(always)]
pub(super) unsafe fn sum<L: Lanes, E: Element, S: Sum>(query: &[f32], row: &[u8]) -> f32 {
    assert_eq!(
        row.len(),
        query.len() * E::BYTES,
        "a row has as many elements as the query"
    );
    let whole = query.len() / L::COUNT * L::COUNT;
    let wide = query.len() / (4 * L::COUNT) * (4 * L::COUNT);
    // SAFETY: the instructions are there, says the caller; all loads end at `whole` elements or before.
    let mut sum = unsafe {
        let step = |sum: L, at: usize| {
            let (query, row) = (
                L::query(query.as_ptr().add(at)),
                E::lanes::<L>(row.as_ptr().add(at * E::BYTES)),
            );
            S::lanes(sum, query, row)
        };
        let (mut one, mut two, mut three, mut four) = (L::zero(), L::zero(), L::zero(), L::zero());
        let mut at = 0;
        while at < wide {
            one = step(one, at);
            two = step(two, at + L::COUNT);
            three = step(three, at + 2 * L::COUNT);
            four = step(four, at + 3 * L::COUNT);
            at += 4 * L::COUNT;
        }
        while at < whole {
            one = step(one, at);
            at += L::COUNT;
        }
        one.add(two).add(three.add(four)).total()
    };
    for (query, row) in query[whole..]
        .iter()
        .zip(row[whole * E::BYTES..].chunks_exact(E::BYTES))
    {
        sum = S::step(sum, *query, E::one(row));
    }
    sum
}

/// The dot products of four vectors with one: the one is loaded once.
///
/// # Safety
///
/// As of [`Lanes`].
#[inline(always)]
pub(super) unsafe fn dot_four<L: Lanes>(four: [&[f32]; 4], one: &[f32]) -> [f32; 4] {
    assert!(
        four.iter().all(|many| many.len() == one.len()),
        "vectors are of one length"
    );
    let whole = one.len() / L::COUNT * L::COUNT;
    // SAFETY: the instructions are there, says the caller; all loads end at `whole` elements or before.
    let mut sums = unsafe {
        let (mut a, mut b, mut c, mut d) = (L::zero(), L::zero(), L::zero(), L::zero());
        let mut at = 0;
        while at < whole {
            let one = L::query(one.as_ptr().add(at));
            a = L::query(four[0].as_ptr().add(at)).multiply_add(one, a);
            b = L::query(four[1].as_ptr().add(at)).multiply_add(one, b);
            c = L::query(four[2].as_ptr().add(at)).multiply_add(one, c);
            d = L::query(four[3].as_ptr().add(at)).multiply_add(one, d);
            at += L::COUNT;
        }
        [a.total(), b.total(), c.total(), d.total()]
    };
    for (sum, many) in sums.iter_mut().zip(four) {
        for (many, one) in many[whole..].iter().zip(&one[whole..]) {
            *sum += many * one;
        }
    }
    sums
}

/// What is summed over signed bytes; 16,384 of them never overflow.
pub(super) trait ByteSum {
    fn term(query: i32, row: i32) -> i32;
}

impl ByteSum for Dot {
    #[inline(always)]
    fn term(query: i32, row: i32) -> i32 {
        query * row
    }
}

impl ByteSum for Square {
    #[inline(always)]
    fn term(query: i32, row: i32) -> i32 {
        (query - row) * (query - row)
    }
}

impl ByteSum for Absolute {
    #[inline(always)]
    fn term(query: i32, row: i32) -> i32 {
        (query - row).abs()
    }
}

impl ByteSum for Norm {
    #[inline(always)]
    fn term(_: i32, row: i32) -> i32 {
        row * row
    }
}

#[inline(always)]
pub(super) fn byte_sum<S: ByteSum>(query: &[i8], row: &[u8]) -> i32 {
    let pairs = query.iter().zip(row);
    pairs
        .map(|(query, row)| S::term(i32::from(*query), i32::from(row.cast_signed())))
        .sum()
}

/// Bits that differ.
#[inline(always)]
pub(super) fn hamming(query: &[u8], row: &[u8]) -> u32 {
    let (queries, query_rest) = query.as_chunks::<8>();
    let (rows, row_rest) = row.as_chunks::<8>();
    let words = queries.iter().zip(rows);
    let whole: u64 = words
        .map(|(query, row)| u64::from((u64::from_le_bytes(*query) ^ u64::from_le_bytes(*row)).count_ones()))
        .sum();
    let rest: u32 = query_rest
        .iter()
        .zip(row_rest)
        .map(|(query, row)| (query ^ row).count_ones())
        .sum();
    #[expect(clippy::cast_possible_truncation, reason = "at most 16,384 bits")]
    let whole = whole as u32;
    whole + rest
}

/// The Hadamard transform in place, scaled to keep lengths. The number of values is a power of two.
#[inline(always)]
pub(super) fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                (*low, *high) = (*low + *high, *low - *high);
            }
        }
        half *= 2;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 16,384")]
    let scale = 1.0 / (values.len() as f32).sqrt();
    for value in values {
        *value *= scale;
    }
}

/// One function for each body, compiled for `$features`, with `$lanes` for floats.
macro_rules! instantiate {
    ($features:literal, $lanes:ty) => {
        instantiate!(@sum $features, $lanes, dot_f32, Single, Dot);
        instantiate!(@sum $features, $lanes, square_f32, Single, Square);
        instantiate!(@sum $features, $lanes, absolute_f32, Single, Absolute);
        instantiate!(@sum $features, $lanes, norm_f32, Single, Norm);
        instantiate!(@sum $features, $lanes, dot_f16, Half, Dot);
        instantiate!(@sum $features, $lanes, square_f16, Half, Square);
        instantiate!(@sum $features, $lanes, absolute_f16, Half, Absolute);
        instantiate!(@sum $features, $lanes, norm_f16, Half, Norm);
        instantiate!(@bytes $features, dot_i8, Dot);
        instantiate!(@bytes $features, square_i8, Square);
        instantiate!(@bytes $features, absolute_i8, Absolute);
        instantiate!(@bytes $features, norm_i8, Norm);

        #[target_feature(enable = $features)]
        fn hamming(query: &[u8], row: &[u8]) -> u32 {
            super::generic::hamming(query, row)
        }

        #[target_feature(enable = $features)]
        fn dot_four(four: [&[f32]; 4], one: &[f32]) -> [f32; 4] {
            // SAFETY: this function is only called where there are these instructions.
            unsafe { super::generic::dot_four::<$lanes>(four, one) }
        }

        #[target_feature(enable = $features)]
        fn hadamard(values: &mut [f32]) {
            super::generic::hadamard(values);
        }
    };
    (@sum $features:literal, $lanes:ty, $name:ident, $element:ident, $sum:ident) => {
        #[target_feature(enable = $features)]
        fn $name(query: &[f32], row: &[u8]) -> f32 {
            // SAFETY: this function is only called where there are these instructions.
            unsafe { super::generic::sum::<$lanes, super::generic::$element, super::generic::$sum>(query, row) }
        }
    };
    (@bytes $features:literal, $name:ident, $sum:ident) => {
        #[target_feature(enable = $features)]
        fn $name(query: &[i8], row: &[u8]) -> i32 {
            super::generic::byte_sum::<super::generic::$sum>(query, row)
        }
    };
}
pub(super) use instantiate;
