//! Arrays of chat messages: the order, the content and the calls that OpenAI Chat, Mistral and
//! strict templates share.

use serde::de::IgnoredAny;

use super::calls::{Calls, ToolKind};
use super::check::{Check, Field, Kind, required};
use super::json::Json;
use super::rule::RequestRule;
use crate::profile::{
    Alternation, ArgumentForm, ContentKey, FirstMessage, LastMessage, ReasoningForm,
    ResultPlacement, SystemPlacement,
};

/// The speaker of a chat message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChatRole {
    System,
    User,
    Assistant,
    Tool,
    /// The results of OpenAI's first function API, linked by name.
    Function,
}

/// The differences between APIs of this shape that are not fields of the profile.
#[derive(Debug)]
pub(super) struct ChatForm {
    pub(super) system: &'static [Field],
    pub(super) user: &'static [Field],
    pub(super) assistant: &'static [Field],
    pub(super) tool: &'static [Field],
    /// The fields of a call beside `function`.
    pub(super) call: &'static [Field],
    /// Whether a call may have the type `custom`.
    pub(super) custom_calls: bool,
    /// Whether the content of a message with this role may be a list of parts.
    pub(super) has_parts: fn(ChatRole) -> bool,
    /// Checks a part of the content.
    pub(super) part: for<'t> fn(&mut Check<'t>, Json<'t>, ChatRole),
}

const FUNCTION_MESSAGE: &[Field] =
    &[required("role", Kind::Text), required("content", Kind::Any), required("name", Kind::Text)];
const FUNCTION: &[Field] = &[required("name", Kind::Text), required("arguments", Kind::Any)];
const CUSTOM_CALL: &[Field] =
    &[required("id", Kind::Text), required("type", Kind::Text), required("custom", Kind::Object)];
const CUSTOM: &[Field] = &[required("name", Kind::Text), required("input", Kind::Text)];
const AUDIO: &[Field] = &[required("id", Kind::Filled)];
/// Fields of an assistant message that carry reasoning. None is OpenAI's own.
const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "reasoning_details"];

/// The state between two messages.
#[derive(Debug)]
struct Turn<'t> {
    /// The last message that is not a result: results may answer its calls only.
    step: usize,
    /// The last message that is not a system message.
    previous: Option<(ChatRole, bool)>,
    /// An open `function_call`: its name and place.
    function: Option<(Option<&'t str>, Json<'t>)>,
    calls: Calls<'t>,
}

pub(super) fn check<'t>(check: &mut Check<'t>, request: Json<'t>, form: &ChatForm) {
    check.once(request, &["messages"]);
    let Some(messages) = check.list(request, "messages") else { return };
    let mut turn = Turn { step: 0, previous: None, function: None, calls: Calls::new() };
    let mut last = None;
    for (index, message) in messages.items().enumerate() {
        if !message.is_object() {
            check.report(RequestRule::Form, message);
            continue;
        }
        let Some(role) = role_of(check, message) else { continue };
        last = Some((role, message));
        fields(check, message, role, form);
        order(check, message, role, index, &turn);
        links(check, message, role, index, form, &mut turn);
        content(check, message, role, form);
        if role != ChatRole::System {
            turn.previous = Some((role, has_calls(message)));
        }
    }
    if let Some((_, call)) = turn.function {
        check.report(RequestRule::UnansweredCall, call);
    }
    turn.calls.finish(check, None);
    if let Some((role, message)) = last {
        end(check, message, role, turn.previous);
    }
    prefixes(check, messages);
}

fn role_of<'t>(check: &mut Check<'t>, message: Json<'t>) -> Option<ChatRole> {
    let Some(field) = message.field("role") else {
        check.missing(message, "role");
        return None;
    };
    check.kind(field, Kind::Text);
    match field.as_str()? {
        "system" => Some(ChatRole::System),
        "developer" if check.profile.developer_role => Some(ChatRole::System),
        "user" => Some(ChatRole::User),
        "assistant" => Some(ChatRole::Assistant),
        "tool" => Some(ChatRole::Tool),
        "function" if check.profile.function_role => Some(ChatRole::Function),
        _ => {
            check.report(RequestRule::Role, field);
            None
        }
    }
}

