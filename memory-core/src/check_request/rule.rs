//! The rules of requests, with their sources.

use std::fmt;

/// Declares the rules with their documentation, names and error texts in one place.
macro_rules! rules {
    ($($(#[doc = $doc:literal])* $rule:ident, $name:literal, $text:literal;)*) => {
        /// A rule that a request can break.
        ///
        #[doc = include_str!("rules.md")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum RequestRule {
            $($(#[doc = $doc])* $rule,)*
        }

        impl RequestRule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$rule,)*];

            /// The name of the rule, such as `orphan_result`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)*
                }
            }

            /// The fault and the remedy.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$rule => $text,)*
                }
            }
        }
    };
}

rules! {
    /// The request is JSON, nested at most 127 deep. (RFC 8259)
    Json, "json", "is not JSON, or is nested too deeply; write one JSON value";
    /// The request has the form of its API: an array of messages, or an object with `messages`,
    /// `contents` or `input`. Every message, item and part is an object. (T of each SDK)
    Form, "form", "has not the form of this API; see the documentation of `check_request`";
    /// The request has at least one message. (T)
    Messages, "messages", "has no message; send at least one";
    /// The request is not larger than the provider takes. Only strings and keys are counted, so
    /// that a request that is barely too large passes. (D; profile field `max_bytes`)
    RequestSize, "request_size",
        "is larger than the provider accepts; leave out media or old messages";

    /// A role of the API. (T; Gemini: "Please use a valid role: user, model" M)
    Role, "role", "is not a role of this API; map it to a known role";
    /// The first message is the user's. (profile field `first`)
    FirstMessage, "first_message", "must be a user message; start the request with one";
    /// Roles follow each other as the API wants. (profile field `alternation`)
    Alternation, "alternation", "may not follow the message before it; merge neighbors of one role";
    /// System messages are where the API takes them. (profile field `system`)
    SystemPlacement, "system_placement",
        "is a system message in a wrong place; move it to the start";
    /// The last message may be the last. (profile field `last`)
    LastMessage, "last_message", "may not be the last message; end with a user message or a result";

    /// Only fields of the API. (E RooCode#11429, langchain#31208, claude-code#4378,
    /// agent-framework#2203, litellm#13420)
    UnknownField, "unknown_field", "is not a field of this API; leave it out";
    /// No field twice in one object. (RFC 8259 section 4: the result is unpredictable)
    DuplicateField, "duplicate_field", "is a repeated field; write it once";
    /// A required field is there. (T)
    MissingField, "missing_field", "is missing; add the field";
    /// A field has the type that the API wants. (T)
    FieldType, "field_type", "has the wrong JSON type; write the documented type";
    /// A field with fixed values has one of them. (T)
    FieldValue, "field_value", "has a value that the API does not know; use a documented value";
    /// No `null`, such as `name: null` or `function_call: null`. (T: optional fields
    /// are left out, not null; "None is not of type" M)
    NullField, "null_field", "is null; leave the field out";
    /// No `tool_calls: []`. (E openai-node#1341, core#118577: `empty_array`)
    EmptyToolCalls, "empty_tool_calls", "is an empty list of calls; leave the field out";

    /// A message has content. (profile fields `text`, `content`; E vercel/ai#3775, agno#6644,
    /// OpenHands#8685)
    EmptyContent, "empty_content", "has no content; leave the message out or add a placeholder";
    /// A text is not empty, or blank where the API refuses that. (profile field `text`)
    EmptyText, "empty_text", "is an empty or blank text; leave the part out";
    /// Text or calls, not both. (profile field `text_beside_calls`)
    TextBesideCalls, "text_beside_calls",
        "has text beside calls, which this model refuses; send an empty text";
    /// A part of the content has a type of the API. (T)
    PartType, "part_type",
        "is a part of a type that this API does not know; convert it or leave it out";
    /// A part has exactly one kind of data: one key in each Bedrock block and Gemini part. (T; D
    /// API_runtime_ContentBlock)
    PartShape, "part_shape", "must have exactly one kind of data; split the part";
    /// A part is in a message that may hold it: calls from the assistant, results from the user,
    /// media where allowed. (T; D API_runtime_Message; profile field `media_in_results`)
    PartPlacement, "part_placement", "is a part that may not be in this message; move it";

    /// The id of a call has the form that the API wants. (profile field `call_id`)
    CallId, "call_id",
        "has a length or characters that this API refuses in ids; rename call and result alike";
    /// No id is used for two calls of a request. (E litellm#23510, cua#524, claude-code#28515;
    /// OpenAI and Mistral: over the whole request is assumed [?])
    DuplicateCallId, "duplicate_call_id",
        "repeats the id of another call; rename call and result alike";
    /// Each call has a result. (E litellm#10083, GhidrAssist#78, claude-code#8210, gemini-cli#5443)
    UnansweredCall, "unanswered_call",
        "is a call without a result; add a result or leave the call out";
    /// Each result has a call before it. (E continue#10092, claude-code#18947, crush#279)
    OrphanResult, "orphan_result", "is a result without a call; leave it out";
    /// Each call has one result only. (E claude-code: "each tool_use must have a single result" M)
    DuplicateResult, "duplicate_result", "is a second result of one call; leave one of them out";
    /// Results are where the API wants them. (profile field `results`)
    ResultPlacement, "result_placement",
        "is a result in a wrong place; move it directly after its call";
    /// Not more calls in a message than the API takes. (profile field `max_calls`)
    CallCount, "call_count", "has too many calls; split the message";
    /// Arguments are a string or an object, as the API wants. (profile field `arguments`)
    Arguments, "arguments",
        "has arguments in a form that this API refuses; write a string or an object as it wants";
    /// The name of a function has the form that the API wants. (profile field `function_name`)
    FunctionName, "function_name",
        "has a length or characters that this API refuses in function names; rename it";
    /// The `name` of a message has the form that the API wants. (profile field `message_name`)
    MessageName, "message_name",
        "has a length or characters that this API refuses in names; rename it";

    /// Reasoning is complete: a signature, text, encrypted content or summary.
    /// (D build-with-claude; E openai-agents-python#3268, bifrost#5410, opencode#2480)
    ReasoningForm, "reasoning_form",
        "is reasoning that is not complete; send it back unmodified or leave it out";
    /// Reasoning is where the API wants it: before text and calls that it led to, not at the end.
    /// (E coder/mux#59, openai-agents-js#929, #1280; Anthropic: "final block ... cannot be
    /// `thinking`" M)
    ReasoningPlacement, "reasoning_placement",
        "is reasoning in a wrong place; keep it directly before the item that it led to";
    /// Reasoning is there where the API requires it: with the calls of DeepSeek and Kimi, as the
    /// first block of Claude's running tool loop if the request enables thinking with a budget, as
    /// the signature of Gemini's calls. (E continue#11711, pi#3636, Antigravity-Manager#3202,
    /// 5ire#405; K dev.to ji_ai)
    ReasoningMissing, "reasoning_missing",
        "lacks the reasoning that this API requires here; send it back";

    /// The id of a Responses item has its prefix and alphabet. (E continue#11494, codex#33176,
    /// opencode#25065, mastra#10815)
    ItemId, "item_id",
        "has the wrong prefix, length or characters for the id of this item; leave the id out";
    /// No two items of a request have one id. ("Duplicate item found with id" M)
    DuplicateItemId, "duplicate_item_id", "repeats the id of another item; leave one of them out";

    /// A medium has a source of a documented form. (T)
    Media, "media", "is a medium whose source this API refuses; write the documented form";
    /// Not more images and documents than the API takes. (profile fields `max_images`,
    /// `max_documents`)
    MediaCount, "media_count", "is one image or document too many; replace the oldest by a note";
    /// A text is beside each document. (Bedrock: D API_runtime_DocumentBlock)
    DocumentText, "document_text", "is a document without a text beside it; add a text";
    /// Not more cache marks than the API takes. (profile field `max_cache_marks`)
    CacheMarks, "cache_marks", "is one cache mark too many; leave the oldest out";
}

impl fmt::Display for RequestRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
