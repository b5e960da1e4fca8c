//! `memory fork`.

use memory_core::Sequence;
use memory_instance::ForkOptions;

use crate::args::Memories;
use crate::out::Out;

/// Begin a new memory with the messages of another one, up to a number
///
/// The new memory is independent afterwards, and `memory health` names its origin. It has the archive and the receipts of
/// the messages that it took. A fork that was interrupted leaves a memory that cannot be opened; run the command again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory fork airline-other --key airline-00-0
  memory fork airline-other --key airline-00-0 --at 12      without the messages after number 12")]
pub(crate) struct Args {
    /// The key of the new memory, in the same project and resource; or a storage key
    #[arg(value_name = "NEW")]
    new: String,
    /// The number of the last message that the new memory takes, see memory tail
    #[arg(long, value_name = "NUMBER")]
    at: Option<u64>,
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let new = memories.named_like(memory.key(), &args.new)?;
    let mut options = ForkOptions::new();
    options.at = args.at.map(Sequence::new);
    let receipt = memory.fork(&new, options).await?;
    if out.json() {
        return out.compact(&receipt);
    }
    let origin = receipt.origin;
    out.line(format!("{}: forked from {} at message {}", receipt.key, origin.key, origin.at))
}
