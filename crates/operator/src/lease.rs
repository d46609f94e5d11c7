//! Leader election by one Lease: at most one operator reconciles, another takes over when it is gone.
//!
//! A lease is no fence: a paused leader may wake up and go on for a moment. So nothing relies on it for safety; every
//! write that could harm carries UID or version as a precondition, and epochs are checked by the servers.
//!
//! Whether the holder lives is judged by how long its record has not changed for *us*, never by comparing clocks.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::{Client, Error as KubeError};
use tokio::time::{Instant, sleep, timeout};

use crate::admin::Readiness;
use crate::context::code;
use crate::reconcile::apply::post_params;

/// After this time without a renewal another operator may take over. The three figures are Kubernetes's own.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// The holder stops when it could not renew for this long.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between attempts to renew or to take over.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

const _: () = assert!(
    LEASE_DURATION.as_secs() > RENEW_DEADLINE.as_secs() && RENEW_DEADLINE.as_secs() > RETRY_PERIOD.as_secs(),
    "a holder must stop before another one may start"
);

/// Why leadership ended.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another operator holds the Lease.
    #[error("lease {lease:?} was taken over by {holder:?}")]
    TakenOver {
        /// Name of the Lease.
        lease: String,
        /// Its identity.
        holder: String,
    },
    /// Nobody holds the Lease any more.
    #[error("lease {lease:?} was given up or emptied by somebody else")]
    Released {
        /// Name of the Lease.
        lease: String,
    },
    /// The API did not answer in time.
    #[error("failed to renew lease {lease:?} for {} s", RENEW_DEADLINE.as_secs())]
    NotRenewed {
        /// Name of the Lease.
        lease: String,
        /// The last answer.
        #[source]
        source: Option<Box<KubeError>>,
    },
}

/// One candidate.
#[derive(Clone)]
pub struct Candidate {
    api: Api<Lease>,
    /// Name of the Lease: operators that share it do the same work.
    name: String,
    identity: String,
    readiness: Readiness,
}

impl Candidate {
    /// A candidate called `identity`, unique among all operators, for the Lease `name` in `namespace`. `readiness` hears of
    /// every answer of the API.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: String, readiness: Readiness) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), identity, readiness }
    }

    /// Waits until this candidate holds the Lease.
    pub async fn acquire(&self) {
        let mut seen: Option<(Option<String>, Instant)> = None;
        loop {
            self.readiness.api_asked();
            match self.try_acquire(&mut seen).await {
                Ok(true) => {
                    self.readiness.api_answered();
                    return;
                }
                Ok(false) => self.readiness.api_answered(),
                Err(error) if code(&error) == Some(409) => self.readiness.api_answered(),
                Err(error) => tracing::warn!(%error, "lease not acquired"),
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    /// Renews the Lease until that fails for good, and says why.
    pub async fn hold(&self) -> LeaseError {
        let mut renewed = Instant::now();
        let mut last_error = None;
        loop {
            sleep(RETRY_PERIOD).await;
            self.readiness.api_asked();
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match timeout(left, self.renew()).await {
                Ok(Ok(Ok(()))) => {
                    self.readiness.api_answered();
                    renewed = Instant::now();
                    last_error = None;
                }
                Ok(Ok(Err(lost))) => return lost,
                Ok(Err(error)) => last_error = Some(Box::new(error)),
                Err(_) => {}
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                return LeaseError::NotRenewed { lease: self.name.clone(), source: last_error };
            }
        }
    }

    /// Gives the Lease back, so that the next candidate need not wait.
    pub async fn release(&self) {
        let release = async {
            let lease = self.api.get(&self.name).await?;
            if holder(&lease).as_deref() != Some(&self.identity) {
                return Ok(());
            }
            let mut released = lease;
            let spec = released.spec.get_or_insert_default();
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            self.api.replace(&self.name, &post_params(), &released).await.map(|_| ())
        };
        match timeout(RETRY_PERIOD, release).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "lease not released"),
            Err(_) => tracing::warn!("lease not released in time"),
        }
    }

    async fn try_acquire(&self, seen: &mut Option<(Option<String>, Instant)>) -> Result<bool, KubeError> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let new = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(0)),
            };
            self.api.create(&post_params(), &new).await?;
            return Ok(true);
        };
        let version = lease.metadata.resource_version.clone();
        let is_free = holder(&lease).is_none_or(|holder| holder == self.identity);
        let since = match seen {
            Some((seen_version, since)) if *seen_version == version => *since,
            _ => {
                let now = Instant::now();
                *seen = Some((version, now));
                now
            }
        };
        if !is_free && since.elapsed() < LEASE_DURATION {
            return Ok(false);
        }
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
        lease.spec = Some(self.spec(transitions.saturating_add(1)));
        // The version in the object makes this fail if another candidate was faster.
        self.api.replace(&self.name, &post_params(), &lease).await?;
        Ok(true)
    }

    fn lost_to(&self, holder: Option<String>) -> LeaseError {
        let lease = self.name.clone();
        match holder {
            Some(holder) => LeaseError::TakenOver { lease, holder },
            None => LeaseError::Released { lease },
        }
    }

    /// Renews the Lease once, unless it is lost.
    async fn renew(&self) -> Result<Result<(), LeaseError>, KubeError> {
        let mut lease = self.api.get(&self.name).await?;
        match holder(&lease) {
            Some(holder) if holder == self.identity => {}
            other => return Ok(Err(self.lost_to(other))),
        }
        lease.spec.get_or_insert_default().renew_time = Some(MicroTime(Timestamp::now()));
        self.api.replace(&self.name, &post_params(), &lease).await?;
        Ok(Ok(()))
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            lease_transitions: Some(transitions),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }
}

fn holder(lease: &Lease) -> Option<String> {
    lease.spec.as_ref()?.holder_identity.clone().filter(|holder| !holder.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lost_lease_names_its_holder_if_there_is_one() {
        let nowhere = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("nobody is asked"))
        });
        let client = Client::new(nowhere, "shop");
        let candidate = Candidate::new(client, "shop", "keeper", "one".into(), Readiness::default());
        let check = |holder: Option<&str>, expected: &str| {
            assert_eq!(candidate.lost_to(holder.map(str::to_owned)).to_string(), expected);
        };
        check(Some("two"), "lease \"keeper\" was taken over by \"two\"");
        check(None, "lease \"keeper\" was given up or emptied by somebody else");
    }
}
