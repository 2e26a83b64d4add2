// SPDX-License-Identifier: MIT OR Apache-2.0

//! Codes of rotated residuals: one bit per dimension with an error bound, and four or eight bits for sharper estimates.
//!
//! For an item `x` in a leaf with centre `c`, let `r = P(x - c)` and `y` its code as numbers (`±1`, or `u - 7.5`, or
//! `u - 127.5`). Then for any query `q`, without bias and with an error that the code's own angle to `r` bounds,
//!
//! ```text
//! <r, P(q - c)> ≈ |r|² / <y, r> · (<y, Pq> - <y, Pc>)
//! ```
//!
//! so that `|x - q|² ≈ add + |q - c|² + factor · <y, Pq>` with `factor = -2 |r|² / <y, r>` and
//! `add = |r|² - factor · <y, Pc>`: one table of `Pq` serves all leaves. This is `RaBitQ` and its extension to more bits.
//! For products, `-<q, x> = (|x - q|² - |x|² - |q|²) / 2`: the same with halved factors and `|x|²` taken from `add`.

use super::Form;
use crate::vector::sums::sums;

/// Standard deviations of the error that the bound of a one-bit estimate covers.
pub const CERTAINTY: f32 = 1.9;

/// What turns a product with a code into a distance.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Factors {
    /// Added.
    pub add: f32,
    /// Times the product.
    pub factor: f32,
    /// Times `|q - c|`: how far off the estimate may be. Of one-bit codes only.
    pub error: f32,
}

/// A residual about to be encoded: `r`, `Pc` and `|x|²`, all rotated and padded.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// `P(x - c)`.
    pub residual: &'a [f32],
    /// `Pc`.
    pub centre: &'a [f32],
    /// `|x|²`.
    pub square: f32,
    /// What is estimated.
    pub form: Form,
}

/// The whole part of a number that is not negative and below 256; there is an instruction for it everywhere.
#[expect(clippy::cast_possible_truncation, reason = "below 256")]
#[inline]
fn whole(value: f32) -> i32 {
    value as i32
}

impl Residual<'_> {
    fn factors(&self, code_residual: f64, code_square: f64, code_centre: f64) -> Factors {
        let [square] = sums(self.residual, self.residual, |one, other| [one * other]);
        let mut found = Factors::default();
        if square > 0.0 && code_residual > 0.0 {
            let factor = -2.0 * square / code_residual;
            #[expect(clippy::cast_precision_loss, reason = "at most 16,384")]
            let spread = (self.residual.len() as f64 - 1.0).sqrt();
            let cosine = (code_residual / (code_square * square).sqrt()).min(1.0);
            let error = 2.0 * square.sqrt() * ((1.0 - cosine * cosine) / (cosine * cosine)).sqrt() / spread;
            found = Factors {
                add: narrow(square - factor * code_centre),
                factor: narrow(factor),
                error: narrow(error) * CERTAINTY,
            };
        }
        if self.form == Form::Product {
            found.add = (found.add - self.square) / 2.0;
            found.factor /= 2.0;
            found.error /= 2.0;
        }
        found
    }

    /// The signs, as one bit per dimension, lowest first; set means not negative.
    pub fn signs(&self, bits: &mut [u8]) -> Factors {
        for (byte, eight) in bits.iter_mut().zip(self.residual.as_chunks::<8>().0) {
            let bits = (0..8).zip(eight).map(|(at, residual)| u8::from(*residual >= 0.0) << at);
            *byte = bits.fold(0, |byte, bit| byte | bit);
        }
        let [code_residual, code_centre] = sums(self.residual, self.centre, |residual, centre| {
            [residual.abs(), if residual >= 0.0 { centre } else { -centre }]
        });
        #[expect(clippy::cast_precision_loss, reason = "at most 16,384")]
        let code_square = self.residual.len() as f64;
        self.factors(code_residual, code_square, code_centre)
    }

    /// The levels, `levels` of them on each side of zero (8 for four bits, 128 for eight), into one byte per dimension.
    pub fn levels(&self, levels: u8, codes: &mut [u8]) -> Factors {
        let step = self.best_step(f32::from(levels));
        let most = f32::from(levels - 1);
        // A level, and the number it stands for, on the side of zero that the residual is on.
        #[expect(clippy::cast_precision_loss, reason = "below the number of levels")]
        let value = |residual: f32| {
            let value = whole((residual.abs() * step).min(most)) as f32 + 0.5;
            if residual >= 0.0 { value } else { -value }
        };
        for (residual, code) in self.residual.iter().zip(codes) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a byte")]
            let byte = whole(value(*residual) + most + 0.5) as u8;
            *code = byte;
        }
        let [code_residual, code_square, code_centre] = sums(self.residual, self.centre, |residual, centre| {
            let value = value(residual);
            [value * residual, value * value, value * centre]
        });
        self.factors(code_residual, code_square, code_centre)
    }

    /// The scale at which the levels have the smallest angle to the residual.
    fn best_step(&self, levels: f32) -> f32 {
        let largest = self
            .residual
            .iter()
            .fold(0.0_f32, |largest, value| largest.max(value.abs()));
        if largest <= 0.0 {
            return 0.0;
        }
        let [square] = sums(self.residual, self.residual, |one, other| [one * other]);
        #[expect(clippy::cast_precision_loss, reason = "at most 16,384")]
        let deviation = narrow((square / self.residual.len() as f64).sqrt());
        let top = levels - 1.0;
        let mut best = (0.0, levels / largest);
        let spans = [1.8_f32, 2.1, 2.3, 2.5, 2.7, 2.9, 3.1, 3.4, 3.8].map(|span| span * deviation);
        for span in spans.into_iter().filter(|span| *span < largest).chain([largest]) {
            let step = levels / span;
            #[expect(clippy::cast_precision_loss, reason = "below the number of levels")]
            let [product, length] = sums(self.residual, self.residual, |value, _| {
                let level = whole((value.abs() * step).min(top)) as f32 + 0.5;
                [level * value.abs(), level * level]
            });
            let cosine = product / length.sqrt();
            if cosine > best.0 {
                best = (cosine, step);
            }
        }
        best.1
    }
}

#[expect(clippy::cast_possible_truncation, reason = "factors of numbers that were f32")]
fn narrow(value: f64) -> f32 {
    value as f32
}
