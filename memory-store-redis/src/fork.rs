//! Forks on one server, in one script.

use std::error::Error as _;

use memory_core::store::{
    Access, Counters, Fork, Forked, Frame, FrameWriters, StoreError, StoreErrorKind, StoreOperation,
};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::LinkError;
use redis::{Cmd, RedisError};

use crate::commands::{Answer, MOST_PLACES, right};
use crate::copy::{records, written};
use crate::error::store_error;
use crate::scripts::FORK;
use crate::store::RedisStore;

const OPERATION: StoreOperation = StoreOperation::Copy;

/// The most fields of a memory that one script forks, because a script blocks all other clients. The script takes one to
/// two microseconds for each message, and some more for each whose tokens it must count.
pub(crate) const MOST_FIELDS: usize = 2_048;

/// The most bytes of such a memory, by `MEMORY USAGE`.
pub(crate) const MOST_BYTES: usize = 2 << 20;

/// The reply of the script.
enum Step {
    Done(Forked),
    /// The fork leaves messages out, so the script needs the records that it keeps.
    NeedsRecords,
}

impl RedisStore {
    pub(crate) async fn fork_in_one_step(
        &self,
        key: &MemoryKey,
        access: Access,
        fork: &Fork,
    ) -> Result<Forked, StoreError> {
        // There the keys of two memories are in different slots.
        if self.link().is_cluster() {
            return Ok(Forked::InParts);
        }
        if let Step::Done(forked) = self.send_fork(key, access, fork, None).await? {
            return Ok(forked);
        }
        let refuse = |kind| StoreError::new(OPERATION, kind).not_applied().at(key);
        let frame = match self.whole_frame(&fork.from, FrameWriters::LeftOut).await {
            Ok(frame) if frame.generation == fork.generation => frame,
            Err(error) if error.kind() != &StoreErrorKind::Unfinished => return Err(error),
            _ => return Err(refuse(StoreErrorKind::Conflict)),
        };
        // The script counts the messages.
        let frame = frame.into_fork(fork.origin.at, Counters::default(), fork.origin.clone());
        match self.send_fork(key, access, fork, Some(&frame)).await? {
            Step::Done(forked) => Ok(forked),
            Step::NeedsRecords => Err(store_error(OPERATION, Some(key), LinkError::odd_answer())),
        }
    }

    async fn send_fork(
        &self,
        key: &MemoryKey,
        access: Access,
        fork: &Fork,
        kept: Option<&Frame>,
    ) -> Result<Step, StoreError> {
        let refuse = |kind| StoreError::new(OPERATION, kind).not_applied().at(key);
        let failed = |fault| store_error(OPERATION, Some(key), fault);
        let origin = self.link().keys().memory(fork.from.as_str());
        let mut call = self.call(&FORK, key, &[origin]);
        let token = right(&mut call, access);
        arguments(&mut call, fork, kept).map_err(refuse)?;
        let answer = match self.write(OPERATION, key, &FORK, &call, token).await {
            Err(error) if is_of_several_slots(&error) => return Ok(Step::Done(Forked::InParts)),
            answer => answer?,
        };
        let Answer::Applied(mut reply) = answer else {
            return Err(failed(LinkError::odd_answer()));
        };
        match reply.number::<u8>().map_err(failed)? {
            0 => Ok(Step::Done(Forked::InParts)),
            1 => Ok(Step::Done(Forked::Complete)),
            2 => Ok(Step::NeedsRecords),
            _ => Err(failed(LinkError::odd_answer())),
        }
    }
}

/// Whether a proxy in front of a Cluster, which looks like one server, refused keys of several slots.
fn is_of_several_slots(error: &StoreError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<RedisError>());
    source.and_then(RedisError::code) == Some("CROSSSLOT")
}

fn arguments(call: &mut Cmd, fork: &Fork, kept: Option<&Frame>) -> Result<(), StoreErrorKind> {
    call.arg(fork.copy.simple().to_string()).arg(fork.generation.number());
    // A place that Lua's numbers cannot represent exactly does not exist.
    call.arg(fork.origin.at.min(Sequence::new(MOST_PLACES)).number());
    call.arg(written(serde_json::to_string(&fork.origin))?).arg(MOST_FIELDS).arg(MOST_BYTES);
    if let Some(frame) = kept {
        let newest = frame.receipts.first();
        call.arg(frame.receipts.len());
        call.arg(newest.map(|receipt| receipt.id.simple().to_string()).unwrap_or_default());
        records(call, frame)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_several_slots_is_recognized() {
        let error = |line: &[u8]| {
            let answer = redis::parse_redis_value(line).and_then(redis::Value::extract_error);
            store_error(OPERATION, None, LinkError::from(answer.unwrap_err()))
        };
        let refused = error(b"-CROSSSLOT Keys in request don't hash to the same slot\r\n");
        assert!(is_of_several_slots(&refused));
        assert!(!is_of_several_slots(&error(b"-READONLY You can't write against a replica\r\n")));
    }
}
