//! The tool calls that a message makes and answers.

use std::sync::Arc;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::dialect::{CallKind, Dialect, Part};
use crate::json::Json;
use crate::message::{Message, Role};

/// The tool calls and results of a message: all that is needed to keep units whole.
///
/// Excluded are calls that the provider runs itself, with their results, and calls whose result is in the same
/// message, because nothing can separate them.
///
/// # How results find their calls
///
/// 1. A result with an id answers the nearest earlier call that has this id and is unanswered.
/// 2. A result with only a name answers a call of this name: the first unanswered one in the nearest earlier message
///    that has one. If there is none, it answers a call whose name is unknown, by the same rule.
/// 3. A result with neither answers by position: the first unanswered call in the nearest earlier message that has
///    one.
///
/// The [items](AnswerItem) of one answer count as one message.
///
/// A result with an id never answers a call without one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ToolLink {
    /// The calls that the message makes.
    pub calls: Arc<[ToolRef]>,
    /// The calls that the message answers.
    pub results: Arc<[ToolRef]>,
    /// Set if the message is one item of a model's answer, which the Responses API writes as several: `None` in every
    /// other dialect.
    pub item: Option<AnswerItem>,
}

/// An item of a model's answer in the Responses API, in the order in which they follow each other.
///
/// Chat has one message for the whole answer. Items of one answer therefore stay together:
/// see [`Units`](crate::plan::Units).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AnswerItem {
    /// Reasoning, or a tool that the provider runs.
    Work,
    /// Text.
    Text,
    /// A call that the application answers.
    Call,
}

impl AnswerItem {
    /// Whether this item belongs to the same answer as the item directly before it. A second text does not: it is
    /// the answer of another agent, or the next one.
    #[must_use]
    pub fn continues(self, before: Self) -> bool {
        before < self || (before == self && self != Self::Text)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Text => "text",
            Self::Call => "call",
        }
    }

    fn from_json(json: &Json) -> Option<Self> {
        let name = json.as_str()?;
        [Self::Work, Self::Text, Self::Call].into_iter().find(|item| item.as_str() == name)
    }
}

/// A reference to a tool call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ToolRef {
    /// The id; empty if there is none. The calls of OpenAI's first function API, which have no id, have
    /// `function_call:` and the name here.
    pub id: Box<str>,
    /// The name of the tool; empty if it is not known, and on results with an id.
    pub name: Box<str>,
}

impl ToolRef {
    /// The call with this id.
    #[must_use]
    pub fn by_id(id: impl Into<Box<str>>) -> Self {
        Self { id: id.into(), name: Box::default() }
    }

    /// A call of the tool with this name, without an id.
    #[must_use]
    pub fn by_name(name: impl Into<Box<str>>) -> Self {
        Self { id: Box::default(), name: name.into() }
    }

    /// The id or, without one, the name.
    #[must_use]
    pub fn label(&self) -> &str {
        if self.id.is_empty() { &self.name } else { &self.id }
    }

    fn to_json(&self) -> Json {
        if self.name.is_empty() {
            return Json::from(&*self.id);
        }
        vec![Json::from(&*self.id), Json::from(&*self.name)].into()
    }

