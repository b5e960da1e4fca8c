//! The records of a source: one JSON value a line, values on several lines, or the elements of arrays.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::scan::{Scan, Step};
use crate::encoding;

/// How many bytes are read at once.
const CHUNK: usize = 1 << 16;

/// One value, not yet parsed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// The line on which it begins, counted from 1.
    pub(crate) line: u64,
    /// Its place in the array around it, counted from 1.
    pub(crate) element: Option<u64>,
    pub(crate) bytes: &'a [u8],
    /// The fault around it, so that it is no record.
    pub(crate) problem: Option<&'static str>,
}

/// The reason that the next record cannot be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    Failed(io::Error),
    /// The whole file is in another encoding or packed.
    Encoding(String),
    /// The record is longer than a message may be. It was not read to its end, which may not exist.
    LongLine {
        number: u64,
    },
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads records one after another, each of at most so many bytes.
pub(crate) struct Records {
    bytes: Bytes,
    /// The most bytes of a record.
    most: u64,
    line: u64,
    place: Place,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Begin,
    /// Between lines.
    Top,
    /// Within an array on the top level, after this many elements.
    Array {
        elements: u64,
    },
}

impl Records {
    pub(crate) fn new(reader: Box<dyn Read + Send>, most: u64) -> Self {
        let bytes = Bytes { reader, chunk: Vec::new(), at: 0, hash: Sha256::new(), total: 0 };
        Self { bytes, most, line: 1, place: Place::Begin, buffer: Vec::new() }
    }

    /// The SHA-256 of all bytes that were read, and their number.
    pub(crate) fn into_hash(self) -> (String, u64) {
        let hash = self.bytes.hash.finalize();
        (hash.iter().map(|byte| format!("{byte:02x}")).collect(), self.bytes.total)
    }

