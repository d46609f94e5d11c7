//! Changes to a Store's spec that nobody would make on purpose, drawn from the definition itself: fields that are absent,
//! at and beyond their limits, of the wrong kind, in other scripts, twice, in another order. Each is refused by the API, or
//! taken and obeyed, or explained by a condition; and when it is taken back, all is as before. The model holds that no data
//! is lost meanwhile.
//!
//! `HOLDFAST_MUTATIONS=500` tries more of them; they are drawn evenly from all that there are.

use holdfast_operator::api::schema::crds;
use serde_json::Value;

use super::*;

/// Changes that are tried, unless the environment says otherwise.
const MUTATIONS: usize = 40;
/// Turns in which a change has come to whatever it comes to.
const TURNS_OF_CHANGE: usize = 30;

/// A spec that uses most fields, so that each has a neighbour when it is changed.
fn base() -> Value {
    json!({
        "storage": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        }}},
        "backup": {"locationRef": {"name": LOCATION}},
        "recovery": {"onVolumeLoss": "RestoreLatestBackup"},
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "memory": {"maxMemory": "512Mi", "evictionPolicy": "VolatileLRU"},
        "persistence": {
            "strategy": "EverySecond",
            "snapshot": {"rules": [{"periodSeconds": 900, "minChanges": 1}, {"periodSeconds": 60, "minChanges": 10000}]},
            "log": {"rotation": {"growthPercentage": 50, "minSize": "16Mi", "maxSize": "256Mi"}},
            "shutdown": {"snapshot": "Always", "budgetSeconds": 300},
        },
        "config": ["tcp-keepalive 60", "hz 20"],
        "updateStrategy": {"type": "Automatic"},
        "podTemplate": {
            "metadata": {"labels": {"team": "sales"}, "annotations": {"example.test/note": "kept"}},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        },
    })
}

/// One changed spec, and in words what was changed.
struct Mutation {
    what: String,
    spec: Value,
}

/// The schema of `spec` in the definition of Store.
fn spec_schema() -> Value {
    let crd = crds().into_iter().find(|crd| crd["spec"]["names"]["kind"] == "Store").expect("the kind Store");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Values that a field of this schema may be given, and some that it may not.
fn values(schema: &Value, now: Option<&Value>) -> Vec<Value> {
    let mut values =
        vec![Value::Null, json!(""), json!("käse 🧀"), json!(0), json!(true), json!([]), json!({})];
    let number = |key: &str| schema[key].as_i64();
    for limit in ["minimum", "maximum"].iter().filter_map(|key| number(key)) {
        values.extend([limit - 1, limit, limit + 1].map(|value| json!(value)));
    }
    for limit in ["minLength", "maxLength"].iter().filter_map(|key| number(key)) {
        let lengths = [limit - 1, limit, limit + 1].map(|len| usize::try_from(len).unwrap_or(0));
        values.extend(lengths.map(|len| json!("a".repeat(len))));
    }
    values.extend(schema["enum"].as_array().into_iter().flatten().cloned());
    if schema["type"] == "integer" {
        values.extend([json!(-1), json!(i64::from(i32::MAX) + 1), json!(1.5)]);
    }
    if schema["type"] == "string" || schema["x-kubernetes-int-or-string"] == true {
        values.extend(["1", "-1", "1Ei", "0.5", "1e3", "1Xi", "a\nb", "../..", " "].map(|text| json!(text)));
    }
    if let Some(items) = now.and_then(Value::as_array).filter(|items| !items.is_empty()) {
        values.push(items.iter().rev().cloned().collect());
        values.push(items.iter().chain(items).cloned().collect());
        let many = usize::try_from(number("maxItems").unwrap_or(64)).expect("a length") + 1;
        values.push(items.iter().cycle().take(many).cloned().collect());
    }
    if schema["type"] == "object" {
        values.push(json!({"noSuchField": 1}));
    }
    values
}

/// All changes of one field of [`base`].
fn mutations() -> Vec<Mutation> {
    fn walk(schema: &Value, path: &str, out: &mut Vec<Mutation>) {
        let base = base();
        let now = base.pointer(path);
        if !path.is_empty() {
            for value in values(schema, now).into_iter().filter(|value| Some(value) != now) {
                let mut spec = base.clone();
                if set(&mut spec, path, value.clone()) {
                    let shown: String = value.to_string().chars().take(80).collect();
                    out.push(Mutation { what: format!("spec{path} = {shown}"), spec });
                }
            }
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            walk(schema, &format!("{path}/{name}"), out);
        }
        if schema["items"].is_object() && now.is_some_and(|now| now.get(0).is_some()) {
            walk(&schema["items"], &format!("{path}/0"), out);
        }
    }
    let mut all = Vec::new();
    walk(&spec_schema(), "", &mut all);
    all
}

/// Sets the value at `path`, whose parents must be there; null takes the field away. False when they are not.
fn set(spec: &mut Value, path: &str, value: Value) -> bool {
    let (parent, name) = path.rsplit_once('/').expect("a path");
    match spec.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            match value {
                Value::Null => fields.remove(name),
                value => fields.insert(name.to_owned(), value),
            };
            true
        }
        Some(Value::Array(items)) => {
            let at: usize = name.parse().expect("an index");
            match value {
                Value::Null => drop(items.remove(at)),
                value => items[at] = value,
            }
            true
        }
        _ => false,
    }
}

