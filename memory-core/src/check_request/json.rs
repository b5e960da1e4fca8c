//! A flat, borrowed view of a JSON value.
//!
//! `serde_json::Value` allocates for every string and object. A check reads a request once, so the value is stored in
//! one vector instead: each array and object is followed by its children and knows where they end. Strings without
//! escapes are borrowed from the input; the others share one buffer.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The deepest nesting that is read. It equals the limit of `serde_json` for texts, so that both forms
/// of a request give the same answer.
const MAX_DEPTH: usize = 127;
/// The most nodes that are reserved before reading. One large string needs one node only.
const MAX_RESERVED: usize = 1 << 16;

#[derive(Debug, Clone, Copy)]
enum Node<'a> {
    Null,
    Bool(bool),
    Number,
    Text(&'a str),
    /// A range of the buffer of decoded strings.
    Decoded(usize, usize),
    /// The index after the last child.
    Array(usize),
    /// The index after the last child. Children alternate: a key, then its value.
    Object(usize),
}

/// A JSON value as a list of nodes.
#[derive(Debug)]
pub(super) struct Tape<'a> {
    nodes: Vec<Node<'a>>,
    decoded: String,
    text_bytes: usize,
}

impl<'a> Tape<'a> {
    /// Reads a JSON text. `None` if it is not JSON or is nested too deeply.
    pub(super) fn from_text(text: &'a str) -> Option<Self> {
        let mut tape = Self::with_capacity((text.len() / 12).min(MAX_RESERVED));
        let mut reader = serde_json::Deserializer::from_str(text);
        Reader(&mut tape).deserialize(&mut reader).ok()?;
        reader.end().ok()?;
        Some(tape)
    }

    /// Lists the nodes of a value. `None` if it is nested too deeply.
    pub(super) fn from_value(value: &'a Value) -> Option<Self> {
        let mut tape = Self::with_capacity(64);
        tape.push_value(value, 0)?;
        Some(tape)
    }

    fn with_capacity(nodes: usize) -> Self {
        Self { nodes: Vec::with_capacity(nodes), decoded: String::new(), text_bytes: 0 }
    }

    /// The length of all strings and keys: a lower bound of the size of the request.
    pub(super) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    pub(super) fn root(&self) -> Json<'_> {
        Json { tape: self, at: 0 }
    }

    fn push_text(&mut self, text: &'a str) {
        self.text_bytes += text.len();
        self.nodes.push(Node::Text(text));
    }

    fn push_decoded(&mut self, text: &str) {
        self.text_bytes += text.len();
        let start = self.decoded.len();
        self.decoded.push_str(text);
        self.nodes.push(Node::Decoded(start, self.decoded.len()));
    }

    fn close(&mut self, at: usize, node: impl FnOnce(usize) -> Node<'a>) {
        let end = self.nodes.len();
        if let Some(open) = self.nodes.get_mut(at) {
            *open = node(end);
        }
    }

    fn push_value(&mut self, value: &'a Value, depth: usize) -> Option<()> {
        let at = self.nodes.len();
        match value {
            Value::Null => self.nodes.push(Node::Null),
            Value::Bool(value) => self.nodes.push(Node::Bool(*value)),
            Value::Number(_) => self.nodes.push(Node::Number),
            Value::String(text) => self.push_text(text),
            Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => return None,
            Value::Array(items) => {
                self.nodes.push(Node::Array(at));
                for item in items {
                    self.push_value(item, depth + 1)?;
                }
                self.close(at, Node::Array);
            }
            Value::Object(fields) => {
                self.nodes.push(Node::Object(at));
                for (key, value) in fields {
                    self.push_text(key);
                    self.push_value(value, depth + 1)?;
                }
                self.close(at, Node::Object);
            }
        }
        Some(())
    }

    fn node(&self, at: usize) -> Node<'a> {
        // Only the tape creates cursors, so the index always exists.
        self.nodes.get(at).copied().unwrap_or(Node::Null)
    }

    fn end_of(&self, at: usize) -> usize {
        match self.node(at) {
            Node::Array(end) | Node::Object(end) => end,
            Node::Null | Node::Bool(_) | Node::Number | Node::Text(_) | Node::Decoded(..) => at + 1,
        }
    }

    fn text(&self, at: usize) -> Option<&str> {
        match self.node(at) {
            Node::Text(text) => Some(text),
            Node::Decoded(start, end) => self.decoded.get(start..end),
            Node::Null | Node::Bool(_) | Node::Number | Node::Array(_) | Node::Object(_) => None,
        }
    }

    /// The JSON pointer (RFC 6901) of a node. It includes keys that look like field names ([`is_field_name`]);
    /// otherwise it ends at the object with the key.
    pub(super) fn pointer(&self, target: usize) -> String {
        let mut pointer = String::new();
        let mut at = 0;
        while at < target {
            let (step, next) = match self.node(at) {
                Node::Array(_) => {
                    let items = Json { tape: self, at }.items().enumerate();
                    let Some((index, item)) =
                        items.into_iter().find(|(_, item)| item.holds(target))
                    else {
                        break;
                    };
                    (index.to_string(), item.at)
                }
                Node::Object(_) => {
                    let mut fields = Json { tape: self, at }.fields();
                    let Some((key, item)) = fields.find(|(_, item)| item.holds(target)) else {
                        break;
                    };
                    if !is_field_name(key) {
                        break;
                    }
                    (key.to_owned(), item.at)
                }
                Node::Null | Node::Bool(_) | Node::Number | Node::Text(_) | Node::Decoded(..) => {
                    break;
                }
            };
            pointer.push('/');
            pointer.push_str(&step);
            at = next;
        }
        pointer
    }
}

