//! `memory search`.

use std::num::NonZeroUsize;

use jiff::Timestamp;
use memory_core::Sequence;
use memory_core::store::{FoundIn, MAX_SEARCH_HITS, SearchHit, SearchQuery, SearchScope};

use crate::args::Memories;
use crate::escape;
use crate::failure::{note, usage};
use crate::out::{Out, count};

/// Search the messages of a memory, present and archived, for words
///
/// Finds messages in which all words occur: in texts, reasoning, calls and results of tools. Upper and lower case and
/// accents make no difference. A phrase is put in double quotes, and refund* finds words that begin so. In scripts
/// without spaces, such as Chinese, a query is found anywhere.
///
/// A SQLite file has an index, which a search brings up to date. On Redis a search reads up to 10,000 messages, the newest
/// first, and reports where to continue.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory search 'ferry refund*' --key airline-00-0
  memory search '\"order 4711\"' --key airline-00-0 --archived
  memory search ferry --key airline-00-0 --role user --since 2026-01-31
  memory search --rebuild --key airline-00-0")]
pub(crate) struct Args {
    /// The words and phrases
    #[arg(value_name = "TEXT", required_unless_present = "rebuild")]
    text: Option<String>,
    /// Only messages of this role; may be repeated
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// Only messages from this time on, such as 2026-01-31 or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only messages before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Only present messages
    #[arg(long, conflicts_with = "archived")]
    present: bool,
    /// Only archived messages
    #[arg(long)]
    archived: bool,
    /// How many messages to show, the best ones
    #[arg(short = 'n', long, default_value = "20")]
    limit: NonZeroUsize,
    /// Only messages before this one, to continue a search
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// Build the index of a SQLite file anew, such as after it was damaged
    #[arg(long)]
    rebuild: bool,
}

impl Args {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.limit.get() > MAX_SEARCH_HITS {
            return Err(usage(format!("search shows at most {MAX_SEARCH_HITS} messages")));
        }
        Ok(())
    }

    fn query(&self, text: &str) -> SearchQuery {
        let mut query = SearchQuery::new(text).with_limit(self.limit).with_scope(
            match (self.present, self.archived) {
                (true, _) => SearchScope::Present,
                (_, true) => SearchScope::Archived,
                _ => SearchScope::All,
            },
        );
        query.roles = self.role.iter().map(|role| role.as_str().into()).collect();
        (query.since, query.until) = (self.since, self.until);
        query.before = self.before.map(Sequence::new);
        query
    }
}

/// A time, or the start of a day in UTC.
fn time(text: &str) -> Result<Timestamp, String> {
    let day = || format!("{text}T00:00:00Z").parse();
    let parsed = text.parse().or_else(|_| day());
    parsed.map_err(|_: jiff::Error| "a time is 2026-01-31 or 2026-01-31T12:00:00Z".to_owned())
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    if args.rebuild {
        let places = memory.rebuild_index().await?;
        if out.json() && args.text.is_none() {
            return out.compact(&serde_json::json!({ "indexed": places }));
        }
        let done = match places {
            Some(places) => {
                let indexed = count(places, "message", "messages");
                format!("{}: {indexed} indexed", memory.key())
            }
            None => "this store has no index; a search reads the messages".to_owned(),
        };
        if args.text.is_none() {
            return out.line(done);
        }
        note(done);
    }
    let Some(text) = &args.text else { return Ok(()) };
    let results = memory.search(&args.query(text)).await?;
    if out.json() {
        return out.compact(&results);
    }
    for hit in &results.hits {
        out.line(shown(hit))?;
    }
    let shown = u64::try_from(results.hits.len()).unwrap_or(u64::MAX);
    if results.matches > shown {
        note(format_args!("({shown} of {} are shown; --limit shows more)", results.matches));
    }
    match results.coverage.next() {
        Some(before) => {
            note(format_args!("(searched from #{before} on; continue with --before {before})"));
        }
        None if results.hits.is_empty() => note("(nothing found)"),
        None => {}
    }
    Ok(())
}

fn shown(hit: &SearchHit) -> String {
    let SearchHit { sequence, role, created_at, summary, found_in, snippet, .. } = hit;
    let place = match found_in {
        FoundIn::Archived { removal } => format!(", archived in removal {removal}"),
        _ => String::new(),
    };
    let summary = if *summary { ", summary" } else { "" };
    let (role, text) = (escape::inline(role.as_str()), escape::inline(&snippet.text));
    format!("#{sequence} {role} ({created_at:.0}{summary}{place}): {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_or_moments() {
        assert_eq!(time("1970-01-02").unwrap().as_second(), 86_400);
        assert_eq!(time("1970-01-01T00:01:00Z").unwrap().as_second(), 60);
        assert!(time("yesterday").is_err());
    }
}
