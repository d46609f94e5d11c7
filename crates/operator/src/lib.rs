//! holdfast-operator: reconciles Stores into running servers and keeps their data.

#![forbid(unsafe_code)]

pub mod api;
pub mod names;
pub mod reconcile;
