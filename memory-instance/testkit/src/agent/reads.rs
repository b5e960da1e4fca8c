//! Reads of messages: complete ones, and parts.

use std::num::NonZeroUsize;

use memory_core::StoredMessage;

use super::Run;
use crate::history::{Answer, Backward, Call, Item, Position, item_of};
use crate::link::Reading;

impl Run<'_> {
    pub(super) async fn read(&self) {
        let op = self.recorder.call(self.key, Call::Read(None));
        let page = self.memory.page(None, None).await;
        self.told(page.as_ref().err());
        if let Ok(page) = page {
            let generation = Some(page.cursor.generation.number());
            self.recorder.answer(op, Answer::Page(items_of(&page.messages), generation));
        }
    }

    pub(super) async fn read_messages(&self) {
        let op = self.recorder.call(self.key, Call::Read(None));
        let messages = Reading::Messages.run(self.memory.messages()).await;
        self.told(messages.as_ref().err());
        if let Ok(messages) = messages {
            self.recorder.answer(op, Answer::Page(items_of(&messages), None));
        }
    }

    /// Reads the newest messages.
    pub(super) async fn last(&self, n: usize) {
        let op = self.recorder.call(self.key, Call::Before { position: None, limit: n });
        let messages = self.memory.last(n).await;
        self.told(messages.as_ref().err());
        if let Ok(messages) = messages {
            self.recorder.answer(op, Answer::Before(items_of(&messages), None));
        }
    }

    /// Reads two pages backward, from the last position or from the end.
    pub(super) async fn before(&mut self, limit: usize) {
        let Some(size) = NonZeroUsize::new(limit) else { return };
        for _ in 0..2 {
            let (cursor, position) = self.back.take().unzip();
            let op = self.recorder.call(self.key, Call::Before { position, limit });
            let page = self.memory.page_before(cursor, size).await;
            self.told(page.as_ref().err());
            let Ok(page) = page else { return };
            let places = items_of(&page.messages);
            let generation = page.cursor.generation.number();
            let oldest = places.first().filter(|_| page.more);
            self.back = oldest.map(|(place, item)| {
                (page.cursor, Position { generation, place: *place, item: *item })
            });
            let backward = Backward { generation, restarted: page.restarted, more: page.more };
            self.recorder.answer(op, Answer::Before(places, Some(backward)));
        }
    }

    /// Reads the messages since the last read and adds them to those known.
    pub(super) async fn delta(&mut self) {
        let op = self.recorder.call(self.key, Call::Read(None));
        let page = self.memory.page(self.cursor, None).await;
        self.told(page.as_ref().err());
        let Ok(page) = page else { return };
        if page.restarted || self.cursor.is_none() {
            self.view.clear();
        }
        self.view.extend(page.messages.iter().map(item_of));
        self.cursor = Some(page.cursor);
        let answer = Answer::Page(self.view.clone(), Some(page.cursor.generation.number()));
        self.recorder.answer(op, answer);
    }
}

pub(super) fn items_of(messages: &[StoredMessage]) -> Vec<(u64, Item)> {
    messages.iter().map(item_of).collect()
}
