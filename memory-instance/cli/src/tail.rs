//! `memory tail`.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use memory_core::changes::{Change, RemovalReason};
use memory_core::dialect::Part;
use memory_core::store::{Cursor, MessageId};
use memory_core::{Message, StoredMessage};
use memory_instance::WatchFrom;
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

/// The interval between checks whether the reader of the output is still there.
const READER_CHECK_INTERVAL: Duration = Duration::from_millis(200);

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
    let generation = page.cursor.generation;
    let newest = page.messages.last();
    let newest = newest.map_or(generation.into(), |newest| Cursor::at(generation, &newest.meta));
    let mut watcher = memory.watch(WatchFrom::After(newest)).await?;
    let mut followed = Followed::new(&page.messages, args.lines);
    loop {
        out.flush()?;
        out.check_reader()?;
        let next = tokio::time::timeout(READER_CHECK_INTERVAL, watcher.next());
        let Ok(change) = next.await else { continue };
        let change = match change {
            Ok(change) => change,
            // The watcher continues after a pause, and loses nothing.
            Err(error) if error.is_retryable() => {
                note(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let (told, new) = followed.apply(change);
        if let Some(told) = told {
            note(&told);
        }
        for stored in new {
            show(&stored, out)?;
        }
    }
}

/// The messages that were shown, or were there before them.
struct Followed {
    known: HashSet<MessageId>,
    lines: usize,
    /// All present messages follow, and those that were not shown yet are to be shown.
    lagged: bool,
}

impl Followed {
    fn new(messages: &[StoredMessage], lines: usize) -> Self {
        let known = messages.iter().map(|stored| stored.meta.id).collect();
        Self { known, lines, lagged: false }
    }

    /// A line about the change, and the messages to show.
    fn apply(&mut self, change: Change) -> (Option<String>, Vec<StoredMessage>) {
        match change {
            Change::Appended(messages) => (None, self.news(messages)),
            Change::Removed(removal) => {
                let how = match removal.reason {
                    RemovalReason::Summarized => "summarized",
                    RemovalReason::Evicted => "evicted",
                    _ => "removed",
                };
                let told = format!("(#{} to #{} were {how})", removal.first, removal.last);
                // After a restart these were mostly removed before the first message that was shown.
                (Some(told).filter(|_| !self.lagged), Vec::new())
            }
            Change::Replaced(message) => {
                let told = format!("(#{} was replaced)", message.meta.sequence);
                self.known.insert(message.meta.id);
                (Some(told), vec![(*message).clone()])
            }
            Change::Cleared { last } => {
                let told = format!("(cleared up to #{last})");
                (Some(told).filter(|_| !self.lagged), Vec::new())
            }
            Change::Lagged => {
                self.lagged = true;
                let told =
                    "(older messages were removed, or the store returned to an earlier state)";
                (Some(told.to_owned()), Vec::new())
            }
            _ => (None, Vec::new()),
        }
    }

    /// The messages that were not shown; after a restart at most `lines`.
    fn news(&mut self, messages: Vec<StoredMessage>) -> Vec<StoredMessage> {
        let mut new: Vec<_> =
            messages.into_iter().filter(|stored| self.known.insert(stored.meta.id)).collect();
        if std::mem::take(&mut self.lagged) {
            new.drain(..new.len().saturating_sub(self.lines));
        }
        new
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
