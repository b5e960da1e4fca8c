//! The replacement of all messages as a call of its script, and the decoding of its answer.

use std::collections::BTreeMap;

use memory_core::store::{
    Access, AppendOutcome, Appended, ReplaceAll, StoreError, StoreErrorKind, StoreOperation, Tally,
};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::{LinkError, Shown};

use crate::append::micros;
use crate::archive;
use crate::codec::{self, Encoded};
use crate::commands::{Answer, decoded, named, right};
use crate::error::store_error;
use crate::scripts::CLEAR;
use crate::store::RedisStore;

const OPERATION: StoreOperation = StoreOperation::ReplaceAll;

impl RedisStore {
    /// A clear with a batch.
    pub(crate) async fn replace_all_by(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &ReplaceAll,
    ) -> Result<Appended, StoreError> {
        let refuse = |kind: StoreErrorKind| StoreError::new(OPERATION, kind).not_applied().at(key);
        replace.check().map_err(refuse)?;
        let batch = &replace.batch;
        let mut call = self.call(&CLEAR, key, &[]);
        let token = right(&mut call, access);
        named(&mut call, batch.write);
        call.arg(replace.spread());
        call.arg(archive::settings(replace.archive));
        call.arg(micros(batch.ttl));
        call.arg(batch.expected.map(|at| codec::snapshot(at.cursor())).unwrap_or_default());
        let mut classes: BTreeMap<String, Tally> = BTreeMap::new();
        for message in batch.messages.iter() {
            classes.entry(message.class().to_string()).or_default().add(message.tokens);
        }
        call.arg(classes.len());
        for (class, tally) in &classes {
            call.arg(class).arg(tally.messages).arg(tally.tokens);
        }
        for message in batch.messages.iter() {
            call.arg(Shown(Encoded::new(message).map_err(refuse)?));
        }
        let answer = self.write(OPERATION, key, &CLEAR, &call, token).await?;
        let (appended, more) = answered(answer, batch.messages.len())
            .map_err(|fault| store_error(OPERATION, Some(key), fault))?;
        if more {
            self.sweep(key).await;
        }
        Ok(appended)
    }
}

/// The result of a batch of this many messages, and whether fields of removed messages are left.
fn answered(answer: Answer, messages: usize) -> Result<(Appended, bool), LinkError> {
    let (mut reply, is_new) = match answer {
        Answer::Applied(reply) => (reply, true),
        Answer::Duplicate(reply) => (reply, false),
        Answer::Head(_) => return Err(LinkError::odd_answer()),
    };
    let head = decoded(&reply.bytes()?)?;
    let more = reply.number::<u8>()? == 1;
    let outcome = if is_new {
        let before = head.last.number().checked_sub(messages as u64);
        AppendOutcome::Appended {
            first: Sequence::new(before.ok_or_else(LinkError::odd_answer)? + 1),
        }
    } else {
        AppendOutcome::Duplicate { first: reply.optional_number()?.map(Sequence::new) }
    };
    Ok((Appended::new(outcome, head.counters, head.next_flush_at), more))
}
