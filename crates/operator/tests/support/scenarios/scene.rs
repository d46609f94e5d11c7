//! The builder of the scenes: a Store, what surrounds it, and what a step changes in both.

use super::*;

pub(super) const STORE_ID: &str = "0b7c1d2e-0000-4000-8000-000000000001";
pub(super) const OTHER_ID: &str = "5e5e5e5e-0000-4000-8000-000000000002";
pub(super) const STORE_UID: &str = "uid-store";

/// A Store and what is observed of it.
pub(super) struct Scene {
    pub(super) store: Store,
    pub(super) facts: Facts,
    pub(super) now: Timestamp,
}

impl Scene {
    /// A Store that was created a moment ago.
    pub(super) fn new(spec: &str) -> Self {
        let text = format!(
            "apiVersion: holdfast.dev/v1alpha1\nkind: Store\nmetadata: {{name: orders, namespace: shop, uid: {STORE_UID}, generation: 1}}\nspec: {{storage: {{volumeClaimTemplate: {{spec: {{resources: {{requests: {{storage: 1Gi}}}}}}}}}}, memory: {{maxMemory: 64Mi}}{spec}}}"
        );
        Self {
            store: serde_yaml::from_str(&text).expect("a Store"),
            facts: Facts::default(),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    pub(super) fn valid(&self) -> ValidatedStore {
        validate(&self.store, &crate::defaults::defaults(), self.now).expect("a valid Store")
    }

    pub(super) fn decide(&self) -> Decision {
        self.decide_after(&[])
    }

    /// Decides when these objects were applied a moment ago without changing.
    pub(super) fn decide_after(&self, unchanged: &[ChildKind]) -> Decision {
        let decide = |scene: &Self| decide(&scene.store, &scene.valid(), &scene.facts, scene.now, unchanged);
        let decision = decide(self);
        let upon_cache = decide(&self.as_cached());
        assert_eq!(
            format!("{upon_cache:?}"),
            format!("{decision:?}"),
            "as decided upon a cache, and upon live reads"
        );
        decision
    }

    /// The status that is due by now.
    pub(super) fn status(&self, plan: &Plan) -> StoreStatus {
        let applied = Applied::preview(plan.clone());
        status::status(&self.store, Some(&self.valid()), &self.facts, &applied, self.now)
    }

    /// The same as the caches have it.
    fn as_cached(&self) -> Self {
        let Facts {
            children,
            claim,
            pod,
            server,
            config_check,
            trial,
            turn,
            source,
            locations,
            backups,
            latest_backup,
            claims_with_store_id,
            stores_with_store_id,
            pod_warning,
            claim_warning,
        } = self.facts.clone();
        let Children { service_account, record, config, auth, service, headless_service, pdb, stateful_set } =
            children;
        let facts = Facts {
            children: Children {
                service_account: service_account.map(through_cache),
                record: record.map(through_cache),
                config: config.map(through_cache),
                auth: auth.map(through_cache),
                service: service.map(through_cache),
                headless_service: headless_service.map(through_cache),
                pdb: pdb.map(through_cache),
                stateful_set: stateful_set.map(through_cache),
            },
            claim: claim.map(through_cache),
            pod: pod.map(through_cache),
            server,
            config_check,
            trial,
            turn,
            source,
            locations: locations
                .into_iter()
                .map(|(name, location)| (name, location.map(through_cache)))
                .collect(),
            backups: backups.into_iter().map(through_cache).collect(),
            latest_backup,
            claims_with_store_id,
            stores_with_store_id,
            pod_warning,
            claim_warning,
        };
        Self { store: through_cache(self.store.clone()), facts, now: self.now }
    }

    /// Runs all steps, as far as they change objects and status, until none is left.
    pub(super) fn settle(mut self) -> Self {
        for _ in 0..20 {
            let decision = self.decide();
            let Some(step) = decision.plan.step.clone() else { return self };
            self.act(&step, &decision);
        }
        panic!("does not settle");
    }

    pub(super) fn act(&mut self, step: &Step, decision: &Decision) {
        let status = self.store.status.get_or_insert_default();
        match step {
            Step::Record(Recording::Identity { store_id, epoch }) => {
                status.store_id = Some(store_id.clone().unwrap_or_else(|| STORE_ID.into()));
                status.epoch = *epoch;
            }
            Step::Record(Recording::Epoch { epoch, completes_restore }) => {
                status.epoch = Some(*epoch);
                if *completes_restore {
                    status.last_restore = status.restore.take();
                }
            }
            Step::Record(Recording::Claim(claim)) => status.claim = Some(claim.clone()),
            Step::Record(Recording::Restore(restore)) => status.restore = Some(restore.clone()),
            Step::Record(Recording::DropRestore) => status.restore = None,
            Step::Record(Recording::Restart(restart)) => status.last_pod_restart = Some(restart.clone()),
            Step::Record(Recording::GoodUpdate(update)) => {
                status.last_good_update = Some(serde_json::to_value(update).expect("JSON"));
                (status.failed_update, status.started_update, status.refused_update) = (None, None, None);
            }
            Step::Record(Recording::RestartDone) => {
                if let Some(restart) = &mut status.last_pod_restart {
                    restart.count = 0;
                }
            }
            Step::Record(Recording::FailedUpdate(failed)) => {
                status.failed_update = Some(failed.clone());
                (status.started_update, status.last_pod_restart) = (None, None);
            }
            Step::Record(Recording::StartedUpdate(started)) => {
                status.started_update = Some(started.clone());
                status.refused_update = None;
            }
            Step::Record(Recording::WithdrawnUpdate) => {
                (status.started_update, status.last_pod_restart) = (None, None);
            }
            Step::Record(Recording::RefusedUpdate(refused)) => status.refused_update = Some(refused.clone()),
            Step::SetFinalizer(wanted) => {
                let finalizers = wanted.then(|| vec![names::STORE_FINALIZER.to_owned()]);
                self.store.metadata.finalizers = finalizers;
            }
            Step::AdoptClaim => {
                if let Some(claim) = &mut self.facts.claim {
                    let annotations = claim.metadata.annotations.get_or_insert_default();
                    annotations.insert(names::key::STORE_UID.into(), STORE_UID.into());
                }
            }
            Step::ProtectClaim => {
                if let Some(claim) = &mut self.facts.claim {
                    let keep = names::KEEP_ANNOTATIONS.map(|(key, value)| (key.to_owned(), value.to_owned()));
                    claim.metadata.annotations.get_or_insert_default().extend(keep);
                }
            }
            Step::SaveSnapshot => {
                if let ServerFact::Status(server) = &mut self.facts.server {
                    let offset = server.last_offset;
                    server.last_snapshot =
                        Some(JobReport { completed_ms: 0, bytes: 1, duration_ms: 1, offset });
                }
            }
            Step::CreateAuth => {
                let data = BTreeMap::from([
                    (names::PASSWORD_KEY.to_owned(), ByteString("p".into())),
                    (names::TOKEN_KEY.to_owned(), ByteString("t".into())),
                ]);
                let built = secret::build(&self.valid(), "p".into(), "t".into());
                self.facts.children.auth = Some(Secret { data: Some(data), string_data: None, ..built });
            }
            Step::Apply(kinds) => {
                let desired = decision.desired.clone().expect("objects were built");
                let children = &mut self.facts.children;
                for kind in kinds {
                    match kind {
                        ChildKind::ServiceAccount => {
                            children.service_account = Some(applied(&desired.service_account));
                        }
                        ChildKind::Record => children.record = desired.record.as_ref().map(applied),
                        ChildKind::Config => children.config = Some(applied(&desired.config)),
                        ChildKind::Service => children.service = Some(applied(&desired.service)),
                        ChildKind::HeadlessService => {
                            children.headless_service = Some(applied(&desired.headless_service));
                        }
                        ChildKind::Pdb => children.pdb = Some(applied(&desired.pdb)),
                        ChildKind::StatefulSet => {
                            let mut set = applied(&desired.stateful_set);
                            set.metadata.uid = Some("uid-set".into());
                            set.status = Some(from_json(json!({
                                "replicas": 1, "updateRevision": format!("orders-{}", desired.template_hash),
                            })));
                            children.stateful_set = Some(set);
                        }
                    }
                }
            }
            Step::CreateClaim { data_source } => {
                self.facts.claim = Some(claim("claim-1", STORE_ID, STORE_UID, data_source.as_deref()));
            }
            Step::SendRecord(_) => self.serve(ServerState::Ready, status_epoch(&self.store)),
            Step::RestartPod { .. } => {
                self.facts.pod = None;
                self.facts.server = ServerFact::Absent;
            }
        }
    }

    /// The pod runs as the StatefulSet says, and its server is in `state` with `epoch` on its volume (0: no identity).
    pub(super) fn serve(&mut self, state: ServerState, epoch: u64) {
        let set = self.facts.children.stateful_set.as_ref().expect("a StatefulSet");
        let template = set.spec.template.metadata.clone().unwrap_or_default();
        let ready = if state == ServerState::Ready { "True" } else { "False" };
        let config = template.annotations.clone().unwrap_or_default();
        let mut labels = template.labels.clone().unwrap_or_default();
        let revision = set.status.as_ref().and_then(|status| status.update_revision.clone());
        labels.insert("controller-revision-hash".into(), revision.unwrap_or_default());
        let spec = set.spec.template.spec.as_ref().expect("a spec");
        let container = &spec.containers[0];
        self.facts.pod = Some(from_json::<Pod>(json!({
            "metadata": {
                "name": "orders-0", "uid": "uid-pod", "resourceVersion": "7", "annotations": template.annotations,
                "labels": labels,
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "orders", "uid": "uid-set", "controller": true}],
            },
            "spec": {
                "containers": [{
                    "name": names::SERVER_CONTAINER, "image": container.image, "imagePullPolicy": container.image_pull_policy,
                }],
                "securityContext": spec.security_context, "volumes": spec.volumes,
                "terminationGracePeriodSeconds": spec.termination_grace_period_seconds,
            },
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        })));
        let text = serde_json::to_value(&self.facts.children.config).expect("JSON")["data"]
            [names::CONFIG_KEY]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let strategy = text
            .lines()
            .find_map(|line| line.strip_prefix("persist-strategy "))
            .unwrap_or("disabled")
            .to_owned();
        self.facts.server = ServerFact::Status(Box::new(ServerStatus {
            version: "1".into(),
            contract_version: CONTRACT_VERSION,
            state,
            identity: (epoch > 0).then(|| identity(STORE_ID, epoch)),
            decision: None,
            problem: None,
            strategy,
            config_sha256: config.get(names::key::CONFIG_SHA256).cloned().unwrap_or_default(),
            last_offset: 0,
            durable_offset: 0,
            keys: 0,
            progress: None,
            last_snapshot: None,
            last_rotation: None,
            last_job_error: None,
        }));
    }

