//! holdfast-server: a store that speaks the Redis protocol, with persistence as its speciality.
//!
//! ```text
//!  clients ── network ──▶ executor (one thread) ──▶ command ──▶ engine          pure: execute(now, request) → reply + effects
//!                            │        ▲                            │ cut, pre-images
//!                            │        └─ replies leave after ──┐   ▼
//!                            └──▶ persistence: log append, sync┘  snapshot writer (own thread)
//!  admin (tokio): health and control ports ── inbox ──▶ executor
//! ```
//!
//! Life of a request: bytes are read and decoded by `network`, executed by `executor` against `engine` together with all
//! other requests of the same turn; the effects of the turn are framed and appended to the log, synced as the strategy
//! asks, and only then do the replies of the turn leave. Arrows point one way:
//! `network → executor → {engine, persistence}`, `command → protocol`; recovery feeds the engine through the same door.

#![deny(unsafe_code)]

mod admin;
pub mod backup;
pub mod bridge;
mod clock;
pub mod command;
pub mod config;
pub mod engine;
pub mod error_chain;
pub mod executor;
pub mod exit_code;
mod faults;
pub mod gate;
pub mod glob;
pub mod limits;
pub mod load;
pub mod measure;
mod memory_limit;
pub mod metrics;
mod network;
pub mod persistence;
mod pid_file;
pub mod protocol;
pub mod pubsub;
pub mod run;
pub mod storage;
pub mod telemetry;
