//! How lists, sets, hashes and sorted sets lie in memory. Bytes and nodes alone: no keys of the store, no clock, no I/O, no
//! randomness of its own.
//!
//! ```text
//!  small   listpack, intset            one run of bytes, the same as in a snapshot
//!          pairs                       one run of bytes for hashes, shorter than the listpack that a snapshot has
//!  large   tree of leaves              each leaf a run of bytes; leaves are shared by count, so that a clone costs nothing
//!          │                            and whoever holds one keeps what it had
//!          ├ list         leaves: listpacks, by position
//!          ├ dict         leaves: fields and values, by hash
//!          └ sorted set   leaves: scores and members, by score; and where a member is, by hash
//!  old     ziplist, zipmap             read from files of earlier versions, never written
//! ```
//!
//! What comes from a file or a client is checked whole before it is used (`check`); after that nothing is read out of bounds,
//! because there is no `unsafe` here.

#![forbid(unsafe_code)]

mod buffer;
pub mod dict;
pub mod double;
mod element;
pub mod hash;
pub mod intset;
pub mod list;
pub mod listpack;
pub mod memory;
pub mod pairs;
mod place;
mod search;
pub mod sorted_set;
mod spread;
pub mod tree;
pub mod types;
pub mod ziplist;
pub mod zipmap;
