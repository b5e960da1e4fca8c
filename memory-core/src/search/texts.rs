//! The texts of a message that a search reads.

use std::borrow::Cow;

use crate::dialect::{Arguments, Part};
use crate::json::Json;
use crate::message::Message;

/// Calls `visit` with each text: of text and reasoning, names and arguments of calls, contents of results, titles and
/// inline text of documents. Ids, signatures and base64 are left out.
pub(super) fn visit_texts(message: &Message, visit: &mut dyn FnMut(&str)) {
    message.read(&mut |part| visit_part(&part, visit));
}

fn visit_part(part: &Part<'_>, visit: &mut dyn FnMut(&str)) {
    match part {
        Part::Call(call) => {
            visit(call.name);
            match call.arguments {
                Arguments::Missing => {}
                Arguments::Text(text) => visit(&unescaped(text)),
                Arguments::Json(json) => visit(&plain(json)),
            }
        }
        Part::Result(result) => result.content.iter().for_each(|part| visit_part(part, visit)),
        Part::Data(json) => visit(&plain(json)),
        other => other.visit_text(visit),
    }
}

/// JSON without escapes: in `"line\nbreak"` the word `nbreak` would be found otherwise.
fn unescaped(text: &str) -> Cow<'_, str> {
    if text.contains('\\')
        && let Ok(json) = Json::parse(text)
    {
        return Cow::Owned(plain(&json));
    }
    Cow::Borrowed(text)
}

/// The keys and values of JSON, as a person would write them.
fn plain(json: &Json) -> String {
    let mut text = String::new();
    write_plain(json, &mut text);
    text
}

fn write_plain(json: &Json, text: &mut String) {
    match json {
        Json::Object(object) => {
            for (index, (key, value)) in object.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                text.push_str(key);
                text.push_str(": ");
                write_plain(value, text);
            }
        }
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write_plain(item, text);
            }
        }
        Json::String(value) => text.push_str(value),
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::ToolCall;

    fn texts(message: &Message) -> Vec<String> {
        let mut texts = Vec::new();
        visit_texts(message, &mut |text| texts.push(text.to_owned()));
        texts
    }

    #[test]
    fn calls_and_results_are_read_without_escapes() {
        let call =
            ToolCall::function("c1", "save", r#"{"note":"first\nsecond \u00e9","n":[1,true]}"#);
        let expected = ["save", "note: first\nsecond é, n: 1, true"];
        assert_eq!(texts(&Message::calls([call])), expected);
        assert_eq!(texts(&Message::tool_result("c1", "saved")), ["saved"]);
    }
}
