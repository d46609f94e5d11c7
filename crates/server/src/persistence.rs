//! Log, snapshot, manifest, identity, recovery.

pub mod directives;
pub mod snapshot;
