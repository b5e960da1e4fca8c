//! The output of writing, and code that several dialects share.

use super::Dialect;
use super::media::full_media_type;
use super::part::{
    Arguments, MediaKind, MediaPart, MediaSource, Native, Part, ReasoningPart, TextKind,
    joined_text,
};
use crate::json::{Json, JsonObject};
use crate::message::Role;

/// The written messages, and the content that the dialect could not express.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Written {
    /// The messages or items in order; empty if there was nothing to write.
    pub messages: Vec<Json>,
    /// One loss for each occurrence.
    pub losses: Vec<Loss>,
}

/// A loss or change of a conversion. The table is in the docs of the [`dialect`](super) module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// Reasoning of another dialect was dropped: its signature or encryption is bound to its provider.
    Reasoning,
    /// A call or result of a tool that another provider ran was dropped.
    ProviderRun,
    /// Media in a tool's result were moved into a user message behind the results.
    MediaMoved,
    /// A medium was replaced by a note, because the dialect has no such medium, or because its id is valid for one
    /// account only.
    MediaReplaced,
    /// A text document was written as text.
    DocumentAsText,
    /// A failed result was marked by the text `Error: ` before it.
    ErrorFlag,
    /// Arguments that are no JSON object were wrapped as `{"_raw": ".."}`.
    ArgumentsWrapped,
    /// A custom or legacy call was written as a function call.
    CallKind,
    /// A call or a result without an id was written in a dialect that requires one.
    IdMissing,
    /// The tool's name was dropped from a result.
    ResultName,
    /// A result without its tool's name was written in a dialect that requires one.
    NameMissing,
    /// Data of a result were written as text.
    DataAsText,
    /// Results were split into one message each.
    ResultsSplit,
    /// Text behind calls was written before them.
    Order,
    /// Citations or annotations were dropped.
    Citations,
    /// A refusal or transcript was written as text.
    TextKind,
    /// A cache mark or provider option was dropped.
    CacheMark,
    /// A role that the dialect lacks was written as another.
    Role,
    /// The author's name was dropped.
    Author,
    /// A part that only its own dialect knows was dropped.
    Unknown,
}

impl Loss {
    /// The name, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reasoning => "reasoning",
            Self::ProviderRun => "provider_run",
            Self::MediaMoved => "media_moved",
            Self::MediaReplaced => "media_replaced",
            Self::DocumentAsText => "document_as_text",
            Self::ErrorFlag => "error_flag",
            Self::ArgumentsWrapped => "arguments_wrapped",
            Self::CallKind => "call_kind",
            Self::IdMissing => "id_missing",
            Self::ResultName => "result_name",
            Self::NameMissing => "name_missing",
            Self::DataAsText => "data_as_text",
            Self::ResultsSplit => "results_split",
            Self::Order => "order",
            Self::Citations => "citations",
            Self::TextKind => "text_kind",
            Self::CacheMark => "cache_mark",
            Self::Role => "role",
            Self::Author => "author",
            Self::Unknown => "unknown",
        }
    }

    /// The loss, as a sentence without a period.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Reasoning => "dropped reasoning of another dialect",
            Self::ProviderRun => "dropped a tool that another provider ran",
            Self::MediaMoved => "moved media behind the results",
            Self::MediaReplaced => "replaced a medium with a note",
            Self::DocumentAsText => "wrote a text document as text",
            Self::ErrorFlag => "marked a failed result by a text",
            Self::ArgumentsWrapped => "wrapped arguments that are no JSON object",
            Self::CallKind => "wrote a custom or legacy call as a function call",
            Self::IdMissing => "wrote a call or result without an id",
            Self::ResultName => "dropped the name of a tool from its result",
            Self::NameMissing => "wrote a result without the name of its tool",
            Self::DataAsText => "wrote data of a result as text",
            Self::ResultsSplit => "split results into one message each",
            Self::Order => "wrote text behind calls before them",
            Self::Citations => "dropped citations",
            Self::TextKind => "wrote a refusal or transcript as text",
            Self::CacheMark => "dropped a cache mark",
            Self::Role => "wrote another role",
            Self::Author => "dropped the name of an author",
            Self::Unknown => "dropped a part of an unknown type",
        }
    }
}

