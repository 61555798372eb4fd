//! The one integration-test binary: the program from outside, and the house's rules.
//!
//! One binary, so that a change links once. Every subject is a module.

// The helpers are not `#[test]` functions, so the lint's own exception misses them.
#![allow(clippy::unwrap_used)]

mod chains;
mod commands;
mod crash;
mod data_commands;
mod email;
mod engine;
mod faults;
mod gateways;
mod house;
mod lanes;
mod layers;
mod ledger;
mod lists;
mod migrations;
mod postfix;
mod rig;
mod settle;
mod site;
mod source;
mod support;
mod throttle;
mod tour;
