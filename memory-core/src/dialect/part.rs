//! The neutral parts of a message.

use std::borrow::Cow;

use super::Dialect;
use crate::json::Json;

/// One part of a message, in the same form for every dialect, borrowed from the message's JSON.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Part<'a> {
    /// Text that the model reads or wrote.
    Text(TextPart<'a>),
    /// An image, audio, video or document.
    Media(MediaPart<'a>),
    /// The model's reasoning.
    Reasoning(ReasoningPart<'a>),
    /// A tool call of the model.
    Call(CallPart<'a>),
    /// The result of a tool.
    Result(ResultPart<'a>),
    /// Data in a tool's result that the model reads as JSON.
    Data(&'a Json),
    /// Any other part, known to the dialect or not, such as its cache mark or an item reference.
    Other(Native<'a>),
}

/// The JSON that a part was read from, and its dialect.
///
/// Writing in the same dialect copies its known fields instead of building new ones. Ids, names and the text of text
/// parts are taken from the part, so they may be changed, and Anthropic's citations may be left out. After any other
/// change set `native` to `None`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Native<'a> {
    /// The dialect of the JSON.
    pub dialect: Dialect,
    /// The block, item or message.
    pub json: &'a Json,
}

/// Text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextPart<'a> {
    /// The text.
    pub text: Cow<'a, str>,
    /// The kind of the text.
    pub kind: TextKind,
    /// `citations` or `annotations` beside the text, unchanged.
    pub citations: Option<&'a Json>,
    /// The block, if the text is in a separate one.
    pub native: Option<Native<'a>>,
}

/// The kind of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TextKind {
    /// Ordinary text.
    Plain,
    /// A refusal of the model.
    Refusal,
    /// The transcript of the model's audio.
    Transcript,
    /// A plan that the model states before its calls (Cohere).
    Plan,
    /// A summary with which a provider replaced earlier messages (Anthropic `compaction`).
    Compaction,
}

/// An image, audio, video or document.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaPart<'a> {
    /// The kind of the medium.
    pub kind: MediaKind,
    /// The source of its content.
    pub source: MediaSource<'a>,
    /// Its media type, or its format if the dialect has only that, such as `image/png` or `wav`.
    pub media_type: Option<&'a str>,
    /// The level of detail for the model, such as `low` or `high`.
    pub detail: Option<&'a str>,
    /// Its title or file name.
    pub title: Option<&'a str>,
    /// The caller's context for a document.
    pub context: Option<&'a str>,
    /// Its size, if the message states it.
    pub size: MediaSize,
    /// The block.
    pub native: Option<Native<'a>>,
}

/// The kind of a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MediaKind {
    /// A picture.
    Image,
    /// Sound.
    Audio,
    /// Video.
    Video,
    /// Any other file: PDF, text, search result.
    Document,
}

/// The source of the content of a medium.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum MediaSource<'a> {
    /// In the message, as base64.
    Data(&'a str),
    /// At this URL.
    Url(&'a str),
    /// At the provider, with this id.
    FileId(&'a str),
    /// In the message, as text that the model reads.
    Text(&'a str),
    /// In the message, as parts that the model reads.
    Parts(Vec<Part<'a>>),
    /// In a form that only the dialect knows.
    Native,
}

/// The size of a medium, as far as the message states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MediaSize {
    /// In pixels.
    pub width: Option<u32>,
    /// In pixels.
    pub height: Option<u32>,
    /// The length of audio or video, in whole seconds.
    pub seconds: Option<u32>,
}

/// The model's reasoning.
#[derive(Debug, Clone, PartialEq)]
pub struct ReasoningPart<'a> {
    /// The readable text; empty if there is none.
    pub text: Cow<'a, str>,
    /// A signature or encrypted content, which the provider verifies and which must not change.
    pub opaque: Option<&'a str>,
    /// The block, item or field.
    pub native: Option<Native<'a>>,
}

/// A tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallPart<'a> {
    /// The id that the result refers to; `None` if it is missing or empty.
    pub id: Option<&'a str>,
    /// The tool; empty if the call does not name it.
    pub name: &'a str,
    /// The arguments.
    pub arguments: Arguments<'a>,
    /// The form of the call.
    pub kind: CallKind<'a>,
    /// Whether the provider runs the tool. Such a call is never open.
    pub provider_run: bool,
    /// The block, item or element of `tool_calls`.
    pub native: Option<Native<'a>>,
}

/// The arguments of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Arguments<'a> {
    /// No arguments.
    Missing,
    /// A text, usually of JSON, as the model wrote it.
    Text(&'a str),
    /// A value, usually an object.
    Json(&'a Json),
}

impl Arguments<'_> {
    /// The arguments as text: as the model wrote them, or serialized as JSON. Empty if there are none.
    #[must_use]
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Missing => Cow::Borrowed(""),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Json(json) => Cow::Owned(json.to_string()),
        }
    }
}

/// The form of a call and of its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallKind<'a> {
    /// Of a function with JSON arguments.
    Function,
    /// Of a function, as `function_call` without an id (OpenAI's first function API).
    LegacyFunction,
    /// Of a custom tool, whose input is text.
    Custom,
    /// Of a tool that the provider defines, by the type of its block or item.
    Native(&'a str),
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultPart<'a> {
    /// The id of the call; `None` if it is missing or empty.
    pub link: Option<&'a str>,
    /// The tool, if the result names it.
    pub name: Option<&'a str>,
    /// Text, media and data.
    pub content: Vec<Part<'a>>,
    /// Whether the tool failed.
    pub is_error: bool,
    /// The form of the result.
    pub kind: CallKind<'a>,
    /// Whether the provider ran the tool.
    pub provider_run: bool,
    /// The block, item or message, if it can be sent unchanged.
    pub native: Option<Native<'a>>,
}

