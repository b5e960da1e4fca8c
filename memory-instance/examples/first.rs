//! The complete example of the project's README. A test compares the two.
//!
//! `cargo run -p memory-instance --example first`

use memory_instance::{
    MemoryError, MemoryManager, MemoryResource, Message, Profile, WindowOptions,
};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), MemoryError> {
    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::new("support", 8_000)) // a budget of 8,000 tokens
        .open("sqlite://memory.db")
        .await?;
    let memory = manager.memory("support", "case-4711")?; // any number of agents may hold this

    memory.ensure_system("agent", "You are a travel agent.").await?; // stored once, however often it starts
    memory.append(Message::user("My flight was canceled.")).await?; // one commit, durable
    let window = memory.context(4_000).await?; // never more than 4,000 tokens
    let body = json!({"model": "gpt-4o", "messages": window.request()});
    assert!(body.to_string().contains("My flight was canceled."));

    let claude = Profile::for_model(Some("claude-sonnet-4-5")); // the same history for another API
    let window = memory.window(&WindowOptions::new(4_000).with_profile(claude)).await?;
    assert!(window.request().to_string().starts_with(r#"{"system":"You are a travel agent.","#));

    drop((memory, manager)); // an example leaves nothing behind; a program keeps its file
    for file in ["memory.db", "memory.db-wal", "memory.db-shm"] {
        _ = std::fs::remove_file(file);
    }
    Ok(())
}
