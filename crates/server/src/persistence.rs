//! Log, snapshot, manifest, identity, recovery.

pub(crate) mod aside;
pub(crate) mod barrier;
pub mod digest;
pub mod directives;
pub mod distrust;
pub mod identity;
pub mod log;
pub mod manifest;
pub mod policy;
pub(crate) mod recovery;
pub(crate) mod room;
pub mod snapshot;
