//! `memory tail`.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::Duration;

use memory_core::changes::{Change, RemovalReason};
use memory_core::dialect::Part;
use memory_core::store::{Cursor, MessageId, StoreErrorKind};
use memory_core::{Message, StoredMessage};
use memory_instance::{MemoryError, WatchFrom, Watcher};
use serde_json::json;
use tokio::time::timeout;

use crate::args::Memories;
use crate::escape;
use crate::failure::note;
use crate::out::Out;

/// Show the last messages, and with -f new ones as they arrive
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory tail --key airline-00-0
  memory tail --key airline-00-0 -n 3 -f
  memory tail --key airline-00-0 -f --json | jq -r .message.content")]
pub(crate) struct Args {
    /// Show new messages until interrupted
    #[arg(short, long)]
    follow: bool,

    /// How many of the last messages to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: usize,
}

/// The interval between checks whether the reader of the output is still there.
const READER_CHECK_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let limit = NonZeroUsize::new(args.lines).unwrap_or(NonZeroUsize::MIN);
    let mut known = HashSet::new();
    loop {
        let page = memory.page_before(None, limit).await?;
        for stored in page.messages.iter().take(page.messages.len().min(args.lines)) {
            if known.insert(stored.meta.id) {
                show(stored, out)?;
            }
        }
        if !args.follow {
            return Ok(());
        }
        let generation = page.cursor.generation;
        let newest = page.messages.last();
        let newest =
            newest.map_or(generation.into(), |newest| Cursor::at(generation, &newest.meta));
        let mut watcher = memory.watch(WatchFrom::After(newest)).await?;
        follow(&mut watcher, &mut known, out).await?;
        note("(older messages were removed, or the store returned to an earlier state)");
    }
}

/// Shows what comes, until the watcher starts over.
async fn follow(
    watcher: &mut Watcher,
    known: &mut HashSet<MessageId>,
    out: &mut Out,
) -> anyhow::Result<()> {
    loop {
        out.flush()?;
        let change = {
            let mut next = pin!(watcher.next());
            loop {
                out.check_reader()?;
                if let Ok(change) = timeout(READER_CHECK_INTERVAL, &mut next).await {
                    break change;
                }
            }
        };
        match change {
            Ok(Change::Appended(messages)) => {
                for stored in &messages {
                    known.insert(stored.meta.id);
                    show(stored, out)?;
                }
            }
            Ok(Change::Removed(removal)) => {
                let how = match removal.reason {
                    RemovalReason::Summarized => "summarized",
                    RemovalReason::Evicted => "evicted",
                    RemovalReason::Undone => "undone",
                    _ => "removed",
                };
                note(format_args!("(#{} to #{} were {how})", removal.first, removal.last));
            }
            Ok(Change::Restored(messages)) => {
                for stored in &messages {
                    note(format_args!("(#{} was restored)", stored.meta.sequence));
                    known.insert(stored.meta.id);
                    show(stored, out)?;
                }
            }
            Ok(Change::Replaced(message)) => {
                note(format_args!("(#{} was replaced)", message.meta.sequence));
                known.insert(message.meta.id);
                show(&message, out)?;
            }
            Ok(Change::Cleared { last }) => note(format_args!("(cleared up to #{last})")),
            Ok(Change::Lagged) => return Ok(()),
            Ok(_) => {}
            // The watcher continues after a pause, and loses nothing.
            Err(error) if is_passing(&error) => note(error),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A full server still answers reads.
fn is_passing(error: &MemoryError) -> bool {
    error.is_retryable() || matches!(error.store_kind(), Some(StoreErrorKind::Full(..)))
}

pub(crate) fn show(stored: &StoredMessage, out: &mut Out) -> anyhow::Result<()> {
    let StoredMessage { meta, message, .. } = stored;
    if out.json() {
        return out.compact(&json!({
            "sequence": meta.sequence, "tokens": meta.tokens, "summary": meta.summary, "message": message,
        }));
    }
    out.line(format!("#{} {}", meta.sequence, readable(message)))
}

fn readable(message: &Message) -> String {
    let mut text = escape::inline(message.role().as_str()).into_owned();
    if let Some(name) = message.name() {
        text.push_str(&format!(" ({})", escape::inline(name)));
    }
    text.push(':');
    // The lines after the first are indented, to separate the messages.
    for (index, line) in message.text().lines().enumerate() {
        text.push_str(if index == 0 { " " } else { "\n    " });
        text.push_str(line);
    }
    message.read(&mut |part| {
        if let Part::Call(call) = part {
            let name = if call.name.is_empty() { "?" } else { call.name };
            let call = format!("{name}({})", call.arguments.to_text());
            text.push_str(&format!(" -> {}", escape::inline(&call)));
        }
    });
    text
}
