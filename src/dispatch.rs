//! Sending: claim a batch, mark, hand over, record; retry, settle, escalate.
//!
//! One worker a channel ([`worker`]), one scheduler ([`scheduler`]), and what
//! operators decide, watched five times a second ([`control`]).

pub mod breaker;
pub mod clock_guard;
pub mod control;
pub mod disk;
pub mod job;
pub mod loading;
pub mod outcome;
pub mod pacer;
pub mod paper;
pub mod retry;
pub mod scheduler;
pub mod window;
pub mod worker;
