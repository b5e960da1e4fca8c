//! Splits a text into the pieces within which byte-pair tokenizers merge.

use super::blocks::{Block, Kind, small};

/// Receives the pieces of a text.
pub(super) trait Sink {
    /// The piece has this feature.
    fn add(&mut self, feature: usize);
    /// The piece ends.
    fn end(&mut self);
    /// Pieces of a known number of tokens, in units.
    fn known(&mut self, units: usize);
}

/// Units in a token.
pub(super) const UNIT: usize = 32;

// The first index of each kind of feature.
/// Three consecutive Latin letters; the letter before the word has code [`AFTER_SPACE`] or one of the two codes after
/// it.
const LATIN: usize = 0;
/// Two consecutive characters of which the last is not ASCII, hashed.
const PAIRS: usize = LATIN + (1 << 15);
const PAIR_BITS: u32 = 13;
/// Three consecutive characters, hashed.
const TRIPLES: usize = PAIRS + (1 << PAIR_BITS);
const TRIPLE_BITS: u32 = 14;
/// Two consecutive ASCII signs.
const SIGNS: usize = TRIPLES + (1 << TRIPLE_BITS);
/// The first sign of several, without and with a space before it.
const FIRST_SIGNS: usize = SIGNS + (1 << 10);
/// A sign at the beginning of a word.
const PREFIXES: usize = FIRST_SIGNS + 64;
/// A character of a block, and a word that begins in it.
const BLOCKS: usize = PREFIXES + 32;
const BLOCK_STARTS: usize = BLOCKS + 64;
/// A capital at the beginning of a word, a further one, and both outside of ASCII.
const CAPITAL: usize = BLOCK_STARTS + 64;
/// A line break behind signs.
const BREAK: usize = CAPITAL + 4;
/// The number of features.
pub(super) const FEATURES: usize = BREAK + 4;

/// The character before a word.
const AFTER_SPACE: u32 = 27;
const AFTER_OTHER: u32 = 28;
const AFTER_SIGN: u32 = 29;

pub(super) fn walk(text: &str, sink: &mut impl Sink) {
    let mut walk = Walk { text, bytes: text.as_bytes(), at: 0, sink };
    while let Some(&byte) = walk.bytes.get(walk.at) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => walk.word(AFTER_OTHER),
            b'0'..=b'9' => walk.digits(),
            b' ' | b'\t'..=b'\r' => walk.spaces(),
            0x80.. => walk.other(),
            _ => walk.signs(0),
        }
    }
}

struct Walk<'t, S> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    sink: &'t mut S,
}

