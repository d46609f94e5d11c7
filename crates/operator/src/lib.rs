//! holdfast-operator: reconciles Stores into running servers and keeps their data.

#![forbid(unsafe_code)]

pub mod admin;
pub mod api;
pub mod backup;
pub mod bucket_client;
pub mod config;
pub mod context;
pub mod controller;
pub mod events;
pub mod lease;
pub mod location;
pub mod metrics;
pub mod names;
pub mod reconcile;
pub mod server_client;
pub mod telemetry;
