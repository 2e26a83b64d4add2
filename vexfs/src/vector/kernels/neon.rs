// SPDX-License-Identifier: MIT OR Apache-2.0

//! NEON: 16 bytes of codes, one group of 32 items, at a time. Everything else is the plain code, which the compiler
//! vectorises here by itself, because every `AArch64` processor has NEON.

use std::arch::aarch64::{
    uint8x16_t, uint16x8_t, vaddw_high_u8, vaddw_u8, vandq_u8, vdupq_n_u8, vdupq_n_u16, vget_low_u8, vld1q_u8,
    vqtbl1q_u8, vshrq_n_u8, vst1q_u16,
};

use super::{FLUSH_GROUPS, ITEMS, Scan, Scanned, Table, scalar};

pub(super) static TABLE: Table = Table {
    scan_sums,
    scan,
    ..scalar::PLAIN
};

#[target_feature(enable = "neon")]
fn scan_sums(codes: &[u8], lut: &[u8], sums: &mut [u32; ITEMS]) {
    *sums = [0; ITEMS];
    for (codes, lut) in codes.chunks(FLUSH_GROUPS * 16).zip(lut.chunks(FLUSH_GROUPS * 16)) {
        let mut lanes: [uint16x8_t; 4] = [vdupq_n_u16(0); 4];
        for (codes, lut) in codes.as_chunks::<16>().0.iter().zip(lut.as_chunks::<16>().0) {
            let (codes, lut) = (load(codes), load(lut));
            let low = vqtbl1q_u8(lut, vandq_u8(codes, vdupq_n_u8(15)));
            let high = vqtbl1q_u8(lut, vshrq_n_u8::<4>(codes));
            lanes[0] = vaddw_u8(lanes[0], vget_low_u8(low));
            lanes[1] = vaddw_high_u8(lanes[1], low);
            lanes[2] = vaddw_u8(lanes[2], vget_low_u8(high));
            lanes[3] = vaddw_high_u8(lanes[3], high);
        }
        for (sums, lanes) in sums.as_chunks_mut::<8>().0.iter_mut().zip(lanes) {
            let mut flushed = [0_u16; 8];
            // SAFETY: the array has 16 bytes.
            unsafe { vst1q_u16(flushed.as_mut_ptr(), lanes) };
            for (sum, part) in sums.iter_mut().zip(flushed) {
                *sum += u32::from(part);
            }
        }
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: the array has 16 bytes.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[target_feature(enable = "neon")]
fn scan(scan: &Scan<'_>, scanned: &mut Scanned) -> u32 {
    let mut sums = [0; ITEMS];
    scan_sums(scan.codes, scan.lut, &mut sums);
    scalar::estimate(scan, &sums, scanned)
}
