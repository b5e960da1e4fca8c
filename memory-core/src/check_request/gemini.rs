//! Google Gemini `generateContent`.
//!
//! Requests are the JSON form of protocol buffers, whose parsers accept `functionCall` and
//! `function_call` alike.

mod steps;

use self::steps::Steps;
use super::check::{Check, Field, Kind, Side, Spelling, is_snake_of, optional, required};
use super::json::Json;
use super::rule::RequestRule;
use crate::profile::{Alternation, FirstMessage, LastMessage, ReasoningForm, ResultPlacement};

const CONTENT: &[Field] = &[required("role", Kind::Text), required("parts", Kind::Array)];
const SYSTEM: &[Field] = &[optional("role", Kind::Text), required("parts", Kind::Array)];
const CALL: &[Field] =
    &[optional("id", Kind::Text), required("name", Kind::Text), optional("args", Kind::Any)];
const RESPONSE: &[Field] = &[
    optional("id", Kind::Text),
    required("name", Kind::Text),
    required("response", Kind::Object),
    optional("parts", Kind::Array),
    optional("scheduling", Kind::Text),
    optional("willContinue", Kind::Bool),
];
const INLINE: &[Field] = &[
    required("mimeType", Kind::Filled),
    required("data", Kind::Filled),
    optional("displayName", Kind::Text),
];
const FILE: &[Field] = &[
    optional("mimeType", Kind::Filled),
    required("fileUri", Kind::Filled),
    optional("displayName", Kind::Text),
];
const CODE: &[Field] =
    &[optional("id", Kind::Text), required("language", Kind::Filled), required("code", Kind::Text)];
const CODE_RESULT: &[Field] = &[
    optional("id", Kind::Text),
    required("outcome", Kind::Filled),
    optional("output", Kind::Text),
];
/// The kinds of data of a part.
const DATA: [&str; 7] = [
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
];

/// Facts about an earlier content.
#[derive(Debug, Clone, Copy)]
struct Seen<'t> {
    content: Json<'t>,
    side: Side,
    has_calls: bool,
}

pub(super) fn check<'t>(check: &mut Check<'t>, request: Json<'t>) {
    let Some(contents) = check.list_field(request, "contents") else { return };
    check.once(request, &["contents", "systemInstruction", "system_instruction"]);
    if let Some(system) = get(request, "systemInstruction") {
        self::system(check, system);
    }
    let mut steps = Steps::new();
    let mut previous: Option<Seen<'t>> = None;
    // The calls of the current turn that need a signature and have none.
    let mut unsigned: Vec<Json<'t>> = Vec::new();
    for (index, content) in contents.items().enumerate() {
        if !check.object_with(content, CONTENT, Spelling::CamelOrSnake) {
            continue;
        }
        let Some(side) = side(check, content) else { continue };
        if previous.is_none() && side == Side::Model && check.profile.first == FirstMessage::User {
            check.report(RequestRule::FirstMessage, content);
        }
        let found = parts(check, content, side);
        if found.starts_turn {
            unsigned.clear();
        }
        unsigned.extend(found.unsigned);
        if found.has_calls {
            let follows_user = previous.is_none_or(|seen| seen.side == Side::User);
            if !follows_user && check.profile.alternation == Alternation::CallAfterUser {
                check.report(RequestRule::Alternation, content);
            }
            steps.calls(check, content, index);
        }
        if found.has_results {
            steps.results(check, content, index);
            if let Some(other) = found.beside_results {
                check.report(RequestRule::ResultPlacement, other);
            }
        }
        previous = Some(Seen { content, side, has_calls: found.has_calls });
    }
    steps.finish(check);
    if check.profile.reasoning == ReasoningForm::SignedCalls {
        for call in unsigned {
            check.report(RequestRule::ReasoningMissing, call);
        }
    }
    // Open calls are reported as such.
    if let Some(last) = previous
        && check.profile.last != LastMessage::Any
        && last.side == Side::Model
        && !last.has_calls
    {
        check.report(RequestRule::LastMessage, last.content);
    }
}

/// The field with this name in camel or snake case.
fn get<'t>(object: Json<'t>, camel: &str) -> Option<Json<'t>> {
    object
        .fields()
        .find(|(key, _)| *key == camel || is_snake_of(key, camel))
        .map(|(_, value)| value)
}

fn system<'t>(check: &mut Check<'t>, system: Json<'t>) {
    if !check.object_with(system, SYSTEM, Spelling::CamelOrSnake) {
        return;
    }
    let Some(parts) = system.field("parts").filter(|parts| parts.is_array()) else { return };
    if parts.is_empty() {
        check.report(RequestRule::EmptyContent, parts);
    }
    for part in parts.items() {
        match single(check, part) {
            Some(("text", text)) => {
                check.kind(text, Kind::Text);
                check.sent_text(text);
            }
            Some(_) => check.report(RequestRule::PartPlacement, part),
            None => {}
        }
    }
}

fn side(check: &mut Check<'_>, content: Json<'_>) -> Option<Side> {
    let role = content.field("role")?;
    match role.as_str()? {
        "user" => Some(Side::User),
        "model" => Some(Side::Model),
        "system" => {
            check.report(RequestRule::SystemPlacement, content);
            None
        }
        _ => {
            check.report(RequestRule::Role, role);
            None
        }
    }
}