fn fields<'t>(check: &mut Check<'t>, message: Json<'t>, role: ChatRole, form: &ChatForm) {
    let known = match role {
        ChatRole::System => form.system,
        ChatRole::User => form.user,
        ChatRole::Assistant => form.assistant,
        ChatRole::Tool => form.tool,
        ChatRole::Function => FUNCTION_MESSAGE,
    };
    check.object(message, known);
    if let Some(name) = message.field("name") {
        match check.profile.message_name {
            Some(names) => check.name(name, names, RequestRule::MessageName),
            // The name of the function, by which a result is linked.
            None if role == ChatRole::Function => {}
            None => check.report(RequestRule::UnknownField, name),
        }
    }
    if role != ChatRole::Assistant {
        return;
    }
    let has_calls = message.field("tool_calls").is_some_and(|calls| !calls.is_empty());
    let takes_reasoning = match check.profile.reasoning {
        ReasoningForm::Fields | ReasoningForm::FieldsWithCalls => true,
        ReasoningForm::FieldsBesideCalls => has_calls,
        _ => false,
    };
    for (key, value) in message.fields() {
        if (!takes_reasoning && REASONING.contains(&key) && known.iter().any(|field| field.is(key)))
            || (!check.profile.function_role && key == "function_call" && !value.is_null())
        {
            check.report(RequestRule::UnknownField, value);
        }
    }
    if let Some(audio) = message.field("audio").filter(|audio| audio.is_object()) {
        check.object(audio, AUDIO);
    }
    let needs_reasoning = matches!(
        check.profile.reasoning,
        ReasoningForm::FieldsWithCalls | ReasoningForm::FieldsBesideCalls
    );
    if needs_reasoning && has_calls && message.text("reasoning_content").is_none() {
        check.report(RequestRule::ReasoningMissing, message);
    }
}

fn order(check: &mut Check<'_>, message: Json<'_>, role: ChatRole, index: usize, turn: &Turn<'_>) {
    if role == ChatRole::System {
        let is_right = match check.profile.system {
            SystemPlacement::Anywhere => true,
            SystemPlacement::Leading => turn.previous.is_none(),
            SystemPlacement::FirstOnly => index == 0,
            SystemPlacement::TopLevel | SystemPlacement::TopLevelOrAfterUser => false,
        };
        if !is_right {
            check.report(RequestRule::SystemPlacement, message);
        }
        return;
    }
    let Some((previous, has_calls)) = turn.previous else {
        // A result at the start is an orphan, which is reported with the links.
        if check.profile.first == FirstMessage::User && role == ChatRole::Assistant {
            check.report(RequestRule::FirstMessage, message);
        }
        return;
    };
    let is_right = match (check.profile.alternation, role) {
        (Alternation::AssistantAfterTool, ChatRole::User) => previous != ChatRole::Tool,
        (Alternation::Strict, ChatRole::User) => previous == ChatRole::Assistant,
        // After calls something is missing, which is reported with the links.
        (Alternation::Strict, ChatRole::Assistant) => previous != ChatRole::Assistant || has_calls,
        _ => true,
    };
    if !is_right {
        check.report(RequestRule::Alternation, message);
    }
}

fn links<'t>(
    check: &mut Check<'t>,
    message: Json<'t>,
    role: ChatRole,
    index: usize,
    form: &ChatForm,
    turn: &mut Turn<'t>,
) {
    let may_answer = match check.profile.results {
        ResultPlacement::AfterCall => None,
        ResultPlacement::DirectlyAfter
        | ResultPlacement::NextMessageFirst
        | ResultPlacement::NextMessageOnly => Some(turn.step),
    };
    match (role, turn.function.take()) {
        (ChatRole::Function, Some((name, _))) if name == message.text("name") => {}
        (ChatRole::Function, open) => {
            check.report(RequestRule::OrphanResult, message);
            turn.function = open;
        }
        (_, Some((_, call))) => check.report(RequestRule::UnansweredCall, call),
        (_, None) => {}
    }
    if role == ChatRole::Tool {
        if let Some(id) = message.field("tool_call_id") {
            turn.calls.result(check, ToolKind::Function, id, may_answer);
        }
        return;
    }
    turn.step = index;
    if role != ChatRole::Assistant {
        return;
    }
    if let Some(calls) = message.field("tool_calls").filter(|calls| calls.is_array()) {
        if calls.is_empty() {
            check.report(RequestRule::EmptyToolCalls, calls);
        }
        for (number, call) in calls.items().enumerate() {
            if check.profile.max_calls == Some(number) {
                check.report(RequestRule::CallCount, call);
            }
            self::call(check, call, form);
            if let Some(id) = call.field("id") {
                turn.calls.call(check, ToolKind::Function, id, index);
            }
        }
    }
    if check.profile.function_role
        && let Some(call) = message.field("function_call").filter(|call| call.is_object())
    {
        function(check, call);
        turn.function = Some((call.text("name"), call));
    }
}

fn call<'t>(check: &mut Check<'t>, call: Json<'t>, form: &ChatForm) {
    if form.custom_calls && call.text("type") == Some("custom") {
        check.object(call, CUSTOM_CALL);
        if let Some(custom) = call.field("custom").filter(|custom| custom.is_object()) {
            check.object(custom, CUSTOM);
            check.function_name(custom);
        }
        return;
    }
    check.object(call, form.call);
    if let Some(body) = call.field("function").filter(|body| body.is_object()) {
        function(check, body);
    }
}

fn function<'t>(check: &mut Check<'t>, body: Json<'t>) {
    check.object(body, FUNCTION);
    check.function_name(body);
    if let Some(arguments) = body.field("arguments") {
        self::arguments(check, arguments);
    }
}

