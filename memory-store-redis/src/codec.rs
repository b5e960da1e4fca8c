//! The encoding of messages, counters and heads.

use std::fmt;

use jiff::Timestamp;
use memory_core::lease::FencingToken;
use memory_core::plan::{Class, ToolLink};
use memory_core::store::{
    Cursor, Generation, Head, MessageId, MessageMeta, NewMessage, StoreErrorKind, Tally,
};
use memory_core::{Message, Sequence, StoredMessage};
use rmp::decode;
use uuid::Uuid;
use uuid::fmt::Simple;

/// A 64-bit number in the form that scripts compare.
pub(crate) fn digits(number: u64) -> String {
    format!("{number:020}")
}

/// A message as readers see it: its stored form, described in `scripts/memory.lua`.
#[derive(Debug)]
pub(crate) struct Encoded<'a> {
    new: &'a NewMessage,
    flags: u8,
    body: String,
}

const CLOSED: u8 = 1;
const SUMMARY: u8 = 2;

impl<'a> Encoded<'a> {
    /// Refuses a message that could not be read back, such as one whose role is empty. The batch is the last
    /// place where the writer can still receive an error.
    pub(crate) fn new(new: &'a NewMessage) -> Result<Self, StoreErrorKind> {
        let body = new.message.to_json().map_err(|reason| {
            StoreErrorKind::Invalid(format!("a message of the batch is malformed: {reason}"))
        })?;
        Ok(Self { new, flags: 0, body })
    }

    /// The form of a summary; otherwise as [`new`](Self::new).
    pub(crate) fn summary(new: &'a NewMessage) -> Result<Self, StoreErrorKind> {
        Ok(Self { flags: SUMMARY, ..Self::new(new)? })
    }
}

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { new, flags, body } = self;
        let (id, created) = (new.id.uuid(), new.created_at.as_microsecond());
        let (class, mut buffer) = (new.class().to_string(), [0; Simple::LENGTH]);
        let id = id.simple().encode_lower(&mut buffer);
        let link = new.message.tool_link().encode().unwrap_or_default();
        let (tokens, length) = (new.tokens, class.len());
        let description = format!("{flags} {tokens} {id} {created} {length} {class}{link}");
        write!(f, "{} {description}", description.len())?;
        f.write_str(body)
    }
}

/// The stored form of a message without its text.
pub(crate) fn described_text(meta: &MessageMeta) -> String {
    let (id, created) = (meta.id.uuid().simple(), meta.created_at.as_microsecond());
    let flags = u8::from(meta.closed) * CLOSED + u8::from(meta.summary) * SUMMARY;
    let (class, tokens) = (meta.class().to_string(), meta.tokens);
    let (link, length) = (meta.link.encode().unwrap_or_default(), class.len());
    let description = format!("{flags} {tokens} {id} {created} {length} {class}{link}");
    format!("{} {description}", description.len())
}

/// The stored form without the text, and the text.
pub(crate) fn described(sequence: Sequence, text: &str) -> Result<(MessageMeta, &str), String> {
    meta(sequence, text).ok_or_else(|| "its description has an unknown form".to_owned())
}

fn meta(sequence: Sequence, text: &str) -> Option<(MessageMeta, &str)> {
    let (length, rest) = text.split_once(' ')?;
    let (description, body) = rest.split_at_checked(length.parse().ok()?)?;
    let mut parts = description.splitn(6, ' ');
    let flags: u8 = parts.next()?.parse().ok()?;
    let tokens = parts.next()?.parse().ok()?;
    let id = MessageId::new(Uuid::try_parse(parts.next()?).ok()?);
    let created_at = Timestamp::from_microsecond(parts.next()?.parse().ok()?).ok()?;
    let length = parts.next()?.parse().ok()?;
    let (class, link) = parts.next()?.split_at_checked(length)?;
    let Class { priority, content_type } = class.parse().ok()?;
    let link = match link {
        "" => ToolLink::default(),
        link => ToolLink::decode(link)?,
    };
    let mut meta = MessageMeta::new(sequence, id, content_type, created_at);
    meta.tokens = tokens;
    meta.priority = priority;
    meta.link = link;
    meta.closed = flags & CLOSED != 0;
    meta.summary = flags & SUMMARY != 0;
    Some((meta, body))
}