/// The data of a part, after its other fields were checked.
fn single<'t>(check: &mut Check<'t>, part: Json<'t>) -> Option<(&'static str, Json<'t>)> {
    if !part.is_object() {
        check.report(RequestRule::Form, part);
        return None;
    }
    let mut data = None;
    let (mut count, mut is_known) = (0, true);
    for (key, value) in part.fields() {
        let same = |name: &&str| *name == key || is_snake_of(key, name);
        if let Some(kind) = DATA.iter().copied().find(same) {
            count += 1;
            data = Some((kind, value));
            continue;
        }
        let kind = match key {
            "thought" => Kind::Bool,
            "thoughtSignature" | "thought_signature" => Kind::Text,
            "videoMetadata" | "video_metadata" => Kind::Object,
            "mediaResolution" | "media_resolution" => Kind::Any,
            _ => {
                is_known = false;
                check.report(RequestRule::UnknownField, value);
                continue;
            }
        };
        check.kind(value, kind);
    }
    match count {
        1 => data,
        // The unknown field is reported already.
        0 if !is_known => None,
        _ => {
            check.report(RequestRule::PartShape, part);
            None
        }
    }
}

/// Facts about the parts of a content.
#[derive(Debug, Default)]
struct Found<'t> {
    has_calls: bool,
    has_results: bool,
    /// A user content with anything but results begins a turn.
    starts_turn: bool,
    /// The first call, if it has no signature.
    unsigned: Option<Json<'t>>,
    /// A part beside results that may not be there.
    beside_results: Option<Json<'t>>,
}

fn parts<'t>(check: &mut Check<'t>, content: Json<'t>, side: Side) -> Found<'t> {
    let mut found = Found::default();
    let Some(parts) = content.field("parts").filter(|parts| parts.is_array()) else {
        return found;
    };
    if parts.is_empty() {
        check.report(RequestRule::EmptyContent, parts);
    }
    for part in parts.items() {
        let Some((kind, body)) = single(check, part) else { continue };
        let signature = get(part, "thoughtSignature").and_then(Json::as_str);
        if signature.is_some_and(|signature| !is_base64(signature)) {
            check.report(RequestRule::ReasoningForm, part);
        }
        let is_allowed = match kind {
            "functionCall" | "executableCode" | "codeExecutionResult" => side == Side::Model,
            "functionResponse" => side == Side::User,
            _ => part.field("thought").and_then(Json::as_bool) != Some(true) || side == Side::Model,
        };
        if !is_allowed {
            check.report(RequestRule::PartPlacement, part);
            continue;
        }
        let signature = signature.filter(|signature| !signature.is_empty());
        match kind {
            "functionCall" => {
                if !found.has_calls && signature.is_none() {
                    found.unsigned = Some(part);
                }
                found.has_calls = true;
            }
            "functionResponse" => found.has_results = true,
            _ if side == Side::User => {
                found.starts_turn = true;
                if check.profile.results == ResultPlacement::NextMessageOnly {
                    found.beside_results = found.beside_results.or(Some(part));
                }
            }
            _ => {}
        }
        data(check, kind, body, signature);
    }
    found
}

fn data<'t>(check: &mut Check<'t>, kind: &str, body: Json<'t>, signature: Option<&str>) {
    let fields = match kind {
        "text" => {
            check.kind(body, Kind::Text);
            // An empty text carries the signature of an answer.
            if signature.is_none() {
                check.sent_text(body);
            }
            return;
        }
        "inlineData" => INLINE,
        "fileData" => FILE,
        "functionCall" => CALL,
        "functionResponse" => RESPONSE,
        "executableCode" => CODE,
        _ => CODE_RESULT,
    };
    if !check.object_with(body, fields, Spelling::CamelOrSnake) {
        return;
    }
    match kind {
        "inlineData" | "fileData" => medium(check, body),
        "functionCall" => {
            check.function_name(body);
            if let Some(args) = body.field("args") {
                super::chat::arguments(check, args);
            }
        }
        // Its name is that of the call, or it is an orphan.
        "functionResponse" => {
            for part in body.field("parts").into_iter().flat_map(Json::items) {
                response_part(check, part);
            }
        }
        _ => {}
    }
}

fn medium<'t>(check: &mut Check<'t>, body: Json<'t>) {
    let mime = get(body, "mimeType").and_then(Json::as_str).unwrap_or_default();
    if !mime.is_empty() && !mime.contains('/') {
        check.report(RequestRule::Media, body);
    }
    if mime.starts_with("image/") {
        check.image(body);
    }
}

/// A part of a response: media only, from Gemini 3.
fn response_part<'t>(check: &mut Check<'t>, part: Json<'t>) {
    match single(check, part) {
        Some(("inlineData" | "fileData", _)) if !check.profile.media_in_results => {
            check.report(RequestRule::PartPlacement, part);
        }
        Some((kind @ ("inlineData" | "fileData"), body)) => data(check, kind, body, None),
        Some(_) => check.report(RequestRule::PartPlacement, part),
        None => {}
    }
}

/// Whether a text can be read as bytes: base64, also with the alphabet of URLs. The placeholder for
/// calls of other models, `skip_thought_signature_validator`, is such a text.
fn is_base64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte))
}
