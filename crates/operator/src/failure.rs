//! What cannot be looked at says so: a reconcile that fails again and again becomes a condition of its object, where people
//! look, and not only a line in the operator's log.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

use crate::api::conditions::{self, Verdict, kind, reason};
use crate::api::v1alpha1::{GROUP, VERSION};
use crate::context::{Context, ReconcileError};
use crate::reconcile::apply::post_params;

/// Writes that looking at the object fails, unless it says so already.
/// # Errors
/// The API did not answer or refused.
pub async fn report(
    ctx: &Context,
    kind_name: &'static str,
    namespace: &str,
    name: &str,
    problem: &str,
) -> Result<(), ReconcileError> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, kind_name));
    let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), namespace, &resource);
    let live = api.get_opt(name).await.map_err(ReconcileError::call("read", kind_name, name))?;
    let Some(mut object) = live else { return Ok(()) };
    let Some(verdict) = verdict(kind_name, problem) else { return Ok(()) };
    let old: Vec<Condition> =
        serde_json::from_value(object.data["status"]["conditions"].clone()).unwrap_or_default();
    let new = conditions::merge(&old, vec![verdict], object.metadata.generation, Timestamp::now());
    if new == old {
        return Ok(());
    }
    if !object.data["status"].is_object() {
        object.data["status"] = json!({});
    }
    object.data["status"]["conditions"] = serde_json::to_value(&new).unwrap_or(Value::Null);
    object.metadata.managed_fields = None;
    api.replace_status(name, &post_params(), &object).await.map_err(ReconcileError::call(
        "write the status of",
        kind_name,
        name,
    ))?;
    Ok(())
}

/// The condition of each kind that the next good look sets again.
fn verdict(kind_name: &str, problem: &str) -> Option<Verdict> {
    let message = format!("the operator cannot look at it: {problem}; it tries again");
    let failed = reason::RECONCILE_FAILED;
    match kind_name {
        "Store" => Some(Verdict::yes(kind::RECONCILING, failed, message)),
        "StoreBackup" => Some(Verdict::unknown(kind::SUCCEEDED, failed, message)),
        "BackupLocation" => Some(Verdict::unknown(kind::AVAILABLE, failed, message)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_condition_for_it() {
        for kind_name in ["Store", "StoreBackup", "BackupLocation"] {
            let verdict = verdict(kind_name, "forbidden").expect("a condition");
            assert_eq!(verdict.reason, reason::RECONCILE_FAILED);
            assert!(verdict.message.contains("forbidden"));
        }
    }
}
