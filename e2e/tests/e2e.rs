//! All behaviours, in one binary so that they link once: `cargo test -p holdfast-e2e --features cluster --test e2e`.
//!
//! One file for each behaviour that a user sees. Every test is a scenario with its own namespace; those that disturb nodes
//! or the operator say so and run alone.

mod behaviours {
    mod backup_and_restore;
    mod bad_references;
    mod deletion;
    mod documented;
    mod fleet;
    mod install;
    mod invalid_specs;
    mod node_death;
    mod node_drain;
    mod operator_away;
    mod operator_killed;
    mod other_hands;
    mod policy;
    mod rotation;
    mod strategies;
    mod strategy_change;
    mod upgrade;
    mod volume_loss;
    mod volume_snapshot;
}
