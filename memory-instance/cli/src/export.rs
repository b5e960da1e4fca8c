//! `memory export`.

mod converter;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use memory_core::dialect::Dialect;
use memory_core::store::{PageLimit, Read};
use memory_core::{MemoryKey, Sequence};

use self::converter::Converter;
use crate::args::{Memories, PAGE};
use crate::failure::note;
use crate::keys;
use crate::out::Out;

/// Write the history as JSONL, messages exactly as they came in
///
/// Summaries that flushes wrote are part of the history: each is a system message at the place of the
/// messages that it replaced. With --all, the memories of every project and resource follow one another
/// in the order of `memory keys`. Priorities, summaries as such, receipts and the archive are not part of it: use
/// `memory backup` or `memory copy` to keep them.
///
/// With --format all messages are converted to one dialect and keep only the fields that the dialect knows.
/// Calls without an id get one, and their results get the same id. The losses of the conversion are reported
/// on stderr, once for each kind, with a count. The output is the history, not a request that a provider
/// accepts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory export --key airline-00-0 > one.jsonl
  memory export --key airline-00-0 --format anthropic > claude.jsonl
  memory export --all | gzip > history.jsonl.gz
  memory copy --all --to sqlite://copy.db           whole memories, with priorities and summaries
  memory backup airline.memory --key airline-00-0   the same in a file, see memory restore")]
pub(crate) struct Args {
    /// Every memory of the store
    #[arg(long)]
    all: bool,

    /// The dialect to convert messages to [default: none, messages as they came in]
    #[arg(long, value_name = "DIALECT", value_parser = dialects())]
    format: Option<Dialect>,
}

/// Reads the name of a dialect.
fn dialects() -> impl TypedValueParser<Value = Dialect> {
    let values = Dialect::ALL.map(|dialect| {
        let alias = (dialect == Dialect::AiSdk).then_some("ai-sdk");
        PossibleValue::new(dialect.as_str()).aliases(alias)
    });
    PossibleValuesParser::new(values).try_map(|name| name.replace('-', "_").parse::<Dialect>())
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let mut converter = args.format.map(Converter::new);
    if args.all {
        let mut after = None;
        while let Some(page) = keys::page(memories, &mut after).await? {
            for key in &page {
                one(memories, key, converter.as_mut(), out).await?;
            }
        }
    } else {
        let memory = memories.the_one().await?;
        one(memories, memory.key(), converter.as_mut(), out).await?;
    }
    if let (Some(converter), Some(dialect)) = (converter, args.format) {
        // Data first, so that notes do not interrupt it on a terminal.
        out.flush()?;
        for (loss, count) in converter.losses() {
            note(format_args!("converted to {dialect}: {loss} ({count} x)"));
        }
    }
    Ok(())
}

/// The size of a page.
const LIMIT: PageLimit = PageLimit { messages: PAGE, bytes: 512 << 10 };

/// Reads page by page, so that a long history takes little memory.
async fn one(
    memories: &Memories,
    key: &MemoryKey,
    mut converter: Option<&mut Converter>,
    out: &mut Out,
) -> anyhow::Result<()> {
    let mut read = Read { after: None, limit: Some(LIMIT) };
    let mut written = Sequence::ZERO;
    loop {
        let page = memories.manager.store().read(key, read).await?;
        for stored in &page.messages {
            // After a flush between two pages the reading starts over.
            if stored.meta.sequence <= written {
                continue;
            }
            written = stored.meta.sequence;
            match &mut converter {
                None => out.compact(&stored.message)?,
                Some(converter) => {
                    for json in converter.push(stored.message.clone()) {
                        out.compact(&json)?;
                    }
                }
            }
        }
        if !page.more {
            break;
        }
        read.after = Some(page.cursor);
    }
    for json in converter.map(Converter::finish).unwrap_or_default() {
        out.compact(&json)?;
    }
    Ok(())
}
