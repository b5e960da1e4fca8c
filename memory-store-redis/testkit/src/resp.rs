//! Finds the boundaries of values in the Redis protocol (RESP2 and RESP3).

/// Cuts a stream into whole values.
#[derive(Debug)]
pub(crate) struct Framer {
    bytes: Vec<u8>,
    /// The number of bytes that were parsed, from the start of the current value.
    seen: usize,
    /// Values that must still end before it does: one, more within arrays.
    open: u64,
}

/// The stream does not consist of such values, such as that of a replica.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// No line of the protocol itself is longer.
const LONGEST_LINE: usize = 1 << 20;

impl Framer {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), seen: 0, open: 1 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole value, if it has arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        while self.open > 0 {
            if !self.step()? {
                return Ok(None);
            }
        }
        let rest = self.bytes.split_off(self.seen);
        self.seen = 0;
        self.open = 1;
        Ok(Some(std::mem::replace(&mut self.bytes, rest)))
    }

    /// The part of the next value that has arrived.
    pub(crate) fn rest(self) -> Vec<u8> {
        self.bytes
    }

    /// Looks at one more line, and at the body that it announces. False if it has not arrived.
    fn step(&mut self) -> Result<bool, Malformed> {
        let todo = self.bytes.get(self.seen..).unwrap_or_default();
        let Some(line) = todo.windows(2).position(|pair| pair == b"\r\n") else {
            return if todo.len() > LONGEST_LINE { Err(Malformed) } else { Ok(false) };
        };
        let (line, body) = todo.split_at(line);
        let body = body.get(2..).unwrap_or_default();
        let mut used = line.len() + 2;
        let count = || {
            let digits = line.get(1..).and_then(|digits| std::str::from_utf8(digits).ok());
            digits.and_then(|digits| digits.parse::<i64>().ok()).ok_or(Malformed)
        };
        // A negative length is a null.
        let items = || count().map(|count| u64::try_from(count).unwrap_or(0));
        match line.first() {
            Some(b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(') => self.open -= 1,
            Some(b'$' | b'=' | b'!') => {
                if let Ok(length) = usize::try_from(count()?) {
                    let Some(end) = body.get(length..length + 2) else { return Ok(false) };
                    if end != b"\r\n" {
                        return Err(Malformed);
                    }
                    used += length + 2;
                }
                self.open -= 1;
            }
            Some(b'*' | b'~' | b'>') => self.open = self.open - 1 + items()?,
            Some(b'%') => self.open = self.open - 1 + 2 * items()?,
            // Attributes precede the value that they belong to.
            Some(b'|') => self.open += 2 * items()?,
            // A request may be a plain line, as in a terminal.
            Some(letter) if self.seen == 0 && letter.is_ascii_alphabetic() => self.open -= 1,
            _ => return Err(Malformed),
        }
        self.seen += used;
        Ok(true)
    }
}

/// The name of the command in a request, in capitals.
pub(crate) fn command(request: &[u8]) -> String {
    word(request, b"*").map_or_else(|| "INLINE".to_owned(), str::to_ascii_uppercase)
}

/// Whether this answers a request, unlike a push message of the server.
pub(crate) fn is_answer(value: &[u8]) -> bool {
    let kind = word(value, b"*>");
    !matches!(kind, Some("message" | "pmessage" | "smessage" | "invalidate"))
}

/// The first item of an array, if that is a text.
fn word<'a>(value: &'a [u8], kinds: &[u8]) -> Option<&'a str> {
    if !kinds.contains(value.first()?) {
        return None;
    }
    let start = value.get(..64).unwrap_or(value);
    let mut lines = std::str::from_utf8(start).unwrap_or_default().split("\r\n").skip(1);
    if lines.next()?.starts_with('$') { lines.next() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [&str; 10] = [
        "+OK\r\n",
        "-ERR no such thing\r\n",
        ":1\r\n",
        "$-1\r\n",
        "$4\r\na\r\nb\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n*1\r\n$0\r\n\r\n:7\r\n",
        "%1\r\n+key\r\n*2\r\n_\r\n#t\r\n",
        "|1\r\n+ttl\r\n:5\r\n$1\r\nx\r\n",
    ];

    #[test]
    fn values_are_separated_however_they_arrive() {
        let stream = VALUES.concat();
        for chunk in 1..=stream.len() {
            let mut framer = Framer::new();
            let mut found = Vec::new();
            for bytes in stream.as_bytes().chunks(chunk) {
                framer.push(bytes);
                while let Some(value) = framer.next().expect("well formed") {
                    found.push(String::from_utf8(value).expect("text"));
                }
            }
            assert_eq!(found, VALUES, "in chunks of {chunk}");
            assert!(framer.rest().is_empty());
        }
    }

    #[test]
    fn other_protocols_are_detected() {
        for stream in ["$3\r\nabcdef\r\n", "$EOF:40\r\n", "*x\r\n", "\r\n", "*1\r\nPING\r\n"] {
            let mut framer = Framer::new();
            framer.push(stream.as_bytes());
            assert_eq!(framer.next(), Err(Malformed), "{stream:?}");
        }
    }

    #[test]
    fn first_word_distinguishes_requests_from_messages() {
        assert_eq!(command(b"*2\r\n$3\r\nget\r\n$1\r\nk\r\n"), "GET");
        assert_eq!(command(b"PING\r\n"), "INLINE");
        assert!(is_answer(b"+OK\r\n"));
        assert!(is_answer(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"));
        assert!(!is_answer(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n"));
        assert!(!is_answer(b">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$1\r\nx\r\n"));
    }
}
