//! What both programs must agree on, written once: ports, the identity on the volume, the record that the operator
//! keeps of a Store, the messages of the control port, the words of a configuration line and the layout of a bucket.
//!
//! ```text
//!   holdfast-operator ── StoreRecord (mounted ConfigMap, PUT /v1/decision) ──▶ holdfast-server
//!          ▲                                                                        │
//!          └── ServerStatus, Barrier, BackupProgress (control port, bearer token) ──┘
//!                                  both ──▶ bucket: StoreMarker, BackupManifest
//! ```
//!
//! Pure data with serde; no I/O, no clock, no randomness. All instants are milliseconds since the Unix epoch, all sizes
//! are bytes, unless a name says otherwise. Readers ignore unknown fields, so that both programs can be upgraded in
//! either order; a change of meaning takes a new field or a new `version`.

pub mod bucket;
pub mod config_line;
pub mod control;
pub mod identity;
pub mod record;

/// Ports of a server pod.
pub mod ports {
    /// Redis protocol (container port name `redis`).
    pub const REDIS: u16 = 6379;
    /// `/livez`, `/readyz`, `/metrics`: read-only, no authentication (container port name `health`).
    pub const HEALTH: u16 = 9180;
    /// Control messages of [`crate::control`], bearer token (container port name `control`).
    pub const CONTROL: u16 = 9181;
    /// The operator's own `/livez`, `/readyz`, `/metrics`.
    pub const OPERATOR_HEALTH: u16 = 8080;
}
