//! holdfast-operator: reconciles Stores into running servers, and keeps their data.
//!
//! ```text
//!   kube API ──watch──▶ controller ──▶ pipeline: validate → observe → decide → apply → status, the same for
//!                                        ├─ reconcile (Store)           one step at a time
//!                                        ├─ backup (StoreBackup)        upload by the server, or barrier and VolumeSnapshot
//!                                        └─ location (BackupLocation)   probe
//!   reconcile, backup ──▶ server_client ──▶ control port of each server
//!   reconcile, location ──▶ bucket_client ──▶ buckets
//! ```
//!
//! Invariants, each held by `tests/convergence.rs` against a real API server:
//!
//! - An empty or older volume never passes for a Store's data: id and epoch are recorded in the status and in a ConfigMap
//!   before the first write is accepted, and losing one of the records never means "new".
//! - What cannot be taken back is recorded in the status before it is done, with the version of the object that the
//!   decision was made upon as a precondition.
//! - No claim, VolumeAttachment or finalizer of a pod is removed to make progress; a claim is deleted only with its Store
//!   and only under `deletionPolicy: DeleteVolumes`. Every delete names the UID of what was looked at.
//! - Nothing that was read is remembered between two reconciles but what may only say that all is well: a restart at any
//!   point is the same as none.
//! - When all is well nothing is written.
//!
//! Decisions are pure functions over plain data (`validate`, `build`, `plan`, `status`, and `messages` for the words); calls to
//! the API, to servers and to buckets are at the edge (`observe`, `apply`). More: `docs/architecture.md`.

#![forbid(unsafe_code)]

pub mod admin;
pub mod api;
pub mod api_deadline;
pub mod backup;
pub mod bucket_client;
mod caches;
pub mod config;
pub mod context;
pub mod controller;
pub mod events;
pub mod failure;
pub mod lease;
pub mod location;
pub mod metrics;
pub mod names;
pub mod packed;
pub mod pipeline;
pub mod reconcile;
pub mod restart_gate;
pub mod server_client;
pub mod slow_calls;
mod spread;
pub mod telemetry;
