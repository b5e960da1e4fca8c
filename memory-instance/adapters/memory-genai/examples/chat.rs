//! Two workers continue one conversation by genai. A local server answers in place of a model, so that the program runs
//! without a network and without a key. It checks what the server received: the second worker sends the calls and
//! results of the first one.
//!
//! `cargo run --example chat -- sqlite://memory.db` keeps the conversation in a file, and continues it the next time.

use std::error::Error;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};

use genai::Client;
use genai::adapter::AdapterKind;
use genai::chat::{ChatMessage, Tool, ToolResponse};
use genai::resolver::{AuthData, Endpoint};
use memory_genai::{GenaiMemory, answer_message};
use memory_instance::{MemoryManager, MemoryResource, WindowOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MODEL: &str = "local-model";

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
    let base_url = format!("http://{}/v1/", listener.local_addr()?);
    let (sender, received) = channel();
    tokio::spawn(serve(listener, sender));
    let client = Client::builder()
        .with_adapter_kind(AdapterKind::OpenAI)
        .append_provider_config(
            AdapterKind::OpenAI,
            (Endpoint::from_owned(base_url), AuthData::from_single("sk-local")),
        )
        .build()?;

    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::new("trips", 20_000))
        .open(url)
        .await?;
    let window = WindowOptions::new(8_000)
        .with_system("You help travelers.")
        .with_tools(200)
        .with_answer(1_000);
    let chat = GenaiMemory::new(manager.memory("trips", "trip-1")?).with_window(window);

    let answer = turn(&client, &chat, "Do I need an umbrella in Oslo?").await?;
    // Another worker, which may be in another process.
    turn(&client, &chat.clone(), "And boots?").await?;

    check(&received)?;
    Ok(format!("{answer}\n{} messages", chat.memory().len().await?))
}

/// Asks the model, and runs the tools that it calls.
async fn turn(client: &Client, chat: &GenaiMemory, question: &str) -> Result<String> {
    let weather = Tool::new("weather")
        .with_description("The weather in a city.")
        .with_schema(json!({"type": "object", "properties": {"city": {"type": "string"}}}));
    chat.append(&[ChatMessage::user(question)]).await?;
    loop {
        let request = chat.request().await?.with_tools([weather.clone()]);
        let response = client.exec_chat(MODEL, request, None).await?;
        let mut messages = vec![answer_message(&response)];
        let results = response.tool_calls().into_iter().map(|call| {
            let city = call.fn_arguments["city"].as_str().unwrap_or("here");
            ChatMessage::from(ToolResponse::from_tool_call(call, format!("{city}: rain")))
        });
        messages.extend(results);
        // Calls and results at once: no other worker sees a call without its result.
        chat.append(&messages).await?;
        if messages.len() == 1 {
            return Ok(response.into_first_text().unwrap_or_default());
        }
    }
}

/// Checks the three requests: the question, the result of the tool, and the question of the second worker.
fn check(received: &Receiver<Value>) -> Result<()> {
    let requests: Vec<Value> = received.try_iter().collect();
    let [_, _, last] = requests.as_slice() else {
        return Err(format!("{} requests instead of 3", requests.len()).into());
    };
    let messages = last["messages"].as_array().ok_or("no messages")?;
    let [system, .., question, call, result, answer, prompt] = messages.as_slice() else {
        return Err(format!("only {} messages", messages.len()).into());
    };
    let called = &call["tool_calls"][0];
    for (found, expected) in [
        (&system["content"], "You help travelers."),
        (&question["content"], "Do I need an umbrella in Oslo?"),
        (&called["function"]["name"], "weather"),
        (&result["tool_call_id"], called["id"].as_str().unwrap_or_default()),
        (&result["content"], "Oslo: rain"),
        (&answer["content"], "Yes, it rains."),
        (&prompt["content"], "And boots?"),
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
    let newest = &request["messages"][messages.saturating_sub(1)]["content"];
    let (message, reason) = if newest.as_str().is_some_and(|text| text.contains("umbrella")) {
        let function = json!({"name": "weather", "arguments": r#"{"city":"Oslo"}"#});
        let call =
            json!({"id": format!("call_{messages}"), "type": "function", "function": function});
        (json!({"role": "assistant", "content": null, "tool_calls": [call]}), "tool_calls")
    } else {
        (json!({"role": "assistant", "content": "Yes, it rains."}), "stop")
    };
    let body = json!({
        "id": format!("chatcmpl-{messages}"),
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
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
