//! `memory keys`.

use memory_core::MemoryKey;
use serde::Serialize;

use crate::args::{Memories, PAGE};
use crate::escape;
use crate::out::{Out, count, number, table};

/// List the memories that have messages, of every project and resource
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory keys
  memory keys --of support --prefix case-
  memory keys --store redis://localhost
  memory keys --json | jq -r '.[] | select(.messages > 100) | .name'")]
pub(crate) struct Args {
    /// Only those of the resource with this id, in the project of --project
    #[arg(long, value_name = "RESOURCE")]
    of: Option<String>,

    /// Only those whose rendered key begins with this
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,
}

impl Args {
    /// The next keys, or none at the end.
    async fn page(
        &self,
        memories: &Memories,
        after: &mut Option<MemoryKey>,
    ) -> anyhow::Result<Option<Vec<MemoryKey>>> {
        let Some(resource) = &self.of else {
            let page = page(memories, after).await?;
            return Ok(page.map(|mut keys| {
                keys.retain(|key| {
                    key.parts().is_none_or(|(.., name)| name.starts_with(&self.prefix))
                });
                keys
            }));
        };
        let manager = &memories.manager;
        let keys = manager.keys_with_prefix(resource, &self.prefix, after.as_ref(), PAGE).await?;
        let Some(last) = keys.last() else { return Ok(None) };
        *after = Some(last.clone());
        Ok(Some(keys))
    }
}

/// One memory of the list.
#[derive(Debug, Serialize)]
struct Listed {
    /// The storage key.
    key: MemoryKey,
    project: Option<String>,
    resource: String,
    /// The rendered key, which `--key` accepts.
    name: Option<String>,
    messages: u64,
    tokens: u64,
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let mut listed = Vec::new();
    let mut after = None;
    while let Some(keys) = args.page(memories, &mut after).await? {
        for key in keys {
            let present = memories.manager.store().head(&key).await?.counters.present;
            let (project, name) = match key.parts() {
                Some((project, _, name)) => (Some(project), Some(name)),
                None => (None, None),
            };
            let (messages, tokens) = (present.messages, present.tokens);
            listed.push(Listed { project, resource: key.memory_id(), name, messages, tokens, key });
        }
    }
    if out.json() {
        return out.compact(&listed);
    }
    let mut rows = table(&["key", "resource", "project", "#messages", "#tokens"]);
    for Listed { key, project, resource, name, messages, tokens } in &listed {
        let cells = [
            name.as_deref().unwrap_or(key.as_str()),
            resource,
            project.as_deref().unwrap_or_default(),
            &number(*messages),
            &number(*tokens),
        ];
        rows.add_row(cells.map(escape::inline));
    }
    let messages = listed.iter().map(|listed| listed.messages).sum();
    if !listed.is_empty() {
        out.line(rows)?;
    }
    out.line(format!(
        "{}, {}",
        count(listed.len() as u64, "memory", "memories"),
        count(messages, "message", "messages")
    ))
}

/// The next keys, or none at the end.
pub(crate) async fn page(
    memories: &Memories,
    after: &mut Option<MemoryKey>,
) -> anyhow::Result<Option<Vec<MemoryKey>>> {
    let page = memories.manager.keys(after.as_ref(), PAGE).await?;
    let Some(last) = page.last() else { return Ok(None) };
    *after = Some(last.clone());
    Ok(Some(page))
}
