//! Ids and names that link calls and results, in forms that the tables of fields do not list.

use crate::dialect::Dialect;
use crate::json::Json;

/// The tool ids and names in a message of the chat form as other libraries than OpenAI's write it: the tool's name on
/// a result, the name of a flat call (LangChain), and the calls and results of goose.
pub(super) fn unlisted(message: &mut Json, dialect: Dialect) -> Vec<&mut Json> {
    let mut links = Vec::new();
    if dialect != Dialect::Chat {
        return links;
    }
    let is_result = matches!(
        message.get_str("role").or_else(|| message.get_str("type")),
        Some("tool" | "function")
    );
    let Some(object) = message.as_object_mut() else { return links };
    for (key, value) in object.iter_mut() {
        match key {
            "name" | "tool_name" if is_result => links.push(value),
            "tool_calls" => {
                let calls =
                    value.as_array_mut().map(|calls| calls.iter_mut()).into_iter().flatten();
                links.extend(calls.filter_map(|call| member(call, "name")));
            }
            "content" => {
                let parts =
                    value.as_array_mut().map(|parts| parts.iter_mut()).into_iter().flatten();
                for part in parts {
                    goose(part, &mut links);
                }
            }
            _ => {}
        }
    }
    links
}

fn goose<'m>(part: &'m mut Json, links: &mut Vec<&'m mut Json>) {
    if !matches!(part.get_str("type"), Some("toolRequest" | "toolResponse")) {
        return;
    }
    let Some(object) = part.as_object_mut() else { return };
    for (key, value) in object.iter_mut() {
        match key {
            "id" => links.push(value),
            "toolCall" => {
                links.extend(member(value, "value").and_then(|call| member(call, "name")));
            }
            _ => {}
        }
    }
}

fn member<'m>(json: &'m mut Json, key: &str) -> Option<&'m mut Json> {
    json.as_object_mut()?.get_mut(key)
}

/// Whether providers would accept the text as a tool name. Anything else in such a place is text.
pub(super) fn is_name(text: &str) -> bool {
    let is_part =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
    (1..=128).contains(&text.len()) && text.bytes().all(is_part)
}
