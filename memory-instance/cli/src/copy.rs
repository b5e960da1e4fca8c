//! `memory copy`.

use memory_instance::check_url;
use memory_instance::{FlushMode, MemoryInstance, MemoryManager};

use crate::args::{Memories, built_in_resource};
use crate::backup::report;
use crate::failure::usage;
use crate::keys;
use crate::out::Out;

/// Copy memories to another store: messages with priorities, summaries, receipts, the archive
///
/// A copy equals the original in every command and has the same key, which must have no memory there. If the command was
/// interrupted, run it again: it continues, and passes over memories that it has copied before. A memory whose copy is
/// not complete cannot be opened.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory copy --key airline-00-0 --to sqlite://copy.db
  memory copy --all --to redis://localhost")]
pub(crate) struct Args {
    /// Every memory of the store
    #[arg(long)]
    all: bool,

    /// The other store: sqlite://PATH, redis://HOST, ...
    #[arg(long, value_name = "URL")]
    to: String,
}

impl Args {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        check_url(&self.to)?;
        if self.to.starts_with("memory://") {
            return Err(usage("--to memory:// ends with this command; name a file or a server"));
        }
        Ok(())
    }
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let others = MemoryManager::builder()
        .with_project(memories.manager.project())
        .with_resource(built_in_resource())
        .with_flush_mode(FlushMode::Manual)
        .open(&args.to)
        .await?;
    if !args.all {
        let memory = memories.the_one().await?;
        return one(memories, &others, &memory, out).await;
    }
    let mut after = None;
    while let Some(page) = keys::page(memories, &mut after).await? {
        for key in page {
            let memory = memories.with_defaults(&memories.manager, &key)?;
            one(memories, &others, &memory, out).await?;
        }
    }
    Ok(())
}

async fn one(
    memories: &Memories,
    others: &MemoryManager,
    memory: &MemoryInstance,
    out: &mut Out,
) -> anyhow::Result<()> {
    let other = memories.with_defaults(others, memory.key())?;
    let receipt = memory.copy_to(&other).await?;
    report(&receipt, "copied", out)
}
