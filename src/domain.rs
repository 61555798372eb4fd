//! What gong knows without touching anything: pure rules and types.

pub mod delivery;
pub mod ids;
pub mod recipient;
pub mod region;
