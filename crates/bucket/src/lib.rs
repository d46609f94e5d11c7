//! Opens a backup location: S3 client, owner marker, backups and their manifests, probe. Used by server and operator.
//!
//! ```text
//!   Location + Credentials ──▶ Bucket::open ──▶ probe         conditional put of one object that stays, read back; list; absent is absent
//!                                           ├─▶ claim_owner   store.json, first come, by conditional put
//!                                           ├─▶ put_file      streamed, SHA-256 on the way, multipart above one part
//!                                           ├─▶ put_manifest  last, by conditional put: from now on the backup exists
//!                                           ├─▶ newest_backup  only what has a manifest
//!                                           └─▶ get_stream    in order, never more than asked for in memory
//! ```
//!
//! Layout and messages: [`holdfast_contract::bucket`]. What must hold:
//!
//! - No request is ever sent without credentials, and none with credentials from the environment.
//! - An error never contains a credential or an answer's body (bodies may quote the key id); it names the object, the
//!   bucket, its endpoint, and what to do.
//! - Every request is bounded: three attempts, [`Limits`] for the time. Nothing here retries for ever.
//! - So is the memory for every answer: whoever may name a location chooses the server that answers.
//! - TLS roots are compiled in: an image without a certificate directory works. A location can add its own.

mod bucket;
mod credentials;
mod error;
mod http;
mod newest;
mod orphans;
#[cfg(feature = "testing")]
pub mod testing;
mod transfer;

pub use bucket::{Bucket, Limits, TakeOver};
pub use credentials::Credentials;
pub use error::{BucketError, Place};
pub use transfer::{Cancel, Canceller, Download, Uploaded, cancel_pair};
