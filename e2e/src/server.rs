//! What a server says of itself on its control port.

use anyhow::{Context as _, Result, ensure};
use holdfast_contract::control::ServerStatus;
use holdfast_contract::ports;
use holdfast_operator::names;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::scenario::Scenario;

impl Scenario {
    /// The status of the Store's server, by its control port.
    /// # Errors
    /// The pod is not there, or does not answer as it should.
    pub async fn server_status(&self, store: &str) -> Result<ServerStatus> {
        let token = self.secret_value(&names::auth_secret(store), names::TOKEN_KEY).await?;
        let request = format!(
            "GET /v1/status HTTP/1.1\r\nHost: pod\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        let answer = self.http(store, ports::CONTROL, &request).await?;
        serde_json::from_str(&answer).with_context(|| format!("read the status {answer:?}"))
    }

    /// Sends one HTTP request, given as its bytes, and returns the body of the answer, whose status must be 200.
    /// # Errors
    /// No answer, or another status.
    async fn http(&self, store: &str, port: u16, request: &str) -> Result<String> {
        let mut forward = self.api::<Pod>().portforward(&names::pod(store), &[port]).await?;
        let mut stream = forward.take_stream(port).context("the forwarded port has no stream")?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.context("read the answer")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no head")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "port {port} answers: {answer}");
        Ok(body.to_owned())
    }
}
