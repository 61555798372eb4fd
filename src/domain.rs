//! What gong knows without touching anything: pure rules and types.

pub mod audience;
pub mod calendar;
pub mod calls;
pub mod delivery;
pub mod event;
pub mod figures;
pub mod ids;
pub mod item;
pub mod mistake;
pub mod plan;
pub mod privacy;
pub mod quiet;
pub mod reach;
pub mod recipient;
pub mod region;
pub mod report;
pub mod serial;
pub mod share;
pub mod sms;
pub mod visit;