/// The key under which arguments that are no JSON object are wrapped.
const RAW: &str = "_raw";

/// The text before a failed result, if there is no flag.
const ERROR_PREFIX: &str = "Error: ";

impl Written {
    pub(super) fn lose(&mut self, loss: Loss) {
        self.losses.push(loss);
    }

    pub(super) fn push(&mut self, message: JsonObject) {
        self.messages.push(Json::Object(message));
    }

    /// The arguments as an object.
    pub(super) fn argument_object(&mut self, arguments: Arguments<'_>) -> Json {
        let raw = match arguments {
            Arguments::Missing => return JsonObject::new().into(),
            Arguments::Json(json @ Json::Object(_)) => return json.clone(),
            Arguments::Json(json) => json.to_string(),
            Arguments::Text(text) if text.trim().is_empty() => return JsonObject::new().into(),
            Arguments::Text(text) => match Json::parse(text) {
                Ok(json @ Json::Object(_)) => return json,
                _ => text.into(),
            },
        };
        self.lose(Loss::ArgumentsWrapped);
        JsonObject::new().with(RAW, raw).into()
    }

    /// Whether a provider-run call or result, or reasoning, can be written, which only its dialect can do. Reports
    /// the loss if not.
    pub(super) fn may_write(
        &mut self,
        dialect: Dialect,
        native: Option<Native<'_>>,
        loss: Loss,
    ) -> bool {
        let may = native.is_none_or(|native| native.dialect == dialect);
        if !may {
            self.lose(loss);
        }
        may
    }

    /// Reports the losses of a text in a dialect that writes no citations and no kinds of text.
    pub(super) fn lose_text_extras(&mut self, part: &super::part::TextPart<'_>, target: Dialect) {
        if part.citations.is_some_and(|citations| citations.as_array() != Some(&[])) {
            self.lose(Loss::Citations);
        }
        let has_kind = match part.kind {
            TextKind::Refusal => matches!(target, Dialect::Chat | Dialect::Responses),
            TextKind::Transcript => part.native.is_some_and(|native| native.dialect == target),
            TextKind::Plain | TextKind::Plan | TextKind::Compaction => true,
        };
        if !has_kind {
            self.lose(Loss::TextKind);
        }
        self.lose_cache_mark(part.native, target);
    }

    /// Reports the loss of a cache mark or provider options of another dialect.
    pub(super) fn lose_cache_mark(&mut self, native: Option<Native<'_>>, target: Dialect) {
        const MARKS: [&str; 3] = ["cache_control", "providerOptions", "prompt_cache_breakpoint"];
        let lost = native.is_some_and(|native| {
            native.dialect != target && MARKS.iter().any(|mark| native.json.get(mark).is_some())
        });
        if lost {
            self.lose(Loss::CacheMark);
        }
    }

    /// Marks the content of a failed result by a prefix, if there is no flag. `block` makes a block from a text.
    pub(super) fn prefix_error(&mut self, blocks: &mut Vec<Json>, block: fn(&str) -> JsonObject) {
        self.lose(Loss::ErrorFlag);
        let first = blocks.first_mut().and_then(Json::as_object_mut);
        match first.and_then(|first| first.get_mut("text")).and_then(Json::as_string_mut) {
            Some(text) if text.starts_with(ERROR_PREFIX) => {}
            Some(text) => text.insert_str(0, ERROR_PREFIX),
            None => blocks.insert(0, block(ERROR_PREFIX).into()),
        }
    }

    /// A text document as text; `None` for any other medium.
    pub(super) fn document_text(&mut self, part: &MediaPart<'_>) -> Option<String> {
        let body = match &part.source {
            MediaSource::Text(text) => (*text).to_owned(),
            MediaSource::Parts(parts) => joined_text(parts).into_owned(),
            _ => return None,
        };
        self.lose(Loss::DocumentAsText);
        let mut text = String::new();
        for head in [part.title, part.context].into_iter().flatten() {
            text.push_str(head);
            text.push('\n');
        }
        text.push_str(&body);
        Some(text)
    }

