//! The first reading: every record is checked, nothing is appended.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use indicatif::ProgressBar;
use memory_core::json::{Json, JsonError, JsonErrorKind, JsonObject};
use memory_core::store::WriteId;
use memory_core::{MemoryKey, Message};
use memory_instance::{KeyContext, KeyTemplate, MemoryError, MemoryManager};
use sha2::{Digest, Sha256};

use super::formats::{self, ClaudeSession, Format};
use super::records::{Record, Records};
use super::source::Source;
use crate::encoding;

/// Knows the memory of each record.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) manager: MemoryManager,
    pub(crate) resource: String,
    pub(crate) template: KeyTemplate,
    pub(crate) variables: KeyContext,
    /// The most bytes of a record.
    pub(crate) line_bytes: u64,
    /// The only format, if the user named one.
    pub(crate) format: Option<&'static Format>,
    pub(crate) skip_bad: bool,
    pub(crate) replace_surrogates: bool,
}

/// The messages of a record, or of several that are one message, which all go to one memory.
#[derive(Debug)]
pub(crate) struct Routed {
    /// The line of the first record.
    pub(crate) line: u64,
    /// The bytes of all records.
    pub(crate) bytes: usize,
    /// Whether the next record may continue the message.
    is_turn: bool,
    /// The memory; none if there is no message.
    pub(crate) key: Option<MemoryKey>,
    pub(crate) messages: Vec<Message>,
    /// How many surrogates were replaced.
    pub(crate) replaced: usize,
}

/// The fault of a record, and the remedy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) line: u64,
    pub(crate) text: String,
}

impl Problem {
    /// The error of a command that needs every record.
    pub(crate) fn in_source(&self, source: &Source) -> anyhow::Error {
        anyhow::anyhow!("{}:{}: {}", source.name(), self.line, self.text)
    }

    fn in_element(self, record: &Record<'_>) -> Self {
        match record.element.filter(|_| record.problem.is_none()) {
            Some(element) => Self { text: format!("element {element}: {}", self.text), ..self },
            None => self,
        }
    }
}

/// Routes the records of one source, in order.
#[derive(Debug)]
pub(crate) struct Routing<'r> {
    router: &'r Router,
    session: ClaudeSession,
    number: u64,
    /// A message that the next record may continue.
    held: Option<Routed>,
    /// Whether messages are checked against the limits.
    checks: bool,
}

impl Router {
    /// Routes the records of a source, and checks messages against the limits.
    pub(crate) fn routing(&self) -> Routing<'_> {
        Routing {
            router: self,
            session: ClaudeSession::default(),
            number: 0,
            held: None,
            checks: true,
        }
    }

    /// As [`routing`](Self::routing), for messages that were checked before.
    pub(crate) fn routing_unchecked(&self) -> Routing<'_> {
        Routing { checks: false, ..self.routing() }
    }

    fn parse(&self, record: &Record<'_>) -> Result<(Json, usize), Problem> {
        if let Some(problem) = record.problem {
            return Err(Problem { line: record.line, text: problem.to_owned() });
        }
        let parsed = match std::str::from_utf8(record.bytes) {
            Ok(text) if self.replace_surrogates => Json::parse_replacing_surrogates(text),
            _ => Json::parse_bytes(record.bytes).map(|json| (json, 0)),
        };
        parsed.map_err(|error| {
            let line = record.line + (error.line() as u64).saturating_sub(1);
            let problem = encoding::problem(record.bytes).filter(|_| record.element.is_none());
            let text = problem
                .map_or_else(|| json_problem(&error), |problem| format!("the line {problem}"));
            Problem { line, text }
        })
    }

    /// Checks all that is known without the store, such as the size of the message.
    fn check_message(
        &self,
        key: &MemoryKey,
        message: Message,
        write: WriteId,
    ) -> Result<(), String> {
        let memory = self.manager.memory_at(key).map_err(|error| error.to_string())?;
        memory.prepare_as(write, [message]).map(drop).map_err(|error| match error {
            MemoryError::TooLarge { tokens, budget, .. } => format!(
                "the message has {tokens} tokens, more than the whole budget of resource `{}` ({budget}); shorten it, or raise max_tokens",
                self.resource
            ),
            // The batch has one message, so its number would only confuse.
            MemoryError::Limit { reason, .. } => {
                reason.to_string().replacen("message 0", "the message", 1)
            }
            error => error.to_string(),
        })
    }
}

/// The fault of a text; its place is reported beside it.
fn json_problem(error: &JsonError) -> String {
    let column = error.column();
    match error.kind() {
        JsonErrorKind::Syntax => {
            format!("invalid JSON at column {column}; write one complete JSON object a line")
        }
        JsonErrorKind::Truncated => format!(
            "invalid JSON at column {column}: the line ends within a value, as after a crash of its writer; complete it or remove it"
        ),
        JsonErrorKind::SecondValue => format!(
            "invalid JSON at column {column}: a second value follows the first; write one value a line"
        ),
        JsonErrorKind::LoneSurrogate => {
            let text = error.to_string().replacen(&format!("line {}, ", error.line()), "", 1);
            format!("{text}, as --replace-surrogates does")
        }
        _ => error.to_string().replacen(&format!("line {}, ", error.line()), "", 1),
    }
}