    pub(crate) fn next(&mut self) -> Result<Option<Record<'_>>, Unreadable> {
        self.buffer.clear();
        loop {
            match self.place {
                Place::Begin => {
                    let start = self.bytes.lookahead(16)?;
                    if let Some(problem) = encoding::problem(start) {
                        return Err(Unreadable::Encoding(problem));
                    }
                    if start.starts_with(b"\xef\xbb\xbf") {
                        self.bytes.at += 3;
                    }
                    self.place = Place::Top;
                }
                Place::Top => {
                    self.skip_space()?;
                    match self.bytes.peek()? {
                        None => return Ok(None),
                        Some(b'[') => {
                            self.bytes.at += 1;
                            self.place = Place::Array { elements: 0 };
                        }
                        Some(_) => return self.line_value().map(Some),
                    }
                }
                Place::Array { elements } => {
                    if let Some((line, problem)) = self.element(elements)? {
                        let element = Some(elements + 1);
                        let bytes = self.buffer.as_slice();
                        return Ok(Some(Record { line, element, bytes, problem }));
                    }
                }
            }
        }
    }

    /// A line, with those that follow if it opens an object that ends on one of them.
    fn line_value(&mut self) -> Result<Record<'_>, Unreadable> {
        let line = self.line;
        let (mut scan, mut step) = (Scan::new(), Step::More);
        let mut first_end = None;
        let is_cut = loop {
            let Some(byte) = self.bytes.peek()? else { break step != Step::Done };
            self.bytes.at += 1;
            if step == Step::More {
                step = scan.feed(byte);
            }
            if byte == b'\n' {
                self.line += 1;
                if step != Step::More || !scan.is_open() {
                    self.buffer.push(byte);
                    break step != Step::Done;
                }
                first_end.get_or_insert(self.buffer.len());
            } else if step == Step::Bad && first_end.is_some() {
                self.buffer.push(byte);
                break true;
            }
            self.push(byte, line)?;
        };
        if let (true, Some(end)) = (is_cut, first_end) {
            // The lines after the first are separate records.
            let rest = self.buffer.split_off(end);
            self.bytes.give_back(rest.get(1..).unwrap_or_default());
            self.line = line + 1;
        }
        let bytes = self.buffer.trim_ascii();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        Ok(Record { line, element: None, bytes, problem: None })
    }

    /// The next element of an array, its line and its error; none at the end of the array.
    fn element(
        &mut self,
        elements: u64,
    ) -> Result<Option<(u64, Option<&'static str>)>, Unreadable> {
        let mut problem = None;
        self.skip_space()?;
        let mut is_separated = elements == 0;
        if !is_separated && self.bytes.peek()? == Some(b',') {
            self.bytes.at += 1;
            is_separated = true;
            self.skip_space()?;
            if self.bytes.peek()? == Some(b']') {
                problem = Some("a comma precedes the end of the array; remove it");
            }
        }
        let line = self.line;
        match self.bytes.peek()? {
            None => {
                self.place = Place::Top;
                return Ok(Some((line, Some("the file ends within an array; complete it"))));
            }
            Some(b']') => {
                self.bytes.at += 1;
                self.place = Place::Top;
                return Ok(self
                    .rest_of_line(line)?
                    .or(problem)
                    .map(|problem| (line, Some(problem))));
            }
            Some(_) if !is_separated => problem = Some("a comma is missing before this element"),
            Some(_) => {}
        }
        self.place = Place::Array { elements: elements + 1 };
        let mut scan = Scan::new();
        while let Some(byte) = self.bytes.peek()? {
            let ends = matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
            if scan.is_bare() && ends && !self.buffer.is_empty() {
                break;
            }
            self.bytes.at += 1;
            let step = scan.feed(byte);
            if byte == b'\n' {
                self.line += 1;
            }
            self.push(byte, line)?;
            match step {
                Step::More => {}
                Step::Done => break,
                Step::Bad => {
                    // The end of the damaged element is unknown, so the next line is parsed as a new value.
                    self.place = Place::Top;
                    if byte != b'\n' {
                        self.skip_line(line)?;
                    }
                    break;
                }
            }
        }
        Ok(Some((line, problem)))
    }

    /// The fault if something follows an array on its line.
    fn rest_of_line(&mut self, line: u64) -> Result<Option<&'static str>, Unreadable> {
        while let Some(byte) = self.bytes.peek()? {
            match byte {
                b' ' | b'\t' | b'\r' => self.bytes.at += 1,
                b'\n' => return Ok(None),
                _ => {
                    self.skip_line(line)?;
                    return Ok(Some("something follows the array; write one value a line"));
                }
            }
        }
        Ok(None)
    }

    /// Skips white space, and counts its lines.
    fn skip_space(&mut self) -> Result<(), Unreadable> {
        while let Some(byte) = self.bytes.peek()? {
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' | b'\x0c' => {}
                _ => break,
            }
            self.bytes.at += 1;
        }
        Ok(())
    }

    fn skip_line(&mut self, line: u64) -> Result<(), Unreadable> {
        while let Some(byte) = self.bytes.peek()? {
            self.bytes.at += 1;
            if byte == b'\n' {
                self.line += 1;
                break;
            }
            self.push(byte, line)?;
        }
        Ok(())
    }

    fn push(&mut self, byte: u8, line: u64) -> Result<(), Unreadable> {
        if self.buffer.len() as u64 >= self.most {
            return Err(Unreadable::LongLine { number: line });
        }
        self.buffer.push(byte);
        Ok(())
    }
}

/// The bytes of a source, some of which may be given back.
struct Bytes {
    reader: Box<dyn Read + Send>,
    chunk: Vec<u8>,
    at: usize,
    hash: Sha256,
    total: u64,
}

