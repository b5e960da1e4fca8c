//! One history for two providers: an agent on OpenAI Chat Completions writes it, and an agent on Anthropic continues.
//!
//! `cargo run -p memory-instance --example two_providers`

use std::error::Error;
use std::process::ExitCode;

use memory_instance::{
    ContextWindow, MemoryInstance, MemoryManager, MemoryResource, Message, Profile, ProfileName,
    Request, ToolCall, WindowOptions,
};
use serde::Serialize;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run("sqlite://two_providers.db").await {
        Ok(text) => println!("{text}"),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn run(store: &str) -> Result<String> {
    let resource = MemoryResource::new("travel", 50_000);
    let manager = MemoryManager::builder().with_resource(resource).open(store).await?;
    let memory = manager.memory("travel", "case-4711")?;
    memory.ensure_system("agent", "You are a travel agent.").await?;
    if memory.len().await? == 1 {
        fill(&memory).await?; // in the first run
    }
    let chat = Profile::new(ProfileName::OpenaiChat, Some("gpt-4o"));
    let anthropic = Profile::new(ProfileName::Anthropic, Some("claude-sonnet-4-5"));
    let mut text = String::new();
    for profile in [chat, anthropic] {
        let name = profile.name;
        let options =
            WindowOptions::new(8_000).with_profile(profile).with_system("Answer in one sentence."); // of this agent alone, and not stored
        let window = memory.window(&options).await?;
        text += &format!("{name}, {} tokens\n{}\n", window.tokens, body(&window)?);
        for repair in &window.repairs {
            text += &format!("repair: {repair}\n");
        }
    }
    Ok(text)
}

/// The body of the request, in the format of the window's API.
fn body(window: &ContextWindow) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Chat<'a> {
        model: &'a str,
        messages: &'a Request,
    }
    #[derive(Serialize)]
    struct Anthropic<'a> {
        model: &'a str,
        max_tokens: u32,
        #[serde(flatten)] // `system` and `messages`
        request: &'a Request,
    }
    let request = window.request();
    match request.profile() {
        ProfileName::Anthropic => serde_json::to_string_pretty(&Anthropic {
            model: "claude-sonnet-4-5",
            max_tokens: 1_000,
            request,
        }),
        _ => serde_json::to_string_pretty(&Chat { model: "gpt-4o", messages: request }),
    }
}

/// A history with two calls in one message. The second result is still missing.
async fn fill(memory: &MemoryInstance) -> Result<()> {
    let calls = [
        ToolCall::function("call_1", "flights", r#"{"city":"Oslo"}"#),
        ToolCall::function("call_2", "weather", r#"{"city":"Oslo"}"#),
    ];
    let history = [
        Message::user("Can I fly to Oslo, and is it raining?").with_name("Ada"),
        Message::calls(calls),
        Message::tool_result("call_1", "two flights"),
        Message::user("Hurry up."),
    ];
    memory.append_all(history).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn runs_twice() {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite://{}", folder.path().join("two.db").display());
        let first = super::run(&store).await.unwrap();
        assert_eq!(super::run(&store).await.unwrap(), first);
        for part in ["tool_call_id", "tool_result", "repair: message 2: left out the name"] {
            assert!(first.contains(part), "{part} is not in {first}");
        }
    }
}
