//! `memory tail`.

use std::collections::HashSet;
use std::time::Duration;

use memory_core::dialect::Part;
use memory_core::store::{Cursor, MessageId};
use memory_core::{Message, Sequence, StoredMessage};
use serde_json::json;

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

/// The polling interval for new messages; a poll that finds none costs one small read.
const TAIL_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let outline = memories.manager.store().outline(memory.key()).await?;
    let skipped = outline.metas.len().saturating_sub(args.lines);
    let skipped = outline.metas.get(..skipped).unwrap_or_default();
    // Compares ids, because a store that was rolled back assigns the places to other messages.
    let mut shown: HashSet<MessageId> = skipped.iter().map(|meta| meta.id).collect();
    let mut newest = skipped.last().map_or(Sequence::ZERO, |meta| meta.sequence);
    let start = Cursor::from(outline.head.generation);
    let mut cursor = skipped.last().map_or(start, |meta| Cursor::at(outline.head.generation, meta));
    loop {
        let page = memory.page(Some(cursor), None).await?;
        let went_back = page.restarted && page.cursor.generation == cursor.generation;
        if page.restarted && args.follow {
            note(if went_back {
                "(the store returned to an earlier state: some of the messages above are lost)"
            } else {
                "(flushed or cleared: older messages were summarized or removed)"
            });
        }
        for stored in &page.messages {
            let meta = &stored.meta;
            // Such a summary replaces messages that were shown.
            let is_known = page.restarted && !went_back && meta.summary && meta.sequence <= newest;
            if shown.insert(meta.id) && !is_known {
                show(stored, out)?;
            }
        }
        if page.restarted {
            shown = page.messages.iter().map(|stored| stored.meta.id).collect();
        }
        newest = page.cursor.sequence;
        cursor = page.cursor;
        if !args.follow {
            return Ok(());
        }
        out.flush()?;
        out.check_reader()?;
        tokio::time::sleep(TAIL_INTERVAL).await;
    }
}

fn show(stored: &StoredMessage, out: &mut Out) -> anyhow::Result<()> {
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
