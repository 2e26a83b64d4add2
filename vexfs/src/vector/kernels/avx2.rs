// SPDX-License-Identifier: MIT OR Apache-2.0

//! AVX2 with FMA and F16C: 32 bytes of codes, two groups of 32 items, at a time.

use std::arch::x86_64::{
    __m256, __m256i, _CMP_LT_OQ, _mm_add_epi16, _mm_loadu_si128, _mm_unpackhi_epi16, _mm_unpacklo_epi16,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_andnot_ps, _mm256_castsi256_si128,
    _mm256_cmp_ps, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_cvtepu16_epi32,
    _mm256_cvtph_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_movemask_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_epi16, _mm256_sub_ps,
};

use super::generic::{Lanes, instantiate};
use super::{FLUSH_GROUPS, ITEMS, Scan, Scanned, Table};

instantiate!("avx2,fma,f16c,popcnt", __m256);

impl Lanes for __m256 {
    const COUNT: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn query(from: *const f32) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn single(from: *const u8) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm256_loadu_ps(from.cast()) }
    }

    #[inline(always)]
    unsafe fn half(from: *const u8) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm256_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm256_sub_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn absolute(self) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Self, sum: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm256_fmadd_ps(self, other, sum) }
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        let mut parts = [0.0_f32; 8];
        // SAFETY: the caller's, and the array has 32 bytes.
        unsafe { _mm256_storeu_ps(parts.as_mut_ptr(), self) };
        let four: [f32; 4] = std::array::from_fn(|lane| parts[lane] + parts[lane + 4]);
        (four[0] + four[1]) + (four[2] + four[3])
    }
}

pub(super) static TABLE: Table = Table {
    dot_f32,
    square_f32,
    absolute_f32,
    norm_f32,
    dot_f16,
    square_f16,
    absolute_f16,
    norm_f16,
    dot_i8,
    square_i8,
    absolute_i8,
    norm_i8,
    hamming,
    dot_four,
    hadamard,
    scan_sums,
    scan,
    nibble_dot,
    byte_dot,
};

/// Sums of 32 items as 32-bit lanes, eight items each. See `avx512::sums` for the even and odd bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn sums(codes: &[u8], lut: &[u8]) -> [__m256i; 4] {
    let nibble = _mm256_set1_epi8(15);
    let mut totals = [_mm256_setzero_si256(); 4];
    for (codes, lut) in codes.chunks(FLUSH_GROUPS * 16).zip(lut.chunks(FLUSH_GROUPS * 16)) {
        let mut both = [_mm256_setzero_si256(); 2];
        let mut odd = [_mm256_setzero_si256(); 2];
        for (codes, lut) in codes.as_chunks::<32>().0.iter().zip(lut.as_chunks::<32>().0) {
            let (codes, lut) = (load(codes), load(lut));
            let low = _mm256_shuffle_epi8(lut, _mm256_and_si256(codes, nibble));
            let high = _mm256_shuffle_epi8(lut, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble));
            both[0] = _mm256_add_epi16(both[0], low);
            odd[0] = _mm256_add_epi16(odd[0], _mm256_srli_epi16::<8>(low));
            both[1] = _mm256_add_epi16(both[1], high);
            odd[1] = _mm256_add_epi16(odd[1], _mm256_srli_epi16::<8>(high));
        }
        for half in 0..2 {
            let even = _mm256_sub_epi16(both[half], _mm256_slli_epi16::<8>(odd[half]));
            let fold =
                |lanes: __m256i| _mm_add_epi16(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
            let (even, odd) = (fold(even), fold(odd[half]));
            let (first, second) = (_mm_unpacklo_epi16(even, odd), _mm_unpackhi_epi16(even, odd));
            totals[half * 2] = _mm256_add_epi32(totals[half * 2], _mm256_cvtepu16_epi32(first));
            totals[half * 2 + 1] = _mm256_add_epi32(totals[half * 2 + 1], _mm256_cvtepu16_epi32(second));
        }
    }
    totals
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the array has 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn scan_sums(codes: &[u8], lut: &[u8], out: &mut [u32; ITEMS]) {
    for (out, quarter) in out.as_chunks_mut::<8>().0.iter_mut().zip(sums(codes, lut)) {
        // SAFETY: the array has 32 bytes.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), quarter) };
    }
}

