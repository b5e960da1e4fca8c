//! `memory metadata`.

use memory_instance::memory_core::json::Json;
use memory_instance::{Conditional, MetadataPatch};

use crate::args::{Memories, check_ttl};
use crate::failure::usage;
use crate::out::Out;

/// Print the metadata of a memory as JSON, or change it
///
/// Metadata are named values beside the messages: at most 64 names, and 16 KiB in all. Names that are not given keep their
/// values. A change is a write: a memory with a TTL needs --resource, whose TTL it sets. `clear` and `erase` keep the
/// metadata, `delete` removes it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory metadata --key airline-00-0
  memory metadata --key airline-00-0 --set customer=ACME --set open=true --unset draft
  memory metadata --key airline-00-0 --set state=closed --expect 3     (only if it has revision 3)
  memory metadata --key airline-00-0 --set 'tags=[\"a\", \"b\"]' --set 'zip=\"4711\"'")]
pub(crate) struct Args {
    /// Set a name. The value is JSON if it can be read as such, else a text; null removes the name
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, Json)>,
    /// Remove a name
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// The revision that was seen, 0 without metadata: if it is another one, nothing is changed
    #[arg(long, value_name = "NUMBER")]
    expect: Option<u64>,
}

fn assignment(text: &str) -> Result<(String, Json), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok((name.to_owned(), Json::parse(value).unwrap_or_else(|_| value.into())))
        }
        _ => Err("write it as name=value, such as customer=ACME".to_owned()),
    }
}

impl Args {
    fn is_read(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty()
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.is_read() && self.expect.is_some() {
            return Err(usage("--expect needs a change: add --set or --unset"));
        }
        if let Some((name, _)) = self.set.iter().find(|(name, _)| self.unset.contains(name)) {
            return Err(usage(format!("`{name}` is set and unset; leave one out")));
        }
        Ok(())
    }

    fn patch(&self) -> MetadataPatch {
        let removed = self.unset.iter().map(|name| (name.clone(), Json::Null));
        self.set.iter().cloned().chain(removed).collect()
    }
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    if args.is_read() {
        return out.value(&memory.metadata().await?);
    }
    if !memories.resource_given {
        check_ttl(&**memories.manager.store(), memory.key()).await?;
    }
    match memory.update_metadata(args.patch(), args.expect).await? {
        Conditional::Applied(metadata) => out.value(&metadata),
        Conditional::Conflict(metadata) => anyhow::bail!(
            "{}: the metadata has revision {}, not the expected one; nothing was changed",
            memory.key(),
            metadata.revision
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_texts() {
        for (text, value) in [
            ("a=ACME", r#""ACME""#),
            ("a=1.0", "1.0"),
            ("a=00123", r#""00123""#),
            (r#"a="1""#, r#""1""#),
            (r#"a={"b": [1]}"#, r#"{"b":[1]}"#),
            ("a=b=c", r#""b=c""#),
            ("a=", r#""""#),
            ("a=null", "null"),
        ] {
            let (name, read) = assignment(text).unwrap();
            assert_eq!((&*name, &*read.to_string()), ("a", value), "{text}");
        }
        for wrong in ["a", "=x", ""] {
            assert!(assignment(wrong).is_err(), "{wrong}");
        }
    }
}
