//! The replies of the scripts that several backends call.

use std::time::Duration;

use memory_core::lease::{FencingToken, OwnerId};
use memory_redis_link::{LinkError, Reply, number};
use redis::Value;

/// The reply to a request for a lease.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AcquireReply {
    Granted(FencingToken),
    Held {
        /// The rest of the holder's TTL.
        remaining: Duration,
        /// `None` if the lease is reserved for the next in line.
        holder: Option<OwnerId>,
    },
}

/// The reply of `acquire.lua`.
pub(crate) fn acquired(reply: Value) -> Result<AcquireReply, LinkError> {
    if matches!(reply, Value::BulkString(_)) {
        return Ok(AcquireReply::Granted(FencingToken::new(number(reply)?)));
    }
    let mut reply = Reply::parts(reply)?;
    let remaining = time_left(&mut reply)?;
    let holder = if reply.is_empty() { None } else { Some(owner(&mut reply)?) };
    Ok(AcquireReply::Held { remaining, holder })
}

/// The reply of `hand_over.lua`: the receiver's token, or none if neither owner holds the lease.
pub(crate) fn handed_over(reply: Value) -> Result<Option<FencingToken>, LinkError> {
    match reply {
        Value::Nil => Ok(None),
        token => Ok(Some(FencingToken::new(number(token)?))),
    }
}

/// The next part, an owner.
pub(super) fn owner(reply: &mut Reply) -> Result<OwnerId, LinkError> {
    reply.text()?.parse().map_err(|_| LinkError::odd_answer())
}

/// The next part, the milliseconds until a key expires; zero for one that has just expired.
pub(super) fn time_left(reply: &mut Reply) -> Result<Duration, LinkError> {
    let left = u64::try_from(reply.number::<i64>()?).unwrap_or_default();
    Ok(Duration::from_millis(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn grants_and_holders_are_decoded() {
        let token = FencingToken::new(7);
        assert_eq!(acquired(bulk("7")).unwrap(), AcquireReply::Granted(token));
        let held = |parts| acquired(Value::Array(parts)).unwrap();
        let remaining = Duration::from_millis(30);
        assert_eq!(held(vec![Value::Int(30)]), AcquireReply::Held { remaining, holder: None });
        let owner = OwnerId::new(5);
        let by_owner = held(vec![Value::Int(30), bulk(&owner.to_string())]);
        assert_eq!(by_owner, AcquireReply::Held { remaining, holder: Some(owner) });
        let expired = held(vec![Value::Int(-2)]);
        assert_eq!(expired, AcquireReply::Held { remaining: Duration::ZERO, holder: None });
        assert_eq!(handed_over(bulk("7")).unwrap(), Some(token));
        assert_eq!(handed_over(Value::Nil).unwrap(), None);
    }

    #[test]
    fn odd_replies_are_errors() {
        let foreign = Value::Array(vec![Value::Int(30), bulk("a person")]);
        for odd in [bulk("x"), Value::Nil, Value::Int(1), Value::Array(vec![]), foreign] {
            assert!(acquired(odd.clone()).is_err(), "{odd:?}");
        }
        for odd in [bulk("x"), Value::Okay, Value::Array(vec![])] {
            assert!(handed_over(odd.clone()).is_err(), "{odd:?}");
        }
    }
}
