//! Reading JSON from a text, in one pass.

use std::collections::HashSet;

use super::number::{self, JsonNumber};
use super::{Json, JsonError, JsonErrorKind, JsonObject, MAX_JSON_DEPTH};

/// From this number of members on, an object's keys are compared by hash.
const HASHED_MEMBERS: usize = 24;

/// How lone surrogate escapes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surrogates {
    Refuse,
    Replace,
}

/// Boxed, so that the results of the recursive functions stay small.
type Parsed<T> = Result<T, Box<JsonError>>;

/// The only value of a text, and how many surrogates were replaced.
pub(super) fn whole(text: &str, surrogates: Surrogates) -> Result<(Json, usize), JsonError> {
    let mut parser = Parser::new(text, surrogates);
    let json = parser.first().map_err(|error| *error)?;
    parser.skip_space();
    match parser.peek() {
        None => Ok((json, parser.replaced)),
        Some(b'{' | b'[') => Err(*parser.error(JsonErrorKind::SecondValue)),
        Some(0) => Err(*parser.error(JsonErrorKind::NulBytes)),
        Some(_) => Err(*parser.error(JsonErrorKind::TrailingCharacters)),
    }
}

/// The first value of a text, and the rest.
pub(super) fn prefix(text: &str) -> Result<(Json, &str), JsonError> {
    let mut parser = Parser::new(text, Surrogates::Refuse);
    let json = parser.first().map_err(|error| *error)?;
    Ok((json, text.get(parser.at..).unwrap_or_default()))
}

