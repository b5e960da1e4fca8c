use uuid::Uuid;

use super::*;
use crate::message::Message;
use crate::priority::ContentType;
use crate::receipt::SequenceSet;
use crate::stored::{MessageId, NewMessage};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn append(number: u64) -> Append {
    let message = NewMessage {
        id: MessageId::new(Uuid::nil()),
        message: Message::user("hi"),
        tokens: 4,
        priority: None,
        content_type: ContentType::Conversation,
        created_at: NOW,
    };
    let ttl = Some(Duration::from_secs(60));
    Append {
        write: WriterId::new(1).write(number),
        messages: [message].into(),
        ttl,
        expected: None,
    }
}

fn flush(memory: &MemoryState) -> Splice {
    let receipt = FlushReceipt {
        id: Uuid::from_u128(7),
        strategy: "fifo".into(),
        started_at: NOW,
        duration: Duration::ZERO,
        tokens_before: 4,
        tokens_after: 0,
        messages_before: 1,
        messages_after: 0,
        evicted: SequenceSet::default(),
        withdrawn: SequenceSet::default(),
        summarized: SequenceSet::default(),
        replaced: Vec::new(),
        named: Vec::new(),
        summary: None,
        shortfall: None,
        dry_run: false,
    };
    let generation = memory.head(NOW).generation;
    Splice { evicted: vec![Sequence::new(1)], receipt: Some(receipt), ..Splice::new(generation) }
}

#[test]
fn version_counts_each_write_once() {
    let mut memory = MemoryState::default();
    let versions = |memory: &MemoryState| memory.head(NOW).version;
    memory.append(Access::OPEN, &append(1), NOW).unwrap();
    memory.append(Access::OPEN, &append(1), NOW).unwrap();
    assert_eq!(versions(&memory), 1);
    let splice = flush(&memory);
    memory.splice(Access::OPEN, &splice.clone(), NOW).unwrap();
    memory.splice(Access::OPEN, &splice, NOW).unwrap();
    assert_eq!(versions(&memory), 2);
    let token = FencingToken::new(5);
    memory.claim(LeaseProof { owner: crate::lease::OwnerId::new(1), token }, NOW).unwrap();
    assert_eq!(versions(&memory), 3);
    let clear = Clear::new(WriterId::new(1).write(2));
    memory.clear(Access::OPEN, &clear, NOW).unwrap();
    assert_eq!(versions(&memory), 4);
}

#[test]
fn retry_is_recognized_until_expiry() {
    let mut memory = MemoryState::default();
    let write = append(3).write;
    assert!(!memory.recognizes(write, NOW));
    memory.append(Access::OPEN, &append(3), NOW).unwrap();
    let splice = flush(&memory);
    assert!(memory.recognizes(write, NOW));
    assert!(!memory.recognizes(WriterId::new(1).write(4), NOW));
    assert!(!memory.recognizes_splice(&splice, NOW));
    memory.splice(Access::OPEN, &splice.clone(), NOW).unwrap();
    assert!(memory.recognizes_splice(&splice, NOW));
    let over = NOW.checked_add(Duration::from_secs(60)).unwrap();
    assert!(!memory.recognizes(write, over));
    assert!(!memory.recognizes_splice(&splice, over));
}

#[test]
fn fetch_requires_an_existing_snapshot() {
    let mut memory = MemoryState::default();
    let conflict = Err(StoreErrorKind::Conflict);
    assert_eq!(memory.fetch(Generation::NONE.into(), &[], NOW), conflict);
    memory.append(Access::OPEN, &append(1), NOW).unwrap();
    let snapshot = memory.outline(NOW).cursor();
    let places = [Sequence::new(1)];
    assert_eq!(memory.fetch(snapshot, &places, NOW).unwrap().len(), 1);
    assert_eq!(memory.fetch(Generation::NONE.into(), &places, NOW), conflict);
    let over = NOW.checked_add(Duration::from_secs(60)).unwrap();
    assert_eq!(memory.fetch(snapshot, &places, over), conflict);
}

/// A memory that starts over, here or in another store, must not reuse a generation.
#[test]
fn generation_is_not_behind_the_clock() {
    let late = Timestamp::from_second(1_800_000_000).unwrap();
    let mut memory = MemoryState::default();
    memory.append(Access::OPEN, &append(1), late).unwrap();
    let micros = u64::try_from(late.as_microsecond()).unwrap();
    assert!(memory.head(late).generation.number() >= micros);
}
