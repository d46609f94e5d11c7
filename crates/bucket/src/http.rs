//! The HTTP client below the S3 client: TLS with compiled-in roots, and a note of why the last request failed.
//!
//! The S3 client folds most failures into one opaque error whose text may quote the answer's body. So the answer is
//! looked at here, where status and S3 error code are still values: [`observed`] runs an operation and hands back
//! the last failure that its requests met. The note is task-local, so that operations side by side do not mix.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use futures::TryStreamExt as _;
use http_body_util::{BodyExt as _, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use reqwest::Method;

use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::Limits;

/// Longest error answer that is read, in bytes; S3 error documents have a few hundred.
const ERROR_BODY_LEN_MAX: usize = 64 << 10;
/// Longest answer that is read at once, in bytes: a page of a list. 1,000 keys of S3's 1,024 bytes, each byte escaped as
/// three, take under 4 MiB.
const DOCUMENT_BODY_LEN_MAX: usize = 8 << 20;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server answered with this status and S3 error code (empty when the answer had none).
    Status { status: u16, code: String },
    /// No answer: the transport's error in words.
    Transport(String),
}

tokio::task_local! {
    static LAST_FAILURE: RefCell<Option<Failure>>;
}

/// Runs `operation` and returns its result with the last failure of its requests, if any.
pub(crate) async fn observed<T>(operation: impl Future<Output = T>) -> (T, Option<Failure>) {
    LAST_FAILURE
        .scope(RefCell::new(None), async {
            let result = operation.await;
            (result, LAST_FAILURE.with(RefCell::take))
        })
        .await
}

fn note(failure: Option<Failure>) {
    // Outside of `observed` nobody asks.
    let _ = LAST_FAILURE.try_with(|last| last.replace(failure));
}

/// The certificates of a PEM text.
/// # Errors
/// What is wrong with it.
pub(crate) fn authorities(pem: Option<&str>) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(pem) = pem else { return Ok(Vec::new()) };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is not a list of PEM certificates ({error})"))?;
    if certificates.is_empty() {
        return Err(
            "holds no certificate; paste the PEM text of the authority, BEGIN CERTIFICATE included".into()
        );
    }
    let mut roots = rustls::RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| format!("holds something that is no certificate ({error})"))?;
    }
    Ok(certificates)
}

/// Builds clients whose TLS needs nothing from the file system.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) limits: Limits,
    pub(crate) allow_http: bool,
    /// Trusted besides the public authorities.
    pub(crate) ca_bundle: Vec<CertificateDer<'static>>,
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let generic = |error: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
            store: "S3",
            source: error,
        };
        let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in &self.ca_bundle {
            roots.add(certificate.clone()).map_err(|error| generic(error.into()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| generic(error.into()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = |answer_time_max| {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .https_only(!self.allow_http)
                .connect_timeout(self.limits.connect)
                .read_timeout(answer_time_max)
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .map_err(|error| generic(error.into()))
        };
        Ok(HttpClient::new(Observing {
            reading: client(self.limits.silence)?,
            writing: client(self.limits.part)?,
        }))
    }
}

/// Two clients, because a client has one limit for the wait for an answer, and that wait begins before the body is sent: a
/// part on a slow line, or completing an upload of many parts, takes longer than any silence that a download should bear.
/// A peer that is gone while a body is sent is noticed by the kernel (nothing acknowledged for 30 s, the default of reqwest).
#[derive(Debug)]
struct Observing {
    /// For requests without a body.
    reading: reqwest::Client,
    /// For those that have one.
    writing: reqwest::Client,
}

#[async_trait::async_trait]
impl HttpService for Observing {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // The contents of an object are read as a stream by whoever knows how much to read. Every other answer is read whole
        // by the S3 client.
        let is_object = request.method() == Method::GET && request.uri().query().is_none();
        let client = match *request.method() {
            Method::PUT | Method::POST => &self.writing,
            _ => &self.reading,
        };
        let response = match HttpService::call(client, request).await {
            Ok(response) => response,
            Err(error) => {
                note(Some(Failure::Transport(transport_text(&error))));
                return Err(error);
            }
        };
        let (parts, body) = response.into_parts();
        if parts.status.is_success() {
            // An error after this attempt is not about the answers of earlier ones.
            note(None);
            let body = if is_object { body } else { limited(body) };
            return Ok(HttpResponse::from_parts(parts, body));
        }
        let body = beginning(body).await?;
        let code = error_code(&body).unwrap_or_default();
        note(Some(Failure::Status { status: parts.status.as_u16(), code }));
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(body)))
    }
}

