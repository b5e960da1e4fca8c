//! Untrusted text on a terminal: message texts, names and keys come from models and users, and a control
//! character in them could move the cursor, set the window title, or reorder what is shown.

use std::borrow::Cow;
use std::fmt::Write as _;

/// One line of untrusted text: line breaks and tabs are escaped too, so that it cannot look like two.
pub(crate) fn inline(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_unsafe(c) || matches!(c, '\n' | '\t'), |c| c.escape_default().to_string())
}

/// Text that may have several lines.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escape(text, is_unsafe, |c| c.escape_default().to_string())
}

/// JSON: the value stays equal, because such characters are only in strings, where JSON has escapes.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    escape(text, is_unsafe, |c| {
        let mut units = [0; 2];
        let mut escaped = String::new();
        for unit in c.encode_utf16(&mut units) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
        escaped
    })
}

fn escape(text: &str, wants: impl Fn(char) -> bool, by: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&wants) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if wants(c) {
            escaped.push_str(&by(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// C0 except tab and line feed, DEL and C1; the line and paragraph separators; and the embeddings, overrides,
/// isolates and marks of the bidirectional algorithm (Unicode Standard Annex 9, section 2), which can
/// change the order in which text is shown.
fn is_unsafe(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{061c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_control_characters_are_escaped() {
        let hostile = "a\u{1b}]0;x\u{7}b\u{9b}2J\u{202e}c\r\u{7f}\u{2066}";
        let shown = r"a\u{1b}]0;x\u{7}b\u{9b}2J\u{202e}c\r\u{7f}\u{2066}";
        assert_eq!(lines(hostile), shown);
        assert_eq!(inline("a\nb\tc"), r"a\nb\tc");
        assert_eq!(lines("a\nb\tc"), "a\nb\tc");
    }

    #[test]
    fn leaves_ordinary_text_of_every_script() {
        for text in ["", "Grüße, 世界", "שלום مرحبا", "👩\u{200d}👧 e\u{301}", "C:\\temp"]
        {
            assert!(matches!(inline(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn escaped_json_is_the_same_value() {
        let value = serde_json::json!({"a\u{202e}": "\u{1b}[2J\u{9b}\u{7f}\u{2028}\r\n"});
        let written = serde_json::to_string_pretty(&value).unwrap();
        let escaped = json(&written);
        assert!(!escaped.contains(is_unsafe), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }
}
