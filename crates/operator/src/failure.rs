//! What cannot be looked at says so: a reconcile that fails again and again becomes a condition of its object, where people
//! look, and not only a line in the operator's log.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

use crate::api::conditions;
use crate::api::v1alpha1::{GROUP, VERSION};
use crate::context::{Context, ReconcileError};
use crate::pipeline::Kind;
use crate::reconcile::apply::post_params;

/// Writes that looking at the object fails, unless it says so already. How an object has ended is a fact that stays, whatever
/// is left to be done for it.
/// # Errors
/// The API did not answer or refused.
pub(crate) async fn report<K: Kind>(
    ctx: &Context,
    namespace: &str,
    name: &str,
    problem: &str,
) -> Result<(), ReconcileError> {
    let kind_name = K::KIND_NAME;
    // Not as `K`: that it cannot be read as one may be the problem.
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, kind_name));
    let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), namespace, &resource);
    let live = api.get_opt(name).await.map_err(ReconcileError::call("read", kind_name, name))?;
    let Some(mut object) = live else { return Ok(()) };
    if !object.data["status"]["completionTime"].is_null() {
        return Ok(());
    }
    let verdict = K::failed(format!("the operator cannot look at it: {problem}; it tries again"));
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
