//! The arguments that all commands share: the store, the resource, and the key of the memory.

use std::env::VarError;
use std::fs;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use memory_core::resource::Tokenizer;
use memory_core::store::StoreErrorKind;
use memory_core::{MemoryKey, MemoryResource, MemoryStore};
use memory_instance::{
    FlushMode, KeyContext, KeyTemplate, MemoryInstance, MemoryManager, TemplateError, check_url,
};

use crate::encoding;
use crate::failure::{note, usage};
use crate::keys;

/// The store unless `--store` says otherwise.
const DEFAULT_STORE: &str = "sqlite://memory.db";

/// The environment variable that `--store` defaults to. Also how a child process gets its store, because
/// other users can read the arguments of a process.
pub(crate) const STORE_VARIABLE: &str = "MEMORY_STORE";

/// The environment variable that `--tokenizer` defaults to.
const TOKENIZER_VARIABLE: &str = "MEMORY_TOKENIZER";

/// The budget of the resource that is used without `--resource`. It is unlimited in practice, because the
/// user did not request eviction.
const DEFAULT_MAX_TOKENS: u64 = 1_000_000_000;

/// The number of messages or keys that are read at once.
pub(crate) const PAGE: NonZeroUsize = match NonZeroUsize::new(500) {
    Some(page) => page,
    None => NonZeroUsize::MIN,
};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which memory")]
pub(crate) struct Common {
    /// Where the memories are: sqlite://PATH; redis://HOST, or redis+cluster:// and redis+sentinel://
    /// with several hosts; or memory:// for the length of this command [default: the environment variable
    /// MEMORY_STORE, which keeps a password out of the list of processes; else sqlite://memory.db, for
    /// demo and bench a temporary file]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) store: Option<String>,

    /// How the memory works (budget, priorities, flushes, archive): a .yaml, .toml or .json file. Needed to
    /// clear, flush, rewind or replace all of a memory of another resource than `default`, because its
    /// archive has the settings of its resource [default: a resource `default` that evicts nothing,
    /// archives for 30 days and counts by --tokenizer]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) resource: Option<PathBuf>,

    /// How tokens are counted without --resource, except in the demo: o200k_base, cl100k_base, or estimate, which
    /// loads no vocabulary [default: the environment variable MEMORY_TOKENIZER; else o200k_base if it is built in,
    /// else estimate]
    #[arg(long, global = true, value_name = "NAME", value_parser = tokenizer)]
    pub(crate) tokenizer: Option<Tokenizer>,

    /// The project, the first part of the storage key
    #[arg(long, global = true, value_name = "NAME", default_value = "default")]
    pub(crate) project: String,

    /// The key of the memory, or a template of it, such as 'case-{{ case }}' [default: the
    /// resource's `key`]
    #[arg(long, global = true, value_name = "TEMPLATE")]
    pub(crate) key: Option<String>,

    /// A variable of the key template, such as case=4711 or user.id=ann; may be repeated
    #[arg(long = "var", global = true, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) variables: Vec<(String, String)>,

    /// Write JSON on one line, in place of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// How to treat a SQLite file that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissingFile {
    Create,
    Refuse,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && name.split('.').all(|part| !part.is_empty()) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write it as name=value, such as workflow.input.case=4711".to_owned()),
    }
}

fn tokenizer(name: &str) -> Result<Tokenizer, String> {
    serde_json::from_value(name.into())
        .map_err(|_| "write o200k_base, cl100k_base or estimate".to_owned())
}

/// The value of an environment variable; an empty one counts as unset.
fn from_environment(name: &str, expected: &str) -> anyhow::Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            Err(usage(format!("{name} is not UTF-8; set it to {expected}")))
        }
    }
}

impl Common {
    /// Takes the store from the environment where `--store` is not given.
    pub(crate) fn with_environment(mut self) -> anyhow::Result<Self> {
        if self.store.is_none() {
            self.store = from_environment(STORE_VARIABLE, "a store URL")?;
        }
        // Not by clap, which compares global options only if they are in the same place of the line.
        if self.resource.is_some() && self.tokenizer.is_some() {
            return Err(usage(
                "--tokenizer cannot be used with --resource, which names the tokenizer",
            ));
        }
        Ok(self)
    }