    /// The text that replaces a medium that cannot be written.
    pub(crate) fn media_note(&mut self, part: &MediaPart<'_>) -> String {
        if let Some(text) = self.document_text(part) {
            return text;
        }
        self.lose(Loss::MediaReplaced);
        let kind = match part.kind {
            MediaKind::Image => "image",
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
            MediaKind::Document => "document",
        };
        match (part.title, &part.source) {
            (Some(title), _) => format!("[{kind} left out: {title}]"),
            (None, MediaSource::Url(url)) => format!("[{kind} left out: {url}]"),
            (None, _) => format!("[{kind} left out]"),
        }
    }
}

/// Arguments from a value. Arguments wrapped by [`Written::argument_object`] become the original text.
pub(super) fn read_arguments(value: Option<&Json>) -> Arguments<'_> {
    match value {
        None | Some(Json::Null) => Arguments::Missing,
        Some(Json::String(text)) => Arguments::Text(text),
        Some(json) => match json.as_object() {
            Some(object) if object.len() == 1 => object
                .get(RAW)
                .and_then(Json::as_str)
                .map_or(Arguments::Json(json), Arguments::Text),
            _ => Arguments::Json(json),
        },
    }
}

/// The arguments as text.
pub(super) fn argument_text(arguments: Arguments<'_>) -> String {
    match arguments {
        Arguments::Missing => "{}".into(),
        other => other.to_text().into_owned(),
    }
}

/// The known fields of the native JSON of a part, if it is of this dialect.
pub(super) fn native_part(dialect: Dialect, native: Option<Native<'_>>) -> Option<JsonObject> {
    let native = native.filter(|native| native.dialect == dialect)?;
    dialect.copy_part(native.json)
}

/// The media type of a medium, complete with both halves.
pub(super) fn media_type_of(part: &MediaPart<'_>) -> String {
    full_media_type(part.media_type, part.kind).into_owned()
}

/// Sets the id of a call in its block, or removes it.
pub(super) fn set_id(object: &mut JsonObject, key: &str, id: Option<&str>) {
    match id {
        Some(id) => {
            object.insert(key, id);
        }
        None => {
            object.remove(key);
        }
    }
}

/// Whether reasoning has text or a signature.
pub(super) fn carries_reasoning(part: &ReasoningPart<'_>) -> bool {
    !part.text.is_empty() || part.opaque.is_some()
}

/// Splits the parts of a message where the speaker changes. In dialects with calls in the model's messages and
/// results in the user's, a message with both becomes several.
pub(super) struct Sides<'p, 'a> {
    parts: &'p [Part<'a>],
    own: &'static str,
    answers: &'static str,
    assistant: &'static str,
}

impl<'p, 'a> Sides<'p, 'a> {
    /// `assistant` and `answers` are the dialect's names for the model's role and the role of results.
    pub(super) fn new(
        written: &mut Written,
        role: &Role,
        parts: &'p [Part<'a>],
        assistant: &'static str,
        answers: &'static str,
    ) -> Self {
        let own = match role {
            Role::System | Role::Developer => "system",
            Role::Assistant => assistant,
            Role::User => "user",
            Role::Tool | Role::Function => answers,
            Role::Other(_) => {
                written.lose(Loss::Role);
                "user"
            }
        };
        Self { parts, own, answers, assistant }
    }

    fn side(&self, part: &Part<'_>) -> &'static str {
        match part {
            Part::Result(result) if result.provider_run => self.assistant,
            Part::Result(_) => self.answers,
            Part::Call(_) => self.assistant,
            // Parts that only the dialect knows keep their place.
            Part::Other(_) => self.own,
            // A message with the results' role may only contain results.
            _ if self.own == "tool" => "user",
            _ => self.own,
        }
    }
}

impl<'p, 'a> Iterator for Sides<'p, 'a> {
    type Item = (&'static str, &'p [Part<'a>]);

    fn next(&mut self) -> Option<Self::Item> {
        let side = self.side(self.parts.first()?);
        let count = self.parts.iter().take_while(|part| self.side(part) == side).count();
        let (run, rest) = self.parts.split_at(count);
        self.parts = rest;
        Some((side, run))
    }
}
