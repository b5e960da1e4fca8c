//! Converts the conversations to every dialect and back.

use memory_core::dialect::{Dialect, Loss, Part, convert};
use memory_core::json::Json;
use memory_core::plan::{ContextError, Policy, Trimmed, UnitState, Units};
use memory_core::profile::ProfileName;
use memory_core::tokens::message_tokens;
use memory_core::{EstimateCounter, Message, Profile, TokenCounter, WindowOptions, trim_messages};

use crate::conversations;

/// A conversation without the extra fields of the data file.
fn chat(messages: &[Message]) -> Vec<Json> {
    messages.iter().map(|message| Dialect::Chat.copy_known(&Json::from(message.clone()))).collect()
}

fn message(json: &Json) -> Message {
    Message::try_from(json.clone()).unwrap()
}

/// The messages or items that result from one message.
fn converted(message: &Json, to: Dialect) -> Vec<Json> {
    let written = convert(message, Dialect::Chat, to);
    let listed: &[Loss] = match (to, message.get_str("role")) {
        (Dialect::Responses | Dialect::Anthropic | Dialect::Bedrock, Some("tool")) => {
            &[Loss::ResultName]
        }
        _ => &[],
    };
    assert_eq!(written.losses, listed, "{to}: {message}");
    written.messages
}

/// Arguments without spacing, which is all that objects preserve.
fn compact(arguments: &str) -> String {
    Json::parse(arguments).map_or_else(|_| arguments.to_owned(), |json| json.to_string())
}

/// The fate of the spacing within arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spacing {
    Kept,
    Lost,
}

/// A chat message reduced by the losses that the docs of `memory_core::dialect` list.
fn without_losses(message: &Json, spacing: Spacing) -> Json {
    let mut message = message.clone();
    let Some(object) = message.as_object_mut() else { return message };
    if object.get("role").and_then(Json::as_str) == Some("tool") {
        object.remove("name");
    }
    let calls = object.get_mut("tool_calls").and_then(Json::as_array_mut);
    for call in calls.into_iter().flatten().filter(|_| spacing == Spacing::Lost) {
        let function = call.as_object_mut().unwrap().get_mut("function").unwrap();
        let arguments = function.as_object_mut().unwrap().get_mut("arguments").unwrap();
        *arguments = compact(arguments.as_str().unwrap()).into();
    }
    message
}

#[test]
fn every_dialect_round_trips() {
    for messages in conversations() {
        for message in chat(&messages) {
            for dialect in Dialect::ALL {
                let there = converted(&message, dialect);
                let role = dialect.role(&there[0]).unwrap();
                // A message may become several items of Responses.
                let parts: Vec<_> = there.iter().flat_map(|item| dialect.parts(item)).collect();
                let back = Dialect::Chat.write(&role, &parts);
                if dialect == Dialect::Chat {
                    assert_eq!(back.messages, std::slice::from_ref(&message));
                    continue;
                }
                let spacing = match dialect {
                    Dialect::Responses => Spacing::Kept,
                    _ => Spacing::Lost,
                };
                let expected = without_losses(&message, spacing);
                let back: Vec<_> =
                    back.messages.iter().map(|back| without_losses(back, spacing)).collect();
                assert_eq!(back, [expected], "{dialect}: {there:?}");
            }
        }
    }
}

/// Texts, calls and results without framing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tokens {
    texts: usize,
    calls: usize,
    results: usize,
}

fn tokens(dialect: Dialect, messages: &[Json]) -> Tokens {
    let mut tokens = Tokens::default();
    let count = |text: &str| EstimateCounter.count(text);
    for message in messages {
        dialect.read(message, &mut |part| match part {
            Part::Text(text) => tokens.texts += count(&text.text),
            Part::Call(call) => {
                let arguments = compact(&call.arguments.to_text());
                tokens.calls += count(call.name) + count(&arguments);
            }
            Part::Result(result) => tokens.results += count(&result.text()),
            other => panic!("{other:?}"),
        });
    }
    tokens
}

/// The messages of each unit.
fn units(messages: &[Json]) -> Vec<(u64, UnitState)> {
    let policy = Policy::with_max_tokens(1_000_000);
    let metas: Vec<_> = messages
        .iter()
        .zip(1_u64..)
        .map(|(json, number)| crate::stored(message(json), number, &policy).meta)
        .collect();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let units = Units::group(&metas, now, policy.open_call_timeout);
    units.iter().map(|unit| (unit.messages(), unit.state())).collect()
}

