//! What gong knows without touching anything: pure rules and types.

pub mod audience;
pub mod delivery;
pub mod ids;
