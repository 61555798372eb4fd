//! gong: one approved item, every person it concerns, every delivery accounted for.

pub mod app;
pub mod bench;
pub mod channel;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod domain;
pub mod import;
pub mod lang;
pub mod loopback;
pub mod planner;
pub mod receipts;
pub mod render;
pub mod store;
pub mod telemetry;
pub mod vault;
pub mod web;
