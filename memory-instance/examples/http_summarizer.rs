//! A model writes the summaries: first one behind an OpenAI-compatible API, then one behind Anthropic's. A local server answers
//! in their place, so that the program runs without a network and without a key.
//!
//! `cargo run -p memory-instance --features http --example http_summarizer`

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use memory_instance::http::{ApiKey, HttpSummarizer};
use memory_instance::{FlushMode, MemoryManager, MemoryResource, Message};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(report) => println!("{report}"),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn run() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base_url = format!("http://{}/v1", listener.local_addr()?);
    tokio::spawn(serve(listener));

    let openai = HttpSummarizer::openai("local-model")
        .with_base_url(&base_url) // leave this out to call OpenAI
        .with_api_key(ApiKey::new("sk-local")) // `ApiKey::from_env("OPENAI_API_KEY")?`
        .build()?;
    let anthropic = HttpSummarizer::anthropic("claude-haiku-4-5")
        .with_base_url(&base_url) // leave this out to call Anthropic
        .with_api_key(ApiKey::new("sk-ant-local")) // `ApiKey::from_env("ANTHROPIC_API_KEY")?`
        .build()?;
    let first = summarize(openai).await?;
    let second = summarize(anthropic).await?;
    Ok(format!("{first}\n{second}"))
}

/// Summarizes a conversation by this model.
async fn summarize(summarizer: HttpSummarizer) -> Result<String> {
    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::new("support", 2_000))
        .with_summarizer(Arc::new(summarizer)) // if it fails, the rule-based summarizer writes the summary
        .with_flush_mode(FlushMode::Manual) // a service leaves this out: it flushes in the background
        .open("memory://")
        .await?;
    let memory = manager.memory("support", "case-4711")?;
    for number in 1..=40 {
        let text = format!("Observation {number}: the flight to Oslo is still delayed. ");
        memory.append(Message::user(text.repeat(3))).await?;
    }
    let receipt = memory.perform_flush().await?.ok_or("the memory needed no flush")?;
    let summary = receipt.summary.as_ref().ok_or("the flush wrote no summary")?;
    if let Some(reason) = &summary.fallback {
        return Err(format!("the model wrote no summary: {reason}").into());
    }
    let messages = memory.messages().await?;
    let written = messages.iter().find(|stored| stored.meta.summary);
    let text = written.map(|stored| stored.message.text()).unwrap_or_default();
    let count = receipt.summarized.len();
    Ok(format!("{count} messages summarized by {}:\n{text}", summary.summarizer))
}

/// Answers each connection, in place of a model.
async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Err(error) = answer(stream).await {
            eprintln!("the server: {error}");
        }
    }
}

async fn answer(stream: TcpStream) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut path = String::new();
    stream.read_line(&mut path).await?;
    let (mut line, mut length) = (String::new(), 0_usize);
    while stream.read_line(&mut line).await? > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let request: serde_json::Value = serde_json::from_slice(&body)?;
    // Anthropic's API has the system prompt beside the messages, that of OpenAI among them.
    let user = if path.contains("/messages") { 0 } else { 1 };
    let transcript = request["messages"][user]["content"].as_str().unwrap_or_default();
    let count = transcript.matches("user: Observation").count();
    let text = format!("The customer waits for a flight to Oslo ({count} observations).");
    let body = if path.contains("/messages") {
        let content = serde_json::json!([{ "type": "text", "text": text }]);
        serde_json::json!({ "role": "assistant", "content": content, "stop_reason": "end_turn" })
    } else {
        let message = serde_json::json!({ "role": "assistant", "content": text });
        serde_json::json!({ "choices": [{ "message": message, "finish_reason": "stop" }] })
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn models_write_the_summaries() {
        let report = run().await.unwrap();
        for model in ["local-model", "claude-haiku-4-5"] {
            let summary = format!("summarized by {model}:\nThe customer waits");
            assert!(report.contains(&summary), "{report}");
        }
        assert!(!report.contains("(0 observations)"), "{report}");
    }
}
