//! gong: one approved item, every person it concerns, every delivery accounted for.

pub mod channel;
pub mod cli;
pub mod clock;
pub mod domain;
pub mod lang;
pub mod store;
pub mod vault;
