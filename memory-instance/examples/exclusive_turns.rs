//! Several agents on one conversation, each of which reads, decides and writes in a turn without interference by the
//! others: they issue tickets, whose numbers must have no gap and no repetition.
//!
//! `cargo run -p memory-instance --example exclusive_turns`, any number of times: the numbering continues. Each agent
//! has a separate manager and connections, like a process; start the program in two terminals to see the same.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use memory_instance::{MemoryError, MemoryManager, MemoryResource, Message, Session};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const AGENTS: [&str; 4] = ["ada", "ben", "cleo", "dan"];
const TICKETS_PER_AGENT: usize = 3;

#[tokio::main]
async fn main() -> ExitCode {
    match run("sqlite://exclusive_turns.db").await {
        Ok(tickets) => println!("{}", tickets.join("\n")),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Lets all agents work at once, and returns the tickets of the conversation.
async fn run(store: &str) -> Result<Vec<String>> {
    let agents = AGENTS.map(|name| tokio::spawn(agent(name, store.to_owned())));
    for agent in agents {
        agent.await??;
    }
    let manager = open(store).await?;
    let messages = manager.memory("desk", "tickets")?.messages().await?;
    Ok(messages.iter().map(|stored| stored.message.text().into_owned()).collect())
}

async fn open(store: &str) -> Result<MemoryManager> {
    let mut resource = MemoryResource::new("desk", 50_000);
    // A turn that takes longer loses its lease, and its later writes are refused. Others wait as long by default.
    resource.lock = resource.lock.with_max_turn(Duration::from_secs(20));
    Ok(MemoryManager::builder().with_resource(resource).open(store).await?)
}

async fn agent(name: &'static str, store: String) -> Result<()> {
    let manager = open(&store).await?;
    let memory = manager.memory("desk", "tickets")?;
    for _ in 0..TICKETS_PER_AGENT {
        // The outer error is about the lease, the inner one is that of the turn.
        memory.exclusive(|session| issue_ticket(session, name)).await??;
    }
    // Releases leases that are still held. Without this they are released when the manager is dropped.
    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// One turn. Other agents read meanwhile, and wait to write.
async fn issue_ticket(session: Session, agent: &str) -> std::result::Result<(), MemoryError> {
    let number = session.messages().await?.len() + 1;
    // An answer of a model would take its time here.
    tokio::task::yield_now().await;
    session.append(Message::assistant(format!("ticket {number}, issued by {agent}"))).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test(flavor = "multi_thread")]
    async fn tickets_have_no_gap_and_no_repetition() {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite://{}", folder.path().join("turns.db").display());
        for run in 1..=2 {
            let tickets = super::run(&store).await.unwrap();
            assert_eq!(tickets.len(), run * super::AGENTS.len() * super::TICKETS_PER_AGENT);
            for (index, ticket) in tickets.iter().enumerate() {
                assert!(ticket.starts_with(&format!("ticket {},", index + 1)), "{ticket}");
            }
        }
    }
}
