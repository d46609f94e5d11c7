//! A Kubernetes API in memory, as far as the operator and [`crate::model`] use it: objects by path, versions, the status
//! subresource, merge patches, server-side apply with managed fields. A webhook may change what is applied, and any call may be
//! refused. Watches bring nothing: who waits for one looks again when its time has come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use k8s_openapi::ByteString;
use kube::Client;
use kube::client::Body;
use serde_json::{Map, Value, json};
use tower::BoxError;

/// Changes an object, of the kind with this plural, before it is stored.
type Webhook = Box<dyn Fn(&str, &mut Value) + Send>;

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

impl Call {
    /// Events inform, and a dry run changes nothing.
    pub(crate) fn is_write(&self) -> bool {
        self.method != Method::GET && !self.path.contains("/events") && !self.query.contains("dryRun")
    }

    pub(crate) fn is(&self, method: &Method, path: &str) -> bool {
        self.method == method && self.path.ends_with(path)
    }
}

#[derive(Default)]
struct Inner {
    /// By path.
    objects: BTreeMap<String, Value>,
    version: u64,
    calls: Vec<Call>,
    webhook: Option<Webhook>,
    /// Calls of this method to a path that ends so get this status.
    refused: Option<(Method, String, u16)>,
}

/// The API; a clone is the same.
#[derive(Clone, Default)]
pub(crate) struct MockApi(Arc<Mutex<Inner>>);

impl MockApi {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test thread has panicked in here")
    }

    /// A client whose calls are noted, may be refused, and meet the webhook.
    pub(crate) fn client(&self) -> Client {
        self.client_of(true)
    }

    /// A client of the surroundings: its calls are not noted, and always work.
    pub(crate) fn admin(&self) -> Client {
        self.client_of(false)
    }

    fn client_of(&self, is_operator: bool) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let call = Call {
                    method: parts.method,
                    path: parts.uri.path().to_owned(),
                    query: parts.uri.query().unwrap_or_default().to_owned(),
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                };
                let is_apply = parts.headers.get(http::header::CONTENT_TYPE).is_some_and(|kind| {
                    kind.to_str().is_ok_and(|kind| kind.starts_with("application/apply-patch"))
                });
                let answer = api.lock().answer(call, is_apply, is_operator);
                Ok::<_, BoxError>(answer)
            }
        });
        Client::new(service, "default")
    }

    /// From now on what the operator applies is changed so before it is stored.
    pub(crate) fn set_webhook(&self, webhook: impl Fn(&str, &mut Value) + Send + 'static) {
        self.lock().webhook = Some(Box::new(webhook));
    }

    /// From now on the operator's calls of this method to a path that ends so are answered with `code`.
    pub(crate) fn refuse(&self, method: Method, path: &str, code: u16) {
        self.lock().refused = Some((method, path.to_owned(), code));
    }

    /// From now on all calls work.
    pub(crate) fn refuse_nothing(&self) {
        self.lock().refused = None;
    }

    /// The operator's calls since this was last asked.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.lock().calls)
    }
}

