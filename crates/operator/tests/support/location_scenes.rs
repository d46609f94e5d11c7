//! What a BackupLocation can be found to be, and what is said then.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use holdfast_bucket::{Bucket, BucketError, Credentials};
use holdfast_operator::api::v1alpha1::BackupLocation;
use holdfast_operator::location::{Probe, validate};
use holdfast_operator::pipeline::Kind as _;
use holdfast_operator::reconcile::facts::LocationProblem;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

/// A BackupLocation and the status that it was given.
struct Scene(BackupLocation);

impl Scene {
    fn look(&mut self, title: &str, probe: Probe, text: &mut String) {
        let now = Timestamp::UNIX_EPOCH;
        let valid = validate(&self.0);
        let plan = self.0.decide(&valid, &probe, now);
        let said = plan.as_ref().map_or("nothing".to_owned(), |verdict| {
            format!("{}={} {}", verdict.kind, verdict.status, verdict.reason)
        });
        let _ = writeln!(text, "# {title}\nplan:  {said}");
        let status = crate::look::describe(&self.0, &probe, plan, |status| &status.conditions, now, text);
        self.0.status = status.or(self.0.status.take());
    }
}

fn problem(error: &BucketError) -> Probe {
    Some(Err(LocationProblem { reason: error.reason().to_owned(), message: error.to_string() }))
}

/// Describes every situation.
pub(crate) fn describe_all() -> String {
    let location: BackupLocation = serde_json::from_value(json!({
        "apiVersion": "holdfast.dev/v1alpha1", "kind": "BackupLocation",
        "metadata": {"name": "offsite", "namespace": "shop", "generation": 1},
        "spec": {
            "s3": {"bucket": "archive", "endpoint": "http://s3.test:9000"}, "prefix": "team/a",
            "credentialsSecretRef": {"name": "offsite-keys"},
        },
    }))
    .expect("a location");
    let mut text = format!("# where it is\n{:?}\n\n", validate(&location));
    let mut scene = Scene(location);
    let text = &mut text;
    let missing = || Some(Err(LocationProblem::secret_missing("offsite-keys")));
    scene.look("its Secret is missing", missing(), text);
    scene.look("and still is: no news", missing(), text);
    let keys = |keys: &[(&str, &str)]| -> BTreeMap<String, Vec<u8>> {
        keys.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    };
    let half = Credentials::from_map(&keys(&[("accessKeyID", "id")])).expect_err("half of a key");
    scene.look("a key of it is missing", problem(&half), text);
    let valid = validate(&scene.0);
    let whole = keys(&[("accessKeyID", "id"), ("secretAccessKey", "secret")]);
    let bucket = Bucket::open(&valid.bucket, Credentials::from_map(&whole).expect("keys")).expect("a bucket");
    let (object, place) = ("team/a/probe".to_owned(), bucket.place().clone());
    let denied = |code: &str| BucketError::AccessDenied {
        action: "write",
        object: object.clone(),
        place: place.clone(),
        code: code.to_owned(),
    };
    scene.look("the keys are not those of the bucket", problem(&denied("403 InvalidAccessKeyId")), text);
    scene.look("the same problem in other words is no news", problem(&denied("403 AccessDenied")), text);
    let error = BucketError::BucketNotFound { action: "write", object: object.clone(), place: place.clone() };
    scene.look("there is no such bucket", problem(&error), text);
    let error = BucketError::NoConditionalPut { object: object.clone(), place: place.clone() };
    scene.look("two writers could not be told apart there", problem(&error), text);
    let unavailable = |problem: &str| BucketError::Unavailable {
        action: "write",
        object: object.clone(),
        place: place.clone(),
        problem: problem.to_owned(),
    };
    let reset =
        |port: u16| unavailable(&format!("read tcp 10.0.0.2:{port}->10.0.0.9:9000: connection reset"));
    scene.look("nobody answers there", problem(&reset(41_058)), text);
    scene.look("another try fails in the same way, and nothing is written", problem(&reset(53_924)), text);
    scene.look("it works", Some(Ok(())), text);
    scene.look("and goes on working", Some(Ok(())), text);
    scene.0.metadata.generation = Some(2);
    scene.0.spec.prefix = None;
    scene.look("it names another place, where nobody answers", problem(&unavailable("no answer")), text);
    scene.look("where somebody answers in the end", Some(Ok(())), text);
    scene.look("it is being deleted", None, text);
    std::mem::take(text)
}
