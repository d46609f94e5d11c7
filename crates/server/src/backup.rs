//! Backup upload and restore, and the decision about a volume that comes before anything else.
//!
//! ```text
//!   start in Kubernetes:   volume::inspect ─▶ decide ─▶ keep | initialise | stamp | restore | hold
//!                                                                        restore ─▶ restore::restore_into
//!   control port:          POST /v1/backups ─▶ upload::Backups ─▶ cut ─▶ bucket ─▶ read back ─▶ manifest
//! ```
//!
//! `decide` is pure; `volume` only reads; `restore` writes to a side directory and activates it by one rename; `upload`
//! writes one temporary file. None of them touches a volume that holds an identity or unknown data.

pub mod check;
pub mod decide;
pub mod restore;
pub mod upload;
pub mod volume;
