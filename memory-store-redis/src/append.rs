//! An append as a call of its script, and the decoding of its answer.

use std::collections::BTreeMap;
use std::time::Duration;

use memory_core::lease::{FencingToken, LeaseProof};
use memory_core::store::{
    Access, Append, AppendOutcome, Appended, NewMessage, StoreErrorKind, Tally, Version, WriteId,
};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::{LinkError, Script, Shown};
use redis::Cmd;

use crate::codec::{self, Encoded, digits};
use crate::commands::{Answer, decoded};
use crate::scripts::{APPEND, APPEND_IF};
use crate::store::RedisStore;

impl RedisStore {
    /// The call that appends a batch, and the token of its lease.
    pub(crate) fn append_call(
        &self,
        key: &MemoryKey,
        access: Access,
        Append { write, messages, ttl, expected }: &Append,
    ) -> Result<(Cmd, FencingToken), StoreErrorKind> {
        if messages.is_empty() {
            let problem = "a batch must hold at least one message";
            return Err(StoreErrorKind::Invalid(problem.into()));
        }
        let script = append_script(*expected);
        let (mut call, token) = self.append_settings(script, key, access);
        let WriteId { writer, number } = write;
        call.arg(Shown(format_args!("w{:032x}", writer.bits())));
        call.arg(Shown(format_args!("{number:020}")));
        call.arg(micros(*ttl));
        classes(&mut call, messages);
        for message in messages.iter() {
            call.arg(Shown(Encoded::new(message)?));
        }
        if let Some(expected) = expected {
            call.arg(Shown(codec::snapshot(expected.cursor())));
        }
        Ok((call, token))
    }

    /// The call as far as its settings. It sends only the arguments that it needs.
    fn append_settings(
        &self,
        script: &Script,
        key: &MemoryKey,
        access: Access,
    ) -> (Cmd, FencingToken) {
        let keys = self.link().keys();
        let name = key.as_str();
        let base = keys.base(name);
        let (memory, lease) =
            (format_args!("{base}memory:{name}"), format_args!("{base}lease:{name}"));
        let (time, alone, confirms) = (self.now(), self.tokens_alone(), self.link().confirms());
        let mut call = if alone {
            script.on([memory, lease, format_args!("{base}fences")].map(Shown))
        } else {
            script.on([memory, lease].map(Shown))
        };
        let token = access.lease.map_or(FencingToken::ZERO, |lease| lease.token);
        if time.is_none() && !alone && !confirms && access.lease.is_none() {
            call.arg("");
            return (call, token);
        }
        let time = time.map(|time| time.to_string()).unwrap_or_default();
        let (owner, right) = access
            .lease
            .map(|LeaseProof { owner, token }| (owner.to_string(), digits(token.number())))
            .unwrap_or_default();
        let (alone, confirms) = (u8::from(alone), u8::from(confirms));
        call.arg(Shown(format_args!("{time} {alone} {confirms} {owner} {right}")));
        (call, token)
    }
}

/// The script of an append with or without an expected version.
pub(crate) fn append_script(expected: Option<Version>) -> &'static Script {
    if expected.is_some() { &APPEND_IF } else { &APPEND }
}

/// The result of an append of this many messages.
pub(crate) fn appended(answer: Answer, messages: usize) -> Result<Appended, LinkError> {
    let (outcome, head) = match answer {
        Answer::Head(packed) => {
            let head = decoded(&packed)?;
            let before = head.last.number().checked_sub(messages as u64);
            let first = Sequence::new(before.ok_or_else(LinkError::odd_answer)? + 1);
            (AppendOutcome::Appended { first }, head)
        }
        Answer::Duplicate(mut reply) => {
            let first = reply.optional_number()?.map(Sequence::new);
            (AppendOutcome::Duplicate { first }, decoded(&reply.bytes()?)?)
        }
        Answer::Applied(_) => return Err(LinkError::odd_answer()),
    };
    Ok(Appended::new(outcome, head.counters, head.next_flush_at))
}

/// The number of messages and tokens of each class.
fn classes(call: &mut Cmd, messages: &[NewMessage]) {
    if let [one] = messages {
        call.arg(Shown(one.class())).arg(1).arg(one.tokens);
        return;
    }
    let mut classes: BTreeMap<String, Tally> = BTreeMap::new();
    for message in messages {
        classes.entry(message.class().to_string()).or_default().add(message.tokens);
    }
    for (class, tally) in &classes {
        call.arg(class).arg(tally.messages).arg(tally.tokens);
    }
}

/// A TTL in microseconds. A TTL past the end of time is no TTL.
pub(crate) fn micros(ttl: Option<Duration>) -> String {
    let micros = ttl.and_then(|ttl| u64::try_from(ttl.as_micros()).ok());
    micros.filter(|micros| *micros < 1 << 52).map(|micros| micros.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttl_past_the_end_of_time_is_none() {
        assert_eq!(micros(Some(Duration::MAX)), "");
        assert_eq!(micros(Some(Duration::from_millis(3))), "3000");
    }
}
