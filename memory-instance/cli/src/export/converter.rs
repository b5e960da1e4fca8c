//! Converts histories of any dialects to one dialect.

use std::collections::{BTreeMap, HashMap, VecDeque};

use memory_core::dialect::{CallKind, Dialect, Loss, Part, Written, convert};
use memory_core::json::Json;
use memory_core::{Message, Role};

/// Converts the messages of one memory after another, in order.
///
/// Calls without an id get one, and their results get the same id. Results without a name get that of their call if the
/// dialect needs one. Results in a row become one message where the dialect has them in one, and so do the
/// items of one turn of OpenAI Responses.
#[derive(Debug)]
pub(super) struct Converter {
    to: Dialect,
    /// The names of all calls, by id.
    names: HashMap<String, String>,
    /// Calls that came without an id and have no result yet: name and new id.
    open: VecDeque<(String, String)>,
    made: u64,
    /// Messages that become one.
    held: Vec<Prepared>,
    losses: BTreeMap<&'static str, u64>,
}

/// Joins the lines of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Results alone.
    Results,
    /// Items of one turn of the model.
    Turn,
    Alone,
}

/// A message with the missing fields of its parts, in their order: ids of calls, ids and names of results.
#[derive(Debug)]
struct Prepared {
    message: Message,
    group: Group,
    fixes: Vec<Fix>,
}

#[derive(Debug, Default)]
struct Fix {
    id: Option<String>,
    name: Option<String>,
}

impl Converter {
    pub(super) fn new(to: Dialect) -> Self {
        Self {
            to,
            names: HashMap::new(),
            open: VecDeque::new(),
            made: 0,
            held: Vec::new(),
            losses: BTreeMap::new(),
        }
    }

    /// The messages that are complete after this one.
    pub(super) fn push(&mut self, message: Message) -> Vec<Json> {
        let group = self.group(&message);
        let goes_on = group != Group::Alone && self.held.iter().all(|held| held.group == group);
        let before = if goes_on { Vec::new() } else { self.flush() };
        let prepared = self.prepare(message, group);
        self.held.push(prepared);
        before
    }

    /// The messages left at the end of a memory. The next memory starts with an empty state.
    pub(super) fn finish(&mut self) -> Vec<Json> {
        let rest = self.flush();
        self.names.clear();
        self.open.clear();
        self.made = 0;
        rest
    }

