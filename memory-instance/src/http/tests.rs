//! Both APIs against a local server.

mod logs;
mod server;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use memory_core::plan::Policy;
use memory_core::store::MessageId;
use memory_core::{EstimateCounter, Message, Sequence};
use memory_flush::{SummarizeError, Summarizer, SummaryRequest};
use serde_json::json;
use tokio::time::Instant;

use self::logs::Logs;
use self::server::{Answer, Server};
use super::api::OutputLimitField;
use super::client::MAX_RESPONSE_BYTES;
use super::{ApiKey, HttpSummarizer, HttpSummarizerBuilder, ModelError, ModelErrorKind};

const KEY: &str = "sk-very-secret-0815";

const SAID: &str = r#"{"choices":[{"message":{"role":"assistant","content":"Ann flies."},"finish_reason":"stop"}]}"#;

fn request() -> SummaryRequest {
    let policy = Policy::with_max_tokens(1_000);
    let id = MessageId::new(uuid::Uuid::nil());
    let message = Message::user("I fly to Oslo").with_name("ann");
    let now = jiff::Timestamp::UNIX_EPOCH;
    let new = policy.admit(message.into(), id, now, &EstimateCounter);
    SummaryRequest {
        previous: Some("Ann called.".into()),
        messages: vec![new.stored_at(Sequence::new(1))].into(),
        max_tokens: 100,
        counter: Arc::new(EstimateCounter),
    }
}

fn openai(server: &Server) -> HttpSummarizerBuilder {
    HttpSummarizer::openai("gpt-5-mini").with_base_url(server.url()).with_api_key(ApiKey::new(KEY))
}

async fn summarize(builder: HttpSummarizerBuilder) -> Result<String, SummarizeError> {
    builder.build().unwrap().summarize(request()).await
}

fn model_error(error: &SummarizeError) -> &ModelError {
    error.source().unwrap().downcast_ref().unwrap()
}

const TRANSCRIPT: &str = "Summary so far:\n  Ann called.\n\nMessages after it:\nuser (ann): I fly to Oslo\n\n\
    Write the summary in at most 60 words (100 tokens).";

