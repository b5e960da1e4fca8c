//! Bugs of single kinds of reads, which the connection plants because it sees all requests of a process.

use memory_core::MemoryKey;
use memory_core::store::{Cursor, Outline, Page};

use super::Link;
use crate::bug::Bug;

tokio::task_local! {
    static READING: Reading;
}

/// The read for which a process asks the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A context window.
    Window,
    /// All messages.
    Messages,
}

impl Reading {
    /// Runs a read. The requests of this future belong to it.
    pub(crate) async fn run<T>(self, read: impl Future<Output = T>) -> T {
        READING.scope(self, read).await
    }

    /// The read that is running now.
    fn now() -> Option<Self> {
        READING.try_with(|reading| *reading).ok()
    }
}

impl Link {
    /// The answer to a reader with this cursor that does not ask the store, if that bug is planted. Either removed
    /// messages are noticed, so that only appended ones are missing, or nothing but that is hidden. It comes before the
    /// witness, so only the answers of agents can show the bug.
    pub(super) fn unasked(&self, key: &MemoryKey, after: Cursor) -> Option<Page> {
        let hides_restart = match (Reading::now()?, self.bug()?) {
            (Reading::Window, Bug::WindowUnasked) | (Reading::Messages, Bug::MessagesUnasked) => {
                false
            }
            (Reading::Window, Bug::WindowOfLostState)
            | (Reading::Messages, Bug::MessagesOfLostState) => true,
            _ => return None,
        };
        let page = self.server.read_after(key, after).ok()?;
        (page.restarted == hides_restart).then(|| Page::new(after))
    }

    /// The outline for a window as the planted bug falsifies it: without the messages that were appended between the
    /// last window of this process and the newest message.
    pub(super) fn between(&self, key: &MemoryKey, outline: &mut Outline) {
        let is_planted = self.bug() == Some(Bug::WindowLacksBetween);
        let Some(newest) = outline.metas.last().map(|meta| meta.sequence).filter(|_| is_planted)
        else {
            return;
        };
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if Reading::now() == Some(Reading::Window)
            && let Some(seen) = state.outlined.insert(key.clone(), newest)
        {
            outline.metas.retain(|meta| meta.sequence <= seen || meta.sequence == newest);
        }
    }
}
