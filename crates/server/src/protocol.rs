//! RESP2, RESP3 and inline: an incremental codec that knows no command.
//!
//! Pure: [`decode`] turns bytes into [`Request`]s whose arguments are ranges of the bytes given, [`encode`] writes replies
//! into a byte vector. "Need more" is a normal answer; nothing is ever allocated because a length was merely declared.

pub mod decode;
pub mod encode;
mod inline;

pub use decode::{DecodeLimits, Decoder, OwnedRequest, ProtocolError, Request, Step};
pub use encode::{ReplyWriter, RespVersion};
