//! Checks whether a provider would accept a request.
//!
//! The check knows only the rules of the APIs, not how requests are made. It shares no code with the rest of the
//! crate except the [`Profile`], so that it can check a request of any origin.

mod anthropic;
mod bedrock;
mod calls;
mod chat;
mod check;
mod error;
mod gemini;
mod input;
mod json;
mod mistral;
mod openai_chat;
mod responses;
mod rule;
mod strict_template;

use self::check::Check;
pub use self::error::{RequestError, RequestProblem};
pub use self::input::RequestInput;
pub use self::rule::RequestRule;
use crate::profile::{Profile, ProfileName};

/// Checks a request against the published rules of an API, and reports every broken rule.
///
/// The input is the request as it would be posted, or its part with the history, as a JSON text or as a
/// [`Value`](serde_json::Value); see [`RequestInput`]:
///
/// | profile | form |
/// | --- | --- |
/// | `openai_chat`, `mistral`, `strict_template` | an array of messages, or an object with `messages` |
/// | `anthropic`, `bedrock` | an object with `messages`, and `system` where needed |
/// | `gemini` | an object with `contents`, and `systemInstruction` where needed |
/// | `openai_responses` | an object with `input`, and `instructions` where needed |
///
/// Other fields of a request body, such as `model` and `tools`, are allowed and not checked. Some fields change a
/// rule: `previous_response_id` and `conversation` of Responses allow outputs of stored calls, `store: false`
/// requires encrypted reasoning, and Anthropic's `thinking` of the type `enabled` requires the thinking of a running
/// tool loop.
///
/// The check does not know earlier requests. It therefore cannot find a thinking block whose prefix was edited
/// ([`ReasoningForm::BoundBlocks`](crate::profile::ReasoningForm::BoundBlocks)).
///
/// The time is linear in the size of the request. Nothing is allocated per message.
///
/// # Examples
///
/// ```
/// use memory_core::check_request;
/// use memory_core::request::RequestRule;
/// use memory_core::profile::Profile;
///
/// let request = r#"[
///     {"role": "user", "content": "How high is the tide?"},
///     {"role": "assistant", "tool_calls": [
///         {"id": "call_7", "type": "function", "function": {"name": "get_tide", "arguments": "{}"}}
///     ]}
/// ]"#;
/// let error = check_request(request, &Profile::openai_chat()).unwrap_err();
/// assert_eq!(error.problems[0].rule, RequestRule::UnansweredCall);
/// assert_eq!(error.problems[0].place, "/1/tool_calls/0/id");
/// ```
///
/// # Errors
/// The broken rules with their places. Content is never quoted.
pub fn check_request<'r>(
    request: impl Into<RequestInput<'r>>,
    profile: &Profile,
) -> Result<(), RequestError> {
    let Some(tape) = request.into().tape() else {
        let problem = RequestProblem { rule: RequestRule::Json, place: String::new() };
        return Err(RequestError { profile: profile.name, problems: vec![problem], total: 1 });
    };
    let mut check = Check::new(profile);
    let request = tape.root();
    if profile.max_bytes.is_some_and(|most| tape.text_bytes() > most) {
        check.report(RequestRule::RequestSize, request);
    }
    match profile.name {
        ProfileName::OpenaiChat => openai_chat::check(&mut check, request),
        ProfileName::OpenaiResponses => responses::check(&mut check, request),
        ProfileName::Anthropic => anthropic::check(&mut check, request),
        ProfileName::Gemini => gemini::check(&mut check, request),
        ProfileName::Bedrock => bedrock::check(&mut check, request),
        ProfileName::Mistral => mistral::check(&mut check, request),
        ProfileName::StrictTemplate => strict_template::check(&mut check, request),
    }
    check.finish(&tape)
}

#[cfg(test)]
pub(crate) mod tests;
