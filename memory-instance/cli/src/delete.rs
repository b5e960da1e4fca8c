//! `memory delete`.

use memory_instance::DeletionReceipt;

use crate::args::Memories;
use crate::erase::{Report, report_checkpoint};
use crate::failure::usage;
use crate::out::{Out, count};

/// Delete a memory with its archive and all records
///
/// The memory then reads like one that was never written. Only what fences stale leases off remains.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory delete --key airline-00-0 --yes
  memory delete --key airline-00-0 --yes --checkpoint")]
pub(crate) struct Args {
    /// Confirm the deletion
    #[arg(long)]
    yes: bool,
    /// Rewrite a SQLite file and truncate its log, so that its free space has no remains; other writers wait meanwhile
    #[arg(long)]
    checkpoint: bool,
}

impl Args {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        Err(usage("delete removes the memory and its archive; add --yes to do that"))
    }
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let mut receipt = memory.delete().await?;
    let mut checkpoint = None;
    if args.checkpoint {
        let scrubbed = memories.manager.scrub().await?;
        receipt = receipt.after(scrubbed);
        checkpoint = Some(scrubbed);
    }
    if out.json() {
        return out.compact(&Report { receipt, rewritten: None, checkpoint });
    }
    let DeletionReceipt { messages, remaining, .. } = receipt;
    let deleted = count(messages, "message", "messages");
    out.line(format!("{}: deleted, with {deleted}", memory.key()))?;
    for copy in remaining {
        out.line(format!("  not reached: {}", copy.as_str()))?;
    }
    report_checkpoint(checkpoint, out)
}
