//! What comes in as files: tables of people and of the declarations beside them.

pub mod groups;
pub mod lists;
pub mod optouts;
pub mod points;
pub mod postings;
pub mod recipients;
pub mod regions;
mod run;
pub mod table;
#[cfg(test)]
mod tests;
pub mod visits;
mod who;

pub use run::{ImportError, Mode, Progress, Run, Summary};
pub use who::masked_cell;