type Answer = Result<(u16, Value), (u16, &'static str, String)>;
type Part = Result<http_body::Frame<bytes::Bytes>, BoxError>;
type AnswerBody = StreamBody<futures::stream::BoxStream<'static, Part>>;

fn refusal(code: u16, reason: &'static str, message: impl Into<String>) -> Answer {
    Err((code, reason, message.into()))
}

impl Inner {
    fn answer(&mut self, call: Call, is_apply: bool, is_operator: bool) -> Response<AnswerBody> {
        use futures::StreamExt as _;
        if call.query.contains("watch=true") {
            return Response::new(StreamBody::new(futures::stream::pending().boxed()));
        }
        let refused = self.refused.as_ref().filter(|(method, path, _)| is_operator && call.is(method, path));
        let answer = match refused.map(|(_, _, code)| *code) {
            Some(code) => refusal(code, "Refused", format!("injected {code}")),
            None => self.act(&call, is_apply, is_operator),
        };
        if is_operator {
            self.calls.push(call);
        }
        let (code, value) = answer.unwrap_or_else(|(code, reason, message)| {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
            });
            (code, status)
        });
        let bytes = bytes::Bytes::from(value.to_string());
        let body = futures::stream::iter([Ok(http_body::Frame::data(bytes))]).boxed();
        Response::builder().status(code).body(StreamBody::new(body)).expect("a response")
    }

    fn act(&mut self, call: &Call, is_apply: bool, is_operator: bool) -> Answer {
        let Some((key, is_status)) = key(&call.path) else {
            return match call.method {
                Method::POST => self.create(call),
                _ => Ok((200, self.list(&call.path))),
            };
        };
        let live = self.objects.get(&key).cloned();
        match (&call.method, live) {
            (&Method::PATCH, live) if is_apply => self.apply(key, live, call, is_operator),
            (_, None) => refusal(404, "NotFound", format!("{key} not found")),
            (&Method::GET, Some(live)) => Ok((200, live)),
            (&Method::DELETE, Some(live)) => {
                let wanted = &call.body["preconditions"];
                let differs = |name: &str| !wanted[name].is_null() && wanted[name] != live["metadata"][name];
                if differs("uid") || differs("resourceVersion") {
                    return refusal(409, "Conflict", "another one");
                }
                self.objects.remove(&key);
                Ok((200, live))
            }
            (method, Some(live)) => {
                let version = &call.body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != live["metadata"]["resourceVersion"] {
                    return refusal(409, "Conflict", "the object has been modified");
                }
                let mut new = live.clone();
                if *method == Method::PUT {
                    new["status"] = call.body["status"].clone();
                } else {
                    merge(&mut new, &call.body);
                }
                if !is_status {
                    new["status"] = live["status"].clone();
                }
                Ok((200, self.store(key, Some(&live), new)))
            }
        }
    }

    fn list(&self, path: &str) -> Value {
        let prefix = format!("{path}/");
        let items: Vec<_> =
            self.objects.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix)).collect();
        let items: Vec<_> = items.into_iter().map(|(_, object)| object).collect();
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})
    }

    fn create(&mut self, call: &Call) -> Answer {
        let name = call.body["metadata"]["name"].as_str().unwrap_or_default();
        let key = format!("{}/{name}", call.path);
        if self.objects.contains_key(&key) {
            return refusal(409, "AlreadyExists", format!("{key} already exists"));
        }
        if call.query.contains("dryRun") {
            return Ok((201, call.body.clone()));
        }
        Ok((201, self.store(key, None, call.body.clone())))
    }

    fn apply(&mut self, key: String, live: Option<Value>, call: &Call, is_operator: bool) -> Answer {
        let manager = call.query.split('&').find_map(|part| part.strip_prefix("fieldManager="));
        let mut owned = owned_fields(&call.body);
        for field in ["f:apiVersion", "f:kind"] {
            owned.as_object_mut().expect("fields").remove(field);
        }
        for field in ["f:name", "f:namespace", "f:uid"] {
            owned["f:metadata"].as_object_mut().expect("fields").remove(field);
        }
        let mut new = live.clone().unwrap_or_else(|| json!({}));
        let before = new["metadata"]["managedFields"][0]["fieldsV1"].clone();
        give_up(&mut new, &before, &owned);
        merge(&mut new, &call.body);
        new["metadata"]["managedFields"] = json!([
            {"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": owned},
        ]);
        let plural = key.rsplit('/').nth(1).unwrap_or_default();
        if let Some(webhook) = self.webhook.as_ref().filter(|_| is_operator) {
            webhook(plural, &mut new);
        }
        let code = if live.is_none() { 201 } else { 200 };
        Ok((code, self.store(key, live.as_ref(), new)))
    }

    /// Stores an object. One that does not change keeps its version.
    fn store(&mut self, key: String, live: Option<&Value>, mut new: Value) -> Value {
        if let Some(texts) = new.as_object_mut().and_then(|object| object.remove("stringData")) {
            for (name, text) in texts.as_object().into_iter().flatten() {
                let bytes = ByteString(text.as_str().unwrap_or_default().into());
                new["data"][name] = serde_json::to_value(bytes).expect("JSON");
            }
        }
        if live == Some(&new) {
            return new;
        }
        self.version += 1;
        let metadata = &mut new["metadata"];
        match live {
            None => {
                let namespace = key.split('/').skip_while(|part| *part != "namespaces").nth(1);
                metadata["namespace"] = json!(namespace);
                metadata["uid"] = json!(format!("uid-{}", self.version));
                metadata["generation"] = json!(1);
                metadata["creationTimestamp"] = json!("2026-01-02T03:04:05Z");
            }
            Some(live) => {
                let changed = i64::from(live["spec"] != new["spec"]);
                let generation = live["metadata"]["generation"].as_i64().unwrap_or(1);
                new["metadata"]["generation"] = json!(generation + changed);
            }
        }
        new["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(key, new.clone());
        new
    }
}

/// The object that a path names, and whether it is about the status; absent: a path of all objects of a kind.
fn key(path: &str) -> Option<(String, bool)> {
    let (of_kind, rest) = path.split_once("/namespaces/")?;
    let parts: Vec<_> = rest.split('/').collect();
    let [namespace, plural, name, sub @ ..] = parts.as_slice() else { return None };
    Some((format!("{of_kind}/namespaces/{namespace}/{plural}/{name}"), sub == ["status"]))
}

/// A merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *target = patch.clone() };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().expect("an object");
    for (name, value) in patch {
        match value {
            Value::Null => drop(target.remove(name)),
            value => merge(target.entry(name).or_insert(Value::Null), value),
        }
    }
}

/// The managed fields of `value`; a list is owned whole.
fn owned_fields(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (format!("f:{name}"), owned_fields(value))).collect()
        }
        _ => json!({}),
    }
}

/// Takes away what was applied before and is not any more.
fn give_up(target: &mut Value, before: &Value, owned: &Value) {
    let none = Map::new();
    for (key, before) in before.as_object().unwrap_or(&none) {
        let Some(target) = target.as_object_mut() else { return };
        let name = key.trim_start_matches("f:");
        match (owned.get(key), target.get_mut(name)) {
            (Some(owned), Some(inner)) => give_up(inner, before, owned),
            (None, _) => drop(target.remove(name)),
            (Some(_), None) => {}
        }
    }
}