    /// The tokenizer of the built-in resource: the option, else that of the environment, else the default.
    fn built_in_tokenizer(&self) -> anyhow::Result<Option<Tokenizer>> {
        if self.tokenizer.is_some() {
            return Ok(self.tokenizer);
        }
        let Some(name) = from_environment(TOKENIZER_VARIABLE, "the name of a tokenizer")? else {
            return Ok(DEFAULT_TOKENIZER);
        };
        let wrong = |problem| usage(format!("{TOKENIZER_VARIABLE}={name}: {problem}"));
        tokenizer(&name).map(Some).map_err(wrong)
    }

    /// The resource that the user gave, or the built-in one.
    pub(crate) fn resource(&self) -> anyhow::Result<MemoryResource> {
        match &self.resource {
            Some(path) => read_resource(path),
            None => {
                let mut resource = built_in_resource();
                resource.tokenizer = self.built_in_tokenizer()?;
                Ok(resource)
            }
        }
    }

    /// Opens the store.
    pub(crate) async fn open(
        &self,
        missing: MissingFile,
        mode: FlushMode,
    ) -> anyhow::Result<Memories> {
        let resource = self.resource()?;
        let url = self.store.as_deref().unwrap_or(DEFAULT_STORE);
        // Checked before the file is looked for: a wrong setting must not be reported as a missing file.
        check_url(url)?;
        if missing == MissingFile::Refuse
            && let Some(path) = sqlite_path(url)
            && !path.exists()
        {
            anyhow::bail!(
                "store {url}: there is no such file; check the path, or make it with `memory import`"
            );
        }
        let manager = MemoryManager::builder()
            .with_project(&self.project)
            .with_resource(resource.clone())
            .with_flush_mode(mode)
            .open(url)
            .await?;
        for warning in manager.warnings() {
            note(warning);
        }
        let mut variables = KeyContext::new().with("project.id", &self.project);
        for (name, value) in &self.variables {
            variables = variables.with(name, value);
        }
        let resource_given = self.resource.is_some();
        Ok(Memories { manager, resource, resource_given, key: self.key.clone(), variables })
    }
}

/// The tokenizer without `--resource`: exact if the vocabulary is built in.
pub(crate) const DEFAULT_TOKENIZER: Option<Tokenizer> =
    if cfg!(feature = "full") { Some(Tokenizer::O200kBase) } else { None };

/// The id of the resource that is used without `--resource`.
const BUILT_IN: &str = "default";

/// The resource that is used without `--resource`. A removal into an archive without a bound drops no earlier removal,
/// because an application may have a resource of the same id that keeps more.
pub(crate) fn built_in_resource() -> MemoryResource {
    let mut resource = MemoryResource::new(BUILT_IN, DEFAULT_MAX_TOKENS);
    resource.tokenizer = DEFAULT_TOKENIZER;
    resource.archive.max_bytes = u64::MAX;
    resource
}

