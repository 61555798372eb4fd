//! What the commands show and how.

pub mod reach_view;
