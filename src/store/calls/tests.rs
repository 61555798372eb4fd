//! Calls on both engines.
