//! What gong knows without touching anything: pure rules and types.

pub mod audience;
pub mod delivery;
pub mod ids;
pub mod plan;
pub mod quiet;
pub mod item;
pub mod privacy;
pub mod sms;
