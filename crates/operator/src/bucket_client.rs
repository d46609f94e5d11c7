//! What the operator asks of a bucket: does it work, and which backup is the newest. The trait is the seam at which
//! tests put a modelled bucket.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use holdfast_bucket::{Bucket, BucketError, Credentials};
use holdfast_contract::bucket::Location;
use holdfast_contract::control::backup_reason;

use crate::backup::facts::Presence;
use crate::reconcile::facts::{LatestBackup, LocationProblem};
use crate::slow_calls::SlowCalls;

/// Data of a Secret.
pub type SecretData = BTreeMap<String, Vec<u8>>;

/// Read access to buckets, and the probe.
#[async_trait]
pub trait BucketClient: Send + Sync {
    /// Proves that a small object can be written, is read back, and is not overwritten by a conditional put; it stays. Proves
    /// also that the keys may list.
    async fn probe(&self, location: &Location, credentials: &SecretData) -> Result<(), LocationProblem>;
    /// The backup of `store_id` with the newest data; none when there is none.
    async fn latest_backup(
        &self,
        location: &Location,
        credentials: &SecretData,
        store_id: &str,
    ) -> Result<Option<LatestBackup>, LocationProblem>;
    /// What is there of the backup at `path`, without reading its data. An error: the bucket does not say.
    async fn find_backup(
        &self,
        location: &Location,
        credentials: &SecretData,
        path: &str,
    ) -> Result<Presence, LocationProblem>;
}

/// Time for an answer of a bucket that is well; after it the call is one of the slow ones.
const SOON: Duration = Duration::from_secs(5);

/// Talks to real buckets.
#[derive(Debug, Clone)]
pub struct S3BucketClient {
    slow: SlowCalls,
}

impl S3BucketClient {
    /// A client that waits for as many buckets that do not answer soon as `slow` allows. Probes are not counted: they keep only
    /// workers of their own.
    #[must_use]
    pub fn new(slow: SlowCalls) -> Self {
        Self { slow }
    }

    async fn wait_for<T>(
        &self,
        call: impl Future<Output = Result<T, LocationProblem>>,
    ) -> Result<T, LocationProblem> {
        self.slow.run(SOON, call).await.unwrap_or_else(|| {
            Err(LocationProblem {
                reason: backup_reason::LOCATION_UNAVAILABLE.to_owned(),
                message: "the object store does not answer in time; check that it runs and can be reached from this pod"
                    .to_owned(),
            })
        })
    }
}

fn problem(error: &BucketError) -> LocationProblem {
    LocationProblem { reason: error.reason().to_owned(), message: error.to_string() }
}

fn open(location: &Location, credentials: &SecretData) -> Result<Bucket, LocationProblem> {
    let credentials = Credentials::from_map(credentials).map_err(|error| problem(&error))?;
    Bucket::open(location, credentials).map_err(|error| problem(&error))
}

#[async_trait]
impl BucketClient for S3BucketClient {
    async fn probe(&self, location: &Location, credentials: &SecretData) -> Result<(), LocationProblem> {
        open(location, credentials)?.probe().await.map_err(|error| problem(&error))
    }

    async fn latest_backup(
        &self,
        location: &Location,
        credentials: &SecretData,
        store_id: &str,
    ) -> Result<Option<LatestBackup>, LocationProblem> {
        let bucket = open(location, credentials)?;
        let newest = async { bucket.newest_backup(store_id).await.map_err(|error| problem(&error)) };
        let newest = self.wait_for(newest).await?;
        Ok(newest.map(|(path, manifest)| LatestBackup {
            path,
            epoch: manifest.epoch,
            offset: manifest.offset,
            cut_ms: manifest.cut_ms,
        }))
    }

    async fn find_backup(
        &self,
        location: &Location,
        credentials: &SecretData,
        path: &str,
    ) -> Result<Presence, LocationProblem> {
        let bucket = open(location, credentials)?;
        let found = async {
            match bucket.inspect_backup(path).await {
                Ok(manifest) => Ok(Presence::There(manifest.files.iter().map(|file| file.bytes).sum())),
                Err(error @ (BucketError::ObjectNotFound { .. } | BucketError::BucketNotFound { .. })) => {
                    Ok(Presence::Missing(error.to_string()))
                }
                Err(error @ BucketError::Damaged { .. }) => Ok(Presence::Altered(error.to_string())),
                Err(error) => Err(problem(&error)),
            }
        };
        self.wait_for(found).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::BackupLocation;
    use crate::reconcile::plan::identity::bucket_of;
    use holdfast_bucket::testing::{AUTHORITY, Certificate, Gateway};
    use holdfast_contract::bucket::credentials::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};
    use serde_json::json;

    #[tokio::test]
    async fn the_authority_of_a_location_reaches_the_bucket() {
        let gateway = Gateway::start_with_tls(Certificate::Valid);
        let keys = [(ACCESS_KEY_ID, "test-key"), (SECRET_ACCESS_KEY, "test-secret")];
        let keys: SecretData = keys.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let at = gateway.location("");
        let location = |authority: Option<&str>| {
            let location: BackupLocation = serde_json::from_value(json!({
                "apiVersion": "holdfast.dev/v1alpha1", "kind": "BackupLocation", "metadata": {"name": "offsite"},
                "spec": {
                    "s3": {"bucket": at.bucket, "endpoint": at.endpoint, "region": at.region, "caBundle": authority},
                    "credentialsSecretRef": {"name": "keys"},
                },
            }))
            .expect("a location");
            bucket_of(&location)
        };
        let client = S3BucketClient::new(SlowCalls::for_workers(8));
        let refused = client.probe(&location(None), &keys).await.expect_err("a stranger");
        assert_eq!(refused.reason, "LocationUnavailable", "{refused:?}");
        let trusted = location(Some(AUTHORITY));
        client.probe(&trusted, &keys).await.expect("a probe");
        assert_eq!(client.latest_backup(&trusted, &keys, "none").await, Ok(None));
    }
}
