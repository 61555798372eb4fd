//! gong: one approved item, every person it concerns, every delivery accounted for.

pub mod channel;
pub mod clock;
pub mod dispatch;
pub mod domain;
pub mod import;
pub mod lang;
pub mod loopback;
pub mod planner;
pub mod render;
pub mod store;
pub mod telemetry;
pub mod vault;
