//! A hand-over in a support desk: an intake agent talks to the customer first, then a resolution agent, which sees the
//! messages of the first one. The memories and agents are in `support_handover.yaml`.
//!
//! `cargo run -p memory-instance --example support_handover --features yaml`

use std::error::Error;
use std::process::ExitCode;

use memory_instance::config::{AgentConfig, ConfigLoader};
use memory_instance::{
    AgentTurn, KeyContext, MemoryManager, Message, OnFailure, TurnOutcome, WindowOptions,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support_handover.yaml");

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run("memory://").await {
        Ok(text) => print!("{text}"),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Two turns of two agents. Returns what each of them saw.
async fn run(store: &str) -> Result<String> {
    let config = ConfigLoader::new().with_document(PROJECT).load()?;
    let agents = config.agents.clone();
    let manager =
        MemoryManager::builder().with_project("desk").with_config(config).open(store).await?;
    let context = KeyContext::new().with("workflow.input.case", 4711).with("user.id", "u-7");
    let mut text = String::new();
    for (agent, question) in [
        ("intake", "My flight to Oslo was canceled, booking X1. I always sit at the aisle."),
        ("resolution", "Is there a seat tomorrow?"),
    ] {
        let agent = agents.iter().find(|it| it.id == agent).ok_or("no such agent")?;
        let memories = manager.agent(&agent.id)?.resolve(&context)?;
        // Continue: a desk prefers an answer without the preferences to none.
        let options = WindowOptions::new(4_000).with_system(instructions(agent)).with_answer(500);
        let turn = memories.begin_turn(&options, OnFailure::Continue).await?;
        text += &seen(&agent.id, &turn);

        let answer = model(agent, &turn, question);
        let outcome = turn.append([Message::user(question), answer]).await?;
        text += &written(&agent.id, &outcome);
    }
    Ok(text)
}

/// The host's own field of an agent.
fn instructions(agent: &AgentConfig) -> &str {
    agent.extra.get("instructions").and_then(|text| text.as_str()).unwrap_or_default()
}

/// In the place of a model: a program sends `window.request()` of each window and the question.
fn model(agent: &AgentConfig, turn: &AgentTurn, question: &str) -> Message {
    let known: usize = turn.windows.iter().map(|it| it.window.messages.len()).sum();
    let words = question.split_whitespace().count();
    Message::assistant(format!("{}: {known} messages and {words} words considered", agent.id))
}

fn seen(agent: &str, turn: &AgentTurn) -> String {
    let mut text = String::new();
    for part in &turn.windows {
        let messages = &part.window.messages;
        let (id, count) = (&part.memory.resource().id, messages.len());
        text += &format!("{agent} sees {count} messages of `{id}`\n");
        for message in messages {
            text += &format!("  {}: {}\n", message.role(), message.text());
        }
    }
    text
}

fn written(agent: &str, outcome: &TurnOutcome) -> String {
    format!("{agent} appends its turn, memories: {}\n", outcome.appended.len())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn resolution_sees_what_intake_was_told() {
        let text = super::run("memory://").await.unwrap();
        let expected = "\
intake sees 0 messages of `case`
intake sees 0 messages of `customer`
intake appends its turn, memories: 2
resolution sees 2 messages of `case`
  user: My flight to Oslo was canceled, booking X1. I always sit at the aisle.
  assistant: intake: 0 messages and 14 words considered
resolution sees 2 messages of `customer`
  user: My flight to Oslo was canceled, booking X1. I always sit at the aisle.
  assistant: intake: 0 messages and 14 words considered
resolution appends its turn, memories: 1
";
        assert_eq!(text, expected);
    }
}
