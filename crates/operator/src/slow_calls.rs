//! How many workers may wait for somebody who does not answer.
//!
//! A reconcile keeps a worker of its controller while it waits for a server or a bucket, and all workers together are few: so a
//! handful of servers that hang would keep every other Store waiting. A call that is not answered soon needs a slot to be waited
//! for any longer, and there are slots for half of the workers. Without one it counts as not answered, which every caller can
//! bear: it asks again later.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Counts the calls that are waited for; a clone counts together with it.
#[derive(Debug, Clone)]
pub struct SlowCalls {
    slots: Arc<Semaphore>,
}

impl SlowCalls {
    /// For controllers with so many workers each: half of those of one may wait, wherever they belong to.
    #[must_use]
    pub fn for_workers(workers: u16) -> Self {
        Self { slots: Arc::new(Semaphore::new(usize::from(workers / 2).max(1))) }
    }

    /// What comes of `call`; absent when it takes longer than `soon` and as many others as may be waited for do so, too. It is
    /// dropped then.
    pub(crate) async fn run<T>(&self, soon: Duration, call: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(call);
        if let Ok(answer) = tokio::time::timeout(soon, &mut call).await {
            return Some(answer);
        }
        let _slot = self.slots.try_acquire().ok()?;
        Some(call.await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::pending;

    #[tokio::test]
    async fn those_who_do_not_answer_keep_half_of_the_workers_at_most() {
        let slow = SlowCalls::for_workers(8);
        let soon = Duration::from_millis(20);
        let hang = || {
            let slow = slow.clone();
            tokio::spawn(async move { slow.run(soon, pending::<()>()).await })
        };
        let mut hanging: Vec<_> = (0..8).map(|_| hang()).collect();
        // Those without a slot end by themselves.
        for _ in 0..4 {
            let (given_up, _, others) = futures::future::select_all(hanging).await;
            assert_eq!(given_up.expect("no panic"), None);
            hanging = others;
        }
        assert_eq!(slow.slots.available_permits(), 0, "the others are waited for");
        assert_eq!(slow.run(soon, async { 7 }).await, Some(7), "who answers soon needs no slot");
        assert_eq!(slow.run(soon, tokio::time::sleep(soon * 3)).await, None);
        for task in &hanging {
            task.abort();
        }
        for task in hanging {
            assert!(task.await.is_err_and(|error| error.is_cancelled()));
        }
        assert_eq!(slow.run(soon, tokio::time::sleep(soon * 3)).await, Some(()), "a slot is given back");
    }

    #[test]
    fn a_single_worker_may_wait() {
        assert_eq!(SlowCalls::for_workers(1).slots.available_permits(), 1);
    }
}
