//! `memory replace-all`.

use std::path::PathBuf;

use memory_core::Sequence;
use memory_instance::Conditional;

use crate::args::{Memories, check_ttl};
use crate::failure::usage;
use crate::import;
use crate::import::formats::{self, Format};
use crate::kept;
use crate::out::{Out, count};

/// Replace all messages of a memory by those of a file, in one step
///
/// No reader sees the memory empty or with both. The old messages count as cleared, and its archive keeps them as
/// after memory clear. A memory with a TTL, or of a resource other than the built-in `default`, needs --resource. The file
/// has at most as many messages as a batch: 10,000, unless the resource says otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory export --key case-7 > case-7.jsonl              (then change the file)
  memory replace-all case-7.jsonl --key case-7 --yes
  memory replace-all case-7.jsonl --key case-7 --yes --expected 12     (only if message 12 is the newest)")]
pub(crate) struct Args {
    /// A file of messages, as for memory import; - is stdin
    file: PathBuf,
    /// Confirm the removal of the old messages
    #[arg(long)]
    yes: bool,
    /// The number of the newest message that was seen, see memory tail: if another one is there, nothing is replaced
    #[arg(long, value_name = "NUMBER")]
    expected: Option<u64>,
    /// The format of every record [default: detected for each record]
    #[arg(long, value_name = "NAME", value_parser = formats::parser())]
    format: Option<&'static Format>,
}

impl Args {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        Err(usage("replace-all removes all messages of the memory; add --yes to do that"))
    }
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one_to_remove_from(None).await?;
    if !memories.resource_given {
        check_ttl(&**memories.manager.store(), memory.key()).await?;
    }
    let messages = import::read_for(memories, memory.key(), &args.file, args.format).await?;
    let mut version = None;
    if let Some(expected) = args.expected {
        let now = memory.version().await?;
        let newest = now.cursor().sequence;
        if newest != Sequence::new(expected) {
            anyhow::bail!(
                "{}: the newest message is {newest}, not {expected}; nothing was replaced",
                memory.key()
            );
        }
        version = Some(now);
    }
    let replaced = match memory.replace_all(messages, version).await? {
        Conditional::Applied(replaced) => replaced,
        Conditional::Conflict(_) => {
            anyhow::bail!("{}: another message came meanwhile; nothing was replaced", memory.key());
        }
    };
    if out.json() {
        return out.compact(&replaced);
    }
    let cleared = kept::cleared(replaced.receipt);
    let present = count(replaced.appended.counters.present.messages, "message", "messages");
    out.line(format!("{}: {cleared}, and replaced by {present}", memory.key()))
}
