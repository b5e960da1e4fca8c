//! An agent with tools on OpenAI Chat Completions, whose history is in a SQLite file. A function replaces the
//! model; put the HTTP request in its place.
//!
//! `cargo run -p memory-instance --example agent_loop`, any number of times: each run continues the history of the
//! previous run. After a kill between a call and its result, the next window has a synthetic result for the call.

use std::error::Error;
use std::process::ExitCode;

use memory_instance::{
    Calibrated, Entry, MemoryManager, MemoryResource, Message, Part, Usage, WindowOptions,
};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run("sqlite://agent_loop.db").await {
        Ok(answer) => println!("{answer}"),
        // `Display` contains the operation, the memory and the remedy.
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// One turn: from the user's question to the model's answer.
async fn run(store: &str) -> Result<String> {
    let resource = MemoryResource::new("travel", 50_000); // a flush keeps the history below this
    let manager = MemoryManager::builder().with_resource(resource).open(store).await?;
    let memory = manager.memory("travel", "case-4711")?;

    memory.ensure_system("agent", "You are a travel agent.").await?; // stored once
    // With the role `user`, because many APIs have no system message within the conversation.
    let clock = Entry::reminder(Message::user("[reminder] Today is Monday."));
    memory
        .append_all([clock, Message::user("Can I fly to Oslo, and is it raining?").into()])
        .await?;

    // Tool definitions and the answer also take a part of the model's window.
    let options = WindowOptions::new(8_000).with_tools(150).with_answer(1_000);
    loop {
        let window = memory.window(&options).await?;
        for repair in &window.repairs {
            eprintln!("repair: {repair}");
        }
        let body = json!({"model": "gpt-4o", "messages": window.request(), "tools": tools()});
        let answer = model(&body);

        // If the provider counted more tokens, later windows are smaller by the difference.
        if let Some(usage) = Usage::from_json(&answer.clone().into())
            && let Calibrated::Applied { excess } = memory.calibrate(window.anchor(), usage).await?
        {
            eprintln!("{} tokens in the window, {excess} more reported", window.tokens);
        }

        let message = answer.pointer("/choices/0/message").ok_or("the answer has no message")?;
        let message = Message::from_value(message.clone())?;
        memory.append(message.clone()).await?; // before the tools run: other agents see the calls
        let mut results = Vec::new();
        for part in message.parts() {
            if let Part::Call(call) = part {
                let text = run_tool(call.name, &call.arguments.to_text());
                results.push(Message::tool_result(call.id.unwrap_or_default(), text));
            }
        }
        if results.is_empty() {
            return Ok(message.text().into_owned());
        }
        memory.append_all(results).await?;
    }
}

fn run_tool(name: &str, arguments: &str) -> String {
    match name {
        "flights" => format!("two flights for {arguments}"),
        "weather" => "rain".into(),
        unknown => format!("there is no tool {unknown}"),
    }
}

fn tools() -> Value {
    let city = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    ["flights", "weather"]
        .map(|name| json!({"type": "function", "function": {"name": name, "parameters": city}}))
        .into_iter()
        .collect()
}

/// Requests two tool calls at once, and answers when it has their results.
fn model(body: &Value) -> Value {
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let has_results = messages.last().is_some_and(|last| last["role"] == "tool");
    let call = |name: &str| {
        let id = format!("call_{}_{name}", messages.len());
        let function = json!({"name": name, "arguments": r#"{"city":"Oslo"}"#});
        json!({"id": id, "type": "function", "function": function})
    };
    let message = if has_results {
        json!({"role": "assistant", "content": "There are two flights, and it is raining."})
    } else {
        let calls = [call("flights"), call("weather")];
        json!({"role": "assistant", "content": null, "tool_calls": calls})
    };
    let tokens = body.to_string().len() / 4; // a provider counts exactly
    json!({"choices": [{"message": message}], "usage": {"prompt_tokens": tokens}})
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn runs_twice() {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite://{}", folder.path().join("agent.db").display());
        for _ in 0..2 {
            let answer = super::run(&store).await.unwrap();
            assert_eq!(answer, "There are two flights, and it is raining.");
        }
    }
}
