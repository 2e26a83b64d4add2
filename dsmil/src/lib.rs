// SPDX-License-Identifier: MIT OR Apache-2.0

//! DSMIL: hardware access moved out of the kernel into a separate process over UIO.
//!
//! The library (regions, tokens, device registry, thermal control, transports, C ABI) and the driver process `dsmild`
//! belong here. The crate has no code yet; its kernel half is in `dsmil/kernel`.