impl<'a> Part<'a> {
    /// A plain text.
    #[must_use]
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(TextPart::new(text))
    }

    /// Calls `visit` with each text that the model reads as text: of text and reasoning, names and arguments of
    /// calls, contents of results, titles, contexts and inline text of documents, quoted text of citations, data as
    /// JSON. Signatures, base64, ids and the content of [`Other`](Self::Other) are left out.
    pub fn visit_text(&self, visit: &mut dyn FnMut(&str)) {
        match self {
            Self::Text(part) => {
                visit(&part.text);
                if let Some(citations) = part.citations {
                    visit_citations(citations, visit);
                }
            }
            Self::Media(part) => {
                for text in [part.title, part.context].into_iter().flatten() {
                    visit(text);
                }
                match &part.source {
                    MediaSource::Text(text) => visit(text),
                    MediaSource::Parts(parts) => {
                        parts.iter().for_each(|part| part.visit_text(visit));
                    }
                    MediaSource::Data(_)
                    | MediaSource::Url(_)
                    | MediaSource::FileId(_)
                    | MediaSource::Native => {}
                }
            }
            Self::Reasoning(part) => visit(&part.text),
            Self::Call(part) => {
                visit(part.name);
                visit(&part.arguments.to_text());
            }
            Self::Result(part) => part.content.iter().for_each(|part| part.visit_text(visit)),
            Self::Data(json) => visit(&json.to_string()),
            Self::Other(_) => {}
        }
    }

    /// Removes the native JSON of the part and of its inner parts, so that writing rebuilds everything.
    pub fn forget_native(&mut self) {
        match self {
            Self::Text(part) => part.native = None,
            Self::Media(part) => {
                part.native = None;
                if let MediaSource::Parts(parts) = &mut part.source {
                    parts.iter_mut().for_each(Part::forget_native);
                }
            }
            Self::Reasoning(part) => part.native = None,
            Self::Call(part) => part.native = None,
            Self::Result(part) => {
                part.native = None;
                part.content.iter_mut().for_each(Part::forget_native);
            }
            Self::Data(_) | Self::Other(_) => {}
        }
    }

    /// Whether the part has no content: white space, or reasoning with neither text nor signature.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Text(part) => part.text.trim().is_empty(),
            Self::Reasoning(part) => part.text.trim().is_empty() && part.opaque.is_none(),
            Self::Media(_) | Self::Call(_) | Self::Result(_) | Self::Data(_) | Self::Other(_) => {
                false
            }
        }
    }
}

impl<'a> TextPart<'a> {
    /// A plain text without native JSON.
    #[must_use]
    pub fn new(text: impl Into<Cow<'a, str>>) -> Self {
        Self { text: text.into(), kind: TextKind::Plain, citations: None, native: None }
    }
}

impl<'a> MediaPart<'a> {
    /// A medium with only kind and source.
    #[must_use]
    pub fn new(kind: MediaKind, source: MediaSource<'a>) -> Self {
        Self {
            kind,
            source,
            media_type: None,
            detail: None,
            title: None,
            context: None,
            size: MediaSize::default(),
            native: None,
        }
    }
}

impl<'a> CallPart<'a> {
    /// A call of a function.
    #[must_use]
    pub fn new(id: Option<&'a str>, name: &'a str, arguments: Arguments<'a>) -> Self {
        let id = id.filter(|id| !id.is_empty());
        let kind = CallKind::Function;
        Self { id, name, arguments, kind, provider_run: false, native: None }
    }
}

impl<'a> ResultPart<'a> {
    /// The result of a function.
    #[must_use]
    pub fn new(link: Option<&'a str>, name: Option<&'a str>, content: Vec<Part<'a>>) -> Self {
        Self {
            link: link.filter(|id| !id.is_empty()),
            name: name.filter(|name| !name.is_empty()),
            content,
            is_error: false,
            kind: CallKind::Function,
            provider_run: false,
            native: None,
        }
    }

    /// The texts of the content, joined by line breaks, data as JSON.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        joined_text(&self.content)
    }
}

/// The texts of these parts, joined by line breaks, data as JSON. Other parts are left out.
pub(super) fn joined_text<'p>(parts: &'p [Part<'_>]) -> Cow<'p, str> {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text(part) => Some(Cow::Borrowed(part.text.as_ref())),
        Part::Data(json) => Some(Cow::Owned(json.to_string())),
        _ => None,
    });
    join(texts)
}

/// Texts joined by line breaks, borrowed if there is only one.
pub(super) fn join<'t>(mut texts: impl Iterator<Item = Cow<'t, str>>) -> Cow<'t, str> {
    let Some(first) = texts.next() else { return Cow::Borrowed("") };
    let Some(second) = texts.next() else { return first };
    let mut joined = format!("{first}\n{second}");
    for text in texts {
        joined.push('\n');
        joined.push_str(&text);
    }
    Cow::Owned(joined)
}

/// Texts of a JSON value under the keys by which citations quote and name their sources.
fn visit_citations(citations: &Json, visit: &mut dyn FnMut(&str)) {
    match citations {
        Json::Array(items) => items.iter().for_each(|item| visit_citations(item, visit)),
        Json::Object(members) => {
            for (key, value) in members.iter() {
                match (key, value) {
                    ("cited_text" | "title" | "document_title" | "text", Json::String(text)) => {
                        visit(text);
                    }
                    (_, Json::Array(_) | Json::Object(_)) => visit_citations(value, visit),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
