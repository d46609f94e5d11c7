//! Upload.