    pub(super) fn hold(&mut self, reason: &str, message: &str) {
        self.serve(ServerState::Holding, 0);
        if let ServerFact::Status(status) = &mut self.facts.server {
            status.decision = Some(DecisionReport {
                decision: DecisionKind::Hold,
                reason: reason.into(),
                message: message.into(),
            });
        }
    }

    /// A Store that serves, at `epoch`.
    pub(super) fn serving(spec: &str, epoch: u64) -> Self {
        Self::new(spec).with_location().start(epoch)
    }

    /// The same Store, to go another way from here.
    pub(super) fn copy(&self) -> Self {
        Self { store: self.store.clone(), facts: self.facts.clone(), now: self.now }
    }

    /// The next step is taken, which must be there.
    pub(super) fn step(&mut self) {
        let decision = self.decide();
        self.act(&decision.plan.step.clone().expect("a step"), &decision);
    }

    /// Someone drains the node: the pod goes, and nobody answers.
    pub(super) fn drain(&mut self) {
        (self.facts.pod, self.facts.server) = (None, ServerFact::Absent);
        self.facts.config_check = None;
    }

    /// What is applied is what the pod was made from, and not what the spec asks for.
    #[track_caller]
    pub(super) fn expect_applied(&self, image: &str, has_line: Option<&str>) {
        let set = self.facts.children.stateful_set.as_ref().expect("a StatefulSet");
        let found = set.spec.template.spec.as_ref().expect("a spec").containers[0].image.as_deref();
        assert_eq!(found, Some(image), "the image that is applied");
        let config = format!("{:?}", self.facts.children.config.as_ref().expect("a ConfigMap").data);
        assert_eq!(config.contains("hz "), has_line.is_some(), "{config}");
        assert!(has_line.is_none_or(|line| config.contains(line)), "{config}");
    }

