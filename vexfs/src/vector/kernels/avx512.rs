// SPDX-License-Identifier: MIT OR Apache-2.0

//! AVX-512 with VNNI: 64 bytes of codes, four groups of 32 items, at a time.

use std::arch::x86_64::{
    __m512, __m512i, _mm_add_epi16, _mm_unpackhi_epi16, _mm_unpacklo_epi16, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_and_si256, _mm256_castsi128_si256, _mm256_castsi256_si128, _mm256_dpbusd_epi32, _mm256_extracti128_si256,
    _mm256_inserti128_si256, _mm256_loadu_si256, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_srli_epi16,
    _mm512_abs_ps, _mm512_add_epi16, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_si256,
    _mm512_cmplt_ps_mask, _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_dpbusd_epi32,
    _mm512_extracti64x4_epi64, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_reduce_add_epi32, _mm512_reduce_add_ps, _mm512_set1_epi8, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_slli_epi16, _mm512_srli_epi16, _mm512_storeu_ps,
    _mm512_storeu_si512, _mm512_sub_epi16, _mm512_sub_ps, _mm512_zextsi256_si512,
};

use super::generic::{Lanes, instantiate};
use super::{FLUSH_GROUPS, ITEMS, Scan, Scanned, Table};

instantiate!(
    "avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq,avx2,fma,f16c,popcnt",
    __m512
);

impl Lanes for __m512 {
    const COUNT: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn query(from: *const f32) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn single(from: *const u8) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_ps(from.cast()) }
    }

    #[inline(always)]
    unsafe fn half(from: *const u8) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm512_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm512_sub_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn absolute(self) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm512_abs_ps(self) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Self, sum: Self) -> Self {
        // SAFETY: the caller's.
        unsafe { _mm512_fmadd_ps(self, other, sum) }
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        // SAFETY: the caller's.
        unsafe { _mm512_reduce_add_ps(self) }
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

/// Sums of 32 items as 32-bit lanes: items 0 to 15, items 16 to 31.
///
/// Looked-up bytes are added two at a time as 16-bit lanes: `both` collects the even byte plus 256 times the odd one,
/// `odd` the odd one, and the difference is exact modulo 2^16. A lane holds at most 64 groups before it is flushed.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn sums(codes: &[u8], lut: &[u8]) -> [__m512i; 2] {
    let nibble = _mm512_set1_epi8(15);
    let mut totals = [_mm512_setzero_si512(); 2];
    for (codes, lut) in codes.chunks(FLUSH_GROUPS * 16).zip(lut.chunks(FLUSH_GROUPS * 16)) {
        let mut both = [_mm512_setzero_si512(); 2];
        let mut odd = [_mm512_setzero_si512(); 2];
        for (codes, lut) in codes.as_chunks::<64>().0.iter().zip(lut.as_chunks::<64>().0) {
            // SAFETY: both arrays have 64 bytes.
            let (codes, lut) = unsafe {
                (
                    _mm512_loadu_si512(codes.as_ptr().cast()),
                    _mm512_loadu_si512(lut.as_ptr().cast()),
                )
            };
            let low = _mm512_shuffle_epi8(lut, _mm512_and_si512(codes, nibble));
            let high = _mm512_shuffle_epi8(lut, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), nibble));
            both[0] = _mm512_add_epi16(both[0], low);
            odd[0] = _mm512_add_epi16(odd[0], _mm512_srli_epi16::<8>(low));
            both[1] = _mm512_add_epi16(both[1], high);
            odd[1] = _mm512_add_epi16(odd[1], _mm512_srli_epi16::<8>(high));
        }
        for half in 0..2 {
            let even = _mm512_sub_epi16(both[half], _mm512_slli_epi16::<8>(odd[half]));
            let fold = |lanes: __m512i| {
                let two = _mm256_add_epi16(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64::<1>(lanes));
                _mm_add_epi16(_mm256_castsi256_si128(two), _mm256_extracti128_si256::<1>(two))
            };
            let (even, odd) = (fold(even), fold(odd[half]));
            let first = _mm256_castsi128_si256(_mm_unpacklo_epi16(even, odd));
            let all = _mm256_inserti128_si256::<1>(first, _mm_unpackhi_epi16(even, odd));
            totals[half] = _mm512_add_epi32(totals[half], _mm512_cvtepu16_epi32(all));
        }
    }
    totals
}