impl Bytes {
    fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.at >= self.chunk.len() {
            self.chunk.clear();
            self.at = 0;
            self.read_more()?;
        }
        Ok(self.chunk.get(self.at).copied())
    }

    /// The next bytes, at least this many if available.
    fn lookahead(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.chunk.len().saturating_sub(self.at) < count && self.read_more()? {}
        Ok(self.chunk.get(self.at..).unwrap_or_default())
    }

    /// Whether more bytes were available.
    fn read_more(&mut self) -> io::Result<bool> {
        let before = self.chunk.len();
        let read = self.reader.by_ref().take(CHUNK as u64).read_to_end(&mut self.chunk)?;
        self.hash.update(self.chunk.get(before..).unwrap_or_default());
        self.total += read as u64;
        Ok(read > 0)
    }

    fn give_back(&mut self, bytes: &[u8]) {
        let rest = self.chunk.split_off(self.at.min(self.chunk.len()));
        self.chunk.clear();
        self.chunk.extend_from_slice(bytes);
        self.chunk.extend_from_slice(&rest);
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines and texts of the records; a problem is in brackets.
    fn records(text: &str) -> Vec<(u64, String)> {
        let mut records = Records::new(Box::new(io::Cursor::new(text.to_owned())), 10_000);
        let mut found = Vec::new();
        while let Some(record) = records.next().unwrap() {
            let text = String::from_utf8(record.bytes.to_vec()).unwrap();
            let problem = record.problem.map(|problem| format!("<{problem}>"));
            found.push((record.line, problem.unwrap_or(text)));
        }
        found
    }

    fn found(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
    }

    #[test]
    fn lines_are_records() {
        let text = "\u{feff}{\"a\":1}\r\n\r\n  \n{\"b\":2}{\"c\":3}\nnonsense\n7";
        let expected = [(1, "{\"a\":1}"), (4, "{\"b\":2}{\"c\":3}"), (5, "nonsense"), (6, "7")];
        assert_eq!(records(text), found(&expected));
        assert_eq!(records(" \n\n"), []);
    }

    #[test]
    fn values_may_have_several_lines() {
        let text = "{\n \"a\": [\n  1\n ]\n}\n{\"b\":2}\n{\n}";
        let expected = [(1, "{\n \"a\": [\n  1\n ]\n}"), (6, "{\"b\":2}"), (7, "{\n}")];
        assert_eq!(records(text), found(&expected));
    }

    #[test]
    fn cut_line_leaves_the_next_whole() {
        for cut in ["{\"a\":", "{\"a\":\"x", "{", "{\"a\":[{\"b\":1}"] {
            for tail in ["", "\n", "\n{\n\"e\":5}\n{\"f\":6}\n"] {
                let text = format!("{{\"a\":1}}\n{cut}\n{{\"c\":3}}\n{{\"d\":4}}{tail}");
                let records = records(&text);
                let expected = [(1, "{\"a\":1}"), (2, cut), (3, "{\"c\":3}"), (4, "{\"d\":4}")];
                assert_eq!(records[..4], found(&expected), "{text}");
                if tail.len() > 1 {
                    let rest = [(5, "{\n\"e\":5}"), (7, "{\"f\":6}")];
                    assert_eq!(records[4..], found(&rest), "{text}");
                }
            }
        }
    }

    #[test]
    fn elements_of_arrays_are_records() {
        let expected = [(1, "{\"a\":1}"), (1, "{\"b\":[2]}"), (2, "\"],\""), (2, "3")];
        assert_eq!(records("[{\"a\":1},{\"b\":[2]},\n\"],\" , 3]\n"), found(&expected));
        let pretty = "[\r\n  {\r\n    \"a\": 1\r\n  },\r\n  {}\r\n]\r\n\r\n[]\n[7]\n{\"c\":3}\n";
        let expected = [(2, "{\r\n    \"a\": 1\r\n  }"), (5, "{}"), (9, "7"), (10, "{\"c\":3}")];
        assert_eq!(records(pretty), found(&expected));
    }

    #[test]
    fn broken_arrays_are_named() {
        for (text, problem) in [
            ("[1", "<the file ends within an array; complete it>"),
            ("[1,", "<the file ends within an array; complete it>"),
            ("[1,]", "<a comma precedes the end of the array; remove it>"),
            ("[1 2]", "<a comma is missing before this element>"),
            ("[1] [2]", "<something follows the array; write one value a line>"),
            ("[1,{\"a\":\"x\n{\"b\":2}", "{\"a\":\"x\n"),
            ("[1,,2]", ",2]"),
        ] {
            let records = records(text);
            assert_eq!(records[0].1, "1", "{text}");
            assert_eq!(records[1].1, problem, "{text}");
        }
    }

    #[test]
    fn long_records_are_not_read_to_their_end() {
        for (text, line) in [
            (format!("\n{}", "a".repeat(200)), 2),
            (format!("[1,\n\"{}", "a".repeat(200)), 2),
            (format!("{{\n\"a\":\n{}", "1,\n".repeat(200)), 1),
        ] {
            let mut records = Records::new(Box::new(io::Cursor::new(text)), 100);
            let error = loop {
                match records.next() {
                    Ok(record) => assert!(record.is_some()),
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(error, Unreadable::LongLine { number } if number == line),
                "{error:?}"
            );
        }
    }

    #[test]
    fn hash_is_of_all_bytes() {
        let text = "{\"a\":\n{\"b\":1}\n[1,\n2]\n";
        let mut records = Records::new(Box::new(io::Cursor::new(text)), 100);
        while records.next().unwrap().is_some() {}
        let expected: String =
            Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(records.into_hash(), (expected, text.len() as u64));
    }
}
