//! One look at an object of any kind as plain values: what is decided, what is said then, and when it is looked at again.

use std::fmt::{Debug, Write as _};

use holdfast_operator::pipeline::{Applied, Kind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

/// Describes what follows when `done` was done with `object`, and returns the status that is written.
pub(crate) fn describe<K>(
    object: &K,
    facts: &K::Facts,
    done: K::Done,
    conditions: impl Fn(&K::Status) -> &[Condition],
    now: Timestamp,
    text: &mut String,
) -> Option<K::Status>
where
    K: Kind<Done: Debug>,
{
    let valid = object.validate(&crate::defaults::defaults(), now);
    let applied = Applied::supposed(done);
    let status = object.status_after(&valid, facts, &applied, now);
    if let Some(status) = &status {
        for condition in conditions(status) {
            let _ = writeln!(
                text,
                "       {}={} {} {}",
                condition.type_, condition.status, condition.reason, condition.message
            );
        }
        for note in object.notes(status) {
            let kind = if note.warning { "Warning" } else { "Normal" };
            let _ = writeln!(text, "event: {kind} {} {}", note.reason, note.text);
        }
    }
    let next = object.pause(facts, &applied, now);
    let next = next.map_or_else(|| "when something changes".to_owned(), |pause| format!("{pause:?}"));
    let _ = writeln!(text, "next:  {next}\n");
    status
}
