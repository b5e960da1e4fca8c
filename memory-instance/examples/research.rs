//! Research by a team: three agents search at the same time and write their findings into one memory, in two rounds. A
//! fourth agent reads them and may not write. The memory and the agents are in `research.yaml`.
//!
//! `cargo run -p memory-instance --example research --features yaml`, any number of times: a finding is stored once,
//! because each agent is a named writer that numbers its rounds.

use std::error::Error;
use std::process::ExitCode;

use futures::future::try_join_all;
use memory_instance::config::ConfigLoader;
use memory_instance::{
    AgentTurn, KeyContext, MemoryManager, Message, OnFailure, ResolvedMemories, WindowOptions,
    WriterId,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/research.yaml");
const SEARCHERS: [&str; 3] = ["tides", "weather", "traffic"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run("sqlite://research.db").await {
        Ok(text) => print!("{text}"),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Two rounds of searching, then a report. Returns what each agent saw.
async fn run(store: &str) -> Result<String> {
    let config = ConfigLoader::new().with_document(PROJECT).load()?;
    let manager =
        MemoryManager::builder().with_project("harbor").with_config(config).open(store).await?;
    // A stable id of the input: the next run continues the task.
    let context = KeyContext::new().with("workflow.input.task", "night-arrival");
    let open = |agent: &str| manager.agent(agent)?.resolve(&context);
    let mut text = String::new();

    for round in 1..=2 {
        // All agents of a round see the findings of the rounds before, and write at the same time.
        let searches = SEARCHERS.map(|agent| {
            let memories = open(agent);
            async move { begin(agent, memories?).await }
        });
        let begun = try_join_all(searches).await?;
        let writes = begun.iter().map(|search| add_finding(search, round));
        let written = try_join_all(writes).await?;
        for (search, outcome) in begun.iter().zip(written) {
            text += &format!("round {round}: {}", seen(search.agent, &search.turn));
            text += &format!("  {} {outcome}\n", search.agent);
        }
    }

    let author = begin("author", open("author")?).await?;
    text += &seen("author", &author.turn);
    // The author may write nowhere, so its turn appends nothing.
    let outcome = author.turn.append([Message::assistant("The report")]).await?;
    text += &format!("author appends to {} memories\n", outcome.appended.len());
    Ok(text)
}

/// An agent that has read its window.
struct Search {
    agent: &'static str,
    memories: ResolvedMemories,
    turn: AgentTurn,
}

async fn begin(agent: &'static str, memories: ResolvedMemories) -> Result<Search> {
    let options = WindowOptions::new(4_000).with_answer(500);
    let turn = memories.begin_turn(&options, OnFailure::Fail).await?;
    Ok(Search { agent, memories, turn })
}

/// Stores what the agent found in this round, once.
async fn add_finding(search: &Search, round: u64) -> Result<&'static str> {
    let Search { agent, memories, turn } = search;
    let memory = memories.memory("findings").ok_or("no memory of findings")?;
    let finding = Message::assistant(model(agent, turn, round));
    // The store keeps the number of a named writer's last write, also after a restart.
    let write = WriterId::named(&format!("research/{agent}")).write(round);
    let appended = memory.send(&memory.prepare_as(write, [finding])?).await?;
    Ok(if appended.outcome.is_duplicate() { "has written this before" } else { "writes a finding" })
}

/// In the place of a model: a program sends `window.request()` of each window.
fn model(agent: &str, turn: &AgentTurn, round: u64) -> String {
    let known: usize = turn.windows.iter().map(|it| it.window.messages.len()).sum();
    format!("{agent}, round {round}: {known} findings considered")
}

fn seen(agent: &str, turn: &AgentTurn) -> String {
    let mut text = String::new();
    for part in &turn.windows {
        let messages = &part.window.messages;
        text += &format!("{agent} sees {} messages\n", messages.len());
        for message in messages {
            text += &format!("  {}\n", message.text());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{SEARCHERS, run};

    const AUTHOR: &str = "author sees 6 messages\n";

    /// The findings that an agent sees, in the order of the agents: those of one round are written at the same time.
    fn sorted(seen: &str) -> Vec<&str> {
        let mut lines: Vec<_> =
            seen.lines().skip(1).take_while(|line| line.contains("considered")).collect();
        lines.sort_unstable();
        lines
    }

    #[tokio::test]
    async fn agents_see_each_finding_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite://{}", folder.path().join("research.db").display());
        let first = run(&store).await.unwrap();
        for agent in SEARCHERS {
            assert!(first.contains(&format!("round 1: {agent} sees 0 messages\n")), "{first}");
            let (_, round) =
                first.split_once(&format!("round 2: {agent} sees 3 messages\n")).unwrap();
            let found = ["tides", "traffic", "weather"]
                .map(|agent| format!("  {agent}, round 1: 0 findings considered"));
            assert_eq!(sorted(&format!("\n{round}")), found, "{first}");
        }
        let (_, author) = first.split_once(AUTHOR).unwrap();
        assert!(author.ends_with("author appends to 0 memories\n"), "{first}");
        // A task is worked on again after a crash.
        for _ in 1..3 {
            let again = run(&store).await.unwrap();
            assert_eq!(again.matches("writes a finding").count(), 0, "{again}");
            assert_eq!(again.split_once(AUTHOR).unwrap().1, author);
        }
    }
}