async fn replace_spec(world: &World, spec: &Value) -> Result<(), String> {
    let resource = kube::core::ApiResource::erase::<Store>(&());
    let api: Api<kube::core::DynamicObject> =
        Api::namespaced_with(world.model.admin(), &world.namespace, &resource);
    let mut store = api.get(STORE).await.expect("the Store");
    store.data["spec"] = spec.clone();
    api.replace(STORE, &PostParams::default(), &store).await.map(|_| ()).map_err(|error| error.to_string())
}

/// Whether somebody who looks at the conditions learns why not all is well.
async fn is_explained(world: &World) -> bool {
    let store = world.store().await.expect("the Store");
    let status = store.status.unwrap_or_default();
    let explains = |kind: &str, status_word: &str| {
        conditions::find(&status.conditions, kind)
            .is_some_and(|condition| condition.status == status_word && !condition.message.is_empty())
    };
    status.observed_generation == store.metadata.generation
        && (explains(kind::STALLED, "True")
            || explains(kind::RECONCILING, "True")
            || explains(kind::READY, "False")
            || explains(kind::PERSISTENCE_HEALTHY, "False"))
}

/// Applies one change, lets it come to what it comes to, and takes it back.
async fn try_one(world: &mut World, mutation: &Mutation) -> &'static str {
    if let Err(sentence) = replace_spec(world, &mutation.spec).await {
        assert!(
            sentence.contains("spec") || sentence.contains("unknown field"),
            "{}: the refusal names no field: {sentence}",
            mutation.what
        );
        return "refused";
    }
    let mut outcome = "unexplained";
    for _ in 0..TURNS_OF_CHANGE {
        Box::pin(world.turn()).await;
        if world.is_settled().await {
            outcome = "obeyed";
            break;
        }
        outcome = if is_explained(world).await { "explained" } else { "unexplained" };
    }
    if outcome == "unexplained" {
        world.fail(&format!("{}: neither obeyed nor explained", mutation.what)).await;
    }
    if let Err(sentence) = replace_spec(world, &base()).await {
        world.fail(&format!("{}: cannot be taken back: {sentence}", mutation.what)).await;
    }
    for _ in 0..SETTLE_TURNS {
        Box::pin(world.turn()).await;
        if world.is_settled().await {
            return outcome;
        }
    }
    world.fail(&format!("{}: does not heal when it is taken back", mutation.what)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_of_a_spec_harms_a_store() {
    let api = ApiServer::start(&[]).await;
    let wanted = match std::env::var("HOLDFAST_MUTATIONS") {
        Ok(text) => text.parse().expect("HOLDFAST_MUTATIONS is a number"),
        Err(_) => MUTATIONS,
    };
    let all = mutations();
    let count = all.len();
    let step = (count / wanted).max(1);
    let chosen: Vec<_> = all.into_iter().step_by(step).collect();
    let shares = chosen.chunks(chosen.len().div_ceil(SIDE_BY_SIDE));
    let outcomes: Vec<Vec<&str>> = futures::stream::iter(shares.enumerate())
        .map(|(number, share)| {
            let api = &api;
            async move {
                let mut world = World::new(api, &format!("mutations-{number}"), Mode::Off, 0).await;
                world.create_store(base()).await;
                world.settle().await;
                let mut outcomes = Vec::new();
                for mutation in share {
                    let outcome = Box::pin(try_one(&mut world, mutation)).await;
                    println!("{outcome:>11}: {}", mutation.what);
                    outcomes.push(outcome);
                }
                world.settle_for_good().await;
                outcomes
            }
        })
        .buffer_unordered(SIDE_BY_SIDE)
        .collect()
        .await;
    let of = |kind: &str| outcomes.iter().flatten().filter(|outcome| **outcome == kind).count();
    println!(
        "{} of {count} changes: {} refused, {} obeyed, {} explained; all healed",
        chosen.len(),
        of("refused"),
        of("obeyed"),
        of("explained")
    );
}
