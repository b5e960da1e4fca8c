//! Two agents of rig share a conversation. A local server answers in place of Anthropic, so that the program runs
//! without a network and without a key. It checks what the server received: the second agent sends what the first one
//! learned, with the signature of its thinking.
//!
//! `cargo run --example agent -- sqlite://memory.db` keeps the conversation in a file, and continues it the next time.

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};

use memory_instance::{MemoryManager, MemoryResource, WindowOptions};
use memory_rig::RigMemory;
use rig_agent::prelude::{Agent, AgentBuilder};
use rig_core::providers::anthropic::AnthropicConfig;
use rig_core::tool::PortableTool;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PREAMBLE: &str = "You help travelers.";

#[tokio::main]
async fn main() -> ExitCode {
    let url = std::env::args().nth(1).unwrap_or_else(|| "memory://".into());
    match run(&url).await {
        Ok(report) => println!("{report}"),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn run(url: &str) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base_url = format!("http://{}", listener.local_addr()?);
    let (sender, received) = channel();
    tokio::spawn(serve(listener, sender));

    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::new("trips", 20_000))
        .open(url)
        .await?;
    // Of the model's window, the memory may take 8,000 tokens less the preamble, the tools and the answer.
    let window = WindowOptions::new(8_000).with_system(PREAMBLE).with_tools(200).with_answer(1_000);
    let memory = RigMemory::new(manager, "trips").with_window(window);

    let first = agent(&base_url, memory.clone());
    let answer = first.prompt("Do I need an umbrella in Oslo?").await?.output();
    // Another agent, which may be in another process.
    let second = agent(&base_url, memory.clone());
    second.prompt("And boots?").await?;

    check(&received)?;
    let messages = memory.memory(&"trip-1".into())?.len().await?;
    Ok(format!("{answer}\n{messages} messages"))
}

fn agent(base_url: &str, memory: RigMemory) -> Agent {
    let anthropic = AnthropicConfig::new("sk-local").with_base_url(base_url).client();
    AgentBuilder::new(anthropic.completion("claude-sonnet-4-6"))
        .preamble(PREAMBLE)
        .default_max_turns(4)
        .tool(Weather)
        .memory(memory)
        .conversation("trip-1")
        .build()
}

struct Weather;

impl PortableTool for Weather {
    const NAME: &'static str = "weather";
    type Args = Value;
    type Output = String;
    type Error = Infallible;

    fn description(&self) -> String {
        "The weather in a city.".into()
    }

    fn parameters(&self) -> Value {
        json!({"type": "object", "properties": {"city": {"type": "string"}}})
    }

    async fn call(&self, arguments: Value) -> std::result::Result<String, Infallible> {
        Ok(format!("{}: rain", arguments["city"].as_str().unwrap_or("here")))
    }
}

/// Checks the three requests: the question, the result of the tool, and the question of the second agent.
fn check(received: &Receiver<Value>) -> Result<()> {
    let requests: Vec<Value> = received.try_iter().collect();
    let [_, _, last] = requests.as_slice() else {
        return Err(format!("{} requests instead of 3", requests.len()).into());
    };
    let messages = last["messages"].as_array().ok_or("no messages")?;
    let [.., question, call, result, answer, prompt] = messages.as_slice() else {
        return Err(format!("only {} messages", messages.len()).into());
    };
    let [thought, call] = call["content"].as_array().map_or(&[][..], Vec::as_slice) else {
        return Err(format!("not a thought and a call: {call}").into());
    };
    for (found, expected) in [
        (&question["content"][0]["text"], "Do I need an umbrella in Oslo?"),
        (&thought["signature"], "c2lnbmF0dXJl"),
        (&call["name"], "weather"),
        (&result["content"][0]["tool_use_id"], call["id"].as_str().unwrap_or_default()),
        (&answer["content"][0]["text"], "Yes, it rains."),
        (&prompt["content"][0]["text"], "And boots?"),
    ] {
        if found.as_str() != Some(expected) {
            return Err(format!("expected {expected:?}, the server received {last:#}").into());
        }
    }
    Ok(())
}

/// Answers each connection, in place of a model.
async fn serve(listener: TcpListener, received: Sender<Value>) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Err(error) = answer(stream, &received).await {
            eprintln!("the server: {error}");
        }
    }
}

async fn answer(stream: TcpStream, received: &Sender<Value>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0_usize);
    while stream.read_line(&mut line).await? > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let request: Value = serde_json::from_slice(&body)?;
    let messages = request["messages"].as_array().map_or(0, Vec::len);
    let newest = &request["messages"][messages.saturating_sub(1)]["content"][0];
    let content = if newest["text"].as_str().is_some_and(|text| text.contains("umbrella")) {
        json!([
            {"type": "thinking", "thinking": "I look it up.", "signature": "c2lnbmF0dXJl"},
            {"type": "tool_use", "id": format!("toolu_{messages}"), "name": "weather", "input": {"city": "Oslo"}},
        ])
    } else {
        json!([{"type": "text", "text": "Yes, it rains."}])
    };
    let calls = content[1]["type"] == "tool_use";
    let body = json!({
        "id": format!("msg_{messages}"),
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": content,
        "stop_reason": if calls { "tool_use" } else { "end_turn" },
        "stop_sequence": null,
        "usage": {"input_tokens": 100, "output_tokens": 10},
    })
    .to_string();
    received.send(request)?;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn second_run_continues_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("memory.db").display());
        assert_eq!(run(&url).await.unwrap(), "Yes, it rains.\n6 messages");
        assert_eq!(run(&url).await.unwrap(), "Yes, it rains.\n12 messages");
    }
}