/// The first [`ERROR_BODY_LEN_MAX`] bytes of `body`; what comes after them is not read.
async fn beginning(body: HttpResponseBody) -> Result<Vec<u8>, HttpError> {
    let mut chunks = body.bytes_stream();
    let mut read = Vec::new();
    while read.len() < ERROR_BODY_LEN_MAX
        && let Some(chunk) = chunks.try_next().await?
    {
        read.extend_from_slice(&chunk[..chunk.len().min(ERROR_BODY_LEN_MAX - read.len())]);
    }
    Ok(read)
}

/// `body`, or an error when it is longer than [`DOCUMENT_BODY_LEN_MAX`].
fn limited(body: HttpResponseBody) -> HttpResponseBody {
    let body =
        Limited::new(body, DOCUMENT_BODY_LEN_MAX).map_err(|error| match error.downcast::<HttpError>() {
            Ok(error) => *error,
            Err(_) => {
                let text = format!("the answer is longer than {DOCUMENT_BODY_LEN_MAX} bytes");
                note(Some(Failure::Transport(text.clone())));
                HttpError::new(HttpErrorKind::Decode, io::Error::other(text))
            }
        });
    HttpResponseBody::new(body)
}

/// The innermost cause says what happened ("connection refused"); the layers above it only say that it happened.
///
/// The same cause has the same text each time: it stands in conditions, which are written when they change.
fn transport_text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = out_of_date(inner).map_or_else(|| inner.to_string(), str::to_owned);
        cause = inner.source();
    }
    text
}

/// The text of a certificate that is out of date; rustls's own holds the seconds since.
fn out_of_date(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    if let Some(rustls::Error::InvalidCertificate(problem)) = error.downcast_ref() {
        return match problem {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Some("the certificate of the object store has expired")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Some(
                "the certificate of the object store is not valid yet; check the clocks of both machines",
            ),
            _ => None,
        };
    }
    // An `io::Error` is its contents, and does not name them as its source.
    out_of_date(error.downcast_ref::<io::Error>()?.get_ref()?)
}

/// The text of the first `<Code>` element, when it looks like an S3 error code.
fn error_code(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let well_formed =
        !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    well_formed.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_are_found_and_nothing_else_is_quoted() {
        let check = |body: &str, expected: Option<&str>| {
            assert_eq!(error_code(body.as_bytes()).as_deref(), expected, "{body}");
        };
        check("<?xml?><Error><Code>NoSuchBucket</Code><Message>m</Message></Error>", Some("NoSuchBucket"));
        check("<Error><Code></Code></Error>", None);
        check("<Error><Code>two words</Code></Error>", None);
        check("<html>gateway", None);
        check("", None);
    }

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        assert_eq!(authorities(None), Ok(Vec::new()));
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(authorities(Some(text)).is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn failures_of_operations_side_by_side_do_not_mix() {
        let failing = |status| async move {
            note(Some(Failure::Status { status, code: String::new() }));
            tokio::task::yield_now().await;
        };
        let (first, second) = tokio::join!(observed(failing(403)), observed(failing(503)));
        assert_eq!(first.1, Some(Failure::Status { status: 403, code: String::new() }));
        assert_eq!(second.1, Some(Failure::Status { status: 503, code: String::new() }));
    }
}
