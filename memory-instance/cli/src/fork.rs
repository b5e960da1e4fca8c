//! `memory fork`.

use memory_core::Sequence;
use memory_instance::{ForkOptions, ForkReceipt};
use uuid::Uuid;

use crate::args::Memories;
use crate::out::Out;

/// Begin a new memory with the messages of another one, up to a number
///
/// The new memory is independent afterwards, and `memory health` names its origin. It has the archive and the receipts of
/// the messages that it took. A fork that was interrupted leaves a memory that cannot be opened; run the command again.
/// With the same --id, it then also reports a fork that was completed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory fork airline-other --key airline-00-0
  memory fork airline-other --key airline-00-0 --at 12      without the messages after number 12
  memory fork airline-other --key airline-00-0 --id 4a0d2c1e-93b5-4f0e-8f60-5a1a9f6f4c11")]
pub(crate) struct Args {
    /// The key of the new memory, in the same project and resource; or a storage key
    #[arg(value_name = "NEW")]
    new: String,
    /// The number of the last message that the new memory takes, see memory tail
    #[arg(long, value_name = "NUMBER")]
    at: Option<u64>,
    /// The id of the fork: run again with it, the command reports the result of the first run
    #[arg(long, value_name = "UUID")]
    id: Option<Uuid>,
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let new = memories.named_like(memory.key(), &args.new)?;
    let mut options = ForkOptions::new();
    options.at = args.at.map(Sequence::new);
    options.id = args.id;
    let receipt = memory.fork(&new, options).await?;
    if out.json() {
        return out.compact(&receipt);
    }
    let ForkReceipt { key, origin, completed_before, .. } = receipt;
    let before = if completed_before { " before" } else { "" };
    out.line(format!("{key}: forked from {} at message {}{before}", origin.key, origin.at))
}
