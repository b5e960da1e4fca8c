//! Each write as a call of its script, and the decoding of its reply.

use std::time::Duration;

use memory_core::lease::{FencingToken, LeaseProof};
use memory_core::store::{
    Access, Applied, Counters, Generation, Head, NewMessage, Removed, Replace, Replacement, Splice,
    StoreError, StoreErrorKind, StoreOperation, WriteId,
};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::{LinkError, Reply, Script, Shown, WriteOutcome};
use redis::{Cmd, Value};
use tokio::time::Instant;

use crate::archive;
use crate::changes::{Change, Weighed, changes, in_parts};
use crate::codec::{self, Encoded, digits};
use crate::error::store_error;
use crate::metadata;
use crate::parts::Parts;
use crate::scripts::{CLAIM, PART, REPLACE, SPLICE, SWEEP, WEIGH};
use crate::store::RedisStore;

/// The reply of a script to a write that was not refused.
pub(crate) enum Answer {
    /// The head after an append.
    Head(Vec<u8>),
    /// The values after the status.
    Applied(Reply),
    Duplicate(Reply),
}

impl Answer {
    /// The answer in a reply, or the reason for which the script refused the write with this token.
    fn of(reply: Value, token: FencingToken) -> Result<Result<Self, StoreErrorKind>, LinkError> {
        let mut reply = match reply {
            // The shortest reply is for the most common case.
            Value::BulkString(packed) => return Ok(Ok(Self::Head(packed))),
            reply => Reply::parts(reply)?,
        };
        Ok(Err(match reply.text()?.as_str() {
            "A" => return Ok(Ok(Self::Applied(reply))),
            "D" => return Ok(Ok(Self::Duplicate(reply))),
            "L" => {
                let left = reply.number::<i64>()?;
                let remaining = u64::try_from(left).ok().map(Duration::from_millis);
                StoreErrorKind::Locked { remaining }
            }
            "F" => StoreErrorKind::Fenced { token, newest: FencingToken::new(reply.number()?) },
            "O" => StoreErrorKind::WriterForgotten { newest_millis: reply.number()? },
            "C" => StoreErrorKind::Conflict,
            "N" => StoreErrorKind::NotRestorable(archive::refusal(&reply.text()?)?),
            "X" => StoreErrorKind::Exists,
            "B" => StoreErrorKind::Invalid(
                "the copy lacks messages; begin it again under another id".into(),
            ),
            "S" => Replace::same_id(),
            "T" => Replace::other_link(Sequence::new(reply.number()?)),
            "M" => metadata::refusal(&reply.text()?, reply.number()?)?.into(),
            "I" => {
                let place: u64 = reply.number()?;
                StoreErrorKind::Invalid(format!("there is no message at place {place}"))
            }
            _ => return Err(LinkError::odd_answer()),
        }))
    }
}

impl RedisStore {
    /// A call on a memory, with the arguments that every script begins with.
    pub(crate) fn call(&self, script: &Script, key: &MemoryKey, extra: &[String]) -> Cmd {
        let keys = self.link().keys();
        let name = key.as_str();
        let base = keys.base(name);
        let (memory, lease) = (format!("{base}memory:{name}"), format!("{base}lease:{name}"));
        let fences = base + "fences";
        let all = [memory.as_str(), &lease, &fences];
        let all: Vec<_> = all.into_iter().chain(extra.iter().map(String::as_str)).collect();
        let mut call = script.on(all);
        self.begin(&mut call);
        call
    }

    /// Calls a script that writes, and signals the watchers of this process unless it was certainly not applied.
    pub(crate) async fn write(
        &self,
        operation: StoreOperation,
        key: &MemoryKey,
        script: &Script,
        call: &Cmd,
        token: FencingToken,
    ) -> Result<Answer, StoreError> {
        let signal = self.watches.signal_when_dropped(key);
        let failed = |fault| store_error(operation, Some(key), fault);
        let written = self.link().write(script, call).await.map_err(failed);
        let answer = written.and_then(|WriteOutcome { answer, unconfirmed, .. }| {
            let done = Answer::of(answer, token)
                .map_err(failed)?
                .map_err(|refused| StoreError::new(operation, refused).not_applied().at(key))?;
            unconfirmed.map_or(Ok(done), |fault| Err(failed(fault)))
        });
        if answer.as_ref().is_err_and(|error| error.applied() == Applied::No) {
            signal.cancel();
        }
        answer
    }

