//! The engine: pure, single-owner, the only door to the data.

pub mod value;
