//! Backup upload and restore.
