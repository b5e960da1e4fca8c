//! Where a JSON value ends, found without parsing it.

use memory_core::json::MAX_JSON_DEPTH;

/// The state after a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The value continues.
    More,
    /// This byte ends an array, object or string.
    Done,
    /// This cannot be one JSON value.
    Bad,
}

/// The byte before, apart from white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Start,
    Open,
    Comma,
    Colon,
    Value,
}

/// Follows brackets and strings. It checks only as much of the grammar as shows that the next line begins a new
/// value, because the line before was cut off.
#[derive(Debug)]
pub(super) struct Scan {
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
    last: Last,
}

impl Scan {
    pub(super) const fn new() -> Self {
        Self { open: Vec::new(), in_string: false, escaped: false, last: Last::Start }
    }

    /// Whether a bracket is open and a line break may follow.
    pub(super) const fn is_open(&self) -> bool {
        !self.open.is_empty() && !self.in_string
    }

    /// Whether all so far is a number, a literal or nothing, whose end only the next byte shows.
    pub(super) const fn is_bare(&self) -> bool {
        self.open.is_empty() && !self.in_string
    }

    pub(super) fn feed(&mut self, byte: u8) -> Step {
        if self.in_string {
            return self.feed_string(byte);
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                let in_array = self.open.last() == Some(&b'[');
                let may_begin = match self.last {
                    Last::Start | Last::Colon => true,
                    Last::Open | Last::Comma => in_array,
                    Last::Value => false,
                };
                if !may_begin || self.open.len() >= MAX_JSON_DEPTH {
                    return Step::Bad;
                }
                self.open.push(byte);
                self.last = Last::Open;
            }
            b'}' | b']' => {
                let opening = if byte == b'}' { b'{' } else { b'[' };
                if self.open.pop() != Some(opening) {
                    return Step::Bad;
                }
                self.last = Last::Value;
                if self.open.is_empty() {
                    return Step::Done;
                }
            }
            b',' if self.last == Last::Value => self.last = Last::Comma,
            b',' => return Step::Bad,
            b':' => self.last = Last::Colon,
            _ => self.last = Last::Value,
        }
        Step::More
    }

    fn feed_string(&mut self, byte: u8) -> Step {
        match byte {
            // JSON writes it as an escape, so the line was cut off within a string.
            b'\n' => return Step::Bad,
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => {
                self.in_string = false;
                self.last = Last::Value;
                if self.open.is_empty() {
                    return Step::Done;
                }
            }
            _ => {}
        }
        Step::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> (Step, usize) {
        let mut scan = Scan::new();
        for (index, byte) in text.bytes().enumerate() {
            let step = scan.feed(byte);
            if step != Step::More {
                return (step, index + 1);
            }
        }
        (Step::More, text.len())
    }

    #[test]
    fn values_end_at_their_last_bracket() {
        for text in ["{}", "[]", "{\"a\":[1,{\"}\":\"\\\"]\"}]\n,\n\"b\":null}", "\"a\\\\\""] {
            assert_eq!(end(text), (Step::Done, text.len()), "{text}");
            assert_eq!(end(&format!("{text}{text}")), (Step::Done, text.len()), "{text}");
        }
    }

    #[test]
    fn cut_values_are_bad_where_next_begins() {
        for cut in ["{\"a\":\"x", "{\"a\":1", "{\"a\":1,", "{", "[{\"a\":1}", "{\"a\":{\"b\":2}"] {
            let (step, at) = end(&format!("{cut}\n{{\"a\":1}}"));
            assert_eq!((step, at <= cut.len() + 2), (Step::Bad, true), "{cut}");
        }
        assert_eq!(end("[1]]").0, Step::Done);
        assert_eq!(end("{]").0, Step::Bad);
        assert_eq!(end(&"[".repeat(200)).0, Step::Bad);
    }
}
