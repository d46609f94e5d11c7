//! Configuration: files and arguments make one validated [`Config`].
//!
//! ```text
//! FILE ──▶ standard input (`-`) ──▶ --directive arguments        each a source; a later one overrides an earlier one
//!   └── words: split ── source: lines ── include: more lines ── apply: one source at a time ── table: name → field ──▶ Config
//!                                                                                      └── foreign: of Redis, without effect here
//! check, load: all of it      CONFIG GET / SET: live      CONFIG REWRITE: rewrite (pure), file (the file system)
//!
//! imports point one way: check, live, rewrite, file ─▶ apply ─▶ table, foreign ─▶ source, settings ─▶ problem, words, names, types
//! ```
//!
//! Rules:
//! - Within a source a directive may be repeated, and the last one counts; `save` accumulates.
//! - A later source overrides what it names. Its first `save` replaces all rules of the earlier sources; `requirepass` or
//!   `requirepass-file` replaces both.
//! - Two questions decide about the log: is there one, and when is it synced. `appendonly` answers the first, `appendfsync` the
//!   second, `persist-strategy` both (`never`: there is none; when one would be synced stays open). A later source changes
//!   only the answers that it gives: `--appendfsync always` keeps the log of the file on, `--appendonly no` switches it
//!   off whatever the file's strategy, `--persist-strategy everysec` overrides the file's pair. Two different answers in one
//!   source are an error that names both lines.
//! - `persistent no` is above all that: a pure cache.
//! - `include` puts the lines of another file (or of several, by a pattern) in its place; they belong to the same source.
//! - Unknown names, values out of range and wrong numbers of arguments are errors. Reading goes on behind an error, and one
//!   start names them all.
//! - Text is bytes: comments, passwords and paths need not be UTF-8. Old names stand for the new ones, as in Redis.
//! - A directive of Redis that has no effect here is accepted with a [`Notice`], or refused where ignoring it would be unsafe.
//!
//! Nothing here reads a clock or the environment. Files are read by [`load`] and [`rewrite_file`] alone; [`check`] is pure.

mod apply;
mod arguments;
mod check;
mod clients;
mod file;
mod foreign;
mod include;
mod live;
mod names;
mod notice;
mod problem;
mod rewrite;
mod secret;
mod settings;
mod source;
mod table;
mod types;
mod units;
mod words;

pub use arguments::{Arguments, HELP, Invocation, parse_arguments};
pub(crate) use check::own_notices;
pub use check::{check, load};
pub use clients::{ClientMemory, OutputLimit, OutputLimits};
pub(crate) use file::{RewriteError, rewrite_file};
pub use live::{changed_from_default, config_get, config_set};
pub use notice::{Notice, notice_lines};
pub use problem::{ConfigError, Place, Problem, QuotedLine, SourceName};
pub use rewrite::{RewriteExtent, RewriteTextError, rewrite};
pub use secret::{ReadSecretError, Secret};
pub use settings::Config;
pub use types::{BindAddress, ShutdownOptions, Strategy};
pub(crate) use types::{DebugCommand, LogLevel, OnRefusal};
pub use words::{quote, split};

#[cfg(test)]
mod tests;
