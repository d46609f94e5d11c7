//! How long one more client waits while something else happens in the server.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::Probe;
use crate::histogram::Histogram;
use crate::replies::Replies;
use crate::requests::Random;

/// What was measured. Latencies count from the time when a request was due: those that had to wait for a late reply
/// before they could be sent count as late, too.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    total: u64,
    seconds: f64,
    pub(crate) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    /// The worst delay of this program itself before it sent, without a reply that it waited for: noise of the machine.
    late_us: f64,
}

pub(crate) fn run(options: &Probe) -> anyhow::Result<Report> {
    let mut stream = crate::target::connect(&options.target)?;
    stream.set_read_timeout(Some(Duration::from_secs(120))).context("failed to prepare the connection")?;
    let over = crate::end_of_input();
    let mut random = Random::new(options.target.seed);
    let (mut replies, mut histogram, mut buffer) = (Replies::default(), Histogram::new(), vec![0; 1 << 16]);
    let (mut total, mut errors, mut first_error, mut late) = (0u32, 0, None, Duration::ZERO);
    let (start, interval) = (Instant::now(), Duration::from_secs_f64(1.0 / options.rate));
    let mut free_since = start;
    while start.elapsed().as_secs_f64() < options.seconds && !over.load(Ordering::Relaxed) {
        let due = start + interval * total;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        late = late.max(Instant::now().saturating_duration_since(due.max(free_since)));
        let key = random.below(options.target.keys);
        stream
            .write_all(format!("*2\r\n$3\r\nGET\r\n$16\r\nkey:{key:012}\r\n").as_bytes())
            .context("failed to send")?;
        let mut pending = 1;
        while pending > 0 {
            let len = match stream.read(&mut buffer) {
                Ok(0) => bail!("the server closed the connection after {total} replies"),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("failed to receive"),
            };
            let counted = replies.count(&buffer[..len]);
            if counted.garbled || counted.replies > pending {
                bail!(
                    "the server sent what is no reply: {:?}",
                    String::from_utf8_lossy(&buffer[..len.min(100)])
                );
            }
            pending -= counted.replies;
            errors += counted.errors;
            first_error = first_error.or(counted.first_error);
        }
        free_since = Instant::now();
        histogram.add(free_since - due, 1);
        total += 1;
    }
    Ok(Report {
        total: total.into(),
        seconds: start.elapsed().as_secs_f64(),
        errors,
        first_error,
        p50_us: histogram.percentile_us(0.5),
        p99_us: histogram.percentile_us(0.99),
        p999_us: histogram.percentile_us(0.999),
        max_us: histogram.max_us(),
        late_us: late.as_secs_f64() * 1e6,
    })
}
