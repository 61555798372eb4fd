//! gong: one approved item, every person it concerns, every delivery accounted for.
//!
//! # The way data goes
//! item → audience → snapshot → batches → dispatch → channel → receipts → reach, one
//! way. The store is the truth; whoever wakes a worker only says where work waits.
//!
//! # What always holds
//! 1. Every member is counted once; the states of deliveries add up; finished means
//!    that nothing is left to do.
//! 2. Nothing goes out that is not an approved version.
//! 3. An audience never exceeds its item's widest scope.
//! 4. After any crash nothing is lost, and what may have gone out twice is flagged.
//! 5. Evidence only rises; receipts are idempotent and free of order.
//! 6. No address, name or ID number in a log, an error, a metric or a queue message.
//!
//! Each is kept by a test; `tests/it/layers.rs` keeps the order of the imports below.

// What everything stands on.
pub mod clock;
pub mod failpoint;
pub mod lang;

// Pure: rules and types, without I/O.
pub mod domain;

// Edges: the key, the database, the broker, the gateways, the texts.
pub mod channel;
pub mod queue;
pub mod render;
pub mod sheet;
pub mod store;
pub mod telemetry;
pub mod vault;

// Moving parts, in the order in which a message meets them.
pub mod import;

pub mod cluster;

pub mod planner;

pub mod dispatch;

pub mod receipts;

// The program.
pub mod app;
pub mod config;
pub mod web;

// Beside it: a gateway to rehearse with, and measurements.
pub mod bench;
pub mod loopback;

// All of it before a newcomer's eyes.
pub mod demo;

pub mod cli;
