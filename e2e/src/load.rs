//! Writes under way while something breaks, and the proof of what must be there afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use redis::pipe;
use tokio::task::JoinHandle;

use crate::client::Redis;
use crate::wait::until;

/// Keys that are looked up before their answers are read.
const BATCH: u64 = 500;

/// One writer: `load:<n>` = `<n>`, one after the other, the next only after the answer to the last.
pub struct Load {
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Redis>,
}

impl Load {
    /// Starts to write from `load:<first>` on, until stopped or refused.
    #[must_use]
    pub fn start(mut redis: Redis, first: u64) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(first));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, stopped) = (Arc::clone(&acknowledged), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let next = count.load(Ordering::Relaxed);
                if redis.call::<()>(&format!("SET {} {next:010}", key(next))).await.is_err() {
                    break;
                }
                count.store(next + 1, Ordering::Relaxed);
            }
            redis
        });
        Self { acknowledged, stop, task }
    }

    /// Keys acknowledged so far: `load:0` to `load:<count - 1>`.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Fails when a write was refused, or its answer did not come.
    /// # Errors
    /// How far the load came.
    pub fn unbroken(&self) -> Result<()> {
        ensure!(!self.task.is_finished(), "write {} was refused", self.acknowledged());
        Ok(())
    }

    /// Waits until so many more are acknowledged.
    /// # Errors
    /// They are not within a minute.
    pub async fn advance(&self, by: u64) -> Result<()> {
        let goal = self.acknowledged() + by;
        until("the load to go on", Duration::from_secs(60), async || {
            ensure!(self.acknowledged() >= goal, "{} of {goal} writes acknowledged", self.acknowledged());
            Ok(())
        })
        .await
    }

    /// Stops and returns how many keys were acknowledged.
    /// # Errors
    /// The writer panicked.
    pub async fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.context("end the load")?;
        Ok(self.acknowledged.load(Ordering::Relaxed))
    }
}

/// Name of a key of the load; all have the same length, and so has every write in the log.
fn key(index: u64) -> String {
    format!("load:{index:010}")
}

/// How many keys of the load are there: `load:0` to `load:<count - 1>`, each with its value and no gap between them.
/// # Errors
/// A gap or a wrong value: a write is lost although a later one is there.
pub async fn count(redis: &mut Redis) -> Result<u64> {
    let mut count = 0;
    let mut ended = false;
    loop {
        let mut batch = pipe();
        for index in count..count + BATCH {
            batch.cmd("GET").arg(key(index));
        }
        let start = count;
        let values: Vec<Option<String>> =
            batch.query_async(&mut redis.connection).await.context("read the load")?;
        for (index, value) in (start..).zip(values) {
            match value {
                Some(value) if value == format!("{index:010}") => {
                    ensure!(!ended, "load:{index} is there, load:{count} before it is not");
                    count = index + 1;
                }
                Some(value) => bail!("load:{index} holds {value:?}"),
                None => ended = true,
            }
        }
        if ended {
            return Ok(count);
        }
    }
}