/// The id of a message in its stored form. It distinguishes the message from others at its place even if the
/// rest cannot be decoded.
///
/// `None` wherever the pattern in `is_there` of `memory.lua` finds none, or a text that [`optional_id`] does
/// not write: a reader that named an id which the script does not find would restart forever.
pub(crate) fn id(text: &str) -> Option<MessageId> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = text.split(' ');
    let (length, flags, tokens, id) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    parts.next()?;
    let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_whole = digits(length) && digits(flags) && flags.len() == 1 && digits(tokens);
    if !is_whole || id.len() != 32 || !id.bytes().all(lower_hex) {
        return None;
    }
    Uuid::try_parse(id).ok().map(MessageId::new)
}

/// An id as scripts compare it: as it is stored, or empty.
pub(crate) fn optional_id(id: Option<MessageId>) -> String {
    id.map(|id| id.uuid().simple().to_string()).unwrap_or_default()
}

/// A snapshot as scripts compare it.
pub(crate) fn snapshot(Cursor { generation, sequence, id }: Cursor) -> String {
    format!("{} {sequence} {}", generation.number(), optional_id(id))
}

/// Decodes a message from its stored form. The reason of a failure quotes none of the content.
pub(crate) fn stored(sequence: Sequence, text: &str) -> Result<StoredMessage, String> {
    let (meta, body) = described(sequence, text)?;
    let message = Message::from_stored_json(body).map_err(|error| error.to_string())?;
    Ok(StoredMessage::new(meta, message))
}

/// Decodes the head from its packed form: the fields that `unpacked` in `scripts/memory.lua` lists; `None`
/// for anything else.
pub(crate) fn head(packed: &[u8]) -> Option<Head> {
    head_and_base(packed).map(|(head, _)| head)
}

/// The head, and the place up to which the index lists the messages that are there.
pub(crate) fn head_and_base(packed: &[u8]) -> Option<(Head, u64)> {
    let mut rest = packed;
    let parts = decode::read_array_len(&mut rest).ok()?;
    let form: u32 = decode::read_int(&mut rest).ok()?;
    if !(OLDEST_FORM..=FORM).contains(&form) || parts < 9 {
        return None;
    }
    let last = Sequence::new(decode::read_int(&mut rest).ok()?);
    let version = decode::read_int(&mut rest).ok()?;
    let present = Tally {
        messages: decode::read_int(&mut rest).ok()?,
        tokens: decode::read_int(&mut rest).ok()?,
    };
    let appended = decode::read_int(&mut rest).ok()?;
    let expires_at = match text(&mut rest)? {
        "" => None,
        micros => Some(Timestamp::from_microsecond(micros.parse().ok()?).ok()?),
    };
    let fence = FencingToken::new(text(&mut rest)?.parse().ok()?);
    let mut seldom = text(&mut rest)?.split(' ');
    let mut next = || seldom.next()?.parse().ok();
    let generation = Generation::new(next()?);
    let base = Sequence::new(next()?);
    let flush_fence = FencingToken::new(next()?);
    let next_flush_at = match seldom.next()? {
        "" => None,
        mark => Some(mark.parse().ok()?),
    };
    let mut next = || seldom.next()?.parse().ok();
    let mut head = Head::default();
    let counters = &mut head.counters;
    (counters.present, counters.appended) = (present, appended);
    (counters.summaries, counters.summarized) = (next()?, next()?);
    (counters.evicted, counters.cleared) = (next()?, next()?);
    // The number and the id of receipts are for the scripts.
    counters.withdrawn = seldom.nth(2).map_or(Some(0), |count| count.parse().ok())?;
    for _ in 0..(parts - 9) / 3 {
        let class = text(&mut rest)?.parse().ok()?;
        let tally = Tally {
            messages: decode::read_int(&mut rest).ok()?,
            tokens: decode::read_int(&mut rest).ok()?,
        };
        counters.classes.insert(class, tally);
    }
    (head.generation, head.version, head.last) = (generation, version, last);
    (head.fence, head.flush_fence) = (fence, flush_fence);
    (head.next_flush_at, head.expires_at) = (next_flush_at, expires_at);
    Some((head, base.number()))
}

/// The format of a head, whether this version can read it or not.
pub(crate) fn form(packed: &[u8]) -> Option<u32> {
    let mut rest = packed;
    decode::read_array_len(&mut rest).ok()?;
    decode::read_int(&mut rest).ok()
}

