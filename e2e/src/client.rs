//! A Redis client to a pod, through the API server's port-forward.

use std::time::Duration;

use anyhow::{Context as _, Result};
use holdfast_contract::ports;
use holdfast_operator::names;
use k8s_openapi::api::core::v1::{Pod, Secret};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisConnectionInfo};
use tokio::task::JoinHandle;

use crate::scenario::Scenario;
use crate::wait::{SOON, until};

/// How long one answer may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection to one pod; it ends with the pod.
pub struct Redis {
    /// For commands with arguments of any bytes.
    pub connection: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Redis {
    /// Sends `command`, whose words are separated by single spaces.
    /// # Errors
    /// The connection ended, or the server answered with an error.
    pub async fn call<T: FromRedisValue>(&mut self, command: &str) -> Result<T> {
        let mut words = command.split(' ');
        let mut request = redis::cmd(words.next().unwrap_or_default());
        for word in words {
            request.arg(word);
        }
        request.query_async(&mut self.connection).await.with_context(|| format!("send {command:?}"))
    }
}

impl Scenario {
    /// Connects to the Store's pod with its password, trying again while the pod is not there.
    /// # Errors
    /// No connection within the deadline.
    pub async fn redis(&self, store: &str) -> Result<Redis> {
        let password = self.secret_value(&names::auth_secret(store), names::PASSWORD_KEY).await?;
        until(&format!("a connection to Store {store:?}"), SOON, async || {
            self.connect(store, &password).await
        })
        .await
    }

    /// Connects to the Store's pod once.
    /// # Errors
    /// The pod is not there, or refuses.
    pub async fn connect(&self, store: &str, password: &str) -> Result<Redis> {
        let mut forward = self.api::<Pod>().portforward(&names::pod(store), &[ports::REDIS]).await?;
        let stream = forward.take_stream(ports::REDIS).context("the forwarded port has no stream")?;
        let info = RedisConnectionInfo::default().set_password(password);
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await?;
        let driver = tokio::spawn(async move {
            driver.await;
            forward.abort();
        });
        Ok(Redis { connection, driver })
    }

    /// A value of a Secret, as text.
    /// # Errors
    /// No such Secret or key.
    pub async fn secret_value(&self, secret: &str, key: &str) -> Result<String> {
        let object =
            self.api::<Secret>().get(secret).await.with_context(|| format!("read Secret {secret:?}"))?;
        let bytes = object.data.unwrap_or_default().remove(key);
        let bytes = bytes.with_context(|| format!("Secret {secret:?} has no key {key:?}"))?;
        Ok(String::from_utf8(bytes.0)?.trim_end().to_owned())
    }
}
