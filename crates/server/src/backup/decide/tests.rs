use super::*;
use holdfast_contract::bucket::Location;
use proptest::prelude::*;

const OWN: &str = "own";
const SOURCE: &str = "source";
const STRANGER: &str = "stranger";

fn plan(epoch: u64) -> RestorePlan {
    RestorePlan {
        epoch,
        location: Location {
            endpoint: None,
            region: "r".into(),
            bucket: "b".into(),
            prefix: String::new(),
            path_style: false,
            ca_bundle: None,
        },
        credentials_dir: "location".into(),
        backup_path: format!("{OWN}/backups/20260101T000000Z-000001-00000000000000000005"),
    }
}

fn record(epoch: u64, origin: Origin, restore: Option<u64>) -> StoreRecord {
    StoreRecord { store_id: OWN.into(), epoch, origin, restore: restore.map(plan) }
}

fn clone_of(source_epoch: u64, source_offset: u64) -> Origin {
    Origin::Clone { source_store_id: SOURCE.into(), source_epoch, source_offset }
}

fn identity(store_id: &str, epoch: u64, last_offset: u64) -> Identity {
    Identity {
        version: 1,
        store_id: store_id.into(),
        instance: "i".into(),
        epoch,
        last_offset,
        durable_offset: last_offset,
        granted: false,
        clean_shutdown: false,
        has_log: None,
        parent: None,
        written_ms: 0,
    }
}

fn volume(store_id: &str, epoch: u64, last_offset: u64) -> VolumeState {
    VolumeState::Identity(identity(store_id, epoch, last_offset))
}

fn kind_of(action: &Action) -> DecisionKind {
    match action {
        Action::Keep => DecisionKind::Keep,
        Action::Initialise { .. } => DecisionKind::Initialise,
        Action::Stamp { .. } => DecisionKind::Stamp,
        Action::Restore(_) => DecisionKind::Restore,
        Action::Hold => DecisionKind::Hold,
    }
}

#[track_caller]
fn check(record: &StoreRecord, volume: &VolumeState, kind: DecisionKind, reason: &str) -> Decision {
    let decision = decide(Ok(record), volume);
    assert_eq!((decision.report.decision, decision.report.reason.as_str()), (kind, reason), "{decision:?}");
    assert_eq!(kind_of(&decision.action), kind);
    decision
}

#[test]
fn a_store_that_was_never_recorded_follows_its_origin() {
    use DecisionKind::{Hold, Initialise, Keep, Restore, Stamp};
    let empty = VolumeState::Empty;
    let restore = || Origin::Restore { plan: plan(3) };

    check(&record(0, Origin::Empty, None), &empty, Initialise, reason::NEW_STORE);
    check(&record(0, Origin::Empty, None), &volume(OWN, 1, 9), Keep, reason::VOLUME_CURRENT);
    check(&record(0, Origin::Empty, None), &volume(OWN, 2, 9), Keep, reason::VOLUME_NEWER);
    check(&record(0, Origin::Empty, None), &volume(STRANGER, 1, 9), Hold, reason::FOREIGN_VOLUME);

    let decision = check(&record(0, restore(), None), &empty, Restore, reason::BOOTSTRAP_RESTORE);
    assert_eq!(decision.action, Action::Restore(plan(3)));
    check(&record(0, restore(), None), &volume(OWN, 3, 9), Keep, reason::VOLUME_CURRENT);
    check(&record(0, restore(), None), &volume(OWN, 4, 9), Keep, reason::VOLUME_NEWER);
    check(&record(0, restore(), None), &volume(STRANGER, 3, 9), Hold, reason::FOREIGN_VOLUME);

    let clone = || record(0, clone_of(5, 70), None);
    for reached in [70, 71, u64::MAX] {
        let decision = check(&clone(), &volume(SOURCE, 5, reached), Stamp, reason::BOOTSTRAP_CLONE);
        let parent = Parent { store_id: SOURCE.into(), epoch: 5, offset: 70, backup_path: None };
        assert_eq!(decision.action, Action::Stamp { store_id: OWN.into(), epoch: 6, stop_at: 70, parent });
    }
    check(&clone(), &volume(SOURCE, 5, 69), Hold, reason::SOURCE_MISMATCH);
    check(&clone(), &volume(SOURCE, 4, 70), Hold, reason::SOURCE_MISMATCH);
    check(&clone(), &volume(SOURCE, 6, 70), Hold, reason::SOURCE_MISMATCH);
    check(&clone(), &volume(STRANGER, 5, 70), Hold, reason::SOURCE_MISMATCH);
    check(&clone(), &volume(OWN, 6, 70), Keep, reason::VOLUME_CURRENT);
    check(&clone(), &volume(OWN, 7, 70), Keep, reason::VOLUME_NEWER);
    check(&clone(), &empty, Hold, reason::SOURCE_VOLUME_EMPTY);

    let adopt = || record(0, Origin::Adopt, None);
    for epoch in [1, 2, 77] {
        check(&adopt(), &volume(OWN, epoch, 0), Keep, reason::VOLUME_CURRENT);
    }
    check(&adopt(), &empty, Hold, reason::SOURCE_VOLUME_EMPTY);
    check(&adopt(), &volume(STRANGER, 1, 0), Hold, reason::FOREIGN_VOLUME);
}

