//! Reading the answers of scripts.

use std::str::FromStr;

use redis::Value;

use crate::error::LinkError;

/// The answer of a script, decoded from front to back. A part that does not fit is an error, because none
/// of our scripts gives such an answer.
#[derive(Debug)]
pub struct Reply {
    parts: std::vec::IntoIter<Value>,
}

impl Reply {
    /// The parts of an array; `None` for nil.
    ///
    /// # Errors
    /// [`LinkError`] for anything else.
    pub fn array(value: Value) -> Result<Option<Self>, LinkError> {
        match value {
            Value::Array(parts) => Ok(Some(Self { parts: parts.into_iter() })),
            Value::Nil => Ok(None),
            _ => Err(LinkError::odd_answer()),
        }
    }

    /// The parts of an array that must be present.
    ///
    /// # Errors
    /// [`LinkError`] for anything else.
    pub fn parts(value: Value) -> Result<Self, LinkError> {
        Self::array(value)?.ok_or_else(LinkError::odd_answer)
    }

    /// The next part as it is.
    ///
    /// # Errors
    /// [`LinkError`] if there is none.
    pub fn value(&mut self) -> Result<Value, LinkError> {
        self.parts.next().ok_or_else(LinkError::odd_answer)
    }

    /// The next part, an integer or a text that reads as one.
    ///
    /// # Errors
    /// [`LinkError`] if it does not.
    pub fn number<T: FromStr + TryFrom<i64>>(&mut self) -> Result<T, LinkError> {
        number(self.value()?)
    }

    /// The next part, a number; `None` for an empty text or nil.
    ///
    /// # Errors
    /// [`LinkError`] for anything else.
    pub fn optional_number<T: FromStr + TryFrom<i64>>(&mut self) -> Result<Option<T>, LinkError> {
        match self.value()? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) if bytes.is_empty() => Ok(None),
            value => number(value).map(Some),
        }
    }

    /// The next part as text.
    ///
    /// # Errors
    /// [`LinkError`] if it is none.
    pub fn text(&mut self) -> Result<String, LinkError> {
        text(self.value()?)
    }

    /// The next part as bytes.
    ///
    /// # Errors
    /// [`LinkError`] if it is none.
    pub fn bytes(&mut self) -> Result<Vec<u8>, LinkError> {
        match self.value()? {
            Value::BulkString(bytes) => Ok(bytes),
            _ => Err(LinkError::odd_answer()),
        }
    }

    /// The number of parts that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Returns whether all parts were taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.len() == 0
    }
}

/// An integer, or a text that reads as one.
///
/// # Errors
/// [`LinkError`] for anything else.
pub fn number<T: FromStr + TryFrom<i64>>(value: Value) -> Result<T, LinkError> {
    match value {
        Value::Int(number) => T::try_from(number).map_err(|_| LinkError::odd_answer()),
        value => text(value)?.parse().map_err(|_| LinkError::odd_answer()),
    }
}

/// The integer 1 or 0: whether the script did something.
///
/// # Errors
/// [`LinkError`] for anything else.
pub fn flag(value: &Value) -> Result<bool, LinkError> {
    match value {
        Value::Int(1) => Ok(true),
        Value::Int(0) => Ok(false),
        _ => Err(LinkError::odd_answer()),
    }
}

fn text(value: Value) -> Result<String, LinkError> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| LinkError::odd_answer()),
        Value::SimpleString(text) => Ok(text),
        _ => Err(LinkError::odd_answer()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(bytes: &[u8]) -> Value {
        Value::BulkString(bytes.to_vec())
    }

    #[test]
    fn answer_is_decoded_front_to_back() {
        let parts = vec![
            Value::Int(7),
            bulk(b"8"),
            Value::Nil,
            bulk(b""),
            Value::Int(-9),
            bulk(b"text"),
            Value::SimpleString("OK".into()),
            bulk(&[0xff, 0]),
            Value::Okay,
        ];
        let mut reply = Reply::parts(Value::Array(parts)).unwrap();
        assert_eq!((reply.len(), reply.is_empty()), (9, false));
        assert_eq!(reply.number::<u64>().unwrap(), 7);
        assert_eq!(reply.number::<u32>().unwrap(), 8);
        assert_eq!(reply.optional_number::<u64>().unwrap(), None);
        assert_eq!(reply.optional_number::<u64>().unwrap(), None);
        assert_eq!(reply.optional_number::<i64>().unwrap(), Some(-9));
        assert_eq!(reply.text().unwrap(), "text");
        assert_eq!(reply.text().unwrap(), "OK");
        assert_eq!(reply.bytes().unwrap(), [0xff, 0]);
        assert_eq!((reply.len(), reply.is_empty()), (1, false));
        assert_eq!(reply.value().unwrap(), Value::Okay);
        assert_eq!((reply.len(), reply.is_empty()), (0, true));
        assert!(reply.value().is_err(), "there is no more");
    }

    #[test]
    fn only_an_array_decodes_as_array() {
        assert!(Reply::array(Value::Nil).unwrap().is_none());
        assert_eq!(Reply::array(Value::Array(vec![Value::Nil])).unwrap().unwrap().len(), 1);
        assert!(Reply::parts(Value::Nil).is_err());
        assert!(Reply::array(Value::Int(1)).is_err());
    }

    #[test]
    fn part_of_another_type_is_an_error() {
        let reply = |part: Value| Reply::parts(Value::Array(vec![part])).unwrap();
        for odd in [Value::Int(-1), bulk(b"x"), bulk(b"-1"), bulk(b""), Value::Nil] {
            assert!(reply(odd.clone()).number::<u64>().is_err(), "{odd:?}");
        }
        for odd in [Value::Int(-1), bulk(b"x"), Value::Okay] {
            assert!(reply(odd.clone()).optional_number::<u64>().is_err(), "{odd:?}");
        }
        for odd in [Value::Int(1), bulk(&[0xff]), Value::Nil] {
            assert!(reply(odd.clone()).text().is_err(), "{odd:?}");
        }
        assert!(reply(Value::SimpleString("OK".into())).bytes().is_err());
    }

    #[test]
    fn flag_is_one_or_zero() {
        assert!(flag(&Value::Int(1)).unwrap());
        assert!(!flag(&Value::Int(0)).unwrap());
        for odd in [Value::Int(2), Value::Int(-1), bulk(b"1"), Value::Nil, Value::Okay] {
            assert!(flag(&odd).is_err(), "{odd:?}");
        }
    }
}
