//! RESP2, RESP3 and inline: an incremental codec that knows no command.
//!
//! Pure: [`Decoder`] turns bytes into [`Request`]s whose arguments are ranges of the bytes given, [`ReplyWriter`] writes
//! replies into a byte vector. "Need more" is a normal answer; nothing is ever allocated because a length was merely
//! declared.

mod decode;
pub mod encode;
mod error;
mod inline;
mod integer;
mod request;

pub use decode::{DecodeLimits, Decoder, Step};
pub use encode::{ReplyWriter, RespVersion};
pub use error::ProtocolError;
pub use integer::parse_i64;
pub use request::{OwnedRequest, Request};
