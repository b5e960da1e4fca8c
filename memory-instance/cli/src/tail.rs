//! `memory tail`.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use memory_core::dialect::Part;
use memory_core::store::{Cursor, MessageId, MessageMeta, Page};
use memory_core::{Message, StoredMessage};
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
    let page = memory
        .page_before(None, NonZeroUsize::new(args.lines).unwrap_or(NonZeroUsize::MIN))
        .await?;
    let shown = page.messages.len().min(args.lines);
    for stored in page.messages.iter().take(shown) {
        show(stored, out)?;
    }
    if !args.follow {
        return Ok(());
    }
    let mut followed = Followed::from(page);
    loop {
        out.flush()?;
        out.check_reader()?;
        tokio::time::sleep(TAIL_INTERVAL).await;
        let page = memory.page(Some(followed.cursor), None).await?;
        if page.restarted {
            note(if followed.went_back(&page) {
                "(the store returned to an earlier state: some of the messages above are lost)"
            } else {
                "(flushed or cleared: older messages were summarized or removed)"
            });
        }
        for stored in followed.news(page, args.lines) {
            show(&stored, out)?;
        }
    }
}

/// The messages that were shown, or were there before them.
struct Followed {
    cursor: Cursor,
    /// The messages before this one were there at first, and are not shown.
    first: Option<MessageMeta>,
    /// Ids, because a store that was rolled back assigns the places to other messages.
    known: HashSet<MessageId>,
}

impl From<Page> for Followed {
    fn from(page: Page) -> Self {
        let generation = page.cursor.generation;
        let start = Cursor::from(generation);
        Self {
            cursor: page
                .messages
                .last()
                .map_or(start, |newest| Cursor::at(generation, &newest.meta)),
            first: page.messages.first().map(|first| first.meta.clone()),
            known: page.messages.iter().map(|stored| stored.meta.id).collect(),
        }
    }
}

impl Followed {
    fn went_back(&self, page: &Page) -> bool {
        page.restarted && page.cursor.generation == self.cursor.generation
    }

    /// The messages of the page after the cursor that are to be shown; at most `lines` if the first that was shown
    /// is lost, because new messages before it cannot be recognized then.
    fn news(&mut self, page: Page, lines: usize) -> Vec<StoredMessage> {
        let went_back = self.went_back(&page);
        let newest = std::mem::replace(&mut self.cursor, page.cursor).sequence;
        if !page.restarted {
            self.known.extend(page.messages.iter().map(|stored| stored.meta.id));
            return page.messages;
        }
        // Places are given twice after a rollback, and after the end of a memory.
        let is_reused = went_back || page.cursor.sequence < newest;
        let first = self.first.take();
        let is_there =
            |first: &MessageMeta| page.messages.iter().any(|stored| stored.meta.id == first.id);
        let skipped = match &first {
            Some(first) if !is_reused || is_there(first) => {
                page.messages.partition_point(|stored| stored.meta.sequence < first.sequence)
            }
            Some(_) => page.messages.len().saturating_sub(lines),
            None => 0,
        };
        let ids = page.messages.iter().map(|stored| stored.meta.id).collect();
        let known = std::mem::replace(&mut self.known, ids);
        let is_new = |stored: &StoredMessage| {
            // Such a summary replaces messages that were shown.
            let is_known = !went_back && stored.meta.summary && stored.meta.sequence <= newest;
            !is_known && !known.contains(&stored.meta.id)
        };
        page.messages.into_iter().skip(skipped).filter(is_new).collect()
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
