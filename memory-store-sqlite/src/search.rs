//! Searches: the index is brought up to date, and then read in one snapshot with what is not in it.

mod find;
mod places;
mod unindexed;

use memory_core::MemoryKey;
use memory_core::sibling::SearchRanking;
use memory_core::store::{Indexing, SearchQuery, SearchResults, StoreError, StoreOperation};
use memory_sqlite_file::{SqliteErrorKind, classify};

use self::find::find;
use self::unindexed::{count_indexed, unindexed};
use crate::commands::{DropIndex, IndexRows, Indexed};
use crate::error::JobError;
use crate::readers::FileSnapshot;
use crate::store::SqliteStore;

const OPERATION: StoreOperation = StoreOperation::Search;

/// The most transactions in which one search adds to the index. The rest is scanned.
const MOST_PARTS: usize = 256;

/// The attempts to add to the index while the memory is changed.
const MOST_RETRIES: usize = 8;

impl SqliteStore {
    pub(crate) async fn search_index(
        &self,
        key: &MemoryKey,
        query: &SearchQuery,
    ) -> Result<SearchResults, StoreError> {
        SearchRanking::new(query)
            .map_err(|kind| StoreError::new(OPERATION, kind).not_applied().at(key))?;
        if query.indexing == Indexing::Allowed
            && let Err(error) = self.index_new(key, self.unindexed_limit()).await
        {
            // Such as a full disk, or a writer that holds the file: messages are scanned instead.
            tracing::debug!(%error, "the index for searches is not up to date");
        }
        let (name, query) = (key.clone(), query.clone());
        let found = self.readers().run(OPERATION, move |db| find(db, &name, &query)).await;
        found.map_err(|error| error.at(key))
    }

    /// Builds the index of a memory anew; returns the number of places in it.
    pub(crate) async fn build_index(&self, key: &MemoryKey) -> Result<u64, StoreError> {
        let dropped = self.readers().run(OPERATION, damaged_index).await;
        self.writer().submit(key, dropped.map_err(|error| error.at(key))?).await?;
        self.index_new(key, 0).await?;
        let name = key.clone();
        let count = move |db: &FileSnapshot<'_>| count_indexed(db, &name);
        self.readers().run(OPERATION, count).await.map_err(|error| error.at(key))
    }

    /// Adds what is not in the index, if these are more than so many places. Each part is a separate transaction, so
    /// that other writes wait for a part at most.
    async fn index_new(&self, key: &MemoryKey, limit: u64) -> Result<(), StoreError> {
        let mut retries = 0;
        for _ in 0..MOST_PARTS {
            let name = key.clone();
            let read = move |db: &FileSnapshot<'_>| unindexed(db, &name, limit);
            let part = self.readers().run(OPERATION, read).await.map_err(|error| error.at(key))?;
            let Some(part) = part else { return Ok(()) };
            if self.writer().submit(key, IndexRows(part)).await? == Indexed::Changed {
                retries += 1;
                if retries > MOST_RETRIES {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The index to drop before that of one memory is built: that of all memories if it is damaged. They share its pages, so the
/// check reads all of it, but no writer waits for that.
fn damaged_index(db: &FileSnapshot<'_>) -> Result<Option<DropIndex>, JobError> {
    if db.brief {
        return Ok(None);
    }
    let check = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    match db.connection.query_row("PRAGMA integrity_check(word)", (), check) {
        Ok(found) if found == "ok" => Ok(Some(DropIndex::OfMemory)),
        Err(error) if classify(&error) != SqliteErrorKind::Corrupt => Err(error.into()),
        Ok(_) | Err(_) => Ok(Some(DropIndex::OfAll)),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use memory_core::store::{
        Access, Append, MessageId, NewMessage, SearchQuery, Splice, WriterId,
    };
    use memory_core::{ContentType, MemoryStore as _, Message, Sequence};
    use uuid::Uuid;

    use super::*;
    use crate::config::SqliteConfig;

    fn message(text: &str) -> NewMessage {
        NewMessage {
            id: MessageId::new(Uuid::from_u128(text.len() as u128)),
            message: Message::user(text),
            tokens: 1,
            priority: None,
            content_type: ContentType::Conversation,
            created_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn words_of_an_earlier_generation_are_not_added() {
        let folder = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(folder.path().join("memory.db")).with_unindexed_limit(0);
        let store = SqliteStore::open(config).await.unwrap();
        let key = MemoryKey::new("tests", "search", "k").unwrap();
        let append = Append {
            write: WriterId::new(1).write(1),
            messages: [message("one"), message("three")].into(),
            ttl: None,
            expected: None,
        };
        store.append(&key, Access::OPEN, &append).await.unwrap();
        let name = key.clone();
        let read = move |db: &FileSnapshot<'_>| unindexed(db, &name, 0);
        let part = store.readers().run(OPERATION, read).await.unwrap().unwrap();
        assert_eq!(part.words.len(), 2);
        let outline = store.outline(&key).await.unwrap();
        let splice = Splice {
            summarized: vec![Sequence::new(1)],
            summary: Some(message("summary")),
            ..Splice::of(&outline)
        };
        store.splice(&key, Access::OPEN, &splice).await.unwrap();
        let done = store.writer().submit(&key, IndexRows(part)).await.unwrap();
        assert_eq!(done, Indexed::Changed);
        for (word, matches) in [("summary", 1), ("three", 1), ("one", 0)] {
            let query = SearchQuery::new(word).with_limit(NonZeroUsize::MIN);
            assert_eq!(store.search(&key, &query).await.unwrap().matches, matches, "{word}");
        }
    }
}