#[tokio::test]
async fn openai_request_has_its_shape() {
    let answers = [Answer::new(200, "", SAID), Answer::new(200, "", SAID)];
    let mut server = Server::start(answers).await;
    assert_eq!(summarize(openai(&server)).await.unwrap(), "Ann flies.");
    let (head, body) = server.request().await;
    assert!(head.starts_with("post /v1/chat/completions http/1.1"), "{head}");
    assert!(head.contains(&format!("\r\nauthorization: bearer {KEY}")), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
    let prompt = HttpSummarizerBuilder::DEFAULT_PROMPT;
    let messages = json!([
        {"role": "system", "content": prompt},
        {"role": "user", "content": TRANSCRIPT},
    ]);
    assert_eq!(body, json!({"model": "gpt-5-mini", "messages": messages, "max_tokens": 4_096}));

    let settings = openai(&server)
        .with_prompt("Be brief.")
        .with_max_output_tokens(900)
        .with_output_limit_field(OutputLimitField::MaxCompletionTokens);
    summarize(settings).await.unwrap();
    let (_, body) = server.request().await;
    assert_eq!(body["messages"][0]["content"], "Be brief.");
    assert_eq!(body["max_completion_tokens"], 900);
    assert_eq!(body.get("max_tokens"), None);
}

#[tokio::test]
async fn anthropic_request_has_its_shape() {
    let said = r#"{"type":"message","role":"assistant","content":[{"type":"text","text":" Ann flies. "}],"stop_reason":"end_turn"}"#;
    let mut server = Server::start([Answer::new(200, "", said)]).await;
    let builder = HttpSummarizer::anthropic("claude-haiku-4-5").with_base_url(server.url());
    assert_eq!(summarize(builder.with_api_key(ApiKey::new(KEY))).await.unwrap(), "Ann flies.");
    let (head, body) = server.request().await;
    assert!(head.starts_with("post /v1/messages http/1.1"), "{head}");
    assert!(head.contains(&format!("\r\nx-api-key: {KEY}")), "{head}");
    assert!(head.contains("\r\nanthropic-version: 2023-06-01"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    let expected = json!({
        "model": "claude-haiku-4-5",
        "max_tokens": 4_096,
        "system": HttpSummarizerBuilder::DEFAULT_PROMPT,
        "messages": [{"role": "user", "content": TRANSCRIPT}],
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn input_is_bounded() {
    let mut server = Server::start([Answer::new(200, "", SAID)]).await;
    let summarizer = openai(&server).with_max_input_tokens(256).build().unwrap();
    let long = SummaryRequest { previous: Some("word ".repeat(9_000).into()), ..request() };
    summarizer.summarize(long).await.unwrap();
    let (_, body) = server.request().await;
    let user = body["messages"][1]["content"].as_str().unwrap();
    let (transcript, _) = user.split_once("\n\nWrite the summary").unwrap();
    assert!(memory_core::TokenCounter::count(&EstimateCounter, transcript) <= 256);
    assert!(transcript.contains("tokens left out]") && transcript.ends_with("I fly to Oslo"));
}

#[tokio::test]
async fn silent_server_ends_at_the_timeout() {
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec();
    let mut server = Server::start([Answer::Hang(Vec::new()), Answer::Hang(begun)]).await;
    for timeout in [HttpSummarizerBuilder::DEFAULT_MODEL_TIMEOUT, Duration::from_secs(7)] {
        let start = Instant::now();
        let summary = summarize(openai(&server).with_timeout(timeout));
        // Once the server has the request, only the timeout is left.
        let (error, ()) = futures::join!(summary, async {
            server.request().await;
            tokio::time::pause();
        });
        let error = error.unwrap_err();
        assert_eq!(model_error(&error).kind(), ModelErrorKind::Timeout);
        assert!(model_error(&error).is_retryable());
        let elapsed = start.elapsed();
        assert!(elapsed >= timeout && elapsed < timeout + Duration::from_secs(5), "{elapsed:?}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn failures_are_told_apart() {
    use ModelErrorKind as Kind;
    let quoting =
        r#"{"error":{"message":"I fly to Oslo sk-very-secret-0815","code":"model_not_found"}}"#;
    let long = "x".repeat(MAX_RESPONSE_BYTES + 1);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n",
        long.len()
    );
    let said = |text: &str| {
        let message = json!({"role": "assistant", "content": text});
        json!({"choices": [{"message": message, "finish_reason": "stop"}]}).to_string()
    };
    let cases = [
        (Answer::new(404, "", quoting), Kind::Rejected, "(status 404, model_not_found)"),
        (Answer::new(429, "retry-after: 17\r\n", "slow down"), Kind::RateLimited, "(status 429)"),
        (Answer::new(529, "", &long), Kind::Unavailable, "(status 529)"),
        (Answer::new(401, "", ""), Kind::Unauthorized, "(status 401)"),
        (Answer::new(204, "", ""), Kind::UnexpectedStatus, "(status 204)"),
        (Answer::new(200, "", &long), Kind::TooLarge, "too large"),
        (Answer::Bytes(chunked.into_bytes()), Kind::TooLarge, "too large"),
        (Answer::new(200, "", "<html>"), Kind::Malformed, "not in the form"),
        (
            Answer::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()),
            Kind::Connection,
            "cannot be reached",
        ),
        (Answer::Bytes(b"nonsense\r\n\r\n".to_vec()), Kind::Connection, "cannot be reached"),
        (Answer::new(200, "", &said(&"word ".repeat(200))), Kind::TooLong, "over its limit"),
        (Answer::new(200, "", &said("\n")), Kind::Empty, "no text"),
    ];
    let server = Server::start(cases.iter().map(|case| case.0.clone())).await;
    for (answer, kind, text) in cases {
        let error = summarize(openai(&server)).await.unwrap_err();
        let printed = error.to_string();
        let cause = model_error(&error);
        assert_eq!(cause.kind(), kind, "{printed} {:?}", cause.status());
        assert!(printed.contains(text) && printed.contains(": "), "{printed}");
        assert!(!printed.contains("Oslo"), "{printed}");
        let waits = (kind == Kind::RateLimited).then_some(Duration::from_secs(17));
        assert_eq!(cause.retry_after(), waits, "{answer:?}");
    }
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let location = format!("location: http://{}/v1\r\n", other.local_addr().unwrap());
    for status in [301, 302, 303, 307, 308] {
        let server = Server::start([Answer::new(status, &location, "")]).await;
        let error = summarize(openai(&server)).await.unwrap_err();
        assert_eq!(model_error(&error).status(), Some(status));
        assert_eq!(model_error(&error).kind(), ModelErrorKind::UnexpectedStatus);
    }
    assert_eq!(other.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn key_is_in_no_output() {
    let logs = Logs::capture();
    let echo = format!(r#"{{"error":{{"type":"{KEY}","message":"{KEY}"}}}}"#);
    let cases = [
        Answer::new(200, "", SAID),
        Answer::new(401, "", &echo),
        Answer::new(200, "", &echo),
        Answer::new(302, "location: http://127.0.0.1:9/\r\n", ""),
        Answer::Bytes(b"nonsense\r\n\r\n".to_vec()),
    ];
    let count = cases.len();
    let mut server = Server::start(cases).await;
    let mut printed = format!("{:?} {:?}", openai(&server), openai(&server).build().unwrap());
    for _ in 0..count {
        let result = summarize(openai(&server)).await;
        printed += &format!("{result:?}");
        let (head, _) = server.request().await;
        assert!(head.contains(KEY), "it was sent");
        let mut cause = result.as_ref().err().map(|error| error as &dyn Error);
        while let Some(error) = cause {
            printed += &format!("{error} {error:?}");
            cause = error.source();
        }
    }
    let logged = logs.text();
    assert!(logged.contains("starting new connection"), "the client's log is seen: {logged}");
    for text in [printed, logged] {
        assert!(!text.contains(KEY) && !text.contains("very-secret"), "{text}");
        assert!(!text.contains("fly to Oslo"), "{text}");
    }
}
