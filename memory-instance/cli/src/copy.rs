//! `memory copy`.

use std::time::Duration;

use memory_core::MemoryKey;
use memory_core::store::{ExpiredMemories, UnusedQuery};
use memory_instance::check_url;
use memory_instance::{FlushMode, MemoryInstance, MemoryManager};

use crate::args::{Memories, PAGE, built_in_resource};
use crate::backup::report;
use crate::failure::{note, usage};
use crate::keys;
use crate::out::{Out, count};

/// Copy memories to another store: messages with priorities, summaries, receipts, the archive
///
/// A copy equals the original in every command and has the same key, which must have no memory there. If the command was
/// interrupted, run it again: it continues, and passes over memories that it has copied before. A memory that changed
/// since it was copied is refused and reported; the others are copied. A memory whose copy is not complete cannot be
/// opened.
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
    let mut failed = 0_u64;
    let mut after = None;
    while let Some(page) = keys::page(memories, &mut after).await? {
        for key in page {
            failed += u64::from(!copied(memories, &others, &key, out).await?);
        }
    }
    // Those that have no message any more, and an archive.
    let mut after = None;
    loop {
        let query = UnusedQuery {
            prefix: MemoryKey::project_prefix(memories.manager.project()),
            after,
            expired: ExpiredMemories::Ignored,
            unwritten_for: Some(Duration::ZERO),
            limit: PAGE,
        };
        let page = memories.manager.store().unused(&query).await?;
        for memory in page.memories.iter().filter(|memory| memory.messages == 0) {
            failed += u64::from(!copied(memories, &others, &memory.key, out).await?);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if failed == 0 {
        return Ok(());
    }
    let failed = count(failed, "memory was", "memories were");
    anyhow::bail!("{failed} not copied; see above, and run the command again")
}

/// Copies a memory, or reports why it cannot be copied, so that the others are.
async fn copied(
    memories: &Memories,
    others: &MemoryManager,
    key: &MemoryKey,
    out: &mut Out,
) -> anyhow::Result<bool> {
    let memory = memories.with_defaults(&memories.manager, key)?;
    match one(memories, others, &memory, out).await {
        Ok(()) => Ok(true),
        Err(error) => {
            note(format_args!("{key}: {error:#}"));
            Ok(false)
        }
    }
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
