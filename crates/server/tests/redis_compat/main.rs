//! What this server shares with Redis, each compared with a running Redis 7.0 (`redis-server`, `redis-check-rdb`).
//!
//! A missing Redis is a failure and not a skipped test, because a promise would go untested.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod blocking;
mod collections;
mod command_forms;
mod command_table;
mod config;
mod eviction;
mod glob;
mod pair;
mod peer;
mod rdb;
#[path = "../common/store.rs"]
mod store;
#[path = "../support/mod.rs"]
mod support;
#[path = "../common/value.rs"]
mod value;
