//! One bounded request: in time, in bytes of the answer, and to one host.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Response, Url};
use serde_json::Value;

use super::error::{ModelError, ModelErrorKind};

/// The most bytes of an answer that are read.
pub(super) const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// Sends requests to one URL. No field is part of the `Debug` form of a summarizer.
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(
        http: reqwest::Client,
        url: Url,
        mut headers: HeaderMap,
        timeout: Duration,
    ) -> Self {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { http, url, headers, timeout }
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The host and port, without the rest of the URL.
    pub(super) fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Sends a body, and returns the one of the answer.
    pub(super) async fn post(&self, body: &Value) -> Result<String, ModelError> {
        let exchange = tokio::time::timeout(self.timeout, self.exchange(body.to_string()));
        exchange.await.unwrap_or_else(|_| Err(ModelErrorKind::Timeout.into()))
    }

    async fn exchange(&self, body: String) -> Result<String, ModelError> {
        let request = self.http.post(self.url.clone()).headers(self.headers.clone()).body(body);
        let mut response = request.send().await.map_err(lost)?;
        let status = response.status().as_u16();
        let Some(kind) = ModelErrorKind::of_status(status) else {
            return bounded_body(&mut response).await;
        };
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        // The status decides, whatever follows.
        let reason = bounded_body(&mut response).await.ok().and_then(|body| reason(&body));
        Err(ModelError::from(kind)
            .with_status(status, reason)
            .with_retry_after(retry_after.map(Duration::from_secs)))
    }
}

async fn bounded_body(response: &mut Response) -> Result<String, ModelError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(ModelErrorKind::TooLarge.into());
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|_| ModelErrorKind::Malformed.into())
}

fn lost(error: reqwest::Error) -> ModelError {
    ModelError::from(ModelErrorKind::Connection).with_source(error.without_url())
}

/// The reasons in answers with an error status that are repeated. Any other text could quote the request.
const REASONS: [&str; 17] = [
    "api_error",
    "authentication_error",
    "billing_error",
    "context_length_exceeded",
    "insufficient_quota",
    "invalid_api_key",
    "invalid_request_error",
    "model_not_found",
    "not_found_error",
    "overloaded_error",
    "permission_error",
    "rate_limit_error",
    "rate_limit_exceeded",
    "request_too_large",
    "server_error",
    "timeout_error",
    "unsupported_parameter",
];

/// The provider's name of an error.
fn reason(body: &str) -> Option<&'static str> {
    let body: Value = serde_json::from_str(body).ok()?;
    let names = ["/error/code", "/error/type"].map(|path| body.pointer(path)?.as_str());
    names.into_iter().flatten().find_map(|name| REASONS.into_iter().find(|known| *known == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_reasons_are_repeated() {
        let both = r#"{"error":{"code":"model_not_found","type":"invalid_request_error"}}"#;
        assert_eq!(reason(both), Some("model_not_found"));
        let overloaded = r#"{"type":"error","error":{"type":"overloaded_error"}}"#;
        assert_eq!(reason(overloaded), Some("overloaded_error"));
        assert_eq!(reason(r#"{"error":{"code":429,"type":"the_key_sk123_is_wrong"}}"#), None);
        assert_eq!(reason(r#"{"error":"model_not_found"}"#), None);
        assert_eq!(reason("<html>"), None);
    }
}
