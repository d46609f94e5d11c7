//! What uploads that were killed have left in a bucket: data without a manifest, which is no backup and is paid for.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt;
use holdfast_contract::bucket::{BASE_FILE, MANIFEST_FILE, backups_path};
use object_store::ObjectStore;

use crate::newest::{LIST_TIME_MAX, age_of};
use crate::{Bucket, BucketError};

/// Objects that are removed at a time, however long the list is; the next call removes the next ones.
const ORPHANS_MAX: usize = 16;

/// What is kept of a list of any length. Times are seconds since the Unix epoch by the clock of the object store.
#[derive(Debug, Default)]
struct Orphans {
    /// The backup whose file was listed last, while no manifest has followed: `base.rdb` sorts before `manifest.json`.
    open: Option<(String, i64)>,
    /// The oldest of those without a manifest, by time; at most [`ORPHANS_MAX`].
    found: BTreeSet<(i64, String)>,
    /// The newest time in the list.
    newest: Option<i64>,
}

impl Orphans {
    fn add(&mut self, name: &str, file: &str, written: i64) {
        self.newest = self.newest.max(Some(written));
        match file {
            BASE_FILE => {
                self.close();
                self.open = Some((name.to_owned(), written));
            }
            MANIFEST_FILE if self.open.as_ref().is_some_and(|(open, _)| open == name) => self.open = None,
            _ => {}
        }
    }

    fn close(&mut self) {
        if let Some((name, written)) = self.open.take() {
            self.found.insert((written, name));
            if self.found.len() > ORPHANS_MAX {
                self.found.pop_last();
            }
        }
    }

    /// Names of those that are older than the newest object by more than `age_min`, oldest first.
    fn older_than(mut self, age_min: Duration) -> Vec<String> {
        self.close();
        let age_min = i64::try_from(age_min.as_secs()).unwrap_or(i64::MAX);
        let Some(limit) = self.newest.map(|newest| newest.saturating_sub(age_min)) else { return Vec::new() };
        self.found.into_iter().filter(|(written, _)| *written < limit).map(|(_, name)| name).collect()
    }
}

impl Bucket {
    /// Removes data of the Store `store_id` that no manifest describes and that is older than its newest object by more than
    /// `age_min`; returns the paths of what was removed, oldest first, a bounded number at a time.
    ///
    /// To be called by the owner of this part of the bucket, after a backup: then the newest object is of this moment, and no two
    /// clocks are compared. `age_min` must be longer than any upload runs. What else lies there is left alone.
    ///
    /// # Errors
    /// Classes of access and availability, [`BucketError::Stray`] for a key that is no path. What was removed before stays removed.
    pub async fn remove_orphans(
        &self,
        store_id: &str,
        age_min: Duration,
    ) -> Result<Vec<String>, BucketError> {
        let root = backups_path(store_id);
        let prefix = self.object_path(&root)?;
        let listed = self.store.list(Some(&prefix)).try_fold(Orphans::default(), |mut orphans, meta| {
            let rest = meta.location.as_ref().strip_prefix(prefix.as_ref());
            let parts = rest.and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.split_once('/'));
            if let Some((name, file)) = parts
                && age_of(name).is_some()
            {
                orphans.add(name, file, meta.last_modified.timestamp());
            }
            futures::future::ready(Ok(orphans))
        });
        let orphans = self.run("list", &root, LIST_TIME_MAX, listed).await?;
        let mut removed = Vec::new();
        for name in orphans.older_than(age_min) {
            let path = format!("{root}/{name}");
            // The list may have come in another order, or be out of date: this answer counts.
            match self.read_manifest(&path).await {
                Err(BucketError::ObjectNotFound { .. }) => {
                    let file = format!("{path}/{BASE_FILE}");
                    self.delete(&file).await?;
                    removed.push(file);
                }
                Ok(_) | Err(BucketError::Damaged { .. } | BucketError::Newer { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn older_than_a_day(objects: &[(&str, &str, i64)]) -> Vec<String> {
        let mut orphans = Orphans::default();
        for (name, file, written) in objects {
            orphans.add(name, file, *written);
        }
        orphans.older_than(Duration::from_secs(86_400))
    }

    #[test]
    fn only_old_data_without_a_manifest_is_left_behind() {
        let check = |objects: &[(&str, &str, i64)], expected: &[&str]| {
            assert_eq!(older_than_a_day(objects), expected, "{objects:?}");
        };
        check(&[], &[]);
        check(&[("a", BASE_FILE, 0)], &[]);
        check(&[("a", BASE_FILE, 0), ("b", BASE_FILE, DAY)], &[]);
        check(&[("a", BASE_FILE, 0), ("b", BASE_FILE, DAY + 1)], &["a"]);
        check(&[("a", BASE_FILE, 0), ("a", MANIFEST_FILE, 1), ("b", BASE_FILE, 9 * DAY)], &[]);
        check(&[("a", "notes", 0), ("b", MANIFEST_FILE, 9 * DAY)], &[]);
        check(&[("b", BASE_FILE, 1), ("c", BASE_FILE, 0), ("d", MANIFEST_FILE, 9 * DAY)], &["c", "b"]);
    }

    #[test]
    fn of_a_long_list_the_oldest_are_kept() {
        let mut orphans = Orphans::default();
        for number in (0..10_000).rev() {
            orphans.add(&format!("{number}"), BASE_FILE, number);
        }
        let found = orphans.older_than(Duration::ZERO);
        assert_eq!((found.len(), found[0].as_str()), (ORPHANS_MAX, "0"));
    }
}