    /// The same Store when it has started, and serves at `epoch`.
    pub(super) fn start(self, epoch: u64) -> Self {
        let mut scene = self.settle();
        scene.serve(ServerState::AwaitingRecord, 1);
        let mut scene = scene.settle();
        scene.store.status.get_or_insert_default().epoch = Some(epoch);
        scene.serve(ServerState::Ready, epoch);
        scene.settle_objects()
    }

    /// As [`Scene::settle`], but the pod stays.
    pub(super) fn settle_objects(mut self) -> Self {
        for _ in 0..20 {
            let decision = self.decide();
            match decision.plan.step.clone() {
                None | Some(Step::RestartPod { .. } | Step::SendRecord(_)) => return self,
                Some(Step::Record(Recording::Restart(_)) | Step::SaveSnapshot) => return self,
                Some(step) => self.act(&step, &decision),
            }
        }
        panic!("does not settle");
    }

    /// A restart is recorded, and what must be saved before it is saved.
    pub(super) fn ready_to_restart(mut self) -> Self {
        for _ in 0..4 {
            let decision = self.decide();
            match decision.plan.step.clone() {
                Some(step @ (Step::Record(Recording::Restart(_)) | Step::SaveSnapshot)) => {
                    self.act(&step, &decision);
                }
                _ => return self,
            }
        }
        panic!("never ready to restart");
    }

