//! `memory list-keys`.

use std::num::NonZeroUsize;

use memory_instance::{KeyPattern, KeyTemplate, MemoryKey, MemoryManager};
use serde::Serialize;

use crate::args::Memories;
use crate::failure::{note, usage};
use crate::out::{Out, count};

/// List the keys of a resource that match a pattern, in the project of --project
///
/// A `*` in --key is a wildcard: any run of characters. One that a --var brings is a letter. Begin the pattern with a text,
/// because all memories whose keys begin with it are looked at.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory list-keys --key 'case-*-open' --of support
  memory list-keys --key '{{ user }}-*' --var user=ann --limit 100
  memory list-keys --hashed --json")]
pub(crate) struct Args {
    /// The id of the resource [default: that of --resource]
    #[arg(long, value_name = "RESOURCE")]
    of: Option<String>,
    /// List at most this many keys, 1 to 50,000
    #[arg(long, value_name = "NUMBER", default_value = "10000")]
    limit: NonZeroUsize,
    /// Print the SHA-256 of each key, as in the audit log, in place of the key
    #[arg(long)]
    hashed: bool,
}

#[derive(Debug, Serialize)]
struct Listed {
    keys: Vec<String>,
    hashed: bool,
    truncated: bool,
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let manager = &memories.manager;
    let most = MemoryManager::MAX_KEYS;
    if args.limit > most {
        return Err(usage(format!("--limit {} is over {most}; list in parts", args.limit)));
    }
    let pattern = match &memories.key {
        Some(template) => KeyTemplate::parse(template)?.render_pattern(&memories.variables)?,
        None => KeyPattern::parse("*"),
    };
    let resource = args.of.as_deref().unwrap_or(&memories.resource.id);
    let listing = manager.list_keys(resource, &pattern, None, args.limit).await?;
    let shown = |key: &MemoryKey| if args.hashed { key.sha256() } else { key.to_string() };
    let keys: Vec<_> = listing.keys.iter().map(shown).collect();
    if out.json() {
        let (hashed, truncated) = (args.hashed, listing.truncated);
        return out.compact(&Listed { keys, hashed, truncated });
    }
    for key in &keys {
        out.line(key)?;
    }
    let found = count(keys.len() as u64, "memory", "memories");
    let more = if listing.truncated { "; there are more, raise --limit" } else { "" };
    note(format_args!("{found} of resource `{resource}` in project `{}`{more}", manager.project()));
    Ok(())
}
