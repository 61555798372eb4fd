//! What comes in as files: tables of people and of the declarations beside them.

pub mod table;
