//! Layout of a bucket: self-describing, so that location and key alone are enough to list and restore.
//!
//! ```text
//! <prefix>/<storeID>/store.json                                     StoreMarker: who owns this part of the bucket
//! <prefix>/<storeID>/backups/<time>-<epoch>-<offset>/base.rdb       RDB version 10
//! <prefix>/<storeID>/backups/<time>-<epoch>-<offset>/manifest.json  BackupManifest, last, by conditional put
//! ```
//!
//! A backup without its manifest does not exist; its data is removed after a later backup of the Store, once it is older than
//! eight days. `<time>` is UTC `YYYYMMDDTHHMMSSZ`, `<epoch>` has 6 and `<offset>` 20 decimal digits, so that names sort by time,
//! and at one time by age of the data.

use serde::{Deserialize, Serialize};

/// Version of [`BackupManifest`] and [`StoreMarker`] written by this release. A reader refuses a higher one.
pub const LAYOUT_VERSION: u32 = 1;

/// The highest epoch of a Store: far above what restores bring about, and below what JSON readers round.
pub const EPOCH_MAX: u64 = 1 << 53;
/// File name of the owner marker.
pub const MARKER_FILE: &str = "store.json";
/// File name of the snapshot in a backup.
pub const BASE_FILE: &str = "base.rdb";
/// File name of the manifest in a backup.
pub const MANIFEST_FILE: &str = "manifest.json";

/// Names of the credential keys in the Secret of a location (and file names below its mount).
pub mod credentials {
    /// S3 access key id.
    pub const ACCESS_KEY_ID: &str = "accessKeyID";
    /// S3 secret access key.
    pub const SECRET_ACCESS_KEY: &str = "secretAccessKey";
    /// S3 session token; optional.
    pub const SESSION_TOKEN: &str = "sessionToken";
}

/// Where backups lie: an S3 bucket without its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// Base URL of the S3 service, `http://` or `https://`; absent for AWS itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region to sign for.
    pub region: String,
    /// Bucket name.
    pub bucket: String,
    /// Path below which everything lies, without slash at either end; may be empty.
    #[serde(default)]
    pub prefix: String,
    /// True: `endpoint/bucket/key`; false: `bucket.endpoint/key`.
    #[serde(default)]
    pub path_style: bool,
    /// Certificates in PEM of the authorities to trust for `endpoint`, besides the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

impl Location {
    /// Object key of `path` (below the prefix) in the bucket.
    #[must_use]
    pub fn key(&self, path: &str) -> String {
        if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) }
    }
}

/// Path of a Store's owner marker below the prefix.
#[must_use]
pub fn marker_path(store_id: &str) -> String {
    format!("{store_id}/{MARKER_FILE}")
}

/// Path below which the backups of a Store lie.
#[must_use]
pub fn backups_path(store_id: &str) -> String {
    format!("{store_id}/backups")
}

/// Path of one backup. `time` is UTC `YYYYMMDDTHHMMSSZ`.
#[must_use]
pub fn backup_path(store_id: &str, time: &str, epoch: u64, offset: u64) -> String {
    format!("{store_id}/backups/{time}-{epoch:06}-{offset:020}")
}

/// Contents of [`MARKER_FILE`]: which Kubernetes object writes here. Checked before the first write of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreMarker {
    /// [`LAYOUT_VERSION`] of the writer.
    pub version: u32,
    /// Id of the Store.
    #[serde(rename = "storeID")]
    pub store_id: String,
    /// UID of the Store object that owns this part of the bucket; a different one is refused.
    #[serde(rename = "ownerUID")]
    pub owner_uid: String,
    /// `namespace/name` of the owner, for people.
    pub owner_name: String,
}

/// Contents of [`MANIFEST_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupManifest {
    /// [`LAYOUT_VERSION`] of the writer.
    pub version: u32,
    /// Version of the server that wrote the backup.
    pub server_version: String,
    /// Id of the Store.
    #[serde(rename = "storeID")]
    pub store_id: String,
    /// Instance that wrote the backup.
    pub instance: String,
    /// Epoch of the data.
    pub epoch: u64,
    /// Offset at which the data was cut.
    pub offset: u64,
    /// When the data was cut.
    pub cut_ms: u64,
    /// When the manifest was written.
    pub completed_ms: u64,
    /// The objects of the backup; exactly one, [`BASE_FILE`], in this layout version.
    pub files: Vec<BackupFile>,
    /// What the files hold.
    pub dataset: DatasetSummary,
}

/// One object of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupFile {
    /// Name below the backup's path.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the bytes, lower-case hex.
    pub sha256: String,
}

/// What a dataset holds, independent of the order of its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetSummary {
    /// Keys in all databases, logically expired ones included.
    pub keys: u64,
    /// Keys of them with a time to live.
    pub expiring: u64,
    /// XOR over all keys of SHA-256(database, key, type, value, expiry), lower-case hex; 64 zeros when empty.
    pub digest: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backup_names_sort_by_time_then_by_age_of_the_data() {
        let mut paths = [
            backup_path("s", "20260102T000000Z", 1, 5),
            backup_path("s", "20260101T000000Z", 2, 1_000),
            backup_path("s", "20260101T000000Z", 2, 9),
            backup_path("s", "20260101T000000Z", 1, 99_999),
        ];
        paths.sort();
        assert_eq!(paths[0], "s/backups/20260101T000000Z-000001-00000000000000099999");
        assert_eq!(paths[1], "s/backups/20260101T000000Z-000002-00000000000000000009");
        assert_eq!(paths[3], "s/backups/20260102T000000Z-000001-00000000000000000005");
    }

    #[test]
    fn keys_carry_the_prefix_only_when_there_is_one() {
        let mut location = Location {
            endpoint: None,
            region: "r".into(),
            bucket: "b".into(),
            prefix: String::new(),
            path_style: false,
            ca_bundle: None,
        };
        assert_eq!(location.key("s/store.json"), "s/store.json");
        location.prefix = "team/a".into();
        assert_eq!(location.key("s/store.json"), "team/a/s/store.json");
    }
}
