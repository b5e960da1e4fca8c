//! The past: nothing is destroyed unless a user asks for it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use memory_core::resource::ArchiveSettings;
use memory_core::{MemoryResource, Message};
use memory_instance::{FlushMode, MemoryManager, SearchQuery, SearchScope};

use super::Stage;
use crate::args::DEFAULT_TOKENIZER;
use crate::out::count;

/// The messages of a separate conversation.
const MESSAGES: u64 = 90;

/// The message that is searched.
const WANTED: u64 = 7;

/// The least number of messages that the summary replaces.
const REPLACED: u64 = 40;

/// A small budget with an archive.
fn resource() -> MemoryResource {
    let mut resource = MemoryResource::new("past", 1_400);
    resource.tokenizer = DEFAULT_TOKENIZER;
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    resource.flushing_strategy.kind = Some("hybrid_summary".into());
    resource
}

impl Stage<'_> {
    /// A summary replaces messages; the original wording is found, returns, and one message is erased.
    pub(super) async fn look_back(&mut self) -> anyhow::Result<()> {
        self.title("A summary replaces messages, and the originals are in the archive")?;
        let manager = MemoryManager::builder()
            .with_project("demo")
            .with_resource(resource())
            .with_flush_mode(FlushMode::Manual)
            .open(&self.url)
            .await?;
        let memory = manager.memory("past", &format!("case-4712{}", self.run))?;
        let message = |number| {
            let text = format!(
                "Voucher {number} of the customer is for the ferry at nine, deck {number}."
            );
            Message::user(text)
        };
        memory.append_all((1..=MESSAGES).map(message)).await?;
        let receipt = memory.perform_flush().await?.context("nothing was flushed")?;
        let replaced = receipt.summarized.len();
        ensure!(receipt.summary.is_some() && replaced >= REPLACED, "the summary is too short");

        let query = SearchQuery::new(format!("\"voucher {WANTED} of\" ferry"));
        let archived = query.clone().with_scope(SearchScope::Archived);
        let found = memory.search(&archived).await?;
        let hit = found.hits.first().context("the original was not found")?;
        let (place, text) = (hit.sequence, hit.snippet.text.clone());
        self.say(format_args!(
            "A summary replaced {}. A search finds the original of #{place}:\n  {text}",
            count(replaced, "message", "messages")
        ))?;

        memory.undo_flush(receipt.id).await?;
        ensure!(memory.len().await? == MESSAGES, "an original is missing");
        memory.erase([place], "shown in a demonstration").await?;
        let left = memory.search(&query).await?.matches;
        ensure!(left == 0, "an erased message was found");
        let counters = memory.counters().await?;
        ensure!(counters.is_conserved(), "the counters of the past do not add up");
        manager.shutdown(crate::EXIT_GRACE).await;
        self.say(format_args!(
            "The flush was undone: all {MESSAGES} are back. Then #{place} was erased on request, and is found\n\
             nowhere: appended {} = present {} + withdrawn {}.",
            counters.appended, counters.present.messages, counters.withdrawn
        ))
    }
}