impl Routing<'_> {
    /// The values that are complete after this record.
    fn push(&mut self, record: &Record<'_>) -> Vec<Result<Routed, Problem>> {
        let routed = match self.route(record) {
            Ok(routed) if !routed.messages.is_empty() => routed,
            Ok(routed) => return vec![Ok(routed)],
            // The line is not enough if a whole array is on it.
            Err(problem) => return vec![Err(problem.in_element(record))],
        };
        if self.held.as_mut().is_some_and(|held| held.merge(&routed)) {
            return Vec::new();
        }
        let (before, now) = match routed.is_turn {
            true => (self.held.replace(routed), None),
            false => (self.held.take(), Some(routed)),
        };
        before.into_iter().chain(now).map(|routed| self.check(routed)).collect()
    }

    /// The values left at the end of the source.
    fn finish(&mut self) -> Option<Result<Routed, Problem>> {
        self.held.take().map(|routed| self.check(routed))
    }

    /// Reads a source to its end, and passes the messages of each record to `visit`, with the number of the record after
    /// which they were complete.
    pub(crate) fn read(
        mut self,
        source: &Source,
        mut visit: impl FnMut(u64, Result<Routed, Problem>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Records> {
        let mut records = source.read()?;
        let mut number = 0;
        while let Some(record) = records.next().map_err(|error| source.unreadable(&error))? {
            number += 1;
            self.push(&record).into_iter().try_for_each(|routed| visit(number, routed))?;
        }
        self.finish().into_iter().try_for_each(|routed| visit(number + 1, routed))?;
        Ok(records)
    }

    fn route(&mut self, record: &Record<'_>) -> Result<Routed, Problem> {
        self.number += 1;
        let router = self.router;
        let (json, replaced) = router.parse(record)?;
        let (line, bytes, is_turn) = (record.line, record.bytes.len(), formats::is_turn(&json));
        let problem = |text: String| Problem { line: record.line, text };
        let number = JsonObject::new().with("number", self.number);
        let variables = router.variables.clone().with("record", Json::from(number).to_value());
        let variables = variables.with("line", json.to_value());
        let messages = formats::read(json, router.format, &mut self.session).map_err(problem)?;
        if messages.is_empty() {
            let (key, messages) = (None, Vec::new());
            return Ok(Routed { line, bytes, is_turn, key, messages, replaced });
        }
        let only = messages.len() == 1;
        let messages = messages.into_iter().zip(1..).map(|(json, number)| {
            Message::try_from(json).map_err(|error| {
                let text = formats::problem_of(&error);
                if only { text } else { format!("message {number} of it: {text}") }
            })
        });
        let messages = messages.collect::<Result<Vec<_>, _>>().map_err(problem)?;
        let key = router.template.render(&variables).map_err(|error| {
            problem(format!(
                "{error}; give a --key with fields that every line has, or a fixed one"
            ))
        })?;
        let memory = router.manager.memory(&router.resource, &key);
        let memory = memory.map_err(|error| problem(error.to_string()))?;
        let key = Some(memory.key().clone());
        Ok(Routed { line, bytes, is_turn, key, messages, replaced })
    }

    fn check(&self, routed: Routed) -> Result<Routed, Problem> {
        // Any id is valid, because nothing is sent.
        let write = WriteId::once("survey");
        let only = routed.messages.len() == 1;
        for (message, number) in routed.messages.iter().zip(1..).filter(|_| self.checks) {
            let Some(key) = &routed.key else { break };
            self.router.check_message(key, message.clone(), write).map_err(|text| {
                let text = if only { text } else { format!("message {number} of it: {text}") };
                Problem { line: routed.line, text }
            })?;
        }
        Ok(routed)
    }
}

impl Routed {
    /// Takes in the record after it, if both are of one message.
    fn merge(&mut self, next: &Self) -> bool {
        let ([message], [more]) = (self.messages.as_mut_slice(), next.messages.as_slice()) else {
            return false;
        };
        if !self.is_turn || !next.is_turn || self.key != next.key {
            return false;
        }
        let merged = formats::merge(&message.as_json(), &more.as_json());
        let Some(Ok(merged)) = merged.map(Message::try_from) else { return false };
        *message = merged;
        self.bytes += next.bytes;
        self.replaced += next.replaced;
        true
    }
}

/// The findings of the first reading apart from messages.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    first: Option<String>,
    /// The memories that get messages.
    pub(crate) keys: BTreeSet<MemoryKey>,
    /// Bad records.
    pub(crate) bad: u64,
    /// Records without a message, such as the metadata of a session.
    pub(crate) left_out: u64,
    /// Surrogates that were replaced.
    pub(crate) replaced: u64,
}

impl Findings {
    fn add(&mut self, place: &str, problem: &Problem) {
        self.bad += 1;
        let Problem { line, text } = problem;
        self.first.get_or_insert_with(|| format!("{place}:{line}: {text}"));
    }

    /// The first bad record and the number of the others.
    pub(crate) fn bad_records(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(match self.bad {
            1 => first.clone(),
            2 => format!("{first} (and 1 more bad line)"),
            bad => format!("{first} (and {} more bad lines)", bad - 1),
        })
    }
}

/// Reads a source to its end and collects its faults.
pub(crate) fn survey(
    source: &mut Source,
    router: &Router,
    findings: &mut Findings,
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    let (mut messages, mut changed) = (0, Sha256::new());
    let mut is_changed = false;
    let records = router.routing().read(source, |number, routed| {
        let change = match routed {
            Ok(routed) => {
                let count = routed.messages.len() as u64;
                messages += count;
                progress.inc(count);
                findings.left_out += u64::from(count == 0);
                findings.replaced += routed.replaced as u64;
                findings.keys.extend(routed.key);
                (routed.replaced > 0).then_some("replaced")
            }
            Err(problem) => {
                findings.add(source.name(), &problem);
                Some("bad")
            }
        };
        if let Some(change) = change {
            changed.update(format!("{change} {number}\n"));
            is_changed = true;
        }
        Ok(())
    })?;
    let mut changes = String::new();
    if is_changed {
        changes.push('+');
        for byte in changed.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(changes, "{byte:02x}");
        }
    }
    source.surveyed(records, messages, changes);
    Ok(())
}