    pub(super) fn with_location(mut self) -> Self {
        let location: BackupLocation = from_json(json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "BackupLocation",
            "metadata": {"name": "offsite", "namespace": "shop"},
            "spec": {"s3": {"bucket": "archive", "endpoint": "http://s3.test:9000"}, "credentialsSecretRef": {"name": "offsite-keys"}},
        }));
        self.facts.locations.insert("offsite".into(), Some(location));
        self
    }

    pub(super) fn lose_volume(mut self) -> Self {
        self.facts.claim = Some(claim("claim-2", STORE_ID, STORE_UID, None));
        self.hold(reason::VOLUME_LOST, "the volume is empty");
        self
    }

    pub(super) fn describe(&self, title: &str, text: &mut String) {
        self.describe_decision(title, &self.decide(), text);
    }

    pub(super) fn describe_decision(&self, title: &str, decision: &Decision, text: &mut String) {
        let _ = writeln!(text, "# {title}");
        let step = match &decision.plan.step {
            None => "none".to_owned(),
            Some(Step::SendRecord(record)) => {
                format!("SendRecord {}", serde_json::to_string(record).expect("JSON"))
            }
            Some(step) => format!("{step:?}"),
        };
        let _ = writeln!(text, "step:  {step}");
        for hold in &decision.plan.holds {
            let kind = if hold.stalled { "stalled" } else { "waiting" };
            let _ = writeln!(text, "hold:  {kind} {}: {}", hold.reason, hold.message);
        }
        let status = self.status(&decision.plan);
        assert_eq!(self.as_cached().status(&decision.plan), status, "upon a cache, and upon live reads");
        for condition in &status.conditions {
            let _ = writeln!(
                text,
                "       {}={} {} {}",
                condition.type_, condition.status, condition.reason, condition.message
            );
        }
        text.push('\n');
    }
}

