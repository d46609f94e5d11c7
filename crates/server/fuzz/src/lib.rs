//! Fuzz targets: functions that take any bytes and panic when what they exercise breaks a promise.
//!
//! ```text
//!            corpus/<target>/        seeds, written by hand
//!            regressions/<target>/   inputs that once broke something, named by what
//!                 │
//!   ┌─────────────┴──────────────┐
//!   ▼                            ▼
//! tests/short.rs              main.rs under libFuzzer (`make fuzz`)
//! seeded mutations,           coverage-guided, as long as wanted
//! seconds, in `make test`
//!   └─────────────┬──────────────┘
//!                 ▼
//!            TARGETS: fn(&[u8])
//! ```
//!
//! A target has no state between inputs, save for the Redis that [`commands`] compares with: a finding is one input, and
//! `holdfast-fuzz <target> <file>…` replays it. Each target states what it checks beside the absence of panics.

pub mod commands;
pub mod config;
pub mod glob;
pub mod inline;
pub mod log;
pub mod metadata;
pub mod mutate;
pub mod protocol;
pub mod redis;
pub mod restore;
pub mod snapshot;

use std::path::{Path, PathBuf};

/// One thing that is fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folders in `corpus/` and `regressions/`.
    pub name: &'static str,
    /// Panics on a finding.
    pub run: fn(&[u8]),
    /// Longest input worth trying, in bytes.
    pub len_max: usize,
    /// Words that the mutators insert.
    pub words: &'static [&'static str],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    protocol::TARGET,
    inline::TARGET,
    glob::TARGET,
    config::TARGET,
    metadata::TARGET,
    snapshot::TARGET,
    restore::TARGET,
    log::TARGET,
    commands::TARGET,
];

impl Target {
    /// The target of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Target> {
        TARGETS.iter().find(|target| target.name == name).copied()
    }

    /// The committed inputs, in the order of their names: seeds, then regressions.
    ///
    /// # Panics
    /// When the folder of seeds cannot be read.
    #[must_use]
    pub fn inputs(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let base = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut inputs = Vec::new();
        for folder in ["corpus", "regressions"] {
            let folder = base.join(folder).join(self.name);
            let Ok(entries) = std::fs::read_dir(&folder) else {
                assert!(folder.ends_with(Path::new("regressions").join(self.name)), "{folder:?} holds seeds");
                continue;
            };
            let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
            paths.sort();
            inputs.extend(paths.into_iter().map(|path| {
                let bytes = std::fs::read(&path).expect("a readable file");
                (path, bytes)
            }));
        }
        inputs
    }
}
