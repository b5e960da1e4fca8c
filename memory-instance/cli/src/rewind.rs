//! `memory rewind`.

use memory_core::Sequence;
use memory_instance::Conditional;

use crate::args::Memories;
use crate::failure::usage;
use crate::kept::{ArchiveBefore, WithKept};
use crate::out::{Out, count};

/// Take back the newest messages of a memory
///
/// A tool call and its results are taken back together. The messages count as withdrawn, and their numbers are
/// not used again. The archive keeps them by the settings of the resource, and the command reports whether it did: a memory
/// of a resource other than the built-in `default` needs --resource. If another program writes meanwhile, nothing is taken back and the command fails; run it
/// again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory rewind --key airline-00-0 --turn           the newest message of the user and what follows it
  memory rewind --key airline-00-0 --to 12          all messages after number 12, see memory tail")]
pub(crate) struct Args {
    /// Take back the newest message of the user and all messages after it
    #[arg(long, conflicts_with = "to")]
    turn: bool,
    /// Take back all messages after this number
    #[arg(long, value_name = "NUMBER")]
    to: Option<u64>,
}

impl Args {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.turn || self.to.is_some() {
            return Ok(());
        }
        Err(usage("rewind needs --turn, or --to with the number of the last message to keep"))
    }
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one_to_remove_from(None).await?;
    let archive = ArchiveBefore::of(&memory).await?;
    let version = memory.version().await?;
    let done = match args.to {
        Some(to) => memory.rewind(Sequence::new(to), version).await?,
        None => memory.pop_turn(version).await?,
    };
    let withdrawal = match done {
        Conditional::Applied(withdrawal) => withdrawal,
        Conditional::Conflict(conflict) => {
            let came = count(conflict.came.len() as u64, "message", "messages");
            anyhow::bail!(
                "{}: {came} came meanwhile, and nothing was taken back; run the command again",
                memory.key()
            );
        }
    };
    let receipt = withdrawal.receipt;
    let withdrawn = receipt.as_ref().map_or(0, |receipt| receipt.withdrawn.len());
    let kept = archive.kept(withdrawn).await?;
    if out.json() {
        let value = receipt.as_ref().map(|value| WithKept { value, kept_in_archive: kept });
        return out.compact(&value);
    }
    let withdrawn = count(withdrawn, "message", "messages");
    out.line(format!("{}: {withdrawn} taken back{kept}", memory.key()))
}
