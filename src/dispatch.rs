//! Sending: claim a batch, mark, hand over, record; retry, settle, escalate.
//!
//! One worker a channel ([`worker`]), one scheduler ([`scheduler`]), what
//! operators decide, watched five times a second ([`control`]), and somebody who looks
//! whether it all moves ([`monitor`]).

pub mod alarm;
pub mod breaker;
pub mod clock_guard;
pub mod control;
pub mod disk;
pub mod job;
pub mod loading;
pub mod monitor;
pub mod outcome;
pub mod pacer;
pub mod paper;
pub mod retry;
pub mod scheduler;
pub mod under_way;
pub mod window;
pub mod worker;
