//! The newest backup of a Store in a bucket.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use holdfast_contract::bucket::{BackupManifest, MANIFEST_FILE, backups_path};
use object_store::ObjectStore;
use std::time::Duration;

use crate::{Bucket, BucketError};

/// Time to list one Store's backups. An S3 page holds 1,000 names and takes well under a second.
pub(crate) const LIST_TIME_MAX: Duration = Duration::from_secs(120);
/// Names that are kept of a list, however long it is. More than one: a backup may be deleted between list and read.
const CANDIDATES_MAX: usize = 16;

/// Epoch and offset of the data of a backup.
pub(crate) type Age = (u64, u64);

/// What is kept of a list of any length: the names of the newest backups.
#[derive(Debug, Default)]
struct Newest {
    /// By age, then path; at most [`CANDIDATES_MAX`].
    candidates: BTreeSet<(Age, String)>,
    /// The first name that does not say how old its data is.
    strange: Option<String>,
    /// Whether older ones were let go.
    has_more: bool,
}

impl Newest {
    fn add(&mut self, path: String) {
        let Some(age) = age_of(&path) else {
            let first = self.strange.take().map_or(path.clone(), |strange| strange.min(path));
            self.strange = Some(first);
            return;
        };
        self.candidates.insert((age, path));
        if self.candidates.len() > CANDIDATES_MAX {
            self.candidates.pop_first();
            self.has_more = true;
        }
    }
}

impl Bucket {
    /// The backup of the Store `store_id` with the newest data, by epoch, then offset, then path, as (path below the prefix,
    /// manifest); none when there is no backup. A backup exists when it has a manifest. One that vanishes meanwhile is left out.
    ///
    /// Memory does not grow with the list: whoever runs the object store chooses its length.
    /// # Errors
    /// Classes of access and availability. [`BucketError::Stray`] for a key that is no path. That of an unreadable manifest whose name says that its data is newer (or says
    /// nothing that can be compared): falling back to an older backup would lose data without a word, so somebody must decide.
    pub async fn newest_backup(
        &self,
        store_id: &str,
    ) -> Result<Option<(String, BackupManifest)>, BucketError> {
        let root = backups_path(store_id);
        let prefix = self.object_path(&root)?;
        let names = self.store.list(Some(&prefix)).try_fold(Newest::default(), |mut newest, meta| {
            let name = meta
                .location
                .as_ref()
                .strip_suffix(MANIFEST_FILE)
                .and_then(|path| path.strip_suffix('/'))
                .and_then(|path| path.rsplit_once('/'))
                .filter(|(parent, _)| *parent == prefix.as_ref())
                .map(|(_, name)| format!("{root}/{name}"));
            if let Some(path) = name {
                newest.add(path);
            }
            futures::future::ready(Ok(newest))
        });
        let Newest { candidates, strange, has_more } = self.run("list", &root, LIST_TIME_MAX, names).await?;

        if let Some(path) = strange {
            match self.read_manifest(&path).await {
                Ok(_) => {}
                // There may be others of its kind, which the next list shows.
                Err(BucketError::ObjectNotFound { .. }) => {
                    return Err(self.unavailable("read", &path, "it is gone since it was listed".to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
        let mut refused: Option<(Age, BucketError)> = None;
        for (age, path) in candidates.into_iter().rev() {
            if refused.as_ref().is_some_and(|(newer, _)| *newer > age) {
                break;
            }
            match self.read_manifest(&path).await {
                Ok(manifest) => return Ok(Some((path, manifest))),
                Err(BucketError::ObjectNotFound { .. }) => {}
                Err(error @ (BucketError::Damaged { .. } | BucketError::Newer { .. })) => {
                    refused.get_or_insert((age, error));
                }
                Err(error) => return Err(error),
            }
        }
        match refused {
            Some((_, error)) => Err(error),
            None if has_more => {
                let problem = format!("the newest {CANDIDATES_MAX} backups of its list are gone");
                Err(self.unavailable("read", &root, problem))
            }
            None => Ok(None),
        }
    }
}

/// Epoch and offset in the name of a backup, `<time>-<epoch>-<offset>`.
pub(crate) fn age_of(path: &str) -> Option<Age> {
    let mut parts = path.rsplit('/').next()?.split('-').skip(1);
    let age = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_contract::bucket::backup_path;

    #[test]
    fn of_a_long_list_the_newest_names_are_kept() {
        let mut newest = Newest::default();
        for offset in (0..100_000).rev() {
            newest.add(backup_path("s", "20260101T000000Z", 1, offset));
        }
        newest.add(backup_path("s", "20250101T000000Z", 2, 0));
        let kept: Vec<_> = newest.candidates.iter().rev().map(|(age, _)| *age).collect();
        assert_eq!(kept.len(), CANDIDATES_MAX);
        assert_eq!(kept[..3], [(2, 0), (1, 99_999), (1, 99_998)]);
        assert!(newest.has_more && newest.strange.is_none());
    }

    #[test]
    fn a_name_without_an_age_is_kept_once() {
        let mut newest = Newest::default();
        for name in ["s/backups/strange", "s/backups/20260101T000000Z-1", "s/backups/a-1-2-3"] {
            newest.add(name.to_owned());
        }
        assert_eq!(newest.strange.as_deref(), Some("s/backups/20260101T000000Z-1"));
        assert!(newest.candidates.is_empty() && !newest.has_more);
    }
}
