use std::str::FromStr;

use redis::Value;

use super::failure::RedisFault;

/// The answer of a script, taken apart from front to back. Whatever does not fit is an error, for it
/// was no answer of ours.
#[derive(Debug)]
pub struct Reply {
    parts: std::vec::IntoIter<Value>,
}

impl Reply {
    /// The parts of an array; `None` for nil.
    ///
    /// # Errors
    /// [`RedisFault`] for anything else.
    pub fn array(value: Value) -> Result<Option<Self>, RedisFault> {
        match value {
            Value::Array(parts) => Ok(Some(Self { parts: parts.into_iter() })),
            Value::Nil => Ok(None),
            _ => Err(RedisFault::odd_answer()),
        }
    }

    /// The parts of an array that must be there.
    ///
    /// # Errors
    /// [`RedisFault`] for anything else.
    pub fn parts(value: Value) -> Result<Self, RedisFault> {
        Self::array(value)?.ok_or_else(RedisFault::odd_answer)
    }

    /// The next part as it is.
    ///
    /// # Errors
    /// [`RedisFault`] if there is none.
    pub fn value(&mut self) -> Result<Value, RedisFault> {
        self.parts.next().ok_or_else(RedisFault::odd_answer)
    }

    /// The next part, an integer or a text that reads as one.
    ///
    /// # Errors
    /// [`RedisFault`] if it does not.
    pub fn number<T: FromStr + TryFrom<i64>>(&mut self) -> Result<T, RedisFault> {
        number(self.value()?)
    }

    /// The next part, a number; `None` for an empty text or nil.
    ///
    /// # Errors
    /// [`RedisFault`] for anything else.
    pub fn optional_number<T: FromStr + TryFrom<i64>>(&mut self) -> Result<Option<T>, RedisFault> {
        match self.value()? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) if bytes.is_empty() => Ok(None),
            value => number(value).map(Some),
        }
    }

    /// The next part as text.
    ///
    /// # Errors
    /// [`RedisFault`] if it is none.
    pub fn text(&mut self) -> Result<String, RedisFault> {
        text(self.value()?)
    }

    /// The next part as bytes.
    ///
    /// # Errors
    /// [`RedisFault`] if it is none.
    pub fn bytes(&mut self) -> Result<Vec<u8>, RedisFault> {
        match self.value()? {
            Value::BulkString(bytes) => Ok(bytes),
            _ => Err(RedisFault::odd_answer()),
        }
    }

    /// How many parts are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether all parts were taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.len() == 0
    }
}

/// An integer, or a text that reads as one.
pub(crate) fn number<T: FromStr + TryFrom<i64>>(value: Value) -> Result<T, RedisFault> {
    match value {
        Value::Int(number) => T::try_from(number).map_err(|_| RedisFault::odd_answer()),
        value => text(value)?.parse().map_err(|_| RedisFault::odd_answer()),
    }
}

fn text(value: Value) -> Result<String, RedisFault> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| RedisFault::odd_answer()),
        Value::SimpleString(text) => Ok(text),
        _ => Err(RedisFault::odd_answer()),
    }
}
