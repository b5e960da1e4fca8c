//! The replacement of all messages: a clear with a batch.

use std::collections::BTreeMap;

use memory_core::store::{
    Access, AppendOutcome, Appended, Clear, ReplaceAll, ReplacedAll, StoreError, StoreErrorKind,
    StoreOperation, Tally,
};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::{LinkError, Shown};

use crate::append::micros;
use crate::clear::ClearAnswer;
use crate::codec::Encoded;
use crate::error::store_error;
use crate::store::RedisStore;

const OPERATION: StoreOperation = StoreOperation::ReplaceAll;

impl RedisStore {
    pub(crate) async fn replace_all_by(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        let refuse = |kind: StoreErrorKind| StoreError::new(OPERATION, kind).not_applied().at(key);
        replace.check().map_err(refuse)?;
        let batch = &replace.batch;
        let (archive, expected) = (replace.archive, batch.expected);
        let clear = Clear { archive, expected, ..Clear::new(batch.write) };
        let (mut call, token) = self.clear_call(key, access, &clear);
        call.arg(micros(batch.ttl));
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
        let ClearAnswer { head, receipt, earlier } =
            self.send_clear(OPERATION, key, &call, token).await?;
        let outcome = if receipt.is_some() {
            let before = head.last.number().checked_sub(batch.messages.len() as u64);
            let before = before.ok_or_else(LinkError::odd_answer);
            let before = before.map_err(|fault| store_error(OPERATION, Some(key), fault))?;
            AppendOutcome::Appended { first: Sequence::new(before + 1) }
        } else {
            AppendOutcome::Duplicate { first: earlier }
        };
        let appended = Appended::new(outcome, head.counters, head.next_flush_at);
        Ok(ReplacedAll::new(appended, receipt))
    }
}
