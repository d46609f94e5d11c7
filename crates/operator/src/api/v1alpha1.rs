//! `holdfast.dev/v1alpha1`: Store, StoreBackup, BackupLocation.

mod backup_location;
mod store;
mod store_backup;
mod store_status;

pub use backup_location::{
    AddressingStyle, BackupLocation, BackupLocationSpec, BackupLocationStatus, S3Location,
};
pub use store::{
    AccessMode, Adopt, BackupSettings, Bootstrap, ClaimResources, ClaimSpec, ClaimTemplate, DeletionPolicy,
    Empty, EvictionPolicy, LogRotation, LogSettings, MaintenanceWindow, MemorySettings, ObjectRef,
    OnVolumeLoss, Persistence, PodMetadata, PodTemplate, RecoverySettings, ResourceList, Resources,
    RestoreSource, ShutdownSettings, ShutdownSnapshot, SnapshotRule, SnapshotSettings, StorageRequests,
    StorageSettings, Store, StoreSpec, Strategy, UpdateStrategy, UpdateType,
};
pub use store_backup::{
    BackupMethod, BackupPlace, BarrierStatus, StoreBackup, StoreBackupSpec, StoreBackupStatus,
    VolumeSnapshotStatus,
};
pub use store_status::{
    BackupSummary, ClaimStatus, FailedUpdate, JobStatus, PersistenceStatus, PodRestartStatus, RefusedUpdate,
    RestartCause, RestoreStatus, StartedUpdate, StoreStatus,
};

#[cfg(test)]
pub(crate) use store::CONFIG_RULE;

/// API group of all kinds.
pub const GROUP: &str = "holdfast.dev";
/// Version of all kinds.
pub const VERSION: &str = "v1alpha1";
