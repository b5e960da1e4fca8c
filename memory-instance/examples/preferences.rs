//! Preferences of a customer across kinds of conversation: a travel agent learns them, a billing agent may only read them,
//! and each conversation has its own memory. The memories and agents are in `preferences.yaml`.
//!
//! `cargo run -p memory-instance --example preferences --features yaml`, any number of times: conversations continue, and
//! a preference is stored once.

use std::error::Error;
use std::process::ExitCode;

use memory_instance::config::ConfigLoader;
use memory_instance::{
    AgentTurn, ContentType, Entry, ExclusiveError, KeyContext, MemoryError, MemoryInstance,
    MemoryManager, Message, OnFailure, Session, WindowOptions,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/preferences.yaml");

/// The agent, the conversation, the customer's message, and a preference in it, which a model would find.
const TALKS: [(&str, &str, &str, Option<&str>); 5] = [
    ("travel", "monday", "To Oslo, please. I always sit at the aisle.", Some("seat: aisle")),
    ("billing", "tuesday", "I never want paper bills.", Some("bills: by mail")),
    (
        "travel",
        "wednesday",
        "To Rome, by a window this time and from now on.",
        Some("seat: window"),
    ),
    ("billing", "thursday", "Is my seat more expensive?", None),
    ("travel", "friday", "And back, at a window too.", Some("seat: window")),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run("sqlite://preferences.db").await {
        Ok(text) => print!("{text}"),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Five conversations. Returns what each agent saw.
async fn run(store: &str) -> Result<String> {
    let config = ConfigLoader::new().with_document(PROJECT).load()?;
    let manager =
        MemoryManager::builder().with_project("agency").with_config(config).open(store).await?;
    let mut text = String::new();
    for (agent, session, question, preference) in TALKS {
        let context = KeyContext::new().with("session.id", session).with("user.id", "u-7");
        let memories = manager.agent(agent)?.resolve(&context)?;
        let turn = memories.begin_turn(&WindowOptions::new(2_000), OnFailure::Fail).await?;
        text += &seen(agent, &turn);
        // `turn.append` would write to all memories of the agent. The talk belongs to the conversation alone.
        let conversation = memories.memory("conversation").ok_or("no conversation")?;
        conversation.append_all([Message::user(question), model(agent, &turn)]).await?;
        if let Some(preference) = preference {
            let preferences = memories.memory("preferences").ok_or("no preferences")?;
            text += &format!("{agent} {}\n", learn(preferences, preference).await?);
        }
    }
    Ok(text)
}

/// Stores a preference in the place of an earlier one of the same name.
async fn learn(preferences: &MemoryInstance, preference: &'static str) -> Result<String> {
    // A turn, because two conversations may learn at the same time.
    match preferences.exclusive(|session| store_once(session, preference)).await {
        Ok(learned) => Ok(format!("{} `{preference}`", learned?)),
        Err(ExclusiveError::Begin(error)) if matches!(*error, MemoryError::ReadOnly { .. }) => {
            Ok(format!("may not store `{preference}`"))
        }
        Err(error) => Err(error.without_output().into()),
    }
}

async fn store_once(
    session: Session,
    preference: &str,
) -> std::result::Result<&'static str, MemoryError> {
    let name = preference.split_once(':').map_or(preference, |(name, _)| name);
    let messages = session.messages().await?;
    let known = messages.iter().find(|it| it.message.text().split(':').next() == Some(name));
    let entry = Entry::new(Message::user(preference)).with_content_type(ContentType::UserProfile);
    Ok(match known {
        Some(known) if known.message.text() == preference => "knows",
        Some(known) => {
            session.replace(known.meta.sequence, entry).await?;
            "replaces by"
        }
        None => {
            session.append(entry).await?;
            "learns"
        }
    })
}

/// In the place of a model: a program sends `window.request()` of each window and the question.
fn model(agent: &str, turn: &AgentTurn) -> Message {
    let known: usize = turn.windows.iter().map(|it| it.window.messages.len()).sum();
    Message::assistant(format!("{agent}: {known} messages considered"))
}

fn seen(agent: &str, turn: &AgentTurn) -> String {
    let mut text = String::new();
    for part in &turn.windows {
        let messages = &part.window.messages;
        let (id, count) = (&part.memory.resource().id, messages.len());
        text += &format!("{agent} sees {count} messages of `{id}`\n");
        // Conversations grow from run to run.
        for message in messages.iter().filter(|_| id == "preferences") {
            text += &format!("  {}\n", message.text());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::run;

    #[tokio::test]
    async fn preferences_are_shared_across_conversations() {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite://{}", folder.path().join("preferences.db").display());
        let expected = "\
travel sees 0 messages of `conversation`
travel sees 0 messages of `preferences`
travel learns `seat: aisle`
billing sees 0 messages of `conversation`
billing sees 1 messages of `preferences`
  seat: aisle
billing may not store `bills: by mail`
travel sees 0 messages of `conversation`
travel sees 1 messages of `preferences`
  seat: aisle
travel replaces by `seat: window`
billing sees 0 messages of `conversation`
billing sees 1 messages of `preferences`
  seat: window
travel sees 0 messages of `conversation`
travel sees 1 messages of `preferences`
  seat: window
travel knows `seat: window`
";
        assert_eq!(run(&store).await.unwrap(), expected);
        // Conversations go on, and are flushed, while the preference stays one message.
        for _ in 1..25 {
            let again = run(&store).await.unwrap();
            let preferences: Vec<_> = again.lines().filter(|it| it.contains("seat: ")).collect();
            let changed = ["travel replaces by `seat: aisle`", "  seat: aisle", "  seat: aisle"];
            let last = [
                "travel replaces by `seat: window`",
                "  seat: window",
                "  seat: window",
                "travel knows `seat: window`",
            ];
            assert_eq!(preferences[1..], [&changed[..], &last[..]].concat(), "{again}");
            assert!(!again.contains("sees 0 messages"), "{again}");
        }
    }
}
