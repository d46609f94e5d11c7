//! A volume snapshot under write load, and a new Store from it at exactly the stamped offset.

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_e2e::{dataset, load};
use holdfast_operator::api::conditions::{kind, reason};

/// Writes of the load before it is measured how long each is in the stream.
const MEASURED: u64 = 100;

/// Writes `load:<from>` and so on, and returns the offset after them.
async fn write_and_ask(s: &Scenario, from: u64, count: u64) -> Result<u64> {
    let mut redis = s.redis("orders").await?;
    for index in from..from + count {
        redis.call::<()>(&format!("SET load:{index:010} {index:010}")).await?;
    }
    // The control port tells what was so a moment ago.
    let info = redis.call::<String>("INFO persistence").await?;
    let offset = info.lines().find_map(|line| line.strip_prefix("persist_last_offset:"));
    Ok(offset.context("INFO tells no offset")?.trim().parse()?)
}

#[tokio::test]
async fn a_volume_snapshot_under_load_becomes_a_store_at_its_offset() -> Result<()> {
    run("volume-snapshot", Reach::OwnNamespace, async |s| {
        let source = s.ready_store("orders", "{}").await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 200).await?;
        let first = write_and_ask(s, 0, MEASURED).await?;
        let second = write_and_ask(s, MEASURED, MEASURED).await?;
        let write_len = (second - first) / MEASURED;

        let writes = load::Load::start(s.redis("orders").await?, 2 * MEASURED);
        writes.advance(100).await?;
        let backup = s.volume_snapshot("cut", "orders").await?.status.context("no status")?;
        writes.advance(100).await?;
        let acknowledged = writes.stop().await?;

        let offset = backup.offset.context("the backup has no offset")?;
        ensure!(offset > second, "the cut ({offset}) lies before the load ({second})");
        let keys = 2 * MEASURED + (offset - second) / write_len;
        ensure!(
            keys < acknowledged,
            "the cut holds {keys} writes, {acknowledged} were acknowledged when it had ended"
        );

        let snapshot = backup.volume_snapshots.first().context("no VolumeSnapshot")?.name.clone();
        let copy = s
            .ready_store(
                "copy",
                &format!("{{bootstrap: {{restore: {{volumeSnapshotRef: {{name: {snapshot}}}}}}}}}"),
            )
            .await?;
        let mut redis = s.redis("copy").await?;
        let found = load::count(&mut redis).await?;
        ensure!(found == keys, "offset {offset} is after {keys} writes of the load, {found} are in the copy");
        let identity = s.server_status("copy").await?.identity.context("no identity")?;
        let parent = identity.parent.context("no parent")?;
        ensure!(parent.offset == offset, "the copy was cut at {}, not {offset}", parent.offset);

        let ids = [source, copy].map(|store| store.status.and_then(|status| status.store_id));
        ensure!(Some(&parent.store_id) == ids[0].as_ref() && ids[0] != ids[1], "{ids:?}, parent {parent:?}");
        for index in 0..found {
            redis.call::<()>(&format!("DEL load:{index:010}")).await?;
        }
        dataset::compare(&expected, &dataset::read(&mut redis).await?)?;

        // The source has gone on undisturbed.
        let total = load::count(&mut s.redis("orders").await?).await?;
        ensure!(total == acknowledged, "{acknowledged} writes were acknowledged, {total} are there");
        s.store_condition("orders", kind::LAST_BACKUP_SUCCEEDED, "True", reason::BACKUP_SUCCEEDED).await?;
        Ok(())
    })
    .await
}
