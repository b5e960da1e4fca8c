//! `memory replace` and `memory set`.

use std::io::Read as _;

use anyhow::Context as _;
use memory_core::{ContentType, Message, Priority, Sequence};
use memory_instance::{Edited, MemoryInstance};

use crate::args::Memories;
use crate::failure::usage;
use crate::out::Out;

/// Replace a message of a memory, for example to remove a secret from it
///
/// The message keeps its number, time, priority and content type. The old text is not kept in the archive; a copy that
/// a flush archived earlier is reached by memory erase alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory replace 12 --key airline-00-0 --text 'My card is [removed]'
  memory replace 12 --key airline-00-0 --json-message - < message.json")]
pub(crate) struct ReplaceArgs {
    /// The number of the message, see memory tail
    sequence: u64,
    /// The new text; role, name and call id stay
    #[arg(long, conflicts_with = "json_message")]
    text: Option<String>,
    /// The new message as JSON, in the format of any provider; - reads it from the standard input
    #[arg(long, value_name = "JSON")]
    json_message: Option<String>,
}

/// Set the priority or the content type of a message
///
/// Critical messages are never removed by a flush, and every window has them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory set 12 --key airline-00-0 --priority 0                      critical: no flush removes it
  memory set 12 --key airline-00-0 --content-type important_facts")]
pub(crate) struct SetArgs {
    /// The number of the message, see memory tail
    sequence: u64,
    /// 0 critical, 1 important, 2 and more optional
    #[arg(long, value_name = "NUMBER")]
    priority: Option<u8>,
    /// Such as important_facts, or any other word
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

impl ReplaceArgs {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.text.is_some() || self.json_message.is_some() {
            return Ok(());
        }
        Err(usage("replace needs --text or --json-message"))
    }
}

impl SetArgs {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.priority.is_some() || self.content_type.is_some() {
            return Ok(());
        }
        Err(usage("set needs --priority or --content-type"))
    }
}

pub(crate) async fn replace(
    memories: &Memories,
    args: &ReplaceArgs,
    out: &mut Out,
) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let place = Sequence::new(args.sequence);
    let message = match (&args.text, args.json_message.as_deref()) {
        (Some(text), _) => with_text(&memory, place, text).await?,
        (None, json) => {
            let mut line = json.unwrap_or_default().to_owned();
            if line == "-" {
                line.clear();
                std::io::stdin().read_to_string(&mut line).context("cannot read the message")?;
            }
            Message::from_json(line.trim())?
        }
    };
    report(&memory, memory.replace(place, message).await?, place, "replaced", out)
}

pub(crate) async fn set(memories: &Memories, args: &SetArgs, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let place = Sequence::new(args.sequence);
    let mut edited = None;
    if let Some(content_type) = &args.content_type {
        let content_type: ContentType = content_type.parse()?;
        edited = memory.set_content_type(place, content_type).await?;
    }
    if let Some(priority) = args.priority {
        edited = memory.set_priority(place, Priority::new(priority)).await?;
    }
    report(&memory, edited, place, "changed", out)
}

/// The message at a place with another text.
async fn with_text(
    memory: &MemoryInstance,
    place: Sequence,
    text: &str,
) -> anyhow::Result<Message> {
    let stored = memory.messages().await?;
    let Some(old) = stored.iter().find(|stored| stored.meta.sequence == place) else {
        return Err(missing(memory, place));
    };
    let mut message = old.message.to_value();
    let Some(fields) = message.as_object_mut().filter(|fields| fields.contains_key("content"))
    else {
        anyhow::bail!("message {place} of {} has no text; use --json-message", memory.key());
    };
    fields.insert("content".into(), text.into());
    Ok(Message::from_value(message)?)
}

fn missing(memory: &MemoryInstance, place: Sequence) -> anyhow::Error {
    anyhow::anyhow!("{}: there is no message {place} now; see memory tail", memory.key())
}

fn report(
    memory: &MemoryInstance,
    edited: Option<Edited>,
    place: Sequence,
    done: &str,
    out: &mut Out,
) -> anyhow::Result<()> {
    let Some(edited) = edited else { return Err(missing(memory, place)) };
    if out.json() {
        return out.compact(&edited);
    }
    let done = if edited.id == edited.replaced { "was so already" } else { done };
    out.line(format!("{}: message {place} {done}", memory.key()))?;
    if let Some(over) = edited.critical_over_budget {
        out.line(format!("  critical messages exceed the budget by {over} tokens"))?;
    }
    Ok(())
}
