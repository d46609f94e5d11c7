//! The harness of the end-to-end behaviours: a real cluster, the product installed as a user installs it, one namespace
//! for each scenario.
//!
//! ```text
//!  tests/behaviours/*.rs ── Scenario::run ──▶ namespace, lock, dump on failure
//!        │                     │
//!        │                     └─▶ install: the chart, once for each run
//!        ├─ stores, wait: apply manifests, wait for what the API says, with deadlines
//!        ├─ client, dataset, load: a client through a port-forward, data to compare, writes under way
//!        └─ faults: pods deleted, nodes drained, the operator killed, claims lost, the object store cut off
//! ```
//!
//! Nothing here knows how the operator or the server works inside: it applies manifests, breaks things, and compares what
//! clients and `kubectl` see. Errors are `anyhow` throughout: their only reader is a person.

pub mod client;
pub mod cluster;
pub mod dataset;
pub mod dump;
pub mod faults;
pub mod install;
pub mod load;
pub mod scenario;
pub mod server;
pub mod stores;
pub mod wait;
