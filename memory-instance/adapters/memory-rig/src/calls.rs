//! Adds results to calls that have none.

use memory_adapter::History;
use rig_core::message::{Message, ToolCall, ToolResultContent, UserContent};

/// Answers each call without a result, because APIs refuse a request with such a call.
pub(crate) fn answer_open_calls(messages: Vec<Message>, history: &History) -> Vec<Message> {
    let mut answered = Vec::with_capacity(messages.len());
    let mut rest = messages.into_iter().peekable();
    while let Some(message) = rest.next() {
        let mut open: Vec<ToolCall> = match &message {
            Message::Assistant(turn) => turn.tool_calls().cloned().collect(),
            _ => Vec::new(),
        };
        answered.push(message);
        let first = answered.len();
        while let Some(results) = rest.next_if(has_results) {
            remove_answered(&mut open, &results);
            answered.push(results);
        }
        let mut missing = open.into_iter().map(|call| {
            let text = history.missing_result(&call.id.wire());
            UserContent::ToolResult(call.result(vec![ToolResultContent::text(text)]))
        });
        match answered.get_mut(first) {
            Some(Message::User { content }) => {
                // Before other content, because results directly follow their calls.
                let end = content.iter().take_while(|content| is_result(content)).count();
                content.splice(end..end, missing);
            }
            _ => {
                if let Some(first) = missing.next() {
                    let content = std::iter::once(first).chain(missing).collect();
                    answered.push(Message::User { content });
                }
            }
        }
    }
    answered
}

const fn is_result(content: &UserContent) -> bool {
    matches!(content, UserContent::ToolResult(_))
}

fn has_results(message: &Message) -> bool {
    matches!(message, Message::User { content } if content.iter().any(is_result))
}

fn remove_answered(open: &mut Vec<ToolCall>, results: &Message) {
    let Message::User { content } = results else { return };
    for content in content {
        if let UserContent::ToolResult(result) = content
            && let Some(at) = open.iter().position(|call| call.id.wire() == result.call.wire())
        {
            open.remove(at);
        }
    }
}
