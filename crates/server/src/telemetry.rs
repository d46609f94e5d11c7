//! Logging: `tracing` events as lines in Redis's form, so that people and tools that read Redis's log read ours.
//!
//! ```text
//! 4711:M 22 Nov 2026 16:10:00.123 * log rewritten bytes=1234 duration_ms=17
//! ```
//!
//! Source of the form: Redis 7.0, `serverLogRaw`; levels are `.` debug, `-` trace, `*` info, `#` warn and error.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
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

/// A log file that is found by its name: when the name stands for another file, or for none, that file is opened or made.
/// So it can be rotated without a signal, as in Redis, which opens the file for each message.
struct LogFile {
    path: PathBuf,
    file: File,
    /// Device and inode of `file`.
    id: (u64, u64),
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let metadata = file.metadata()?;
        Ok(Self { path: path.to_owned(), file, id: (metadata.dev(), metadata.ino()) })
    }

    fn follow_name(&mut self) {
        let named = fs::metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()));
        // Where the name cannot be opened, the old file still takes the messages.
        if named.ok() != Some(self.id)
            && let Ok(file) = Self::open(&self.path)
        {
            *self = file;
        }
    }
}

impl io::Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.follow_name();
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
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
            let file = LogFile::open(path)?;
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
    // For the report of the defect. The words are those that people look for in the log of Redis.
    tracing::error!("STACK TRACE\n{}", std::backtrace::Backtrace::force_capture());
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_log_file_that_was_renamed_or_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, rotated) = (dir.path().join("server.log"), dir.path().join("server.log.1"));
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let mut file = LogFile::open(&path).unwrap();
        writeln!(file, "first").unwrap();
        fs::rename(&path, &rotated).unwrap();
        writeln!(file, "second").unwrap();
        writeln!(file, "third").unwrap();
        assert_eq!((read(&rotated).as_str(), read(&path).as_str()), ("first\n", "second\nthird\n"));
        fs::remove_file(&path).unwrap();
        writeln!(file, "fourth").unwrap();
        assert_eq!(read(&path), "fourth\n");
        // In the way of a new file: what was open takes the message.
        fs::rename(&path, &rotated).unwrap();
        fs::create_dir(&path).unwrap();
        writeln!(file, "fifth").unwrap();
        assert_eq!(read(&rotated), "fourth\nfifth\n");
    }
}