/// The arguments of a call, as a string or an object.
pub(super) fn arguments<'t>(check: &mut Check<'t>, arguments: Json<'t>) {
    let is_right = match (check.profile.arguments, arguments.as_str()) {
        (ArgumentForm::Text, text) => text.is_some(),
        (ArgumentForm::ObjectOrText, Some(text)) => {
            text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
        }
        (ArgumentForm::ObjectOrText | ArgumentForm::Object, _) => arguments.is_object(),
    };
    if !is_right {
        check.report(RequestRule::Arguments, arguments);
    }
}

fn has_calls(message: Json<'_>) -> bool {
    message.field("tool_calls").is_some_and(|calls| !calls.is_empty())
        || message.field("function_call").is_some_and(Json::is_object)
}

fn content<'t>(check: &mut Check<'t>, message: Json<'t>, role: ChatRole, form: &ChatForm) {
    let has_calls = has_calls(message);
    let content = message.field("content");
    let Some(content) = content.filter(|content| !content.is_null()) else {
        let has_other = has_calls
            || ["refusal", "audio"]
                .iter()
                .any(|key| message.field(key).is_some_and(|value| !value.is_null()));
        match (role, content) {
            (ChatRole::Assistant, _) if !has_other => {
                check.report(RequestRule::EmptyContent, message);
            }
            (ChatRole::Assistant, _) if check.profile.content == ContentKey::Optional => {}
            (_, Some(null)) => check.report(RequestRule::NullField, null),
            (ChatRole::Assistant, None) => check.missing(message, "content"),
            // The field is required for the other roles, and is reported as missing already.
            (ChatRole::System | ChatRole::User | ChatRole::Tool | ChatRole::Function, None) => {}
        }
        return;
    };
    let mut has_text = false;
    if let Some(text) = content.as_str() {
        let may_be_empty = has_calls || matches!(role, ChatRole::Tool | ChatRole::Function);
        has_text = !text.is_empty();
        if !may_be_empty && check.is_empty_text(text) {
            check.report(RequestRule::EmptyContent, content);
        }
    } else if content.is_array() && (form.has_parts)(role) {
        if content.is_empty() {
            check.report(RequestRule::EmptyContent, content);
        }
        for part in content.items() {
            has_text |= part.text("type") != Some("thinking");
            if part.is_object() {
                (form.part)(check, part, role);
            } else {
                check.report(RequestRule::Form, part);
            }
        }
    } else {
        check.report(RequestRule::FieldType, content);
    }
    if has_calls && has_text && !check.profile.text_beside_calls {
        check.report(RequestRule::TextBesideCalls, content);
    }
}

fn end(
    check: &mut Check<'_>,
    message: Json<'_>,
    role: ChatRole,
    previous: Option<(ChatRole, bool)>,
) {
    let is_right = match (check.profile.last, role) {
        (LastMessage::Any, _) | (_, ChatRole::User | ChatRole::Tool | ChatRole::Function) => true,
        (_, ChatRole::System) => false,
        // Calls at the end have no results, which is reported with the links.
        _ if previous == Some((ChatRole::Assistant, true)) => true,
        (LastMessage::MarkedPrefix, ChatRole::Assistant) => {
            message.field("prefix").and_then(Json::as_bool) == Some(true)
        }
        (LastMessage::NotAssistant, ChatRole::Assistant) => false,
    };
    if !is_right {
        check.report(RequestRule::LastMessage, message);
    }
}

/// `prefix: true` is for the last message.
fn prefixes<'t>(check: &mut Check<'t>, messages: Json<'t>) {
    let mut items = messages.items().peekable();
    while let Some(message) = items.next() {
        let prefix = message.field("prefix");
        if let Some(prefix) = prefix.filter(|prefix| prefix.as_bool() == Some(true))
            && items.peek().is_some()
            && check.profile.last == LastMessage::MarkedPrefix
        {
            check.report(RequestRule::FieldValue, prefix);
        }
    }
}

/// The type of a part, if it has one.
pub(super) fn part_type<'t>(check: &mut Check<'t>, part: Json<'t>) -> Option<&'t str> {
    match part.field("type") {
        None => {
            check.missing(part, "type");
            None
        }
        Some(kind) => {
            check.kind(kind, Kind::Text);
            kind.as_str()
        }
    }
}

const TEXT: &[Field] = &[required("type", Kind::Text), required("text", Kind::Text)];

/// A part with text and nothing else.
pub(super) fn text_part<'t>(check: &mut Check<'t>, part: Json<'t>) {
    text_part_with(check, part, TEXT);
}

/// A part with text and these fields.
pub(super) fn text_part_with<'t>(check: &mut Check<'t>, part: Json<'t>, fields: &[Field]) {
    check.object(part, fields);
    if let Some(text) = part.field("text") {
        check.sent_text(text);
    }
}

/// A URL that APIs fetch or decode.
pub(super) fn url<'t>(check: &mut Check<'t>, url: Json<'t>) {
    let is_known = |url: &str| {
        ["https://", "http://", "data:"].iter().any(|scheme| {
            url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
    };
    if url.as_str().is_some_and(|text| !is_known(text)) {
        check.report(RequestRule::Media, url);
    }
}
