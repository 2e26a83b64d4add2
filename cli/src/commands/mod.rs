// SPDX-License-Identifier: MIT OR Apache-2.0

//! One module per command: its arguments and what it does.

pub(crate) mod add;
pub(crate) mod before_stop;
pub(crate) mod bench;
pub(crate) mod cat;
pub(crate) mod check;
pub(crate) mod cp;
pub(crate) mod del;
pub(crate) mod doctor;
pub(crate) mod embed;
pub(crate) mod export;
pub(crate) mod features;
pub(crate) mod fsck;
pub(crate) mod generate;
pub(crate) mod grow;
pub(crate) mod handover;
pub(crate) mod identify;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod label;
pub(crate) mod list;
pub(crate) mod ln;
pub(crate) mod ls;
pub(crate) mod mkdir;
pub(crate) mod mkfs;
pub(crate) mod mount;
pub(crate) mod mv;
pub(crate) mod recover;
pub(crate) mod rm;
pub(crate) mod search;
pub(crate) mod snapshot;
pub(crate) mod space;
pub(crate) mod stat;
pub(crate) mod status;
pub(crate) mod top;
pub(crate) mod umount;
pub(crate) mod volume;
pub(crate) mod xattr;