/// Whether an error may show a key. Keys can contain user text, so only short names of ASCII letters and underscores
/// are shown.
fn is_field_name(key: &str) -> bool {
    (1..=40).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

/// One value of a [`Tape`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Json<'t> {
    tape: &'t Tape<'t>,
    at: usize,
}

impl<'t> Json<'t> {
    /// The index of the node, from which [`Tape::pointer`] finds its place.
    pub(super) fn at(self) -> usize {
        self.at
    }

    fn holds(self, target: usize) -> bool {
        (self.at..self.tape.end_of(self.at)).contains(&target)
    }

    pub(super) fn is_null(self) -> bool {
        matches!(self.tape.node(self.at), Node::Null)
    }

    pub(super) fn is_object(self) -> bool {
        matches!(self.tape.node(self.at), Node::Object(_))
    }

    pub(super) fn is_array(self) -> bool {
        matches!(self.tape.node(self.at), Node::Array(_))
    }

    pub(super) fn as_bool(self) -> Option<bool> {
        match self.tape.node(self.at) {
            Node::Bool(value) => Some(value),
            Node::Null
            | Node::Number
            | Node::Text(_)
            | Node::Decoded(..)
            | Node::Array(_)
            | Node::Object(_) => None,
        }
    }

    pub(super) fn as_str(self) -> Option<&'t str> {
        self.tape.text(self.at)
    }

    /// Whether it is an array or object without children.
    pub(super) fn is_empty(self) -> bool {
        match self.tape.node(self.at) {
            Node::Array(end) | Node::Object(end) => end == self.at + 1,
            Node::Null | Node::Bool(_) | Node::Number | Node::Text(_) | Node::Decoded(..) => false,
        }
    }

    /// The items of an array; nothing for any other value.
    pub(super) fn items(self) -> Items<'t> {
        let end = match self.tape.node(self.at) {
            Node::Array(end) => end,
            Node::Null
            | Node::Bool(_)
            | Node::Number
            | Node::Text(_)
            | Node::Decoded(..)
            | Node::Object(_) => self.at + 1,
        };
        Items { tape: self.tape, at: self.at + 1, end }
    }

    /// The fields of an object; nothing for any other value.
    pub(super) fn fields(self) -> Fields<'t> {
        let end = match self.tape.node(self.at) {
            Node::Object(end) => end,
            Node::Null
            | Node::Bool(_)
            | Node::Number
            | Node::Text(_)
            | Node::Decoded(..)
            | Node::Array(_) => self.at + 1,
        };
        Fields(Items { tape: self.tape, at: self.at + 1, end })
    }

    /// The first field with this name.
    pub(super) fn field(self, name: &str) -> Option<Json<'t>> {
        self.fields().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The text of a field; `None` if it is missing or is not a string.
    pub(super) fn text(self, name: &str) -> Option<&'t str> {
        self.field(name)?.as_str()
    }
}

/// The items of an array.
#[derive(Debug, Clone)]
pub(super) struct Items<'t> {
    tape: &'t Tape<'t>,
    at: usize,
    end: usize,
}

impl<'t> Iterator for Items<'t> {
    type Item = Json<'t>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.at < self.end).then(|| {
            let at = self.at;
            self.at = self.tape.end_of(at);
            Json { tape: self.tape, at }
        })
    }
}

/// The fields of an object, in order; a repeated key comes repeatedly.
#[derive(Debug, Clone)]
pub(super) struct Fields<'t>(Items<'t>);

impl<'t> Iterator for Fields<'t> {
    type Item = (&'t str, Json<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?;
        let value = self.0.next()?;
        Some((key.as_str().unwrap_or_default(), value))
    }
}

/// Appends the next value of a deserializer to a tape.
struct Reader<'r, 'a>(&'r mut Tape<'a>);

impl<'a> DeserializeSeed<'a> for Reader<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Reader<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.nodes.push(Node::Null);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.nodes.push(Node::Bool(value));
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.0.nodes.push(Node::Number);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.0.nodes.push(Node::Number);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.0.nodes.push(Node::Number);
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<(), E> {
        self.0.push_text(text);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.push_decoded(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<(), A::Error> {
        let tape = self.0;
        let at = tape.nodes.len();
        tape.nodes.push(Node::Array(at));
        while items.next_element_seed(Reader(tape))?.is_some() {}
        tape.close(at, Node::Array);
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut fields: A) -> Result<(), A::Error> {
        let tape = self.0;
        let at = tape.nodes.len();
        tape.nodes.push(Node::Object(at));
        while fields.next_key_seed(Reader(tape))?.is_some() {
            fields.next_value_seed(Reader(tape))?;
        }
        tape.close(at, Node::Object);
        Ok(())
    }
}
