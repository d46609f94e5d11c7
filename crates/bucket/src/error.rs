//! What can go wrong with a location, in classes that people and conditions can tell apart.

use std::fmt;
use std::io;

use holdfast_contract::bucket::Location;
use holdfast_contract::control::backup_reason;

/// Bucket and endpoint, for error texts. Never holds a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    bucket: String,
    endpoint: String,
}

impl Place {
    pub(crate) fn new(location: &Location) -> Self {
        let endpoint = match &location.endpoint {
            Some(endpoint) => format!("{endpoint:?}"),
            None => format!("AWS region {:?}", location.region),
        };
        Self { bucket: location.bucket.clone(), endpoint }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "bucket {:?} at {}", self.bucket, self.endpoint)
    }
}

/// Why an operation on a location failed.
///
/// [`BucketError::is_transient`] says whether trying the same again can help without anybody changing anything.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// A credentials file or key is missing, empty or unreadable.
    #[error(
        "credentials {item} are not usable ({problem}); put accessKeyID and secretAccessKey into the Secret of the backup location"
    )]
    CredentialsMissing {
        /// The file or key.
        item: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A field of the location makes no sense.
    #[error("backup location is not usable: {field} {value:?} {problem}")]
    InvalidLocation {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The object store refused the credentials, or what they may do.
    #[error(
        "access denied to {action} {object:?} in {place} ({code}); check the keys in the Secret, their permissions on the bucket, the region, and the clock of this machine"
    )]
    AccessDenied {
        /// What was attempted.
        action: &'static str,
        /// Object key.
        object: String,
        /// Bucket and endpoint.
        place: Place,
        /// Status and S3 error code.
        code: String,
    },
    /// No such bucket.
    #[error("no such {place}, needed to {action} {object:?}; create the bucket or correct its name")]
    BucketNotFound {
        /// What was attempted.
        action: &'static str,
        /// Object key.
        object: String,
        /// Bucket and endpoint.
        place: Place,
    },
    /// No such object.
    #[error("no object {object:?} in {place}; it was deleted, or the path or prefix is wrong")]
    ObjectNotFound {
        /// Object key.
        object: String,
        /// Bucket and endpoint.
        place: Place,
    },
    /// The object store did not answer, or answered with an error.
    #[error(
        "failed to {action} {object:?} in {place}: {problem}; check that the object store runs and can be reached from this pod"
    )]
    Unavailable {
        /// What was attempted.
        action: &'static str,
        /// Object key.
        object: String,
        /// Bucket and endpoint.
        place: Place,
        /// Status and S3 error code, or the transport's error.
        problem: String,
    },
    /// Another Store owns this part of the bucket.
    #[error(
        "{object:?} in {place} belongs to Store {owner_name:?} (UID {owner_uid}), not to this one; use another prefix or bucket, adopt the data by spec.bootstrap.adopt, or delete that object if its Store is gone for good"
    )]
    ForeignOwner {
        /// Object key of the marker.
        object: String,
        /// Bucket and endpoint.
        place: Place,
        /// `namespace/name` of the owner.
        owner_name: String,
        /// UID of the owner.
        owner_uid: String,
    },
    /// An object that must be new is there, with other contents.
    #[error("{object:?} in {place} exists with other contents; a second writer uses this prefix")]
    Exists {
        /// Object key.
        object: String,
        /// Bucket and endpoint.
        place: Place,
    },
    /// An object is not what it should be.
    #[error("{object:?} in {place} is damaged: {problem}; choose another backup")]
    Damaged {
        /// Object key.
        object: String,
        /// Bucket and endpoint.
        place: Place,
        /// What was expected and what was found.
        problem: String,
    },
    /// An object whose name nothing of ours has.
    #[error("{object:?} in {place} is not one of Holdfast's: {problem}; remove it from the bucket")]
    Stray {
        /// Object key.
        object: String,
        /// Bucket and endpoint.
        place: Place,
        /// Why it cannot stay.
        problem: String,
    },
    /// An object was written by a newer release.
    #[error(
        "{object:?} in {place} has layout version {found}, this release reads up to {supported}; use the release that wrote it, or a newer one"
    )]
    Newer {
        /// Object key.
        object: String,
        /// Bucket and endpoint.
        place: Place,
        /// Version found.
        found: u32,
        /// Highest version that this release reads.
        supported: u32,
    },
    /// The object store ignores `If-None-Match`, so that two writers could not be told apart.
    #[error(
        "{place} overwrote {object:?} in spite of If-None-Match; backups need an object store with conditional writes"
    )]
    NoConditionalPut {
        /// Object key of the probe.
        object: String,
        /// Bucket and endpoint.
        place: Place,
    },
    /// The local data to send could not be read.
    #[error("failed to read the data for {object:?}")]
    ReadSource {
        /// Object key.
        object: String,
        /// Cause.
        source: io::Error,
    },
    /// The caller cancelled the operation.
    #[error("cancelled while sending {object:?}; nothing is left in the bucket under this name")]
    Cancelled {
        /// Object key.
        object: String,
    },
}

impl BucketError {
    /// Reason for [`holdfast_contract::control::BackupProgress::reason`] and conditions.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::CredentialsMissing { .. } => backup_reason::CREDENTIALS_MISSING,
            Self::AccessDenied { .. } => backup_reason::ACCESS_DENIED,
            Self::BucketNotFound { .. } => backup_reason::BUCKET_NOT_FOUND,
            Self::InvalidLocation { .. } | Self::Unavailable { .. } | Self::NoConditionalPut { .. } => {
                backup_reason::LOCATION_UNAVAILABLE
            }
            Self::ForeignOwner { .. } | Self::Exists { .. } => backup_reason::FOREIGN_OWNER,
            Self::ObjectNotFound { .. } | Self::Damaged { .. } | Self::Stray { .. } | Self::Newer { .. } => {
                backup_reason::VERIFICATION_FAILED
            }
            Self::ReadSource { .. } => backup_reason::SNAPSHOT_FAILED,
            Self::Cancelled { .. } => backup_reason::CANCELLED,
        }
    }

    /// True when trying the same again may succeed although nobody changes anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