#[target_feature(enable = "avx2,fma")]
fn scan(scan: &Scan<'_>, scanned: &mut Scanned) -> u32 {
    let quarters = sums(scan.codes, scan.lut);
    let (scale, bias, add) = (
        _mm256_set1_ps(scan.scale),
        _mm256_set1_ps(scan.bias),
        _mm256_set1_ps(scan.add),
    );
    let (spread, limit) = (_mm256_set1_ps(scan.spread), _mm256_set1_ps(scan.limit));
    let factors = scan.factors.as_chunks::<32>().0;
    let mut mask = 0;
    for (quarter, sum) in quarters.into_iter().enumerate() {
        let column = |index: usize| {
            let bytes: &[u8; 32] = &factors[index * 4 + quarter];
            // SAFETY: the array has 32 bytes.
            unsafe { _mm256_loadu_ps(bytes.as_ptr().cast()) }
        };
        let product = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, bias);
        let estimate = _mm256_fmadd_ps(column(1), product, _mm256_add_ps(column(0), add));
        let low = _mm256_fnmadd_ps(column(2), spread, estimate);
        let estimates = &mut scanned.estimate.as_chunks_mut::<8>().0[quarter];
        // SAFETY: the array has 32 bytes.
        unsafe { _mm256_storeu_ps(estimates.as_mut_ptr(), estimate) };
        let lows = &mut scanned.low.as_chunks_mut::<8>().0[quarter];
        // SAFETY: the array has 32 bytes.
        unsafe { _mm256_storeu_ps(lows.as_mut_ptr(), low) };
        let below = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(low, limit));
        mask |= below.cast_unsigned() << (8 * quarter);
    }
    mask
}

#[target_feature(enable = "avx2")]
#[inline]
fn total(lanes: __m256i) -> i32 {
    let mut parts = [0_i32; 8];
    // SAFETY: the array has 32 bytes.
    unsafe { _mm256_storeu_si256(parts.as_mut_ptr().cast(), lanes) };
    parts.iter().sum()
}

/// Four-bit codes: a pair of products is at most 2 × 15 × 128, far from saturating 16 bits.
#[target_feature(enable = "avx2")]
fn nibble_dot(row: &[u8], query: &[i8]) -> i32 {
    let (nibble, one) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    let mut sum = _mm256_setzero_si256();
    for (row, query) in row.as_chunks::<32>().0.iter().zip(query.as_chunks::<64>().0) {
        // SAFETY: each half of the query has 32 bytes.
        let (low, high) = unsafe {
            (
                _mm256_loadu_si256(query[..32].as_ptr().cast()),
                _mm256_loadu_si256(query[32..].as_ptr().cast()),
            )
        };
        let codes = load(row);
        let low = _mm256_maddubs_epi16(_mm256_and_si256(codes, nibble), low);
        let high = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble), high);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(low, high), one));
    }
    total(sum)
}

/// Eight-bit codes are widened first: pairs of their products would saturate 16 bits.
#[target_feature(enable = "avx2")]
fn byte_dot(row: &[u8], query: &[i8]) -> i32 {
    let mut sum = _mm256_setzero_si256();
    for (row, query) in row.as_chunks::<32>().0.iter().zip(query.as_chunks::<32>().0) {
        // SAFETY: both arrays have 32 bytes.
        let (row, query) = unsafe {
            (
                _mm256_loadu_si256(row.as_ptr().cast()),
                _mm256_loadu_si256(query.as_ptr().cast()),
            )
        };
        let (row_high, query_high) = (_mm256_extracti128_si256::<1>(row), _mm256_extracti128_si256::<1>(query));
        let (row, query) = (_mm256_castsi256_si128(row), _mm256_castsi256_si128(query));
        let low = _mm256_madd_epi16(_mm256_cvtepu8_epi16(row), _mm256_cvtepi8_epi16(query));
        let high = _mm256_madd_epi16(_mm256_cvtepu8_epi16(row_high), _mm256_cvtepi8_epi16(query_high));
        sum = _mm256_add_epi32(sum, _mm256_add_epi32(low, high));
    }
    total(sum)
}
