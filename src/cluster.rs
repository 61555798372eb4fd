//! Many engines on one server store: which of them plans and schedules, how fast each
//! may send, and what each says of itself. On the embedded store there is one engine,
//! and nothing of this runs.

pub mod granter;
pub mod leading;
pub mod presence;
pub mod timekeeper;
