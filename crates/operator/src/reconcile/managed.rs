//! Whether an object is as it was applied, judged by what the operator owns of it. Pure.
//!
//! The API server notes for each field manager which fields it has set (`metadata.managedFields`). Compared are these
//! fields alone: what another manager has added (a port, a sidecar, an annotation) is no difference, what another one has
//! taken from us, or what we set once and no longer ask for, is one.

use kube::Resource;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::quantity::Quantity;
use crate::names;

/// Whether what the operator owns of `live` is exactly `desired`.
pub(crate) fn is_current<K: Resource + Serialize>(desired: &K, live: Option<&K>) -> bool {
    let Some(live) = live else { return false };
    let applied = live.meta().managed_fields.iter().flatten().find(|entry| {
        entry.manager.as_deref() == Some(names::FIELD_MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    });
    let Some(owned) = applied.and_then(|entry| entry.fields_v1.as_ref()?.0.as_object()) else { return false };
    let (Ok(mut desired), Ok(live)) = (serde_json::to_value(desired), serde_json::to_value(live)) else {
        return false;
    };
    strip(&mut desired);
    owns(owned, &live, &desired)
}

/// Takes away what identifies an object and is no field that a manager owns.
fn strip(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    for key in ["apiVersion", "kind", "status"] {
        object.remove(key);
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in [
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "managedFields",
        ] {
            metadata.remove(key);
        }
    }
}

/// Whether the fields `owned` of `live` are those of `desired`, with its values.
fn owns(owned: &Map<String, Value>, live: &Value, desired: &Value) -> bool {
    let mut parts = owned.iter().filter(|(key, _)| *key != ".").peekable();
    if parts.peek().is_none() {
        return contains(live, desired);
    }
    match desired {
        Value::Object(fields) => {
            let is_ours = |(name, value): (&String, &Value)| {
                if is_empty(value) {
                    return true;
                }
                let owned = owned.get(&format!("f:{name}")).and_then(Value::as_object);
                owned.zip(live.get(name)).is_some_and(|(owned, live)| owns(owned, live, value))
            };
            fields.iter().all(is_ours)
                && parts.all(|(key, _)| key.strip_prefix("f:").is_some_and(|name| fields.contains_key(name)))
        }
        Value::Array(items) => {
            let parts: Vec<_> = parts.collect();
            let live = live.as_array().map(Vec::as_slice).unwrap_or_default();
            parts.len() == items.len()
                && items.iter().all(|item| {
                    parts.iter().any(|(key, owned)| {
                        let found =
                            live.iter().find(|live| is_item(key, live)).filter(|_| is_item(key, item));
                        owned.as_object().zip(found).is_some_and(|(owned, live)| owns(owned, live, item))
                    })
                })
        }
        _ => false,
    }
}

/// Whether `item` is the element of a list that the key of a managed field names.
fn is_item(key: &str, item: &Value) -> bool {
    if let Some(keys) = key.strip_prefix("k:") {
        let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
        return !keys.is_empty() && keys.iter().all(|(name, value)| item.get(name) == Some(value));
    }
    key.strip_prefix("v:")
        .is_some_and(|value| serde_json::from_str(value).is_ok_and(|value: Value| value == *item))
}

/// Whether everything that `desired` says is so in `live`: the API server fills in defaults, drops empty values and writes
/// quantities in a form of its own.
fn contains(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (_, Value::Null) => true,
        (Value::Object(live), Value::Object(desired)) => desired
            .iter()
            .all(|(key, value)| live.get(key).map_or_else(|| is_empty(value), |live| contains(live, value))),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live.iter().zip(desired).all(|(live, desired)| contains(live, desired))
        }
        (Value::String(live), Value::String(desired)) => {
            live == desired || Quantity(live.clone()).is_same(&Quantity(desired.clone()))
        }
        _ => live == desired,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    #[track_caller]
    fn check(live: Value, desired: Value, expected: bool) {
        assert_eq!(contains(&live, &desired), expected, "{live} contains {desired}");
    }

    #[test]
    fn drift_is_seen_and_defaults_are_not_drift() {
        check(json!({"a": 1, "b": 2}), json!({"a": 1}), true);
        check(json!({"a": 1}), json!({"a": 2}), false);
        check(json!({}), json!({"a": 1}), false);
        check(json!({}), json!({"a": {}, "b": [], "c": null}), true);
        check(json!([{"a": 1, "d": 0}]), json!([{"a": 1}]), true);
        check(json!([{"a": 1}, {"a": 2}]), json!([{"a": 1}]), false);
        check(json!({"memory": "1Gi"}), json!({"memory": "1024Mi"}), true);
        check(json!({"memory": "1Gi"}), json!({"memory": "1G"}), false);
    }

    fn desired() -> Value {
        json!({
            "metadata": {"name": "orders", "namespace": "shop", "labels": {"a": "1"}},
            "spec": {"type": "ClusterIP", "ports": [{"name": "redis", "port": 6379, "protocol": "TCP"}]},
        })
    }

    /// The live object: as desired, with `change` merged over it.
    fn live(change: impl FnOnce(&mut Value)) -> Value {
        let mut live = desired();
        live["metadata"]["resourceVersion"] = json!("7");
        live["metadata"]["managedFields"] = json!([
            {"manager": "other", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}},
            {"manager": names::FIELD_MANAGER, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {
                "f:metadata": {"f:labels": {"f:a": {}}},
                "f:spec": {
                    "f:type": {},
                    "f:ports": {"k:{\"port\":6379,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}}},
                },
            }},
        ]);
        change(&mut live);
        live
    }

    #[track_caller]
    fn check_current(change: impl FnOnce(&mut Value), expected: bool) {
        let object = |value| serde_json::from_value::<Service>(value).expect("a Service");
        let live = object(live(change));
        assert_eq!(is_current(&object(desired()), Some(&live)), expected, "{live:?}");
    }

    #[test]
    fn what_another_manager_adds_is_no_difference() {
        check_current(|_| {}, true);
        check_current(
            |live| {
                live["spec"]["ports"]
                    .as_array_mut()
                    .expect("ports")
                    .insert(0, json!({"name": "extra", "port": 1}));
            },
            true,
        );
        check_current(|live| live["metadata"]["labels"]["theirs"] = json!("x"), true);
        check_current(|live| live["spec"]["clusterIP"] = json!("10.0.0.1"), true);
    }

    #[test]
    fn what_is_taken_from_us_or_no_longer_asked_for_is_a_difference() {
        check_current(|live| live["spec"]["type"] = json!("NodePort"), false);
        check_current(|live| live["metadata"]["labels"]["a"] = json!("2"), false);
        check_current(|live| live["spec"]["ports"] = json!([]), false);
        let ours = |live: &mut Value| live["metadata"]["managedFields"][1]["fieldsV1"].take();
        // Somebody has taken a field over, with the same value.
        check_current(
            |live| {
                let mut fields = ours(live);
                fields["f:spec"].as_object_mut().expect("fields").remove("f:type");
                live["metadata"]["managedFields"][1]["fieldsV1"] = fields;
            },
            false,
        );
        // We set something once that is no longer asked for.
        check_current(
            |live| {
                let mut fields = ours(live);
                fields["f:spec"]["f:sessionAffinity"] = json!({});
                live["metadata"]["managedFields"][1]["fieldsV1"] = fields;
                live["spec"]["sessionAffinity"] = json!("None");
            },
            false,
        );
        check_current(|live| live["metadata"]["managedFields"] = json!([]), false);
    }
}
