//! Helpers for the tests in this folder.

use memory_core::conformance::assert_counters;
use memory_core::store::{
    Access, Append, Appended, MessageId, NewMessage, Outline, Read, StoreError, WriteId, WriterId,
};
use memory_core::{ContentType, MemoryKey, MemoryStore, Message};
use uuid::Uuid;

pub(crate) fn key(name: &str) -> MemoryKey {
    MemoryKey::new("tests", "sqlite", name).unwrap()
}

pub(crate) fn write(writer: u128, number: u64) -> WriteId {
    WriterId::new(writer).write(number)
}

pub(crate) fn message(text: &str) -> NewMessage {
    NewMessage {
        id: MessageId::new(Uuid::from_u128(text.len() as u128)),
        message: Message::user(text),
        tokens: u32::try_from(text.len()).unwrap(),
        priority: None,
        content_type: ContentType::Conversation,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn batch<T: AsRef<str>>(write: WriteId, texts: &[T]) -> Append {
    let messages = texts.iter().map(|text| message(text.as_ref())).collect();
    Append { write, messages, ttl: None, expected: None }
}

pub(crate) async fn append(
    store: &dyn MemoryStore,
    key: &MemoryKey,
    write: WriteId,
    texts: &[&str],
) -> Result<Appended, StoreError> {
    store.append(key, Access::OPEN, &batch(write, texts)).await
}

pub(crate) async fn texts(store: &dyn MemoryStore, key: &MemoryKey) -> Vec<String> {
    let page = store.read(key, Read::default()).await.unwrap();
    assert!(!page.more);
    page.messages.iter().map(|message| message.message.text().into_owned()).collect()
}

pub(crate) async fn checked_outline(store: &dyn MemoryStore, key: &MemoryKey) -> Outline {
    let outline = store.outline(key).await.unwrap();
    assert_counters(&outline);
    assert_eq!(store.head(key).await.unwrap(), outline.head);
    outline
}