#[test]
fn a_recorded_store_is_compared_with_its_record_whatever_its_origin() {
    use DecisionKind::{Hold, Keep, Restore};
    let origins = [Origin::Empty, Origin::Restore { plan: plan(3) }, clone_of(5, 70), Origin::Adopt];
    for origin in origins {
        let at = |restore| record(4, origin.clone(), restore);
        check(&at(None), &volume(OWN, 4, 9), Keep, reason::VOLUME_CURRENT);
        check(&at(None), &volume(OWN, 5, 9), Keep, reason::VOLUME_NEWER);
        check(&at(Some(5)), &volume(OWN, 5, 9), Keep, reason::VOLUME_CURRENT);
        check(&at(Some(6)), &volume(OWN, 5, 9), Keep, reason::VOLUME_NEWER);
        check(&at(None), &volume(OWN, 3, u64::MAX), Hold, reason::STALE_VOLUME);
        check(&at(Some(5)), &volume(OWN, 3, 9), Hold, reason::STALE_VOLUME);
        check(&at(None), &volume(STRANGER, 4, 9), Hold, reason::FOREIGN_VOLUME);
        check(&at(Some(5)), &volume(STRANGER, 1, 0), Hold, reason::FOREIGN_VOLUME);
        check(&at(None), &volume(SOURCE, 5, 70), Hold, reason::FOREIGN_VOLUME);
        check(&at(None), &VolumeState::Empty, Hold, reason::VOLUME_LOST);
        check(&at(Some(4)), &VolumeState::Empty, Hold, reason::VOLUME_LOST);
        let decision = check(&at(Some(5)), &VolumeState::Empty, Restore, reason::VOLUME_LOST_RESTORING);
        assert_eq!(decision.action, Action::Restore(plan(5)));
    }
}

#[test]
fn nothing_is_done_with_what_cannot_be_read() {
    use DecisionKind::Hold;
    let unknown = VolumeState::UnknownData { files: vec!["dump.rdb".into()] };
    let damaged = VolumeState::DamagedIdentity { why: "checksum".into() };
    for record in [record(0, Origin::Empty, None), record(3, Origin::Empty, Some(4))] {
        let decision = check(&record, &unknown, Hold, reason::UNKNOWN_DATA);
        assert!(decision.report.message.contains("dump.rdb"));
        let decision = check(&record, &damaged, Hold, reason::DAMAGED_IDENTITY);
        assert!(decision.report.message.contains("checksum"));
    }
    let decision = decide(Err("no such file"), &VolumeState::Empty);
    assert_eq!(decision.report.reason, reason::RECORD_UNREADABLE);
    assert!(decision.report.message.contains("no such file"));
    for bad in [
        StoreRecord { store_id: String::new(), ..record(0, Origin::Empty, None) },
        record(0, Origin::Restore { plan: plan(0) }, None),
        record(0, Origin::Clone { source_store_id: OWN.into(), source_epoch: 1, source_offset: 0 }, None),
    ] {
        check(&bad, &VolumeState::Empty, Hold, reason::RECORD_UNREADABLE);
    }
}

#[test]
fn a_hold_says_what_was_found_and_what_to_do() {
    let check = |record: &StoreRecord, volume: &VolumeState, words: &[&str]| {
        let message = decide(Ok(record), volume).report.message;
        for word in words {
            assert!(message.contains(word), "{word:?} not in {message:?}");
        }
        assert!(message.ends_with('.') && !message.contains("  "), "{message:?}");
    };
    check(&record(4, Origin::Empty, None), &VolumeState::Empty, &["epoch 4", "recovery.onVolumeLoss"]);
    check(
        &record(4, Origin::Empty, None),
        &volume(STRANGER, 2, 0),
        &[STRANGER, OWN, "bootstrap.adopt.storeID"],
    );
    check(&record(4, Origin::Empty, None), &volume(OWN, 2, 0), &["epoch 2", "epoch 4", "old copy"]);
    check(&record(0, clone_of(5, 70), None), &VolumeState::Empty, &[SOURCE, "PersistentVolumeClaim"]);
    check(&record(0, clone_of(5, 70), None), &volume(STRANGER, 1, 2), &["volumeSnapshotRef", STRANGER]);
}

