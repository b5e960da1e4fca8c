//! `memory export`.

use memory_core::{MemoryKey, Read, Sequence};

use crate::args::{Memories, PAGE};
use crate::keys;
use crate::out::Out;

/// Write the history as JSONL, messages exactly as they came in
///
/// Summaries that flushes wrote are part of the history: they stand as system messages where the
/// messages stood that they replaced. With --all, memories come one after another in the order of
/// `memory keys`, of every project and resource.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory export --key airline-00-0 > one.jsonl
  memory export --all | gzip > backup.jsonl.gz
  memory export --all | memory import - --store sqlite://copy.db --key '{{ line.conversation_id }}'")]
pub(crate) struct Args {
    /// Every memory of the store
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    if !args.all {
        let memory = memories.the_one().await?;
        return one(memories, memory.key(), out).await;
    }
    let mut after = None;
    while let Some(page) = keys::page(memories, &mut after).await? {
        for key in &page {
            one(memories, key, out).await?;
        }
    }
    Ok(())
}

/// Page by page, so that a long history takes little room.
async fn one(memories: &Memories, key: &MemoryKey, out: &mut Out) -> anyhow::Result<()> {
    let mut read = Read { after: None, limit: Some(PAGE) };
    let mut written = Sequence::ZERO;
    loop {
        let page = memories.manager.store().read(key, read).await?;
        for stored in &page.messages {
            // After a flush between two pages the reading starts over.
            if stored.meta.sequence > written {
                out.compact(&stored.message)?;
                written = stored.meta.sequence;
            }
        }
        if !page.more {
            return Ok(());
        }
        read.after = Some(page.cursor);
    }
}