#[target_feature(enable = "avx512f,avx512bw")]
fn scan_sums(codes: &[u8], lut: &[u8], out: &mut [u32; ITEMS]) {
    let halves = sums(codes, lut);
    for (out, half) in out.as_chunks_mut::<16>().0.iter_mut().zip(halves) {
        // SAFETY: the array has 64 bytes.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), half) };
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn scan(scan: &Scan<'_>, scanned: &mut Scanned) -> u32 {
    let halves = sums(scan.codes, scan.lut);
    let (scale, bias, add) = (
        _mm512_set1_ps(scan.scale),
        _mm512_set1_ps(scan.bias),
        _mm512_set1_ps(scan.add),
    );
    let (spread, limit) = (_mm512_set1_ps(scan.spread), _mm512_set1_ps(scan.limit));
    let factors = scan.factors.as_chunks::<64>().0;
    let mut mask = 0;
    for (half, sum) in halves.into_iter().enumerate() {
        let column = |index: usize| {
            let bytes: &[u8; 64] = &factors[index * 2 + half];
            // SAFETY: the array has 64 bytes.
            unsafe { _mm512_loadu_ps(bytes.as_ptr().cast()) }
        };
        let product = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, bias);
        let estimate = _mm512_fmadd_ps(column(1), product, _mm512_add_ps(column(0), add));
        let low = _mm512_fnmadd_ps(column(2), spread, estimate);
        let (estimates, lows) = (
            &mut scanned.estimate.as_chunks_mut::<16>().0[half],
            &mut scanned.low.as_chunks_mut::<16>().0[half],
        );
        // SAFETY: the array has 64 bytes.
        unsafe { _mm512_storeu_ps(estimates.as_mut_ptr(), estimate) };
        // SAFETY: the array has 64 bytes.
        unsafe { _mm512_storeu_ps(lows.as_mut_ptr(), low) };
        mask |= u32::from(_mm512_cmplt_ps_mask(low, limit)) << (16 * half);
    }
    mask
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn nibble_dot(row: &[u8], query: &[i8]) -> i32 {
    let nibble = _mm256_set1_epi8(15);
    let mut sums = [_mm256_setzero_si256(); 2];
    for (row, query) in row.as_chunks::<32>().0.iter().zip(query.as_chunks::<64>().0) {
        let (low, high) = (&query[..32], &query[32..]);
        // SAFETY: each has 32 bytes.
        let (codes, low, high) = unsafe {
            (
                _mm256_loadu_si256(row.as_ptr().cast()),
                _mm256_loadu_si256(low.as_ptr().cast()),
                _mm256_loadu_si256(high.as_ptr().cast()),
            )
        };
        sums[0] = _mm256_dpbusd_epi32(sums[0], _mm256_and_si256(codes, nibble), low);
        sums[1] = _mm256_dpbusd_epi32(sums[1], _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble), high);
    }
    _mm512_reduce_add_epi32(_mm512_zextsi256_si512(_mm256_add_epi32(sums[0], sums[1])))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn byte_dot(row: &[u8], query: &[i8]) -> i32 {
    let mut sum = _mm512_setzero_si512();
    for (row, query) in row.as_chunks::<64>().0.iter().zip(query.as_chunks::<64>().0) {
        // SAFETY: both arrays have 64 bytes.
        let (row, query) = unsafe {
            (
                _mm512_loadu_si512(row.as_ptr().cast()),
                _mm512_loadu_si512(query.as_ptr().cast()),
            )
        };
        sum = _mm512_dpbusd_epi32(sum, row, query);
    }
    _mm512_reduce_add_epi32(sum)
}