/// The newest head format that this version reads and writes; the scripts use the same.
pub(crate) const FORM: u32 = 3;

/// The head format of a copy that is not complete, which nothing but the copy script reads.
pub(crate) const UNFINISHED: u32 = 255;

/// The oldest head format that this version reads. The scripts raise it to the newest as soon as a memory holds what
/// this format cannot say.
pub(crate) const OLDEST_FORM: u32 = 2;

/// Reads a text of a packed array. The code is manual because the library requires a buffer to copy into.
pub(crate) fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = decode::read_str_len(rest).ok()?;
    let (text, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use memory_core::plan::ToolRef;
    use memory_core::{ContentType, Priority};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn id_is_read_only_where_scripts_find_it() {
        let written = "42e351307aa1834bfaf15f7aa258ad7f";
        let of = |text: &str| id(text).map(|id| optional_id(Some(id)));
        assert_eq!(of(&format!("12 0 5 {written} 7 1 c")).as_deref(), Some(written));
        for damaged in [
            format!("12 0 5 {written}"),
            format!("12 0 5 {} 7", written.to_uppercase()),
            format!("12 0 5 {{{written}}} 7"),
            format!("x2 0 5 {written} 7"),
            format!("12 10 5 {written} 7"),
            format!("12 0  {written} 7"),
            format!("12 0 5 {} 7", written.trim_start_matches('4')),
            String::new(),
        ] {
            assert_eq!(of(&damaged), None, "{damaged}");
        }
    }

    proptest! {
        #[test]
        fn message_reads_back(
            name in "\\PC{1,12}",
            priority in any::<Option<u8>>(),
            tokens in any::<u32>(),
            ids in prop::collection::vec("\\PC{1,6}", 1..4),
            form in 0..3,
            summary in any::<bool>(),
        ) {
            let message = match form {
                0 => Message::user("a text"),
                1 => Message::calls(ids.iter().map(|id| memory_core::dialect::ToolCall::function(id, "f", "{}"))),
                _ => Message::tool_result(ids.concat(), "r"),
            };
            let new = NewMessage {
                id: MessageId::new(Uuid::from_u128(u128::from(tokens) << 40)),
                message,
                tokens,
                priority: priority.map(Priority::new),
                content_type: ContentType::from(&*name),
                created_at: Timestamp::from_microsecond(-5).unwrap(),
            };
            let encoded = if summary { Encoded::summary(&new) } else { Encoded::new(&new) };
            let encoded = encoded.unwrap();
            let place = Sequence::new(7);
            let read = stored(place, &encoded.to_string()).unwrap();
            let mut expected = new.stored_at(place);
            expected.meta.summary = summary;
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn foreign_values_are_refused_without_panic(text in "\\PC{0,40}") {
            let _ = meta(Sequence::new(1), &text);
            let _ = stored(Sequence::new(1), &text);
        }
    }

    /// The format of the previous version, with the ids of calls in an array and of a result as a string.
    #[test]
    fn messages_of_the_version_before_are_read() {
        let id = "000000000000000000000000000000ff";
        let old = |link: &str, body: &str| {
            let description = format!("0 9 {id} 1700000000000000 14 -/conversation{link}");
            format!("{} {description}{body}", description.len())
        };
        let call = r#"{"content":null,"role":"assistant","tool_calls":[{"function":{"arguments":"{}","name":"f"},"id":"a","type":"function"},{"function":{"arguments":"{}","name":"g"},"id":"b","type":"function"}]}"#;
        for (link, body, expected) in [
            ("", r#"{"content":"hi","role":"user"}"#, ToolLink::default()),
            (r#"["a","b"]"#, call, ToolLink::of_calls(["a", "b"].map(ToolRef::by_id))),
            (
                r#""a""#,
                r#"{"content":"r","role":"tool","tool_call_id":"a"}"#,
                ToolLink::of_results([ToolRef::by_id("a")]),
            ),
            ("", r#"{"role":"narrator","scene":"nothing to read"}"#, ToolLink::default()),
        ] {
            let read = stored(Sequence::new(3), &old(link, body)).unwrap();
            assert_eq!(read.meta.link, expected);
            assert_eq!(read.message, Message::from_stored_json(body).unwrap());
        }
    }

    #[test]
    fn digits_sort_like_numbers() {
        assert!(digits(9) < digits(10) && digits(u64::MAX - 1) < digits(u64::MAX));
    }
}
