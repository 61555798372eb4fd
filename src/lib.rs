//! gong: one approved item, every person it concerns, every delivery accounted for.

pub mod channel;
pub mod clock;
pub mod domain;
pub mod import;
pub mod lang;
pub mod store;
pub mod vault;
