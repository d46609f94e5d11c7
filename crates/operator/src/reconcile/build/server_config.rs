//! The server's configuration file.

use std::fmt::Write as _;

use holdfast_contract::ports;
use holdfast_contract::record::RECORD_KEY;

use crate::api::v1alpha1::{EvictionPolicy, ShutdownSnapshot, SnapshotRule, Strategy};
use crate::names;
use crate::reconcile::rendering::Rendering;
use crate::reconcile::validate::ValidatedStore;

/// Where the kubelet reads what a container has to say at its end: Kubernetes's default path.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// The directive that `spec.memory.evictionPolicy` becomes.
pub const EVICTION_DIRECTIVE: &str = "maxmemory-policy";

/// The word of the configuration, and of the server's status, for `strategy`.
#[must_use]
pub(crate) fn strategy_word(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Always => "always",
        Strategy::EverySecond => "everysec",
        Strategy::NoSync => "no",
        Strategy::Never => "never",
        Strategy::Disabled => "disabled",
    }
}

/// The strategy of a word of the server's status.
#[must_use]
pub(crate) fn strategy_of_word(word: &str) -> Option<Strategy> {
    [Strategy::Always, Strategy::EverySecond, Strategy::NoSync, Strategy::Never, Strategy::Disabled]
        .into_iter()
        .find(|strategy| strategy_word(*strategy) == word)
}

/// The word of `maxmemory-policy` for `policy`.
#[must_use]
pub fn eviction_word(policy: EvictionPolicy) -> &'static str {
    match policy {
        EvictionPolicy::NoEviction => "noeviction",
        EvictionPolicy::AllKeysLru => "allkeys-lru",
        EvictionPolicy::AllKeysLfu => "allkeys-lfu",
        EvictionPolicy::AllKeysRandom => "allkeys-random",
        EvictionPolicy::VolatileLru => "volatile-lru",
        EvictionPolicy::VolatileLfu => "volatile-lfu",
        EvictionPolicy::VolatileRandom => "volatile-random",
        EvictionPolicy::VolatileTtl => "volatile-ttl",
    }
}

/// Renders the configuration file: what the operator manages first, then the lines of the spec.
///
/// Invariant: for one Store and rendering the text never changes, whatever the operator's version
/// (`tests/golden/renderings`).
#[must_use]
pub fn render(store: &ValidatedStore, rendering: Rendering) -> String {
    let mut text = if rendering == Rendering::FIRST {
        "# Written by holdfast-operator from the Store; changes here are undone.\n".to_owned()
    } else {
        format!(
            "# Written by holdfast-operator from the Store (rendering {rendering}); changes here are undone.\n"
        )
    };
    let mut line = |directive: &str, value: &str| {
        let _ = writeln!(text, "{directive} {value}");
    };
    line("port", &ports::REDIS.to_string());
    line("bind", "* -::*");
    line("health-port", &ports::HEALTH.to_string());
    line("control-port", &ports::CONTROL.to_string());
    line("requirepass-file", &format!("{}/{}", names::AUTH_DIR, names::PASSWORD_KEY));
    line("control-token-file", &format!("{}/{}", names::AUTH_DIR, names::TOKEN_KEY));
    line("instance-name", &names::pod(&store.name));
    line("on-refusal", "hold");
    line("termination-message-file", TERMINATION_LOG);
    line("dir", names::STORE_DIR);
    if let Some(bytes) = store.max_memory {
        line("maxmemory", &bytes.to_string());
    }
    if let Some(policy) = store.eviction_policy {
        line(EVICTION_DIRECTIVE, eviction_word(policy));
    }
    if store.strategy == Strategy::Disabled {
        line("persistent", "no");
    } else {
        line("store-record-file", &format!("{}/{RECORD_KEY}", names::RECORD_DIR));
        line("persist-strategy", strategy_word(store.strategy));
        // An empty rule switches off the server's default rules; the policy says what is kept.
        if store.snapshot_rules.is_empty() {
            line("save", "\"\"");
        }
        for SnapshotRule { period_seconds, min_changes } in &store.snapshot_rules {
            line("save", &format!("{period_seconds} {min_changes}"));
        }
        if store.strategy != Strategy::Never {
            line("auto-aof-rewrite-percentage", &store.rotation.growth_percentage.to_string());
            line("auto-aof-rewrite-min-size", &store.rotation.min_size.to_string());
            if let Some(bytes) = store.rotation.max_size {
                line("auto-aof-rewrite-max-size", &bytes.to_string());
            }
        }
        line(
            "shutdown-on-sigterm",
            match store.shutdown_snapshot {
                ShutdownSnapshot::Automatic => "default",
                ShutdownSnapshot::Always => "save",
                ShutdownSnapshot::Never => "nosave",
            },
        );
    }
    for user_line in &store.config {
        let _ = writeln!(text, "{user_line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_has_a_word_of_its_own() {
        for strategy in
            [Strategy::Always, Strategy::EverySecond, Strategy::NoSync, Strategy::Never, Strategy::Disabled]
        {
            assert_eq!(strategy_of_word(strategy_word(strategy)), Some(strategy));
        }
        assert_eq!(strategy_of_word("sometimes"), None);
    }

    /// Clippy's spelling of acronyms is not the API's.
    #[test]
    fn a_policy_of_the_api_becomes_the_word_of_redis() {
        for (name, word) in [
            ("NoEviction", "noeviction"),
            ("AllKeysLRU", "allkeys-lru"),
            ("AllKeysLFU", "allkeys-lfu"),
            ("AllKeysRandom", "allkeys-random"),
            ("VolatileLRU", "volatile-lru"),
            ("VolatileLFU", "volatile-lfu"),
            ("VolatileRandom", "volatile-random"),
            ("VolatileTTL", "volatile-ttl"),
        ] {
            let policy = serde_json::from_value(name.into()).expect("a policy");
            assert_eq!(eviction_word(policy), word);
        }
    }
}
