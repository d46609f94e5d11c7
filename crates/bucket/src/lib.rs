//! Opens a backup location: S3 client, owner marker, probe.
