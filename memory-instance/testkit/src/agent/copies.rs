//! Forks, copies and backups of the first memory to the key of the second. The connection records their requests.

use memory_core::Sequence;
use memory_instance::ForkOptions;
use memory_instance::backup::{BackupReader, RestoredTtl};
use uuid::Uuid;

use super::{Run, Tags};
use crate::history::{Answer, Call};
use crate::link::restoring;

/// How often an agent begins a backup.
const ATTEMPTS: usize = 4;

impl Run<'_> {
    /// Forks at the place before this number of newer messages.
    pub(super) async fn fork(&self, newer: usize) {
        let other = self.process.memory(self.key + 1);
        let at = if newer == 0 {
            None
        } else {
            let Some((_, items)) = self.read_version().await else { return };
            let at = items.iter().rev().nth(newer);
            let Some((place, _)) = at else { return };
            Some(*place)
        };
        let options = fork_options(self.tags);
        let options = at.map_or(options, |at| options.with_end(Sequence::new(at)));
        let op = self.recorder.call(self.key + 1, Call::Copied);
        let done = self.memory.fork(&other, options).await;
        self.copied(op, &done);
    }

    /// Writes a backup, and restores it as the other memory.
    pub(super) async fn back_up(&self) {
        let mut file = Vec::new();
        for attempt in (0..ATTEMPTS).rev() {
            file.clear();
            let done = self.memory.backup(&mut file).await;
            self.told(done.as_ref().err());
            match done {
                Ok(_) => break,
                Err(_) if attempt == 0 => return,
                // The memory was changed meanwhile.
                Err(_) => {}
            }
        }
        let backup = BackupReader::open(file.as_slice()).await;
        self.told(backup.as_ref().err());
        let Ok(backup) = backup else { return };
        let other = self.process.memory(self.key + 1);
        let op = self.recorder.call(self.key + 1, Call::Copied);
        let restore = other.restore_backup(backup, RestoredTtl::Kept);
        self.copied(op, &restoring(restore).await);
    }

    pub(super) async fn copy_to(&self) {
        let op = self.recorder.call(self.key + 1, Call::Copied);
        let done = self.memory.copy_to(&self.process.memory(self.key + 1)).await;
        self.copied(op, &done);
    }

    /// Records the outcome of a copy, beside its requests.
    fn copied<T, E: std::error::Error + 'static>(&self, op: usize, done: &Result<T, E>) {
        self.told(done.as_ref().err());
        if done.is_ok() {
            self.recorder.answer(op, Answer::Nothing);
        }
    }
}

/// With an id that is the same in each run of a program.
pub(crate) fn fork_options(tags: &Tags) -> ForkOptions {
    ForkOptions::new().with_id(Uuid::from_u128(tags.call().into()))
}
