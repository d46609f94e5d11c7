//! The reconcile pipeline: observe → validate → build → plan → apply → status.

pub mod build;
pub mod validate;
