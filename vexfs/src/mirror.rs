// SPDX-License-Identifier: MIT OR Apache-2.0

//! Structures of C headers of the kernel module, written once in Rust: field by field, little-endian and without padding. A
//! test compiles each header and compares sizes, offsets and constants with the lists that are made here.

/// A structure as the header has it: its name there, its size, and name, offset and size of its fields.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// In the header.
    pub name: &'static str,
    /// Bytes.
    pub size: usize,
    /// Fields in order.
    pub fields: &'static [(&'static str, usize, usize)],
}

/// Structures, and the list of them. `what` is where their fields are explained.
macro_rules! structures {
    (explained in $what:literal; $($(#[$doc:meta])* $name:ident = $header:literal { $($field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(
                Debug, Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
                zerocopy::Unaligned,
            )]
            #[repr(C)]
            #[expect(missing_docs, reason = $what)]
            pub struct $name { $(pub $field: $type,)* }

            impl Default for $name {
                fn default() -> Self {
                    <Self as zerocopy::FromZeros>::new_zeroed()
                }
            }
        )*

        /// Every structure of the header.
        pub const LAYOUTS: &[$crate::mirror::Layout] = &[$($crate::mirror::Layout {
            name: $header,
            size: size_of::<$name>(),
            fields: &[$((stringify!($field), std::mem::offset_of!($name, $field), size_of::<$type>()),)*],
        },)*];
    };
}

/// Constants, and the list of them, without the prefix that they have in the header.
macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: $type = $value;)*

        /// Every constant of the header, without its prefix.
        pub const CONSTANTS: &[(&str, u64)] = &[$((stringify!($name), $value as u64),)*];
    };
}

pub(crate) use {constants, structures};
