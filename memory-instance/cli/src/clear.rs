//! `memory clear`.

use crate::args::Memories;
use crate::failure::usage;
use crate::kept;
use crate::out::Out;

/// Remove all messages of a memory
///
/// The archive of the memory keeps the removed messages for 30 days, unless its resource says otherwise (`archive: {
/// keep: none }`); --purge removes them and the archive at once. Without --purge, a memory of a resource other than the
/// built-in `default` needs --resource, whose archive settings apply. Messages that alone exceed the bytes of the archive
/// are not kept. The command prints a receipt, which is not stored: the messages, their tokens and the number in the archive.
/// Flush receipts are removed too. The
/// removed messages count as cleared. The memory still recognizes its imports: importing the same file again appends nothing,
/// unless `memory import` gets another --source.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory clear --key airline-00-0 --yes
  memory clear --key airline-00-0 --yes --resource support.yaml
  memory clear --key airline-00-0 --yes --purge")]
pub(crate) struct Args {
    /// Confirm the removal
    #[arg(long)]
    yes: bool,
    /// Remove the archive too
    #[arg(long)]
    purge: bool,
}

impl Args {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        Err(usage("clear removes all messages of the memory; add --yes to do that"))
    }
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = if args.purge {
        memories.the_one().await?
    } else {
        let purge = "add --purge to remove the archive too";
        memories.the_one_to_remove_from(Some(purge)).await?
    };
    let cleared = if args.purge { memory.purge().await? } else { memory.clear().await? };
    if out.json() {
        return out.compact(&cleared);
    }
    out.line(format!("{}: {}", memory.key(), kept::cleared(cleared.receipt)))
}
