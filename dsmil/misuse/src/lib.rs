// SPDX-License-Identifier: MIT OR Apache-2.0

//! Nothing but tests: programs that misuse the library `dsmil`, and must not compile. A package of their own, because
//! each is built with all dependencies of the package it is in.
