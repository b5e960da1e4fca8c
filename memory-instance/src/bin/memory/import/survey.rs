//! The first reading: every line is checked, nothing is appended.

use indicatif::ProgressBar;
use memory_core::json::{Json, JsonErrorKind};
use memory_core::{MemoryKey, Message, WriteId};
use memory_instance::{KeyContext, KeyTemplate, MemoryError, MemoryManager};

use super::source::Source;
use crate::encoding;

/// Knows the memory of each line.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) manager: MemoryManager,
    pub(crate) resource: String,
    pub(crate) template: KeyTemplate,
    pub(crate) variables: KeyContext,
    /// The most bytes of a line.
    pub(crate) line_bytes: u64,
}

impl Router {
    /// The message on a line, and its memory; else what is wrong with the line, and the mend.
    pub(crate) fn route(&self, line: &[u8]) -> Result<(MemoryKey, Message), String> {
        let json = Json::parse_bytes(line).map_err(|error| {
            let problem = encoding::problem(line).map(|problem| format!("the file {problem}"));
            problem.unwrap_or_else(|| match error.kind() {
                JsonErrorKind::Syntax | JsonErrorKind::Truncated => format!(
                    "invalid JSON at column {}; write one complete JSON object a line",
                    error.column()
                ),
                _ => error.to_string(),
            })
        })?;
        let variables = self.variables.clone().with("line", json.to_value());
        let message = Message::try_from(json).map_err(|error| error.to_string())?;
        let key = self.template.render(&variables).map_err(|error| {
            format!("{error}; give a --key with fields that every line has, or a fixed one")
        })?;
        let memory =
            self.manager.memory(&self.resource, &key).map_err(|error| error.to_string())?;
        Ok((memory.key().clone(), message))
    }

    /// Checks all that is known without the store, such as the size of the message.
    fn admit(&self, key: &MemoryKey, message: Message, write: WriteId) -> Result<(), String> {
        let memory = self.manager.memory_at(key).map_err(|error| error.to_string())?;
        memory.prepare_as(write, [message]).map(drop).map_err(|error| match error {
            MemoryError::TooLarge { tokens, budget, .. } => format!(
                "the message has {tokens} tokens, more than the whole budget of resource `{}` ({budget}); shorten it, or raise max_tokens",
                self.resource
            ),
            // One message is all there is, so its number in the batch would only confuse.
            MemoryError::Limit { reason, .. } => {
                reason.to_string().replacen("message 0", "the message", 1)
            }
            error => error.to_string(),
        })
    }
}

/// Bad lines: the first, and how many more.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    first: Option<String>,
    more: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, place: &str, line: u64, problem: &str) {
        match &self.first {
            None => self.first = Some(format!("{place}:{line}: {problem}")),
            Some(_) => self.more += 1,
        }
    }

    /// An error if there was a bad line.
    pub(crate) fn into_result(self) -> anyhow::Result<()> {
        let Some(first) = self.first else { return Ok(()) };
        match self.more {
            0 => anyhow::bail!("{first}; nothing was appended"),
            more => anyhow::bail!("{first} (and {more} more bad lines); nothing was appended"),
        }
    }
}

/// Reads a source to its end, and notes what is wrong in it.
pub(crate) fn survey(
    source: &mut Source,
    router: &Router,
    faults: &mut Faults,
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    let mut lines = source.read()?;
    let mut messages = 0;
    // Any id does: nothing is sent.
    let write = WriteId::once("survey");
    while let Some((number, line)) = lines.next().map_err(|error| source.unreadable(&error))? {
        messages += 1;
        progress.inc(1);
        let checked =
            router.route(line).and_then(|(key, message)| router.admit(&key, message, write));
        if let Err(problem) = checked {
            faults.add(source.name(), number, &problem);
        }
    }
    source.surveyed(lines, messages);
    Ok(())
}
