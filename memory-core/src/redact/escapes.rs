//! Decodes JSON escapes in texts, with a map back to the original positions.

use std::ops::Range;

/// The maximum number of decodings: a string in a string, and so on. Each level costs another search, and a hostile
/// text can have as many levels as a fifth of its length.
pub(super) const MAX_LEVELS: usize = 16;

/// A text with its escapes decoded.
pub(super) struct Decoded {
    pub(super) text: String,
    /// The original position of the character at each byte of the text; at the end, the original length.
    starts: Vec<usize>,
}

impl Decoded {
    /// Decodes the escapes of a text that need not be JSON; `None` if it has none.
    pub(super) fn of(original: &str) -> Option<Self> {
        // Most texts have no escapes, and the table of positions is eight times as large as the text.
        if !original.contains('\\') {
            return None;
        }
        let mut decoded = Self { text: String::new(), starts: Vec::new() };
        let mut rest = original;
        let mut found = false;
        while let Some(at) = rest.find('\\') {
            let (plain, tail) = rest.split_at_checked(at)?;
            decoded.push(plain, original.len() - rest.len());
            let start = original.len() - tail.len();
            let (character, length) = escape(tail).unwrap_or(('\\', 1));
            found |= length > 1;
            decoded.text.push(character);
            decoded.starts.resize(decoded.text.len(), start);
            rest = tail.get(length..)?;
        }
        decoded.push(rest, original.len() - rest.len());
        decoded.starts.push(original.len());
        found.then_some(decoded)
    }

    fn push(&mut self, plain: &str, start: usize) {
        self.text.push_str(plain);
        self.starts.extend(start..start + plain.len());
    }

    /// The same text decoded once more; `None` if no escape is left.
    pub(super) fn again(&self) -> Option<Self> {
        let mut inner = Self::of(&self.text)?;
        for start in &mut inner.starts {
            *start = *self.starts.get(*start)?;
        }
        Some(inner)
    }

    /// The original position of a part of the decoded text.
    pub(super) fn original(&self, range: &Range<usize>) -> Option<Range<usize>> {
        Some(*self.starts.get(range.start)?..*self.starts.get(range.end)?)
    }
}

/// The escaped character at the start of the text, and the length of the escape.
fn escape(text: &str) -> Option<(char, usize)> {
    let character = match text.as_bytes().get(1)? {
        b'u' => return unicode_escape(text),
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
        _ => return None,
    };
    Some((character, 2))
}

fn unicode_escape(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
    };
    let first = unit(0)?;
    let second = unit(6);
    let pair = char::decode_utf16([Some(first), second].into_iter().flatten()).next()?;
    Some(match pair {
        Ok(character) => (character, 6 * character.len_utf16()),
        // Half of a surrogate pair is not a character.
        Err(_) => (char::REPLACEMENT_CHARACTER, 6),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decodes_as_json_does(text in any::<String>(), prefix in "[a-z]{0,3}") {
            let json = serde_json::to_string(&text).unwrap();
            let written = format!("{prefix}{json}");
            match Decoded::of(&written) {
                Some(decoded) => {
                    prop_assert_eq!(&decoded.text, &format!("{prefix}\"{text}\""));
                    let all = decoded.original(&(0..decoded.text.len()));
                    prop_assert_eq!(all, Some(0..written.len()));
                }
                None => prop_assert_eq!(json, format!("\"{text}\"")),
            }
        }

        #[test]
        fn no_text_panics(text in r#"[\\u0-9a-fD"n/ü]{0,40}"#) {
            let mut level = Decoded::of(&text);
            while let Some(decoded) = level {
                prop_assert_eq!(decoded.starts.len(), decoded.text.len() + 1);
                level = decoded.again();
            }
        }
    }

    #[test]
    fn part_maps_to_its_original_position() {
        let written = r"a\u0040b \ud83d\ude00 \ud83d \x \";
        let decoded = Decoded::of(written).unwrap();
        assert_eq!(decoded.text, "a@b 😀 \u{fffd} \\x \\");
        let at = |part: &str| {
            let start = decoded.text.find(part).unwrap();
            written.get(decoded.original(&(start..start + part.len())).unwrap()).unwrap()
        };
        assert_eq!(at("@b"), r"\u0040b");
        assert_eq!(at("😀"), r"\ud83d\ude00");
        assert_eq!(at("\\x"), r"\x");
        let twice = Decoded::of(r"ann\\u0040x").unwrap().again().unwrap();
        assert_eq!(twice.text, "ann@x");
        assert_eq!(twice.original(&(3..4)), Some(3..10));
        assert!(twice.again().is_none());
    }
}
