//! How StoreBackups end, and what becomes of them: what lies in the bucket counts, whoever looked when.

use holdfast_bucket::testing::AUTHORITY;
use holdfast_operator::api::v1alpha1::StoreBackupStatus;
use k8s_openapi::jiff::Timestamp;

use super::disturbances::{run, settled, until};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_backup_says_what_the_bucket_holds() {
    let api = ApiServer::start(&[]).await;
    tokio::join!(
        what_ended_well_while_nobody_looked_counts_after_its_deadline(&api, "Snapshot"),
        what_ended_well_while_nobody_looked_counts_after_its_deadline(&api, "VolumeSnapshot"),
        what_was_begun_by_an_operator_that_died_counts_after_its_deadline(&api),
        what_still_runs_at_its_deadline_has_failed(&api, "Snapshot"),
        what_still_runs_at_its_deadline_has_failed(&api, "VolumeSnapshot"),
        a_server_that_loads_is_waited_for_without_a_write(&api),
        a_location_that_names_another_place_makes_its_backups_unusable(&api),
        a_backup_stays_in_the_place_where_it_began(&api),
        what_is_no_longer_in_the_bucket_is_no_backup(&api),
        the_authority_of_a_location_reaches_everybody_who_talks_to_the_bucket(&api),
    );
}

/// A settled Store in a namespace of its own.
async fn store(api: &ApiServer, namespace: &str) -> World {
    let mut world = World::new(api, namespace, Mode::Off, 0).await;
    world.create_store(json!({})).await;
    Box::pin(world.settle()).await;
    world
}

/// One look of the operator at the StoreBackup.
async fn look(world: &World, name: &str) {
    Box::pin(backup::reconcile(&world.ctx, &world.namespace, name)).await.expect("a look");
}

async fn status(world: &World, name: &str) -> StoreBackupStatus {
    world.model.api::<StoreBackup>().get(name).await.expect("read").status.unwrap_or_default()
}