    fn from_json(json: &Json) -> Option<Self> {
        match json {
            Json::String(id) => Some(Self::by_id(id.as_str())),
            Json::Array(pair) => match pair.as_slice() {
                [Json::String(id), Json::String(name)] => {
                    Some(Self { id: id.as_str().into(), name: name.as_str().into() })
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// Without an allocation for none.
fn shared(refs: Vec<ToolRef>) -> Arc<[ToolRef]> {
    if refs.is_empty() { Arc::default() } else { refs.into() }
}

impl ToolLink {
    /// The link of a message that makes these calls.
    pub fn of_calls(calls: impl IntoIterator<Item = ToolRef>) -> Self {
        Self { calls: shared(calls.into_iter().collect()), ..Self::default() }
    }

    /// The link of a message with these results.
    pub fn of_results(results: impl IntoIterator<Item = ToolRef>) -> Self {
        Self { results: shared(results.into_iter().collect()), ..Self::default() }
    }

    /// Whether it neither calls nor answers.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.calls.is_empty() && self.results.is_empty()
    }

    /// The bytes that it occupies apart from its own size, shared with its clones.
    pub(crate) fn heap_bytes(&self) -> usize {
        let refs = self.calls.iter().chain(&*self.results);
        refs.map(|call| size_of::<ToolRef>() + call.id.len() + call.name.len()).sum()
    }

    pub(crate) fn of(message: &Message) -> Self {
        let (mut calls, mut results) = (Vec::new(), Vec::new());
        let mut item = AnswerItem::Work;
        message.read(&mut |part| match part {
            Part::Call(call) if !call.provider_run => match call.kind {
                CallKind::LegacyFunction if call.name.is_empty() => {}
                CallKind::LegacyFunction => calls.push(ToolRef::by_id(legacy_id(call.name))),
                _ => calls.push(ToolRef {
                    id: call.id.unwrap_or_default().into(),
                    name: call.name.into(),
                }),
            },
            Part::Result(result) if !result.provider_run => {
                let name = result.name.unwrap_or_default();
                let result = match (result.link, result.kind) {
                    (Some(id), _) => ToolRef::by_id(id),
                    (None, CallKind::LegacyFunction) => ToolRef::by_id(legacy_id(name)),
                    (None, _) => ToolRef::by_name(name),
                };
                let own =
                    calls.iter().position(|call| !result.id.is_empty() && call.id == result.id);
                match own {
                    Some(own) => drop(calls.remove(own)),
                    None => results.push(result),
                }
            }
            Part::Text(_) | Part::Media(_) => item = AnswerItem::Text,
            _ => {}
        });
        if !calls.is_empty() {
            item = AnswerItem::Call;
        }
        let is_item = message.dialect() == Dialect::Responses && *message.role() == Role::Assistant;
        let item = is_item.then_some(item);
        Self { calls: shared(calls), results: shared(results), item }
    }

    /// The stored form; `None` if there is nothing to store. One result with an id is its id as a string;
    /// anything else is `{"calls":[..],"results":[..],"item":".."}` without the empty ones, where a call or result is
    /// its id, or `[id, name]`.
    #[must_use]
    pub fn encode(&self) -> Option<String> {
        match (&*self.calls, &*self.results, self.item) {
            ([], [], None) => None,
            ([], [result], None) if result.name.is_empty() => Some(result.to_json().to_string()),
            (calls, results, item) => {
                let list = |refs: &[ToolRef]| -> Option<Json> {
                    let refs: Vec<_> = refs.iter().map(ToolRef::to_json).collect();
                    (!refs.is_empty()).then(|| refs.into())
                };
                let item = item.map(|item| Json::from(item.as_str()));
                let members = [("calls", list(calls)), ("results", list(results)), ("item", item)];
                let used = members.into_iter().filter_map(|(key, value)| Some((key, value?)));
                Some(used.collect::<crate::json::JsonObject>().to_string())
            }
        }
    }

    /// Reads the stored form, and the one before it, in which the ids of calls were an array; `None` for
    /// anything else.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let refs = |json: Option<&Json>| match json {
            None => Some(Arc::default()),
            Some(json) => json.as_array()?.iter().map(ToolRef::from_json).collect(),
        };
        match Json::parse(text).ok()? {
            Json::String(id) => Some(Self::of_results([ToolRef::by_id(id)])),
            calls @ Json::Array(_) => Some(Self { calls: refs(Some(&calls))?, ..Self::default() }),
            link @ Json::Object(_) => Some(Self {
                calls: refs(link.get("calls"))?,
                results: refs(link.get("results"))?,
                item: link.get("item").and_then(AnswerItem::from_json),
            }),
            _ => None,
        }
    }
}

fn legacy_id(name: &str) -> Box<str> {
    format!("function_call:{name}").into()
}

/// As `{"calls": [...], "results": [...]}`, each by its id or, without one, its name.
impl Message {
    /// The calls that it makes and answers.
    #[must_use]
    pub fn tool_link(&self) -> ToolLink {
        ToolLink::of(self)
    }
}

impl Serialize for ToolLink {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut link = serializer.serialize_struct("ToolLink", 2)?;
        let labels =
            |refs: &[ToolRef]| refs.iter().map(|one| one.label().to_owned()).collect::<Vec<_>>();
        link.serialize_field("calls", &labels(&self.calls))?;
        link.serialize_field("results", &labels(&self.results))?;
        link.end()
    }
}

#[cfg(test)]
mod tests;
