//! A command in line, with the channel for its typed answer.

use std::fmt::Debug;

use memory_core::MemoryKey;
use memory_core::store::{StoreError, StoreOperation};
use tokio::sync::oneshot;

use crate::commands::{Batch, Command};
use crate::error::JobError;

/// A request of any command. Its answer is kept until the transaction has been committed.
pub(super) trait JobRequest: Debug + Send {
    fn operation(&self) -> StoreOperation;

    fn bytes(&self) -> usize;

    fn pages(&self) -> usize;

    /// Whether the caller has dropped its future.
    fn is_abandoned(&self) -> bool;

    /// Applies the command and keeps its answer or the reason of its refusal.
    ///
    /// # Errors
    /// [`JobError::Sqlite`]: the transaction failed.
    fn apply(&mut self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<(), JobError>;

    /// Replaces the kept answer by an error.
    fn fail(&mut self, error: StoreError);

    /// Sends the kept answer to the caller.
    fn reply(self: Box<Self>);
}

/// A command with its kept answer and the channel of its caller.
#[derive(Debug)]
struct Typed<C: Command> {
    command: C,
    answer: Option<Result<C::Answer, StoreError>>,
    reply: oneshot::Sender<Result<C::Answer, StoreError>>,
}

/// The receiver of the answer to a command.
pub(super) type Receiver<C> = oneshot::Receiver<Result<<C as Command>::Answer, StoreError>>;

pub(super) fn request<C: Command>(command: C) -> (Box<dyn JobRequest>, Receiver<C>) {
    let (reply, receiver) = oneshot::channel();
    (Box::new(Typed { command, answer: None, reply }), receiver)
}

impl<C: Command> JobRequest for Typed<C> {
    fn operation(&self) -> StoreOperation {
        C::OPERATION
    }

    fn bytes(&self) -> usize {
        self.command.bytes()
    }

    fn pages(&self) -> usize {
        self.command.pages()
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn apply(&mut self, batch: &mut Batch<'_>, key: &MemoryKey) -> Result<(), JobError> {
        self.answer = Some(match self.command.apply(batch, key) {
            Ok(answer) => Ok(answer),
            Err(JobError::Refused(kind)) => {
                Err(StoreError::new(C::OPERATION, kind).not_applied().at(key))
            }
            Err(error @ JobError::Sqlite(_)) => return Err(error),
        });
        Ok(())
    }

    fn fail(&mut self, error: StoreError) {
        self.answer = Some(Err(error));
    }

    fn reply(self: Box<Self>) {
        debug_assert!(self.answer.is_some(), "a request was neither applied nor refused");
        // Without an answer the channel is dropped, and the caller gets an error. If the caller has dropped its
        // future, the answer is not needed.
        if let Some(answer) = self.answer {
            let _ = self.reply.send(answer);
        }
    }
}
