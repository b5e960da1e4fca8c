//! Adds results to calls that have none.

use genai::chat::{ChatMessage, ChatRole, ToolCall, ToolResponse};
use memory_adapter::History;

/// Answers each call without a result, because APIs refuse a request with such a call.
pub(crate) fn answer_open_calls(messages: Vec<ChatMessage>, history: &History) -> Vec<ChatMessage> {
    let mut answered = Vec::with_capacity(messages.len());
    let mut rest = messages.into_iter();
    while let Some(message) = rest.next() {
        let open = open_calls(&message, rest.as_slice());
        answered.push(message);
        let results = rest.as_slice().iter().take_while(|next| next.role == ChatRole::Tool);
        let results = results.count();
        answered.extend(rest.by_ref().take(results));
        answered.extend(open.iter().map(|call| {
            let text = history.missing_result(&call.call_id);
            ChatMessage::from(ToolResponse::from_tool_call(call, text))
        }));
    }
    answered
}

/// The calls of a message that no message before the next answer has a result for.
fn open_calls(message: &ChatMessage, rest: &[ChatMessage]) -> Vec<ToolCall> {
    let mut open: Vec<ToolCall> = message.content.tool_calls().into_iter().cloned().collect();
    // Media of a result are in a message of the user behind it.
    let until_answer = rest.iter().take_while(|next| next.role != ChatRole::Assistant);
    for response in until_answer.flat_map(|next| next.content.tool_responses()) {
        if let Some(at) = open.iter().position(|call| call.call_id == response.call_id) {
            open.remove(at);
        }
    }
    open
}