    pub(crate) async fn replace_one(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError> {
        const OPERATION: StoreOperation = StoreOperation::Replace;
        let refuse = |kind| StoreError::new(OPERATION, kind).not_applied().at(key);
        replace.check().map_err(refuse)?;
        let mut call = self.call(&REPLACE, key, &[]);
        let token = right(&mut call, access);
        named(&mut call, replace.write);
        call.arg(replace.spread());
        // A place that Lua's numbers cannot represent exactly does not exist.
        call.arg(replace.sequence.number().min(MOST_PLACES));
        call.arg(codec::optional_id(Some(replace.replaced)));
        call.arg(Shown(Encoded::new(&replace.message).map_err(refuse)?));
        // Later removals cannot name the message, because an id is never given twice.
        self.counted_in_parts(OPERATION, key, &REPLACE, &call, token).await
    }

    /// Calls a script that looks at many removals before it changes anything. One call looks at some hundred of them, because
    /// it blocks all other clients, and answers where the next one must look on. That position is the last argument.
    pub(crate) async fn counted_in_parts(
        &self,
        operation: StoreOperation,
        key: &MemoryKey,
        script: &Script,
        call: &Cmd,
        token: FencingToken,
    ) -> Result<Counters, StoreError> {
        let failed = |fault| store_error(operation, Some(key), fault);
        let mut position = String::new();
        loop {
            let mut part = call.clone();
            part.arg(&position);
            let (Answer::Applied(mut reply) | Answer::Duplicate(mut reply)) =
                self.write(operation, key, script, &part, token).await?
            else {
                return Err(failed(LinkError::odd_answer()));
            };
            let head = reply.bytes().map_err(failed)?;
            if !head.is_empty() {
                return decoded(&head).map(|head| head.counters).map_err(failed);
            }
            position = reply.text().map_err(failed)?;
        }
    }

    pub(crate) async fn splice_in(
        &self,
        key: &MemoryKey,
        access: Access,
        splice: &Splice,
    ) -> Result<Counters, StoreError> {
        const OPERATION: StoreOperation = StoreOperation::Splice;
        let refuse = |kind| StoreError::new(OPERATION, kind).not_applied().at(key);
        let invalid = |problem: &str| refuse(StoreErrorKind::Invalid(problem.into()));
        if splice.summary.is_some() && splice.summarized.is_empty() {
            return Err(invalid("a summary needs the places that it replaces"));
        }
        splice.check_receipt().map_err(refuse)?;
        splice.check_replaced().map_err(refuse)?;
        let changes = changes(splice).ok_or_else(|| invalid("a place is removed twice"))?;
        if let Some(change) = changes.iter().find(|change| change.last >= MOST_PLACES) {
            return Err(invalid(&format!("there is no message at place {}", change.last)));
        }
        let mut places = splice.replaced.iter().map(|one| one.sequence.number());
        if let Some(place) = places.find(|place| *place >= MOST_PLACES) {
            return Err(invalid(&format!("there is no message at place {place}")));
        }
        let receipt = splice
            .receipt
            .as_ref()
            .map(serde_json::to_string)
            .transpose()
            .map_err(|error| invalid(&format!("the receipt cannot be written: {error}")))?;
        let flush_lease = self.link().keys().lease(&key.flush_lease_name());
        let mut call = self.call(&SPLICE, key, &[flush_lease]);
        let token = right(&mut call, access);
        // A refusal names the token that was refused, which is usually the flusher's.
        let token = match splice.flusher {
            Some(flusher) => {
                right(&mut call, Access::with_lease(flusher));
                flusher.token
            }
            None => {
                right(&mut call, Access::OPEN);
                token
            }
        };
        call.arg(Shown(format_args!("{} {}", codec::snapshot(splice.cursor()), splice.spread())));
        call.arg(
            splice
                .receipt
                .as_ref()
                .map(|receipt| receipt.id.simple().to_string())
                .unwrap_or_default(),
        );
        call.arg(receipt.unwrap_or_default());
        call.arg(splice.next_flush_at.map(|mark| mark.to_string()).unwrap_or_default());
        call.arg(match (splice.withdrawn.is_empty(), splice.frees()) {
            (false, _) => "w",
            (true, true) => "1",
            (true, false) => "0",
        });
        match &splice.summary {
            Some(new) => summary(&mut call, new).map_err(refuse)?,
            None => {
                call.arg("").arg("").arg("");
            }
        }
        call.arg(archive::settings(splice.archive));
        let weighed = self.weigh(key, splice.generation, &changes, splice.removed.as_ref()).await?;
        call.arg(changes.len()).arg(splice.replaced.len());
        for Replacement { sequence, message } in &splice.replaced {
            call.arg(sequence.number()).arg(Shown(Encoded::new(message).map_err(refuse)?));
        }
        for Change { kind, first, last } in &changes {
            let kind = match (kind, &weighed) {
                ('s', Some(_)) => 'S',
                ('e', Some(_)) => 'E',
                ('w', Some(_)) => 'W',
                (kind, _) => *kind,
            };
            call.arg(Shown(kind)).arg(first).arg(last);
        }
        if let Some(weighed) = weighed {
            call.arg(&weighed.counts);
            for (class, tally) in &weighed.classes {
                call.arg(class).arg(tally.messages).arg(tally.tokens);
            }
        }
        self.counted(OPERATION, key, &SPLICE, &call, token).await
    }

    /// Adds up the removed weights in several parts, unless the planner has done it, where a single script
    /// would block other clients for long. The result is valid for the whole generation, because its messages
    /// do not change. Returns nothing if the committing script must compute it: for few messages, and where
    /// this script cannot, such as in another generation.
    async fn weigh(
        &self,
        key: &MemoryKey,
        generation: Generation,
        changes: &[Change],
        known: Option<&Removed>,
    ) -> Result<Option<Weighed>, StoreError> {
        let failed = |fault| store_error(StoreOperation::Splice, Some(key), fault);
        let parts = in_parts(changes.iter().filter(|change| change.kind != 'c'));
        if parts.len() < 2 {
            return Ok(None);
        }
        if let Some(known) = known {
            return Ok(Some(known.into()));
        }
        let mut all = Weighed::default();
        for part in parts {
            let mut arguments = vec![generation.number().to_string()];
            for Change { kind, first, last } in part {
                arguments.extend([kind.to_string(), first.to_string(), last.to_string()]);
            }
            let answer = self.look(key, &WEIGH, &arguments).await.map_err(failed)?;
            let Some(mut reply) = Reply::array(answer).map_err(failed)? else { return Ok(None) };
            all.add(&mut reply).map_err(failed)?;
        }
        Ok(Some(all))
    }

    /// Deletes the remains of removed messages in several parts. Readers no longer see them, so a failure or
    /// a delay is harmless: the next flush continues.
    pub(crate) async fn sweep(&self, key: &MemoryKey) {
        let mut parts = Parts::of(PART);
        let begun = Instant::now();
        while begun.elapsed() < MAX_DELETING {
            let most = [parts.size().to_string()];
            match parts.timed(self.look(key, &SWEEP, &most)).await {
                Ok(Value::Int(1)) => {}
                Ok(_) => return,
                Err(fault) => {
                    tracing::debug!(%key, %fault, "removed messages were not deleted");
                    return;
                }
            }
        }
    }

    pub(crate) async fn raise_token(
        &self,
        key: &MemoryKey,
        lease: LeaseProof,
    ) -> Result<(), StoreError> {
        let mut call = self.call(&CLAIM, key, &[]);
        let token = right(&mut call, Access::with_lease(lease));
        self.write(StoreOperation::Claim, key, &CLAIM, &call, token).await.map(drop)
    }

    pub(crate) async fn counted(
        &self,
        operation: StoreOperation,
        key: &MemoryKey,
        script: &Script,
        call: &Cmd,
        token: FencingToken,
    ) -> Result<Counters, StoreError> {
        let failed = |fault| store_error(operation, Some(key), fault);
        match self.write(operation, key, script, call, token).await? {
            Answer::Applied(mut reply) | Answer::Duplicate(mut reply) => {
                let head = reply.bytes().and_then(|packed| decoded(&packed)).map_err(failed)?;
                if reply.number::<u8>().map_err(failed)? == 1 {
                    self.sweep(key).await;
                }
                Ok(head.counters)
            }
            Answer::Head(_) => Err(failed(LinkError::odd_answer())),
        }
    }
}

pub(crate) fn decoded(packed: &[u8]) -> Result<Head, LinkError> {
    codec::head(packed).ok_or_else(LinkError::odd_answer)
}

/// The claimed right to write: the owner and its token, or two empty texts.
pub(crate) fn right(call: &mut Cmd, access: Access) -> FencingToken {
    match access.lease {
        Some(LeaseProof { owner, token }) => {
            call.arg(Shown(owner)).arg(digits(token.number()));
            token
        }
        None => {
            call.arg("").arg("");
            FencingToken::ZERO
        }
    }
}

pub(crate) fn named(call: &mut Cmd, WriteId { writer, number }: WriteId) {
    call.arg(Shown(format_args!("{:032x}", writer.bits()))).arg(digits(number));
}

fn summary(call: &mut Cmd, new: &NewMessage) -> Result<(), StoreErrorKind> {
    call.arg(Shown(Encoded::summary(new)?)).arg(Shown(new.class())).arg(new.tokens);
    Ok(())
}

/// The time limit for a flush to delete the messages that it removed.
const MAX_DELETING: Duration = Duration::from_millis(500);

/// From here on Lua cannot distinguish consecutive integers.
pub(crate) const MOST_PLACES: u64 = 1 << 53;