#[test]
fn writing_needs_a_grant_on_the_volume_or_a_record_that_has_caught_up() {
    let check = |granted, identity_epoch, record_id: &str, record_epoch, expected| {
        let identity = Identity { granted, ..identity(OWN, identity_epoch, 0) };
        let record = StoreRecord { store_id: record_id.into(), ..record(record_epoch, Origin::Empty, None) };
        assert_eq!(may_write(&identity, &record), expected, "{identity:?} {record:?}");
    };
    check(false, 1, OWN, 0, false);
    check(false, 1, OWN, 1, true);
    check(false, 2, OWN, 1, false);
    check(false, 2, OWN, 3, true);
    check(true, 2, OWN, 0, true);
    check(false, 1, STRANGER, 9, false);
}

fn any_id() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![OWN, SOURCE, STRANGER])
}

fn any_origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        Just(Origin::Empty),
        Just(Origin::Adopt),
        (0..4u64).prop_map(|epoch| Origin::Restore { plan: plan(epoch) }),
        (any_id(), 0..4u64, 0..4u64).prop_map(|(id, source_epoch, source_offset)| Origin::Clone {
            source_store_id: id.into(),
            source_epoch,
            source_offset
        }),
    ]
}

fn any_record() -> impl Strategy<Value = StoreRecord> {
    (0..4u64, any_origin(), prop::option::of(0..6u64))
        .prop_map(|(epoch, origin, restore)| record(epoch, origin, restore))
}

fn any_volume() -> impl Strategy<Value = VolumeState> {
    prop_oneof![
        Just(VolumeState::Empty),
        Just(VolumeState::UnknownData { files: vec!["f".into()] }),
        Just(VolumeState::DamagedIdentity { why: "w".into() }),
        (any_id(), 1..6u64, 0..4u64, any::<bool>()).prop_map(|(id, epoch, offset, granted)| {
            VolumeState::Identity(Identity { granted, ..identity(id, epoch, offset) })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn data_is_never_replaced_and_a_lost_volume_never_passes_for_a_new_one(
        record in any_record(),
        volume in any_volume(),
    ) {
        let decision = decide(Ok(&record), &volume);
        prop_assert_eq!(kind_of(&decision.action), decision.report.decision);
        match (&decision.action, &volume) {
            // Only an empty volume is filled.
            (Action::Initialise { .. } | Action::Restore(_), volume) => prop_assert_eq!(volume, &VolumeState::Empty),
            // Only the exact source of a clone that was never recorded is stamped, and never over a newer epoch.
            (Action::Stamp { epoch, stop_at, .. }, VolumeState::Identity(identity)) => {
                prop_assert!(record.epoch == 0 && identity.store_id != record.store_id);
                prop_assert!(*epoch > identity.epoch && *stop_at <= identity.last_offset);
            }
            (Action::Stamp { .. }, volume) => prop_assert!(false, "stamped {volume:?}"),
            // Only this Store's data, and never older than recorded, is served.
            (Action::Keep, VolumeState::Identity(identity)) => {
                prop_assert!(identity.store_id == record.store_id && identity.epoch >= record.epoch);
            }
            (Action::Keep, volume) => prop_assert!(false, "kept {volume:?}"),
            (Action::Hold, _) => {}
        }
        if record.epoch >= 1 {
            prop_assert_ne!(decision.report.decision, DecisionKind::Initialise);
        }
        if let Action::Restore(plan) = &decision.action {
            prop_assert!(plan.epoch > record.epoch);
        }
    }

    /// A mounted record may be stale, which makes its epoch lower: what was kept with the newer one is kept with it.
    #[test]
    fn a_stale_record_never_turns_a_kept_volume_away(record in any_record(), volume in any_volume(), behind in 0..4u64) {
        if decide(Ok(&record), &volume).action == Action::Keep {
            let stale = StoreRecord { epoch: record.epoch.saturating_sub(behind), ..record };
            prop_assert_eq!(decide(Ok(&stale), &volume).action, Action::Keep);
        }
    }
}