fn read_resource(path: &Path) -> anyhow::Result<MemoryResource> {
    let read = match path.extension().and_then(|extension| extension.to_str()) {
        #[cfg(feature = "full")]
        Some("yaml" | "yml") => MemoryResource::from_yaml,
        #[cfg(feature = "full")]
        Some("toml") => MemoryResource::from_toml,
        #[cfg(not(feature = "full"))]
        Some("yaml" | "yml" | "toml") => {
            return Err(usage(format!(
                "--resource {}: this build reads .json only; build it with the feature `full`",
                path.display()
            )));
        }
        Some("json") => MemoryResource::from_json,
        _ => {
            return Err(usage(format!(
                "--resource {}: its format is not known; name it .yaml, .yml, .toml or .json",
                path.display()
            )));
        }
    };
    let name = path.display();
    let mut bytes = Vec::new();
    // Reads one byte more than the limit, to detect a file that is too long.
    fs::File::open(path)
        .and_then(|file| file.take(MemoryResource::MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| anyhow!("read the resource {name}: {error}; check the path"))?;
    let text = encoding::text(&bytes).map_err(|problem| anyhow!("{name}: {problem}"))?;
    let resource = read(text).map_err(|error| anyhow!("{name}: {error}"))?;
    for warning in resource.warnings() {
        note(format_args!("warning: {name}: {warning}"));
    }
    Ok(resource)
}

/// Whether other processes can open the store too.
pub(crate) fn is_shared(url: &str) -> bool {
    !url.starts_with("memory://")
}

/// The file that a URL names, if it names one.
pub(crate) fn sqlite_path(url: &str) -> Option<&Path> {
    let path = url.strip_prefix("sqlite://")?;
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    (!path.is_empty() && !path.ends_with(":memory:")).then(|| Path::new(path))
}

/// An open store, and what the command line says about the memories in it.
#[derive(Debug)]
pub(crate) struct Memories {
    pub(crate) manager: MemoryManager,
    pub(crate) resource: MemoryResource,
    /// Whether the user gave `--resource`.
    pub(crate) resource_given: bool,
    /// The template that the user gave.
    pub(crate) key: Option<String>,
    pub(crate) variables: KeyContext,
}

impl Memories {
    /// The template that the user gave, or that of the resource.
    pub(crate) fn template(&self) -> anyhow::Result<Option<KeyTemplate>> {
        let text = self.key.as_deref().or(self.resource.key.as_deref());
        Ok(text.map(KeyTemplate::parse).transpose()?)
    }

    /// The one memory that is meant, which must have been written before.
    pub(crate) async fn the_one(&self) -> anyhow::Result<MemoryInstance> {
        let Some(template) = self.template()? else {
            return Err(usage(
                "which memory is meant? give its key, such as --key airline-00-0; `memory keys` lists them",
            ));
        };
        let key = template.render(&self.variables).map_err(|error| match error {
            TemplateError::Render { .. } => anyhow!("{error}; add others with --var name=value"),
            error => error.into(),
        })?;
        let memory = self.manager.memory(&self.resource.id, &key)?;
        if is_there(&memory).await? {
            return Ok(memory);
        }
        if let Some(memory) = self.at_storage_key(&key).await? {
            return Ok(memory);
        }
        let project = self.manager.project();
        let none = format!(
            "no memory has the key `{key}` (project `{project}`, resource `{}`)",
            self.resource.id
        );
        let others = self.of_other_resources(&key).await?;
        match others.as_slice() {
            [] => anyhow::bail!("{none}; `memory keys` lists them"),
            // A resource that the user chose is not replaced by another one's defaults.
            [only] if self.resource_given => anyhow::bail!(
                "{none}; resource `{}` has one: leave --resource out, or give that resource's file",
                only.memory_id()
            ),
            [only] => self.with_defaults(&self.manager, only),
            [first, ..] => anyhow::bail!(
                "{none}; {} resources have one: give the storage key, such as --key {first}",
                others.len()
            ),
        }
    }

    /// The one memory that is meant by a command that removes messages into its archive. Settings other than those of its
    /// resource could drop earlier removals, or keep messages that must not be kept.
    pub(crate) async fn the_one_to_remove_from(
        &self,
        alternative: Option<&str>,
    ) -> anyhow::Result<MemoryInstance> {
        let memory = self.the_one().await?;
        let id = memory.key().memory_id();
        if self.resource_given || id == BUILT_IN {
            return Ok(memory);
        }
        let or = alternative.map_or_else(String::new, |other| format!(", or {other}"));
        Err(usage(format!(
            "{}: the archive and budget of resource `{id}` are not known; give its file with --resource{or}",
            memory.key()
        )))
    }

    /// The memory at a storage key in the form that `keys --json` and `health` print, because people copy
    /// those.
    async fn at_storage_key(&self, text: &str) -> anyhow::Result<Option<MemoryInstance>> {
        let Ok(key) = text.parse::<MemoryKey>() else { return Ok(None) };
        let memory = match self.manager.memory_at(&key) {
            Ok(memory) => memory,
            Err(_) if self.resource_given => return Ok(None),
            Err(_) => self.with_defaults(&self.manager, &key)?,
        };
        Ok(is_there(&memory).await?.then_some(memory))
    }

    /// The memory to restore or fork one of this key to: with the key that the user gave, else this one.
    pub(crate) fn other(&self, key: &MemoryKey) -> anyhow::Result<MemoryInstance> {
        let Some(name) = &self.key else { return self.with_defaults(&self.manager, key) };
        self.named_like(key, name)
    }

    /// The memory with this name, as a storage key or in the project and resource of another memory.
    pub(crate) fn named_like(&self, key: &MemoryKey, name: &str) -> anyhow::Result<MemoryInstance> {
        let rendered = KeyTemplate::parse(name)?.render(&self.variables)?;
        let storage_key = rendered.parse::<MemoryKey>().ok().filter(|key| key.parts().is_some());
        let new = match storage_key {
            Some(key) => key,
            None => MemoryKey::new(self.manager.project(), &key.memory_id(), &rendered)?,
        };
        self.with_defaults(&self.manager, &new)
    }

    /// The memories of this project with this rendered key, whatever their resource.
    async fn of_other_resources(&self, rendered: &str) -> anyhow::Result<Vec<MemoryKey>> {
        let (mut found, mut after) = (Vec::new(), None);
        while let Some(page) = keys::page(self, &mut after).await? {
            found.extend(page.into_iter().filter(|key| {
                key.parts().is_some_and(|(project, _, name)| {
                    project == self.manager.project() && name == rendered
                })
            }));
        }
        Ok(found)
    }

    /// A memory of a resource whose file was not given. It uses the defaults, which remove nothing. Commands that remove
    /// messages get the memory from [`the_one_to_remove_from`](Self::the_one_to_remove_from).
    pub(crate) fn with_defaults(
        &self,
        of: &MemoryManager,
        key: &MemoryKey,
    ) -> anyhow::Result<MemoryInstance> {
        let mut resource = built_in_resource();
        resource.id = key.memory_id();
        let manager = MemoryManager::builder()
            .with_project(self.manager.project())
            .with_resource(resource)
            .with_flush_mode(FlushMode::Manual)
            .build(Arc::clone(of.store()), of.locks().clone())?;
        Ok(manager.memory_at(key)?)
    }
}

/// Refuses to write with the built-in resource to a memory that has a TTL, because every batch sets the TTL of its resource.
pub(crate) async fn check_ttl(store: &dyn MemoryStore, key: &MemoryKey) -> anyhow::Result<()> {
    match store.head(key).await?.expires_at {
        None => Ok(()),
        Some(end) => Err(usage(format!(
            "{key}: it expires at {end}, and the built-in resource would remove its TTL; give its resource with --resource"
        ))),
    }
}

/// Whether the memory was ever written. The command reports that a copy is unfinished, or deletes it.
async fn is_there(memory: &MemoryInstance) -> anyhow::Result<bool> {
    match memory.counters().await {
        Err(error) if error.store_kind() == Some(&StoreErrorKind::Unfinished) => Ok(true),
        counters if counters.as_ref().is_ok_and(|counters| counters.appended == 0) => {
            Ok(memory.metadata().await?.revision > 0)
        }
        counters => Ok(counters?.appended > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_archive_drops_no_removal() {
        use memory_core::store::Durability;

        let retention = built_in_resource().retention(Durability::Disk).unwrap();
        assert_eq!(retention.max_bytes, u64::MAX);
    }

    #[test]
    fn variables_have_a_dotted_name() {
        assert_eq!(variable("a.b=c=d"), Ok(("a.b".into(), "c=d".into())));
        assert_eq!(variable("a="), Ok(("a".into(), String::new())));
        for bad in ["a", "=x", "a..b=1", ".a=1"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn url_names_its_file() {
        let path = |url| sqlite_path(url).map(|path| path.display().to_string());
        assert_eq!(path("sqlite://a/b.db?synchronous=full").as_deref(), Some("a/b.db"));
        assert_eq!(path("sqlite:///x").as_deref(), Some("/x"));
        assert_eq!(path("memory://"), None);
        assert_eq!(path("sqlite://"), None);
    }
}
