//! Log, snapshot, manifest, identity, recovery.

pub mod digest;
pub mod directives;
pub mod snapshot;