#[test]
fn dialects_agree_in_tokens_and_units() {
    for messages in conversations() {
        let chat = chat(&messages);
        let expected = (tokens(Dialect::Chat, &chat), units(&chat));
        for dialect in Dialect::ALL {
            let there: Vec<_> =
                chat.iter().flat_map(|message| converted(message, dialect)).collect();
            assert_eq!(tokens(dialect, &there), expected.0, "{dialect}");
            let found = units(&there);
            let states = |units: &[(u64, UnitState)]| -> Vec<_> {
                units.iter().map(|(_, state)| *state).collect()
            };
            assert_eq!(states(&found), states(&expected.1), "{dialect}");
            // An answer of several items is several messages of one unit.
            if dialect != Dialect::Responses {
                assert_eq!(found, expected.1, "{dialect}");
            }
        }
    }
}

const PROFILES: [ProfileName; 7] = [
    ProfileName::OpenaiChat,
    ProfileName::OpenaiResponses,
    ProfileName::Anthropic,
    ProfileName::Gemini,
    ProfileName::Bedrock,
    ProfileName::Mistral,
    ProfileName::StrictTemplate,
];

fn window(messages: &[Json], profile: ProfileName, budget: u64) -> Result<Trimmed, ContextError> {
    let messages = messages.iter().map(message).collect();
    let options = WindowOptions::new(budget).with_profile(Profile::new(profile, None));
    trim_messages(messages, &EstimateCounter, options)
}

/// The history with the losses of this dialect, in chat form.
fn lossy(history: &[Json], dialect: Dialect) -> Vec<Json> {
    let keeps_names = matches!(dialect, Dialect::Chat | Dialect::Gemini | Dialect::AiSdk);
    let one = |message: &Json| {
        let mut lossy = without_losses(message, Spacing::Lost);
        if let Some(name) = message.get("name").filter(|_| keeps_names) {
            lossy.as_object_mut().unwrap().insert("name", name.clone());
        }
        lossy
    };
    history.iter().map(one).collect()
}

#[test]
fn dialects_give_the_same_windows() {
    // Only every third one, to stay below ten seconds.
    for messages in conversations().iter().step_by(10) {
        let chat = lossy(&chat(messages), Dialect::Chat);
        let system = u64::from(message_tokens(&EstimateCounter, &message(&chat[0])));
        for dialect in Dialect::ALL {
            let lossy = lossy(&chat, dialect);
            let there: Vec<_> =
                chat.iter().flat_map(|message| converted(message, dialect)).collect();
            for profile in PROFILES {
                let expected = window(&lossy, profile, u64::MAX).unwrap();
                let found = window(&there, profile, u64::MAX).unwrap();
                assert_eq!(kept(&found), kept(&expected), "{dialect} for {profile}");
                assert_eq!(found.tokens, expected.tokens, "{dialect} for {profile}");
                let budget = system + (expected.tokens - system) / 3;
                let expected = window(&lossy, profile, budget).map(|window| kept(&window));
                let found = window(&there, profile, budget).map(|window| kept(&window));
                assert_eq!(found, expected, "{dialect} for {profile}");
            }
        }
    }
}

/// System prompt, texts, calls and results of a request; calls and results with the number of their id.
fn kept(window: &Trimmed) -> Vec<(usize, String)> {
    let request = &window.request;
    let dialect = match request.profile() {
        ProfileName::OpenaiResponses => Dialect::Responses,
        ProfileName::Anthropic => Dialect::Anthropic,
        ProfileName::Gemini => Dialect::Gemini,
        ProfileName::Bedrock => Dialect::Bedrock,
        _ => Dialect::Chat,
    };
    // Generated ids depend on the position in the history, and items have more positions.
    let mut ids: Vec<String> = Vec::new();
    let mut number = |id: Option<&str>| {
        let id = id.unwrap_or_default().to_owned();
        ids.iter().position(|seen| *seen == id).unwrap_or_else(|| {
            ids.push(id);
            ids.len() - 1
        })
    };
    let mut kept: Vec<_> =
        request.system().map(|system| (0, system.to_string())).into_iter().collect();
    for message in request.messages() {
        let role = dialect.role(message).unwrap();
        dialect.read(message, &mut |part| {
            kept.push(match part {
                Part::Text(text) => (0, format!("{role}: {}", text.text)),
                Part::Call(call) => {
                    let arguments = compact(&call.arguments.to_text());
                    (number(call.id), format!("{} {arguments}", call.name))
                }
                Part::Result(result) => (number(result.link), result.text().into_owned()),
                other => panic!("{other:?}"),
            });
        });
    }
    kept
}
