//! `memory erase`.

use memory_core::Sequence;
use memory_core::store::{Erasure, Scrubbed};
use memory_instance::{ErasureReceipt, RewriteOutcome, RewrittenSummary};
use serde::Serialize;

use crate::args::Memories;
use crate::failure::usage;
use crate::out::{Out, count};

/// Erase messages of a memory, present and archived
///
/// All messages that have or had these numbers are removed, also a summary. The messages count as withdrawn, and flushes that
/// removed one of them can no longer be undone. The reason is recorded, so it must not repeat what is erased. Metadata is
/// left as it is, see memory metadata. The command lists summaries that may repeat it, and copies that it could not reach.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory erase 12 --key airline-00-0 --reason 'request 4711'
  memory erase 12,15-18 --key airline-00-0 --reason 'request 4711' --rewrite-summaries --checkpoint")]
pub(crate) struct Args {
    /// The numbers of the messages, such as 12,15-18; see memory tail and memory archive
    #[arg(value_name = "SEQUENCES")]
    sequences: String,
    /// Why, in at most 256 bytes
    #[arg(long)]
    reason: String,
    /// Write summaries that may repeat them anew, from the other messages in the archive
    #[arg(long)]
    rewrite_summaries: bool,
    /// Rewrite a SQLite file and truncate its log, so that its free space has no remains; other writers wait meanwhile
    #[arg(long)]
    checkpoint: bool,
}

impl Args {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        places(&self.sequences).map(drop)
    }
}

/// A receipt, and the result of the checkpoint if there was one.
#[derive(Debug, Serialize)]
pub(crate) struct Report<T> {
    #[serde(flatten)]
    pub(crate) receipt: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rewritten: Option<Vec<RewrittenSummary>>,
    pub(crate) checkpoint: Option<Scrubbed>,
}

fn places(sequences: &str) -> anyhow::Result<Vec<Sequence>> {
    let wrong = || usage("erase needs numbers and ranges of messages, such as 12,15-18");
    let mut places = Vec::new();
    for part in sequences.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let parsed = first.trim().parse::<u64>().ok().zip(last.trim().parse::<u64>().ok());
        let (first, last) = parsed.filter(|(first, last)| first <= last).ok_or_else(wrong)?;
        if last - first >= memory_core::store::Erase::MAX_PLACES {
            return Err(usage("erase takes at most 1,000 messages at once; erase them in parts"));
        }
        places.extend((first..=last).map(Sequence::new));
    }
    Ok(places)
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let mut receipt = memory.erase(places(&args.sequences)?, &args.reason).await?;
    let mut rewritten = None;
    if args.rewrite_summaries {
        rewritten = Some(memory.rewrite_summaries(&receipt.erasure).await?);
    }
    let mut checkpoint = None;
    if args.checkpoint {
        let scrubbed = memories.manager.scrub().await?;
        receipt = receipt.after(scrubbed);
        checkpoint = Some(scrubbed);
    }
    if out.json() {
        return out.compact(&Report { receipt, rewritten, checkpoint });
    }
    let ErasureReceipt {
        erasure: Erasure { messages, not_found, summaries, .. }, remaining, ..
    } = receipt;
    let erased = count(messages, "message", "messages");
    out.line(format!("{}: {erased} erased, {} not found", memory.key(), not_found.len()))?;
    let outcomes = rewritten.unwrap_or_default();
    for (index, summary) in summaries.into_iter().enumerate() {
        let place = match summary.removal {
            Some(removal) => format!("{} in the archive, removal {removal}", summary.sequence),
            None => summary.sequence.to_string(),
        };
        let outcome = match outcomes.get(index).map(|one| one.outcome) {
            Some(RewriteOutcome::Rewritten { .. }) => "was rewritten",
            Some(RewriteOutcome::Removed) => "was removed, too little was left for a summary",
            Some(RewriteOutcome::NoOriginals) => {
                "may repeat it, and could not be rewritten without its messages"
            }
            Some(RewriteOutcome::Gone) => "was replaced meanwhile; run the command again",
            _ => "may repeat it",
        };
        out.line(format!("  summary {place} {outcome}"))?;
    }
    for copy in remaining {
        out.line(format!("  not reached: {}", copy.as_str()))?;
    }
    report_checkpoint(checkpoint, out)
}

/// Reports a checkpoint that was not completed.
pub(crate) fn report_checkpoint(checkpoint: Option<Scrubbed>, out: &mut Out) -> anyhow::Result<()> {
    match checkpoint {
        Some(Scrubbed::Busy) => out
            .line("  checkpoint: another program used the file; run the command again".to_owned()),
        Some(Scrubbed::Unsupported) => {
            out.line("  checkpoint: this store has no files to rewrite".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_numbers_and_ranges() {
        let numbers = |text: &str| -> Option<Vec<u64>> {
            Some(places(text).ok()?.into_iter().map(Sequence::number).collect())
        };
        assert_eq!(numbers("12, 15-17"), Some(vec![12, 15, 16, 17]));
        for wrong in ["", "x", "3-2", "1,,2", "1-2000", "-4", "0-18446744073709551615"] {
            assert_eq!(numbers(wrong), None, "{wrong}");
        }
    }
}
