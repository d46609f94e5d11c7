//! The backups of a Store in a bucket.

use futures::{StreamExt, TryStreamExt};
use holdfast_contract::bucket::{BackupManifest, MANIFEST_FILE, backups_path};
use object_store::ObjectStore;
use std::time::Duration;

use crate::{Bucket, BucketError};

/// Time to list one Store's backups. An S3 page holds 1,000 names and takes well under a second.
const LIST_TIME_MAX: Duration = Duration::from_secs(120);
/// Manifests read side by side.
const READS_IN_FLIGHT: usize = 8;

/// What [`Bucket::list_backups`] found.
#[derive(Debug)]
pub struct BackupList {
    /// Complete backups as (path below the prefix, manifest), oldest data first: sorted by epoch, offset, path.
    pub backups: Vec<(String, BackupManifest)>,
    /// Backups whose manifest is there and cannot be used, with the reason; sorted by path.
    pub unreadable: Vec<(String, BucketError)>,
}

impl BackupList {
    /// The backup with the newest data; none when there is no backup.
    /// # Errors
    /// The error of an unreadable manifest whose name says that its data is newer (or cannot be compared): falling
    /// back to an older backup would lose data without a word, so somebody must decide.
    pub fn latest(&self) -> Result<Option<&(String, BackupManifest)>, &BucketError> {
        let latest = self.backups.last();
        let newest = latest.map(|(_, manifest)| (manifest.epoch, manifest.offset));
        match self.unreadable.iter().find(|(path, _)| age_of(path).is_none_or(|age| Some(age) > newest)) {
            Some((_, error)) => Err(error),
            None => Ok(latest),
        }
    }
}

impl Bucket {
    /// Lists the backups of the Store `store_id` that have a manifest. One that vanishes meanwhile is left out.
    /// # Errors
    /// Classes of access and availability; a single unreadable manifest is reported in the list instead.
    pub async fn list_backups(&self, store_id: &str) -> Result<BackupList, BucketError> {
        let root = backups_path(store_id);
        let prefix = self.object_path(&root)?;
        let names = self.store.list(Some(&prefix)).try_filter_map(|meta| {
            let location = meta.location.to_string();
            let path = location
                .strip_suffix(MANIFEST_FILE)
                .and_then(|path| path.strip_suffix('/'))
                .and_then(|path| path.rsplit_once('/'))
                .filter(|(parent, _)| *parent == prefix.as_ref())
                .map(|(_, name)| format!("{root}/{name}"));
            futures::future::ready(Ok(path))
        });
        let paths: Vec<String> = self.run("list", &root, LIST_TIME_MAX, names.try_collect()).await?;

        let mut list = BackupList { backups: Vec::new(), unreadable: Vec::new() };
        let mut reads = futures::stream::iter(paths)
            .map(|path| async {
                let manifest = self.read_manifest(&path).await;
                (path, manifest)
            })
            .buffer_unordered(READS_IN_FLIGHT);
        while let Some((path, manifest)) = reads.next().await {
            match manifest {
                Ok(manifest) => list.backups.push((path, manifest)),
                Err(error @ (BucketError::Damaged { .. } | BucketError::Newer { .. })) => {
                    list.unreadable.push((path, error));
                }
                Err(BucketError::ObjectNotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        list.backups.sort_by(|(left_path, left), (right_path, right)| {
            (left.epoch, left.offset, left_path).cmp(&(right.epoch, right.offset, right_path))
        });
        list.unreadable.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(list)
    }
}

/// Epoch and offset in the name of a backup, `<time>-<epoch>-<offset>`.
fn age_of(path: &str) -> Option<(u64, u64)> {
    let mut parts = path.rsplit('/').next()?.split('-').skip(1);
    let age = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_contract::bucket::{DatasetSummary, Location, backup_path};

    fn manifest(epoch: u64, offset: u64) -> (String, BackupManifest) {
        let manifest = BackupManifest {
            version: 1,
            server_version: "0".into(),
            store_id: "s".into(),
            instance: "i".into(),
            epoch,
            offset,
            cut_ms: 0,
            completed_ms: 0,
            files: Vec::new(),
            dataset: DatasetSummary::default(),
        };
        (backup_path("s", "20260101T000000Z", epoch, offset), manifest)
    }

    #[test]
    fn a_newer_unreadable_backup_stops_the_choice_of_an_older_one() {
        let place = crate::Place::new(&Location {
            endpoint: None,
            region: "r".into(),
            bucket: "b".into(),
            prefix: String::new(),
            path_style: true,
            ca_bundle: None,
        });
        let check =
            |readable: &[(u64, u64)], unreadable: &[&str], expected: Result<Option<(u64, u64)>, ()>| {
                let list = BackupList {
                    backups: readable.iter().map(|&(epoch, offset)| manifest(epoch, offset)).collect(),
                    unreadable: unreadable
                        .iter()
                        .map(|path| {
                            let error =
                                BucketError::ObjectNotFound { object: String::new(), place: place.clone() };
                            ((*path).to_owned(), error)
                        })
                        .collect(),
                };
                let found = list.latest().map(|latest| latest.map(|(_, found)| (found.epoch, found.offset)));
                assert_eq!(found.map_err(|_| ()), expected, "{readable:?} {unreadable:?}");
            };
        check(&[], &[], Ok(None));
        check(&[(1, 5), (2, 1)], &[], Ok(Some((2, 1))));
        check(&[(1, 5)], &["s/backups/20260101T000000Z-000001-00000000000000000004"], Ok(Some((1, 5))));
        check(&[(1, 5)], &["s/backups/20250101T000000Z-000001-00000000000000000006"], Err(()));
        check(&[(1, 5)], &["s/backups/20250101T000000Z-000002-00000000000000000000"], Err(()));
        check(&[], &["s/backups/20250101T000000Z-000001-00000000000000000000"], Err(()));
        check(&[(1, 5)], &["s/backups/strange"], Err(()));
    }
}
