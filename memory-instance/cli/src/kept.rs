//! Whether the archive kept the messages that a command removed.

use std::fmt;
use std::num::NonZeroUsize;

use memory_core::store::{ArchivedRemoval, RemovalCause};
use memory_instance::{ClearReceipt, MemoryInstance};
use serde::Serialize;

use crate::out::count;

/// The record of a clear in words.
pub(crate) fn cleared(receipt: Option<ClearReceipt>) -> String {
    let Some(ClearReceipt { messages, tokens, removal, .. }) = receipt else {
        return "messages cleared by an earlier request, whose answer was lost; see memory archive"
            .to_owned();
    };
    let cleared = count(messages, "message cleared", "messages cleared");
    match removal {
        Some(number) => format!("{cleared} ({tokens} tokens), kept in the archive as {number}"),
        None if messages == 0 => cleared,
        None => format!("{cleared} ({tokens} tokens), not kept in the archive"),
    }
}

/// The archive of a memory before a command.
#[derive(Debug)]
pub(crate) struct ArchiveBefore<'m> {
    memory: &'m MemoryInstance,
    newest: Option<u64>,
}

/// The outcome for removed messages; in JSON true, false, or null if none were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "Option<bool>")]
pub(crate) enum Kept {
    NoneRemoved,
    InArchive,
    Nowhere,
}

/// The JSON of a command, with the outcome for the removed messages.
#[derive(Debug, Serialize)]
pub(crate) struct WithKept<'a, T> {
    #[serde(flatten)]
    pub(crate) value: &'a T,
    pub(crate) kept_in_archive: Kept,
}

impl<'m> ArchiveBefore<'m> {
    pub(crate) async fn of(memory: &'m MemoryInstance) -> anyhow::Result<Self> {
        Ok(Self { memory, newest: newest(memory).await?.map(|one| one.number) })
    }

    /// Whether the archive kept the messages that the command took back, this many of them.
    pub(crate) async fn kept(&self, withdrawn: u64) -> anyhow::Result<Kept> {
        if withdrawn == 0 {
            return Ok(Kept::NoneRemoved);
        }
        let added = newest(self.memory).await?.filter(|one| Some(one.number) > self.newest);
        Ok(match added {
            Some(one) if one.cause == RemovalCause::Withdrawal => Kept::InArchive,
            _ => Kept::Nowhere,
        })
    }
}

async fn newest(memory: &MemoryInstance) -> anyhow::Result<Option<ArchivedRemoval>> {
    Ok(memory.removals(None, NonZeroUsize::MIN).await?.into_iter().next())
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoneRemoved => "",
            Self::InArchive => ", kept in the archive",
            Self::Nowhere => ", not kept in the archive",
        })
    }
}

impl From<Kept> for Option<bool> {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::NoneRemoved => None,
            Kept::InArchive => Some(true),
            Kept::Nowhere => Some(false),
        }
    }
}