/// Status and reason of a condition.
fn verdict(status: &StoreBackupStatus, kind: &str) -> (String, String) {
    let condition = conditions::find(&status.conditions, kind);
    condition.map(|found| (found.status.clone(), found.reason.clone())).unwrap_or_default()
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

/// Looks until `done`.
async fn look_until(world: &World, name: &str, done: impl Fn(&StoreBackupStatus) -> bool) {
    for _ in 0..10 {
        look(world, name).await;
        if done(&status(world, name).await) {
            return;
        }
    }
    world.fail("the backup does not get so far").await;
}

/// A backup that has begun two hours ago, twice as long as it may take.
async fn begun_long_ago(world: &World, name: &str, method: &str) {
    world.create_backup(name, method).await;
    let at_work = if method == "Snapshot" { "Uploading" } else { "CuttingVolume" };
    look_until(world, name, |status| verdict(status, kind::SUCCEEDED) == is("Unknown", at_work)).await;
    set_back(world, name).await;
}

/// Makes it look as if the backup had begun two hours ago.
async fn set_back(world: &World, name: &str) {
    let begun = Timestamp::from_second(Timestamp::now().as_second() - 7200).expect("a time").to_string();
    let patch = Patch::Merge(json!({"status": {"startTime": begun}}));
    let backups = world.model.api::<StoreBackup>();
    backups.patch_status(name, &PatchParams::default(), &patch).await.expect("status");
}

async fn what_ended_well_while_nobody_looked_counts_after_its_deadline(api: &ApiServer, method: &str) {
    let world = store(api, &format!("late-{}", method.to_lowercase())).await;
    begun_long_ago(&world, "late", method).await;
    // The operator is away, the server and the driver are not.
    for _ in 0..3 {
        Box::pin(world.model.tick()).await;
    }
    look(&world, "late").await;
    let ended = status(&world, "late").await;
    assert_eq!(verdict(&ended, kind::SUCCEEDED), is("True", "Completed"), "{ended:?}");
    assert_eq!(verdict(&ended, kind::READY_TO_USE), is("True", "Completed"), "{ended:?}");
    assert!(ended.completion_time.is_some());
    match method {
        "Snapshot" => assert!(ended.path.is_some() && ended.keys.is_some(), "where it lies: {ended:?}"),
        _ => assert_eq!(ended.volume_snapshots.len(), 1, "{ended:?}"),
    }
    for _ in 0..3 {
        look(&world, "late").await;
    }
    assert_eq!(status(&world, "late").await, ended);
}

async fn what_was_begun_by_an_operator_that_died_counts_after_its_deadline(api: &ApiServer) {
    let world = store(api, "died").await;
    world.create_backup("orphan", "Snapshot").await;
    look_until(&world, "orphan", |status| status.start_time.is_some()).await;
    // It tells the server, and does not live to record that.
    world.faults.set_mode(Mode::DieAfter { write: world.faults.writes() });
    let died = Box::pin(backup::reconcile(&world.ctx, &world.namespace, "orphan")).await;
    assert!(died.is_err(), "{:?}", world.faults.log());
    world.faults.set_mode(Mode::Off);
    world.faults.revive();
    for _ in 0..3 {
        Box::pin(world.model.tick()).await;
    }
    set_back(&world, "orphan").await;
    look(&world, "orphan").await;
    let ended = status(&world, "orphan").await;
    assert_eq!(verdict(&ended, kind::SUCCEEDED), is("True", "Completed"), "{ended:?}");
    assert_eq!(ended.location.as_deref(), Some(LOCATION));
    assert!(ended.place.is_some() && ended.path.is_some() && ended.store_id.is_some(), "{ended:?}");
}

async fn what_still_runs_at_its_deadline_has_failed(api: &ApiServer, method: &str) {
    let world = store(api, &format!("slow-{}", method.to_lowercase())).await;
    begun_long_ago(&world, "slow", method).await;
    look(&world, "slow").await;
    let ended = status(&world, "slow").await;
    assert_eq!(verdict(&ended, kind::SUCCEEDED), is("False", "DeadlineExceeded"), "{ended:?}");
    assert_eq!(verdict(&ended, kind::READY_TO_USE), is("False", "DeadlineExceeded"), "{ended:?}");
    let stops = if method == "Snapshot" { "DELETE backup" } else { "DELETE barrier" };
    let log = world.faults.log();
    assert!(log.iter().any(|line| line.contains(stops)), "what runs is stopped: {log:?}");
}

async fn a_server_that_loads_is_waited_for_without_a_write(api: &ApiServer) {
    let mut world = store(api, "loading").await;
    world.create_backup("patient", "Snapshot").await;
    look_until(&world, "patient", |status| status.start_time.is_some()).await;
    world.model.load();
    look(&world, "patient").await;
    let (writes, waiting) = (world.faults.writes(), status(&world, "patient").await);
    assert_eq!(verdict(&waiting, kind::SUCCEEDED), is("Unknown", "StoreNotReady"), "{waiting:?}");
    for _ in 0..5 {
        look(&world, "patient").await;
    }
    assert_eq!(world.faults.writes(), writes, "{:?}", world.faults.log());
    Box::pin(world.settle()).await;
    let ended = status(&world, "patient").await;
    assert_eq!((verdict(&ended, kind::SUCCEEDED), ended.attempts), (is("True", "Completed"), None));
}

async fn change_location(world: &World, spec: serde_json::Value) {
    let locations = world.model.api::<BackupLocation>();
    let patch = Patch::Merge(json!({"spec": spec}));
    locations.patch(LOCATION, &PatchParams::default(), &patch).await.expect("change the location");
}

async fn a_location_that_names_another_place_makes_its_backups_unusable(api: &ApiServer) {
    let world = World::new(api, "moved", Mode::Off, 0).await;
    world.create_store(json!({})).await;
    let _running = run(&world);
    settled(&world).await;
    world.create_backup("first", "Snapshot").await;
    settled(&world).await;
    let told = async |expected: (String, String)| {
        let what = format!("ReadyToUse is {expected:?}");
        until(&world, &what, async || {
            verdict(&status(&world, "first").await, kind::READY_TO_USE) == expected
        })
        .await;
        status(&world, "first").await
    };
    let good = told(is("True", "Completed")).await;
    assert_eq!(good.place.as_ref().map(|place| place.bucket.as_str()), Some("archive"));

    for (change, back) in [
        (json!({"s3": {"bucket": "elsewhere"}}), json!({"s3": {"bucket": "archive"}})),
        (json!({"prefix": "another/team"}), json!({"prefix": null})),
    ] {
        change_location(&world, change).await;
        let moved = told(is("False", "LocationChanged")).await;
        let message = &conditions::find(&moved.conditions, kind::READY_TO_USE).expect("a condition").message;
        assert!(message.contains("lies in bucket \"archive\", prefix \"\""), "{message}");
        assert_eq!(
            verdict(&moved, kind::SUCCEEDED),
            is("True", "Completed"),
            "it has ended well all the same"
        );
        change_location(&world, back).await;
        told(is("True", "Completed")).await;
    }
    // Another way to the same bucket.
    change_location(&world, json!({"s3": {"endpoint": "https://s3.test:9000", "region": "there"}})).await;
    look(&world, "first").await;
    told(is("True", "Completed")).await;

    let locations = world.model.api::<BackupLocation>();
    locations.delete(LOCATION, &DeleteParams::default()).await.expect("delete the location");
    told(is("False", "LocationNotFound")).await;
}

async fn a_backup_stays_in_the_place_where_it_began(api: &ApiServer) {
    let world = store(api, "moving").await;
    world.create_backup("first", "Snapshot").await;
    look_until(&world, "first", |status| verdict(status, kind::SUCCEEDED) == is("Unknown", "Uploading"))
        .await;
    change_location(&world, json!({"s3": {"bucket": "elsewhere"}, "prefix": "another/team"})).await;
    look(&world, "first").await;
    Box::pin(world.model.tick()).await;
    look_until(&world, "first", |status| {
        verdict(status, kind::READY_TO_USE) == is("False", "LocationChanged")
    })
    .await;
    let ended = status(&world, "first").await;
    assert_eq!(verdict(&ended, kind::SUCCEEDED), is("True", "Completed"), "{ended:?}");
    assert_eq!(ended.place.map(|place| (place.bucket, place.prefix)), Some(("archive".to_owned(), None)));
    let told: Vec<_> =
        world.model.told("backup").into_iter().map(|place| (place.bucket, place.prefix)).collect();
    assert!(
        told.len() > 1 && told.iter().all(|place| *place == ("archive".into(), String::new())),
        "{told:?}"
    );
}

async fn what_is_no_longer_in_the_bucket_is_no_backup(api: &ApiServer) {
    let mut world = store(api, "emptied").await;
    world.create_backup("first", "Snapshot").await;
    Box::pin(world.settle()).await;
    let good = status(&world, "first").await;
    assert_eq!(verdict(&good, kind::READY_TO_USE), is("True", "Completed"), "{good:?}");
    world.model.empty_bucket(true);
    for _ in 0..3 {
        look(&world, "first").await;
    }
    assert_eq!(status(&world, "first").await, good, "the bucket is asked from time to time only");
    assert!(world.model.told("find").is_empty());

    world.ctx.checks = BackupChecks::every(Duration::ZERO);
    look(&world, "first").await;
    let lost = status(&world, "first").await;
    assert_eq!(verdict(&lost, kind::READY_TO_USE), is("False", "BackupMissing"), "{lost:?}");
    assert_eq!(verdict(&lost, kind::SUCCEEDED), is("True", "Completed"), "it has ended well all the same");
    let writes = world.faults.writes();
    look(&world, "first").await;
    assert_eq!(world.faults.writes(), writes, "it is said once: {:?}", world.faults.log());
    // The Store counts on it no longer.
    Box::pin(reconcile::reconcile(&world.ctx, &world.namespace, STORE)).await.expect("a look");
    let store = world.model.api::<Store>().get(STORE).await.expect("read").status.unwrap_or_default();
    let last = conditions::find(&store.conditions, kind::LAST_BACKUP_SUCCEEDED).expect("a condition");
    assert_eq!((last.status.as_str(), last.reason.as_str()), ("False", "BackupMissing"));
    assert!(store.backup.is_none_or(|backup| backup.last_successful_backup.is_none()));

    world.ctx.checks = BackupChecks::default();
    look(&world, "first").await;
    assert_eq!(status(&world, "first").await, lost, "what was found stands until somebody looks again");
    world.model.empty_bucket(false);
    world.ctx.checks = BackupChecks::every(Duration::ZERO);
    look(&world, "first").await;
    assert_eq!(verdict(&status(&world, "first").await, kind::READY_TO_USE), is("True", "Completed"));
}

async fn the_authority_of_a_location_reaches_everybody_who_talks_to_the_bucket(api: &ApiServer) {
    let mut world = store(api, "authority").await;
    let pod = world.model.api::<Pod>().get(&names::pod(STORE)).await.expect("a pod").metadata.uid;
    // The location is in use when its service gets a certificate of a private authority.
    change_location(&world, json!({"s3": {"endpoint": "https://s3.test:9000", "caBundle": AUTHORITY}})).await;
    location::reconcile(&world.ctx, &world.namespace, LOCATION).await.expect("a probe");
    world.create_backup("trusted", "Snapshot").await;
    Box::pin(world.settle()).await;
    let same = world.model.api::<Pod>().get(&names::pod(STORE)).await.expect("a pod").metadata.uid;
    assert_eq!(pod, same, "no restart for it");
    world.model.lose_volume().await;
    Box::pin(world.settle()).await;
    assert_eq!(world.model.restores(), 1);
    // The operator's probe and search, the server's upload and restore.
    for who in ["probe", "backup", "list", "restore"] {
        let told = world.model.told(who);
        assert!(!told.is_empty(), "{who} was not told any place");
        let is_trusted = told.iter().all(|place| place.ca_bundle.as_deref() == Some(AUTHORITY));
        assert!(is_trusted, "{who}: {told:?}");
    }
}
