// SPDX-License-Identifier: MIT OR Apache-2.0

//! The scenario catalogue: what can go wrong, for each front end, and how it is known that it went wrong well.
//!
//! - [`scenario`]: what a scenario is: what is set up, what is done to it, what must hold, and how that is measured.
//! - [`catalogue`]: all of them, and what cannot be one. What is neither is a gap, and is shown as one.
//! - [`table`]: the catalogue as a table for people.
//! - [`judge`]: a test's result against what its scenario expects. Sans-IO.
//! - [`known`]: failures that are known, until a day.
//! - [`application`]: an application that is told what it was promised; used inside machines.
//! - [`monitor`]: resources followed while a scenario runs; used inside machines.
//!
//! A scenario is run by a lab test: one that was there already, where it does just that and measures it, or one of
//! `tests/vm` of this package.

pub mod application;
pub mod catalogue;
pub mod judge;
pub mod known;
pub mod monitor;
pub mod scenario;
pub mod table;

pub use scenario::{Case, Expectation, FrontEnd, How, Pattern, Scenario, Structure, Test, When};
