//! A clear as a call of its script, and the decoding of the script's answer.

use jiff::Timestamp;
use memory_core::lease::FencingToken;
use memory_core::store::{
    Access, Clear, ClearReceipt, Cleared, Head, StoreError, StoreOperation, Tally,
};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::{LinkError, Reply};
use redis::Cmd;

use crate::archive;
use crate::codec;
use crate::commands::{Answer, decoded, named, right};
use crate::error::store_error;
use crate::scripts::CLEAR;
use crate::store::RedisStore;

/// The answer of the script, which also replaces all messages.
pub(crate) struct ClearAnswer {
    pub(crate) head: Head,
    /// The record; nothing if the write was recognized as a retry.
    pub(crate) receipt: Option<ClearReceipt>,
    /// The place of the first message of an earlier batch, if it is known.
    pub(crate) earlier: Option<Sequence>,
}

impl RedisStore {
    pub(crate) async fn clear_all(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Cleared, StoreError> {
        let (call, token) = self.clear_call(key, access, clear);
        let ClearAnswer { head, receipt, .. } =
            self.send_clear(StoreOperation::Clear, key, &call, token).await?;
        Ok(Cleared::new(receipt, head.counters))
    }

    /// The call that clears a memory, to which the arguments of a batch can be added, and the token of its lease.
    pub(crate) fn clear_call(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> (Cmd, FencingToken) {
        let mut call = self.call(&CLEAR, key, &[]);
        let token = right(&mut call, access);
        named(&mut call, clear.write);
        call.arg(clear.spread());
        call.arg(archive::settings(clear.archive));
        call.arg(clear.expected.map(|at| codec::snapshot(at.cursor())).unwrap_or_default());
        (call, token)
    }

    /// Sends the call, and deletes what is left of the removed messages.
    pub(crate) async fn send_clear(
        &self,
        operation: StoreOperation,
        key: &MemoryKey,
        call: &Cmd,
        token: FencingToken,
    ) -> Result<ClearAnswer, StoreError> {
        let answer = self.write(operation, key, &CLEAR, call, token).await?;
        let (answer, more) =
            answered(answer).map_err(|fault| store_error(operation, Some(key), fault))?;
        if more {
            self.sweep(key).await;
        }
        Ok(answer)
    }
}

/// The decoded answer, and whether fields of removed messages are left.
fn answered(answer: Answer) -> Result<(ClearAnswer, bool), LinkError> {
    let (mut reply, is_new) = match answer {
        Answer::Applied(reply) => (reply, true),
        Answer::Duplicate(reply) => (reply, false),
        Answer::Head(_) => return Err(LinkError::odd_answer()),
    };
    let head = decoded(&reply.bytes()?)?;
    let more = reply.number::<u8>()? == 1;
    let (receipt, earlier) = if is_new {
        (Some(receipt(&mut reply, head.version)?), None)
    } else {
        (None, reply.optional_number()?.map(Sequence::new))
    };
    Ok((ClearAnswer { head, receipt, earlier }, more))
}

/// The record of a clear that led to this version.
fn receipt(reply: &mut Reply, version: u64) -> Result<ClearReceipt, LinkError> {
    let time = Timestamp::from_microsecond(reply.number()?).map_err(|_| LinkError::odd_answer())?;
    // A damaged head, which can be cleared, may have less than nothing.
    let mut count = || reply.number().map(|count: i64| u64::try_from(count).unwrap_or_default());
    let removed = Tally { messages: count()?, tokens: count()? };
    let is_kept = reply.number::<u8>()? == 1;
    Ok(ClearReceipt::new(time, removed, is_kept.then_some(version)))
}