    /// The losses of the conversion, and how often each occurred.
    pub(super) fn losses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.losses.iter().map(|(loss, count)| (*loss, *count))
    }

    fn group(&self, message: &Message) -> Group {
        let has_groups = matches!(
            self.to,
            Dialect::Anthropic | Dialect::Gemini | Dialect::Bedrock | Dialect::AiSdk
        );
        let (mut parts, mut results) = (0, 0);
        message.read(&mut |part| {
            parts += 1;
            results += usize::from(matches!(part, Part::Result(result) if !result.provider_run));
        });
        let is_item = message.dialect() == Dialect::Responses && *message.role() == Role::Assistant;
        if has_groups && parts > 0 && parts == results {
            Group::Results
        } else if is_item && self.to != Dialect::Responses {
            Group::Turn
        } else {
            Group::Alone
        }
    }

    fn prepare(&mut self, message: Message, group: Group) -> Prepared {
        let wants_ids = self.to != Dialect::Gemini;
        let wants_names = matches!(self.to, Dialect::Gemini | Dialect::AiSdk);
        let keeps_legacy = self.to == Dialect::Chat;
        let mut fixes = Vec::new();
        message.read(&mut |part| match part {
            Part::Call(call) if !call.provider_run => {
                let is_legacy = call.kind == CallKind::LegacyFunction && keeps_legacy;
                let id = if call.id.is_none() && !is_legacy {
                    let id = self.new_id();
                    self.open.push_back((call.name.to_owned(), id.clone()));
                    Some(id)
                } else {
                    None
                };
                if let Some(id) = id.as_deref().or(call.id) {
                    self.names.insert(id.to_owned(), call.name.to_owned());
                }
                fixes.push(Fix { id: id.filter(|_| wants_ids), name: None });
            }
            Part::Result(result) if !result.provider_run => {
                let is_legacy = result.kind == CallKind::LegacyFunction && keeps_legacy;
                let made = match result.link {
                    None if !is_legacy => self.answered(result.name),
                    _ => None,
                };
                let id = made.as_deref().or(result.link);
                let name = id.and_then(|id| self.names.get(id)).filter(|name| !name.is_empty());
                let name = name.filter(|_| wants_names && result.name.is_none()).cloned();
                fixes.push(Fix { id: made.filter(|_| wants_ids), name });
            }
            _ => {}
        });
        Prepared { message, group, fixes }
    }

    fn new_id(&mut self) -> String {
        loop {
            self.made += 1;
            let id = format!("memory_call_{}", self.made);
            if !self.names.contains_key(&id) {
                return id;
            }
        }
    }

    /// The id of the first open call of this name or, without a name, of the first one.
    fn answered(&mut self, name: Option<&str>) -> Option<String> {
        let is_it = |(called, _): &(String, String)| {
            name.is_none_or(|name| called.is_empty() || called == name)
        };
        let index = self.open.iter().position(is_it)?;
        self.open.remove(index).map(|(_, id)| id)
    }

    fn flush(&mut self) -> Vec<Json> {
        let held = std::mem::take(&mut self.held);
        let is_fixed = |fix: &Fix| fix.id.is_some() || fix.name.is_some();
        let written = match held.as_slice() {
            [] => return Vec::new(),
            [only] if !only.fixes.iter().any(is_fixed) => {
                convert(&only.message.as_json(), only.message.dialect(), self.to)
            }
            [first, ..] => self.write(first, &held),
        };
        if written.messages.is_empty() && written.losses.is_empty() {
            *self.losses.entry("messages without content were left out").or_default() += 1;
        }
        for loss in written.losses {
            *self.losses.entry(text_of(loss)).or_default() += 1;
        }
        written.messages
    }

    fn write(&self, first: &Prepared, held: &[Prepared]) -> Written {
        let role = match first.group {
            Group::Results => &Role::Tool,
            Group::Turn | Group::Alone => first.message.role(),
        };
        let mut parts = Vec::new();
        for prepared in held {
            let mut fixes = prepared.fixes.iter();
            prepared.message.read(&mut |mut part| {
                match &mut part {
                    Part::Call(call) if !call.provider_run => {
                        let id = fixes.next().and_then(|fix| fix.id.as_deref());
                        call.id = id.or(call.id);
                    }
                    Part::Result(result) if !result.provider_run => {
                        if let Some(fix) = fixes.next() {
                            result.link = fix.id.as_deref().or(result.link);
                            result.name = fix.name.as_deref().or(result.name);
                        }
                    }
                    _ => {}
                }
                parts.push(part);
            });
        }
        let mut written = self.to.write(role, &parts);
        if let Some(author) = first.message.author() {
            match written.messages.first_mut().and_then(Json::as_object_mut) {
                Some(first) if self.to == Dialect::Chat => {
                    first.insert("name", author);
                }
                _ => written.losses.push(Loss::Author),
            }
        }
        written
    }
}