impl<S: Sink> Walk<'_, S> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn character(&self, at: usize) -> Option<char> {
        self.text.get(at..)?.chars().next()
    }

    /// Whether there is a letter at this index.
    fn is_letter(&self, at: usize) -> bool {
        match self.bytes.get(at) {
            Some(byte) if byte.is_ascii() => byte.is_ascii_alphabetic(),
            Some(_) => self.character(at).is_some_and(|it| Block::of(it).kind != Kind::Signs),
            None => false,
        }
    }

    fn end_of(&self, from: usize, is_part: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(from..).unwrap_or_default();
        from + rest.iter().position(|byte| !is_part(*byte)).unwrap_or(rest.len())
    }

    /// Three digits are one token.
    fn digits(&mut self) {
        let end = self.end_of(self.at, |byte| byte.is_ascii_digit());
        self.sink.known((end - self.at).div_ceil(3) * UNIT);
        self.at = end;
    }

    /// White space: one piece up to its last line break, another for the rest except its last character.
    fn spaces(&mut self) {
        // A single space before a word is the most frequent white space.
        if self.peek(0) == Some(b' ') && self.peek(1).is_some_and(|it| it.is_ascii_alphabetic()) {
            self.at += 1;
            return self.word(AFTER_SPACE);
        }
        let start = self.at;
        let end = self.end_of(start, |byte| matches!(byte, b' ' | b'\t'..=b'\r'));
        let run = self.bytes.get(start..end).unwrap_or_default();
        let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let breaks = run.iter().rposition(is_break).map_or(0, |last| last + 1);
        if breaks > 0 {
            // Long runs of line breaks are 16 to a token, of spaces 128.
            let count = run.iter().filter(|byte| is_break(byte)).count();
            self.sink.known(UNIT + (count - 1) * UNIT / 16 + (breaks - count) * UNIT / 128);
        }
        self.at = end;
        let Some(before) = (end - start - breaks).checked_sub(1) else { return };
        let last = run.last().copied().unwrap_or_default();
        let next = self.bytes.get(end).copied();
        let joins = match next {
            Some(_) if self.is_letter(end) => true,
            Some(b'0'..=b'9') | None => false,
            Some(_) => last == b' ',
        };
        if before > 0 {
            self.sink.known(UNIT + (before - 1) * UNIT / 128);
        }
        match next {
            None if before > 0 => {}
            _ if !joins => self.sink.known(UNIT),
            Some(byte) if byte.is_ascii_alphabetic() => {
                if last == b'\t' {
                    self.sink.add(PREFIXES + 31);
                }
                self.word(AFTER_SPACE);
            }
            Some(byte) if byte.is_ascii() => self.signs(32),
            _ if self.is_letter(end) => self.word(AFTER_SPACE),
            _ => self.signs(32),
        }
    }

    /// A character that is not ASCII begins a piece.
    fn other(&mut self) {
        if self.is_letter(self.at) { self.word(AFTER_OTHER) } else { self.signs(0) }
    }

    /// Signs; one before a letter is part of its word. `space` is 32 after a space, else 0.
    fn signs(&mut self, space: usize) {
        let mut previous = None;
        let start = self.at;
        while let Some(byte) = self.peek(0) {
            if byte.is_ascii() {
                if byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'\t'..=b'\r') {
                    break;
                }
                let sign = sign(byte);
                if space == 0 && self.at == start && self.is_letter(start + 1) {
                    self.sink.add(PREFIXES + sign);
                    self.at += 1;
                    return self.word(AFTER_SIGN);
                }
                self.sink.add(match previous {
                    None => FIRST_SIGNS + space + sign,
                    Some(before) => SIGNS + (before << 5 | sign),
                });
                previous = Some(sign);
                self.at += 1;
                continue;
            }
            let Some(character) = self.character(self.at) else { break };
            let block = Block::of(character);
            if block.kind != Kind::Signs {
                break;
            }
            self.sink.add(BLOCKS + block.number);
            let code = u32::from(character);
            let before = previous.unwrap_or(space) as u32;
            self.sink.add(PAIRS + hash(0, code, PAIR_BITS));
            self.sink.add(TRIPLES + hash(before, code, TRIPLE_BITS));
            let is_first = self.at == start;
            self.at += character.len_utf8();
            if is_first {
                self.sink.add(BLOCK_STARTS + block.number);
                if space == 0 && self.is_letter(self.at) {
                    return self.word(AFTER_SIGN);
                }
            }
            previous = Some(31);
        }
        if matches!(self.peek(0), Some(b'\n' | b'\r')) {
            let end = self.end_of(self.at, |byte| matches!(byte, b'\n' | b'\r'));
            let count = end - self.at;
            self.sink.add(BREAK);
            self.sink.end();
            self.sink.known((count - 1) * UNIT / 16);
            self.at = end;
        } else {
            self.sink.end();
        }
    }

    /// A word, from its first letter on. A capital behind a small letter begins another.
    fn word(&mut self, before: u32) {
        let mut latin = before as usize;
        let mut wide = before;
        let (mut is_small, mut capitals, mut is_first) = (false, 0, true);
        // Local copies, because most of the time is spent in this loop.
        let (bytes, mut at) = (self.bytes, self.at);
        while let Some(&byte) = bytes.get(at) {
            let letter = (byte | 0x20).wrapping_sub(b'a');
            if letter < 26 {
                if byte & 0x20 == 0 {
                    if is_small {
                        break;
                    }
                    self.sink.add(CAPITAL + (capitals > 0) as usize);
                    capitals += 1;
                } else {
                    is_small = true;
                }
                latin = (latin << 5 | (letter as usize + 1)) & 0x7fff;
                wide = wide << 16 | (u32::from(letter) + 1);
                self.sink.add(LATIN + latin);
                at += 1;
            } else if byte.is_ascii() {
                break;
            } else {
                let Some(character) = self.character(at) else { break };
                let block = Block::of(character);
                let code = match block.kind {
                    Kind::Signs => break,
                    Kind::Letters => small(u32::from(character)),
                    Kind::Syllables => u32::from(character),
                };
                if code != u32::from(character) {
                    if is_small {
                        break;
                    }
                    self.sink.add(CAPITAL + 2 + (capitals > 0) as usize);
                    capitals += 1;
                } else {
                    is_small = true;
                }
                self.sink.add(BLOCKS + block.number);
                if is_first {
                    self.sink.add(BLOCK_STARTS + block.number);
                }
                let (two, three) = match block.kind {
                    Kind::Syllables => (0, wide & 0xffff),
                    _ => (wide & 0xffff, wide),
                };
                self.sink.add(PAIRS + hash(two, code, PAIR_BITS));
                self.sink.add(TRIPLES + hash(three, code, TRIPLE_BITS));
                latin = (latin << 5 | (30 | code as usize & 1)) & 0x7fff;
                wide = wide << 16 | code & 0xffff;
                at += character.len_utf8();
            }
            is_first = false;
        }
        self.at = at;
        self.sink.add(LATIN + (latin << 5 & 0x7fff));
        self.sink.end();
    }
}

/// The index of this ASCII sign among the 32; control characters count as the last.
const fn sign(byte: u8) -> usize {
    (match byte {
        b'!'..=b'/' => byte - b'!',
        b':'..=b'@' => byte - b':' + 15,
        b'['..=b'`' => byte - b'[' + 22,
        b'{'..=b'~' => byte - b'{' + 28,
        _ => 31,
    }) as usize
}

const fn hash(before: u32, code: u32, bits: u32) -> usize {
    let mixed = before.wrapping_mul(0x9e37_79b1) ^ code.wrapping_mul(0x85eb_ca6b);
    let mixed = (mixed ^ mixed >> 15).wrapping_mul(0xc2b2_ae35);
    (mixed >> (32 - bits)) as usize
}