pub(super) fn bytes(bytes: &[u8]) -> Result<Json, JsonError> {
    let utf16 = matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{' | b'[', 0, ..])
        || matches!(bytes, [0, b'{' | b'[', ..]);
    if utf16 {
        return Err(JsonError::placeless(JsonErrorKind::Utf16));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Json::parse(text),
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let text = String::from_utf8_lossy(valid);
            Err(JsonError::new(JsonErrorKind::NotUtf8, &text, text.len()))
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    /// A byte position at a character boundary.
    at: usize,
    depth: usize,
    surrogates: Surrogates,
    replaced: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, surrogates: Surrogates) -> Self {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, at, depth: 0, surrogates, replaced: 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes().get(self.at..).unwrap_or_default()
    }

    fn error(&self, kind: JsonErrorKind) -> Box<JsonError> {
        self.error_at(kind, self.at)
    }

    fn error_at(&self, kind: JsonErrorKind, at: usize) -> Box<JsonError> {
        let kind = if kind == JsonErrorKind::Syntax && at >= self.text.len() {
            JsonErrorKind::Truncated
        } else {
            kind
        };
        Box::new(JsonError::new(kind, self.text, at))
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn first(&mut self) -> Parsed<Json> {
        self.skip_space();
        match self.peek() {
            None => Err(self.error(JsonErrorKind::Empty)),
            Some(0) => Err(self.error(JsonErrorKind::NulBytes)),
            Some(_) => self.value(),
        }
    }

    fn value(&mut self) -> Parsed<Json> {
        match self.peek() {
            Some(b'"') => self.string().map(Json::String),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(b'N' | b'I') => Err(self.not_finite()),
            _ => Err(self.error(JsonErrorKind::Syntax)),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Parsed<Json>) -> Parsed<Json> {
        if self.depth == MAX_JSON_DEPTH {
            return Err(self.error(JsonErrorKind::TooDeep));
        }
        self.depth += 1;
        self.at += 1;
        let json = read(self)?;
        self.depth -= 1;
        Ok(json)
    }

    fn word(&mut self, word: &str, json: Json) -> Parsed<Json> {
        let rest = self.rest();
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(json);
        }
        let same = word.bytes().zip(rest).take_while(|(a, b)| a == *b).count();
        Err(self.error_at(JsonErrorKind::Syntax, self.at + same))
    }

    fn not_finite(&self) -> Box<JsonError> {
        let rest = self.rest();
        let named = rest.starts_with(b"NaN") || rest.starts_with(b"Infinity");
        self.error(if named { JsonErrorKind::NotFinite } else { JsonErrorKind::Syntax })
    }

    fn number(&mut self) -> Parsed<Json> {
        match number::scan(self.rest()) {
            Ok((length, form)) => {
                let text = self.text.get(self.at..self.at + length).unwrap_or_default();
                self.at += length;
                Ok(Json::Number(JsonNumber::from_scanned(text, form)))
            }
            Err(valid) => {
                self.at += valid;
                Err(self.not_finite())
            }
        }
    }

    /// Behind the opening bracket.
    fn array(&mut self) -> Parsed<Json> {
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            self.skip_space();
            let item = self.value().map_err(|error| Box::new(error.in_item(items.len())))?;
            items.push(item);
            if self.closes(b']')? {
                return Ok(Json::Array(items));
            }
        }
    }

    /// Behind the opening bracket.
    fn object(&mut self) -> Parsed<Json> {
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut hashed: HashSet<String> = HashSet::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(JsonObject::new()));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.error(JsonErrorKind::Syntax));
            }
            let start = self.at;
            let key = self.string()?;
            let repeated = if members.len() < HASHED_MEMBERS {
                members.iter().any(|(name, _)| *name == key)
            } else {
                if hashed.is_empty() {
                    hashed = members.iter().map(|(name, _)| name.clone()).collect();
                }
                !hashed.insert(key.clone())
            };
            if repeated {
                let error = self.error_at(JsonErrorKind::DuplicateKey, start);
                return Err(Box::new(error.in_member(&key, members.len())));
            }
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.error(JsonErrorKind::Syntax));
            }
            self.at += 1;
            self.skip_space();
            let value =
                self.value().map_err(|error| Box::new(error.in_member(&key, members.len())))?;
            members.push((key, value));
            if self.closes(b'}')? {
                return Ok(Json::Object(JsonObject::from_distinct(members)));
            }
        }
    }

    /// Reads the bracket that closes, or a comma that something follows.
    fn closes(&mut self, bracket: u8) -> Parsed<bool> {
        self.skip_space();
        if self.peek() == Some(bracket) {
            self.at += 1;
            return Ok(true);
        }
        if self.peek() != Some(b',') {
            return Err(self.error(JsonErrorKind::Syntax));
        }
        let comma = self.at;
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(bracket) {
            return Err(self.error_at(JsonErrorKind::TrailingComma, comma));
        }
        Ok(false)
    }

    /// At the opening quote.
    fn string(&mut self) -> Parsed<String> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let plain = self.rest().iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f));
            let Some(plain) = plain else {
                return Err(self.error_at(JsonErrorKind::Truncated, self.text.len()));
            };
            let chunk = self.text.get(self.at..self.at + plain).unwrap_or_default();
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    if string.is_empty() {
                        return Ok(chunk.into());
                    }
                    string.push_str(chunk);
                    return Ok(string);
                }
                Some(b'\\') => {
                    string.push_str(chunk);
                    string.push(self.escape()?);
                }
                _ => return Err(self.error(JsonErrorKind::ControlCharacter)),
            }
        }
    }

    /// At the backslash.
    fn escape(&mut self) -> Parsed<char> {
        let start = self.at;
        self.at += 1;
        let Some(letter) = self.peek() else { return Err(self.error(JsonErrorKind::Truncated)) };
        let character = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode_escape(start);
            }
            _ => return Err(self.error(JsonErrorKind::Syntax)),
        };
        self.at += 1;
        Ok(character)
    }

    /// Behind the `u` of an escape that starts at `start`.
    fn unicode_escape(&mut self, start: usize) -> Parsed<char> {
        let unit = self.hex()?;
        if let Some(character) = char::from_u32(unit) {
            return Ok(character);
        }
        let behind = self.at;
        if (0xd800..0xdc00).contains(&unit) && self.rest().starts_with(b"\\u") {
            self.at += 2;
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = behind;
        }
        if self.surrogates == Surrogates::Refuse {
            return Err(self.error_at(JsonErrorKind::LoneSurrogate, start));
        }
        self.replaced += 1;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Parsed<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return Err(self.error(JsonErrorKind::Syntax)) };
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }
}
