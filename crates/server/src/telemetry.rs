//! Logging: `tracing` events as lines in Redis's form, so that people and tools that read Redis's log read ours.
//!
//! ```text
//! 4711:M 22 Nov 2026 16:10:00.123 * log rewritten bytes=1234 duration_ms=17
//! ```
//!
//! Source of the form: Redis 7.0, `serverLogRaw`; levels are `.` debug, `-` trace, `*` info, `#` warn and error.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

use crate::config::LogLevel;

static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Writes events in Redis's line form.
struct RedisLines;

impl<S, N> FormatEvent<S, N> for RedisLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mark = match *event.metadata().level() {
            Level::TRACE => '-',
            Level::DEBUG => '.',
            Level::INFO => '*',
            Level::WARN | Level::ERROR => '#',
        };
        let now = jiff::Zoned::now();
        write!(writer, "{}:M {} {mark} ", std::process::id(), now.strftime("%d %b %Y %H:%M:%S.%3f"))?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Starts logging to `logfile`, or to standard output when there is none, at Redis's `loglevel`.
///
/// # Errors
/// The file cannot be opened for appending.
pub fn start(level: LogLevel, logfile: Option<&Path>) -> io::Result<()> {
    let (targets, handle) = reload::Layer::new(targets(level));
    // A second start is a test's, and keeps the first one's handle.
    let _ = LEVEL.set(handle);
    let lines = tracing_subscriber::fmt::layer().event_format(RedisLines).with_ansi(false);
    let registry = Registry::default();
    let started = match logfile {
        None => registry.with(lines.with_filter(targets)).try_init(),
        Some(path) => {
            let file = OpenOptions::new().append(true).create(true).open(path)?;
            registry.with(lines.with_writer(Mutex::new(file)).with_filter(targets)).try_init()
        }
    };
    // Only a test can have started a subscriber before.
    started.map_err(io::Error::other)?;
    std::panic::set_hook(Box::new(report_panic));
    Ok(())
}

/// How the names of threads begin whose work the process cannot go on without, and that nobody waits for who would notice
/// their end. The executor catches its own panics.
const VITAL_THREADS: &[&str] = &["loader", "log-sync", "snapshot", "signals", "io_thd_"];

/// Whether the process ends when this thread panics.
pub(crate) fn is_vital(thread: &str) -> bool {
    VITAL_THREADS.iter().any(|beginning| thread.starts_with(beginning))
}

/// Puts a panic into the log like every other message.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("unknown");
    tracing::error!(thread, place, "panic: {message}");
    if is_vital(thread) {
        std::process::exit(crate::exit_code::PANICKED.into());
    }
}

/// Changes the level (`CONFIG SET loglevel`).
pub(crate) fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // Fails only when the subscriber is gone, with the process.
        let _ = handle.reload(targets(level));
    }
}

fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
    };
    // The libraries below us speak at debug level of every packet.
    Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target("holdfast_server", level)
        .with_target("holdfast_bucket", level)
}
