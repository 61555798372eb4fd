//! The one integration-test binary: the program from outside, and the house's rules.
//!
//! One binary, so that a change links once. Every subject is a module.

// The helpers are not `#[test]` functions, so the lint's own exception misses them.
#![allow(clippy::unwrap_used)]

mod agency;
mod alarms;
mod backups;
mod bench;
mod calls;
mod chains;
mod commands;
mod crash;
mod data_commands;
mod demo;
mod deploy;
mod docs;
mod email;
mod engine;
mod failover;
mod faults;
mod fleet;
mod gateways;
mod house;
mod intake;
mod kannel;
mod kills;
mod lanes;
mod layers;
mod ledger;
mod lists;
mod media;
mod migrations;
mod points;
mod postfix;
mod proxy;
mod rabbit;
mod rig;
mod settle;
mod sheets;
mod silence;
mod site;
mod slow_disk;
mod source;
mod stores;
mod support;
mod throttle;
mod tour;
mod visits;
mod withdrawn;
mod workers;
