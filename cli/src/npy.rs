// SPDX-License-Identifier: MIT OR Apache-2.0

//! Arrays of numpy (`.npy`, versions 1 to 3): two dimensions, rows one after the other, little-endian `f4`, `f8` or `i1`.

use std::path::Path;

use anyhow::{Context, Result, bail};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Rows of numbers.
#[derive(Debug)]
pub(crate) struct Array {
    rows: usize,
    columns: usize,
    numbers: Vec<f64>,
}

impl Array {
    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[f64]> {
        self.numbers.chunks_exact(self.columns.max(1))
    }
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Array> {
    let shown = || path.display().to_string();
    let bytes = std::fs::read(path).with_context(shown)?;
    parse(&bytes).with_context(shown)
}

fn parse(bytes: &[u8]) -> Result<Array> {
    let rest = bytes.strip_prefix(MAGIC).context("this is no array of numpy")?;
    let (header, data) = match rest {
        [1, _, a, b, rest @ ..] => rest.split_at_checked(usize::from(u16::from_le_bytes([*a, *b]))),
        [2 | 3, _, a, b, c, d, rest @ ..] => {
            let length = u32::from_le_bytes([*a, *b, *c, *d]);
            rest.split_at_checked(usize::try_from(length)?)
        }
        _ => bail!("an array of an unknown version"),
    }
    .context("the array is cut off")?;
    let header = String::from_utf8_lossy(header);
    let member = |name: &str| header.split_once(name).map(|(_, rest)| rest.trim_start());
    if member("'fortran_order':").is_none_or(|rest| !rest.starts_with("False")) {
        bail!("the array is stored by columns; save it with numpy.ascontiguousarray");
    }
    let shape = member("'shape':").and_then(|rest| rest.strip_prefix('(')?.split_once(')'));
    let shape = shape.map(|(shape, _)| shape).unwrap_or_default();
    let sizes: Vec<&str> = shape
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .collect();
    let &[rows, columns] = sizes.as_slice() else {
        bail!("the array has the shape ({shape}), not rows and columns");
    };
    let (rows, columns): (usize, usize) = (rows.parse()?, columns.parse()?);
    let kind = member("'descr':").and_then(|rest| rest.strip_prefix('\'')?.split_once('\''));
    let numbers: Vec<f64> = match kind.map(|(kind, _)| kind) {
        Some("<f4") => data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|four| f64::from(f32::from_le_bytes(*four)))
            .collect(),
        Some("<f8") => data
            .as_chunks::<8>()
            .0
            .iter()
            .map(|eight| f64::from_le_bytes(*eight))
            .collect(),
        Some("|i1") => data.iter().map(|byte| f64::from(byte.cast_signed())).collect(),
        other => bail!(
            "elements of type {}; convert them to float32",
            other.unwrap_or("unknown")
        ),
    };
    if Some(numbers.len()) != rows.checked_mul(columns) {
        bail!(
            "the array holds {} numbers instead of {rows} times {columns}",
            numbers.len()
        );
    }
    Ok(Array { rows, columns, numbers })
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn array(header: &str, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn rows_are_read_and_what_is_no_array_is_refused() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        let data: Vec<u8> = (0_u8..6).flat_map(|number| f32::from(number).to_le_bytes()).collect();
        let read = parse(&array(header, &data)).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]);
        for wrong in [
            array(header, &data[..20]),
            array(&header.replace("False", "True"), &data),
            array(&header.replace("(2, 3)", "(6,)"), &data),
            array(&header.replace("<f4", ">f4"), &data),
            b"no array".to_vec(),
            b"\x93NUMPY\x01\x00\xff\xff".to_vec(),
        ] {
            assert!(parse(&wrong).is_err());
        }
    }
}