/// What comes out of a cache when the API server has `object`, of which others own fields too.
fn through_cache<K: Keep>(mut object: K) -> K {
    let metadata = object.meta_mut();
    let theirs = json!({
        "manager": "kubectl", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {}},
    });
    metadata.managed_fields.get_or_insert_default().insert(0, from_json(theirs));
    let copy = ("kubectl.kubernetes.io/last-applied-configuration".to_owned(), "{}".to_owned());
    metadata.annotations.get_or_insert_default().extend([copy]);
    let mut sample = Sample::default();
    let packed = Packed::pack(object).expect("a text");
    let (_, kept) = (packed.to_keep(&mut sample), packed.to_keep(&mut sample));
    kept.unpack().expect("it can be read")
}

/// The object as the API server has it after the operator has applied it: with a note of what the operator owns of it.
fn applied<K>(desired: &K) -> K
where
    K: Clone + serde::Serialize + k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    let mut fields = owned_fields(&serde_json::to_value(desired).expect("JSON"));
    for key in ["f:apiVersion", "f:kind"] {
        fields.as_object_mut().expect("fields").remove(key);
    }
    for key in ["f:name", "f:namespace"] {
        fields["f:metadata"].as_object_mut().expect("fields").remove(key);
    }
    let mut object = desired.clone();
    object.metadata_mut().managed_fields = Some(from_json(json!([{
        "manager": names::FIELD_MANAGER, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields,
    }])));
    object
}

/// The managed fields of `value`; a list is owned whole.
fn owned_fields(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(name, value)| (format!("f:{name}"), owned_fields(value))).collect()
        }
        _ => json!({}),
    }
}

fn status_epoch(store: &Store) -> u64 {
    store.status.as_ref().and_then(|status| status.epoch).unwrap_or(0)
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("an object")
}

pub(super) fn claim(
    uid: &str,
    store_id: &str,
    store_uid: &str,
    source: Option<&str>,
) -> PersistentVolumeClaim {
    let source = source
        .map(|name| json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name}));
    from_json(json!({
        "metadata": {
            "name": "data-orders-0", "uid": uid, "labels": {names::key::STORE_ID: store_id},
            "annotations": names::KEEP_ANNOTATIONS.into_iter().chain([(names::key::STORE_UID, store_uid)]).collect::<BTreeMap<_, _>>(),
        },
        "spec": {"dataSource": source},
        "status": {"phase": "Bound"},
    }))
}

fn identity(store_id: &str, epoch: u64) -> Identity {
    Identity {
        version: 1,
        store_id: store_id.into(),
        instance: "orders-0".into(),
        epoch,
        last_offset: 10,
        durable_offset: 10,
        granted: true,
        clean_shutdown: false,
        has_log: None,
        parent: None,
        written_ms: 0,
    }
}

pub(super) fn backup(name: &str, status: serde_json::Value) -> StoreBackup {
    from_json(json!({
        "apiVersion": "holdfast.dev/v1alpha1", "kind": "StoreBackup",
        "metadata": {"name": name, "namespace": "shop"}, "spec": {"storeRef": {"name": "orders"}}, "status": status,
    }))
}

pub(super) fn done_backup() -> StoreBackup {
    let yes = |kind: &str| json!({"type": kind, "status": "True", "reason": "Completed", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"});
    backup(
        "friday",
        json!({
            "startTime": "2026-01-02T03:04:05Z", "completionTime": "2026-01-02T03:05:05Z", "location": "offsite",
            "path": format!("{OTHER_ID}/backups/20260102T030405Z-000003-00000000000000000099"), "epoch": 3, "offset": 99,
            "conditions": [yes("Succeeded"), yes("ReadyToUse")],
        }),
    )
}

pub(super) const RESTORE: &str =
    ", backup: {locationRef: {name: offsite}}, recovery: {onVolumeLoss: RestoreLatestBackup}";

pub(super) fn latest(epoch: u64) -> LatestBackup {
    LatestBackup {
        path: format!("{STORE_ID}/backups/20260102T030405Z-{epoch:06}-00000000000000000099"),
        epoch,
        offset: 99,
        cut_ms: 1_767_323_045_000,
    }
}