/// The description of the loss.
fn text_of(loss: Loss) -> &'static str {
    match loss {
        Loss::Reasoning => "reasoning of another provider was left out",
        Loss::ProviderRun => "calls and results of tools that a provider ran were left out",
        Loss::MediaMoved => "media in results were moved into a user message",
        Loss::MediaReplaced => "media were replaced by a note",
        Loss::DocumentAsText => "text documents were written as text",
        Loss::ErrorFlag => "failed results were marked by the text `Error: `",
        Loss::ArgumentsWrapped => "arguments that are no object were wrapped in `_raw`",
        Loss::CallKind => "custom or legacy calls were written as function calls",
        Loss::IdMissing => "calls or results have no id, because their counterpart was not found",
        Loss::ResultName => "the tool's name was left out of results",
        Loss::NameMissing => "results have no name of a tool, because their call was not found",
        Loss::DataAsText => "data were written as text",
        Loss::ResultsSplit => "results were split into one message each",
        Loss::Order => "text behind calls was written before them",
        Loss::Citations => "citations were left out",
        Loss::TextKind => "refusals or transcripts were written as text",
        Loss::CacheMark => "cache marks or provider options were left out",
        Loss::Role => "roles that the dialect lacks were written as `user`",
        Loss::Author => "names of authors were left out",
        Loss::Unknown => "parts that only their own dialect knows were left out",
        _ => "something was left out",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of a history in a dialect, and the losses.
    fn converted(history: &[&str], to: Dialect) -> (Vec<String>, Vec<(&'static str, u64)>) {
        let mut converter = Converter::new(to);
        let mut all = Vec::new();
        for message in history {
            all.extend(converter.push(Message::from_json(message).unwrap()));
        }
        all.extend(converter.finish());
        (all.iter().map(Json::to_string).collect(), converter.losses().collect())
    }

    const OLLAMA: [&str; 4] = [
        r#"{"role":"user","content":"hi"}"#,
        r#"{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}},{"function":{"name":"g","arguments":{}}}]}"#,
        r#"{"role":"tool","tool_name":"g","content":"2"}"#,
        r#"{"role":"tool","tool_name":"f","content":"1"}"#,
    ];

    #[test]
    fn missing_ids_are_made_for_call_and_result() {
        let (messages, losses) = converted(&OLLAMA, Dialect::Anthropic);
        assert_eq!(
            messages,
            [
                r#"{"role":"user","content":"hi"}"#,
                r#"{"role":"assistant","content":[{"type":"tool_use","id":"memory_call_1","name":"f","input":{"a":1}},{"type":"tool_use","id":"memory_call_2","name":"g","input":{}}]}"#,
                r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"memory_call_2","content":"2"},{"type":"tool_result","tool_use_id":"memory_call_1","content":"1"}]}"#,
            ]
        );
        assert_eq!(losses, [("the tool's name was left out of results", 2)]);
        let (messages, _) = converted(&OLLAMA, Dialect::Chat);
        assert!(messages[1].contains(r#""id":"memory_call_1""#), "{messages:?}");
        assert!(messages[3].contains(r#""tool_call_id":"memory_call_1""#), "{messages:?}");
    }

    #[test]
    fn names_of_results_come_from_their_calls() {
        let history = [
            r#"{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}"#,
            r#"{"type":"function_call","call_id":"d","name":"g","arguments":"{}"}"#,
            r#"{"type":"function_call_output","call_id":"d","output":"2"}"#,
            r#"{"type":"function_call_output","call_id":"c","output":"1"}"#,
        ];
        let (messages, losses) = converted(&history, Dialect::Gemini);
        assert_eq!(messages.len(), 2, "{messages:?}");
        let at = |text: &str| messages[1].find(text).unwrap();
        assert!(at(r#""name":"g""#) < at(r#""name":"f""#), "{messages:?}");
        assert_eq!(losses, []);
        let (messages, _) = converted(&history, Dialect::Chat);
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert!(messages[0].contains(r#""id":"c""#) && messages[0].contains(r#""id":"d""#));
    }

    #[test]
    fn own_dialect_keeps_known_fields() {
        let history = [
            r#"{"role":"user","content":"hi","name":"ann","conversation_id":"k"}"#,
            r#"{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}}"#,
            r#"{"role":"function","name":"f","content":"1"}"#,
        ];
        let (messages, losses) = converted(&history, Dialect::Chat);
        assert_eq!(losses, []);
        assert_eq!(
            messages.iter().map(|text| Json::parse(text).unwrap()).collect::<Vec<_>>(),
            [r#"{"role":"user","content":"hi","name":"ann"}"#, history[1], history[2]]
                .map(|text| Json::parse(text).unwrap())
        );
    }

    #[test]
    fn losses_are_counted_by_kind() {
        let history = [
            r#"{"type":"reasoning","id":"rs","summary":[],"encrypted_content":"gAAA"}"#,
            r#"{"role":"user","content":[{"type":"input_text","text":"hi"}]}"#,
            r#"{"type":"reasoning","id":"rt","summary":[],"encrypted_content":"gAAB"}"#,
            r#"{"role":"user","content":"","name":"ann"}"#,
        ];
        let (messages, losses) = converted(&history, Dialect::Anthropic);
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!(losses[0].1 + losses[1].1, 3, "{losses:?}");
        assert!(losses.contains(&("reasoning of another provider was left out", 2)), "{losses:?}");
    }
}
