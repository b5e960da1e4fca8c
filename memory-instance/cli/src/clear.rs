//! `memory clear`.

use std::path::PathBuf;

use crate::args::Memories;
use crate::backup::FileSink;
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
  memory clear --key airline-00-0 --yes --purge
  memory clear --key airline-00-0 --yes --backup airline.memory")]
pub(crate) struct Args {
    /// Confirm the removal
    #[arg(long)]
    yes: bool,
    /// Remove the archive too
    #[arg(long)]
    purge: bool,
    /// Write the memory to this file first, as memory backup does. If that fails, nothing is removed. The file has exactly
    /// the messages that are removed, and must not exist yet
    #[arg(long, value_name = "FILE", conflicts_with = "purge")]
    backup: Option<PathBuf>,
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
    if let Some(file) = &args.backup {
        let done = memory.clear_with_backup(&mut FileSink::file(file)).await?;
        if out.json() {
            return out.compact(&done);
        }
        let cleared = kept::cleared(done.cleared.receipt);
        return out.line(format!("{}: {cleared}; backed up to {}", memory.key(), done.place));
    }
    let cleared = if args.purge { memory.purge().await? } else { memory.clear().await? };
    if out.json() {
        return out.compact(&cleared);
    }
    out.line(format!("{}: {}", memory.key(), kept::cleared(cleared.receipt)))
}
