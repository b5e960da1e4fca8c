//! Numbers as their text.

use std::fmt;

/// A number, equal to another if both have the same text.
///
/// Integers in the range of `i64` or `u64` have only one spelling and are kept as such; of any other number
/// the text is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonNumber(Repr);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Repr {
    Unsigned(u64),
    /// Below 0.
    Negative(i64),
    /// Valid as JSON, and not the text of one of the others.
    Text(Box<str>),
}

impl JsonNumber {
    /// The bytes that it occupies apart from its own size.
    pub(super) const fn heap_bytes(&self) -> usize {
        if let Repr::Text(text) = &self.0 { text.len() } else { 0 }
    }

    /// The number with this text, if the text is a JSON number.
    ///
    /// ```
    /// use memory_core::json::JsonNumber;
    ///
    /// assert_eq!(JsonNumber::from_text("1e400").unwrap().to_string(), "1e400");
    /// assert_eq!(JsonNumber::from_text("01"), None);
    /// ```
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (length, form) = scan(text.as_bytes()).ok()?;
        (length == text.len()).then(|| Self::from_scanned(text, form))
    }

    /// The shortest text of this float; `None` for NaN and the infinities.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        Self::from_text(&serde_json::Number::from_f64(value)?.to_string())
    }

    /// The number whose text [`scan`] has accepted.
    pub(super) fn from_scanned(text: &str, form: NumberForm) -> Self {
        if form == NumberForm::Integer && text != "-0" {
            if let Ok(number) = text.parse() {
                return Self(Repr::Unsigned(number));
            }
            if let Ok(number) = text.parse() {
                return Self(Repr::Negative(number));
            }
        }
        Self(Repr::Text(text.into()))
    }

    /// The number, if it is written as an integer in the range of a `u64`.
    #[must_use]
    pub const fn as_u64(&self) -> Option<u64> {
        if let Repr::Unsigned(number) = self.0 { Some(number) } else { None }
    }

    /// The number, if it is written as an integer in the range of an `i64`.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self.0 {
            Repr::Unsigned(number) => i64::try_from(number).ok(),
            Repr::Negative(number) => Some(number),
            Repr::Text(_) => None,
        }
    }

    /// The nearest float; `None` if the number is larger than any.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        let number = match &self.0 {
            Repr::Unsigned(number) => *number as f64,
            Repr::Negative(number) => *number as f64,
            Repr::Text(text) => text.parse().ok()?,
        };
        number.is_finite().then_some(number)
    }

    /// The text, if it is kept: every number that is no `i64` and no `u64`.
    pub(super) fn raw(&self) -> Option<&str> {
        if let Repr::Text(text) = &self.0 { Some(text) } else { None }
    }
}

impl From<u64> for JsonNumber {
    fn from(number: u64) -> Self {
        Self(Repr::Unsigned(number))
    }
}

impl From<i64> for JsonNumber {
    fn from(number: i64) -> Self {
        Self(u64::try_from(number).map_or(Repr::Negative(number), Repr::Unsigned))
    }
}

impl fmt::Display for JsonNumber {
    /// The original text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Unsigned(number) => write!(f, "{number}"),
            Repr::Negative(number) => write!(f, "{number}"),
            Repr::Text(text) => f.write_str(text),
        }
    }
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberForm {
    /// Digits only.
    Integer,
    /// With a fraction or an exponent.
    Float,
}

/// The length and form of the number at the start of these bytes.
///
/// # Errors
/// The number of bytes before the one that does not belong there.
pub(super) fn scan(bytes: &[u8]) -> Result<(usize, NumberForm), usize> {
    let digits = |from: usize| {
        let digits =
            bytes.get(from..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 { Err(from) } else { Ok(from + digits) }
    };
    let mut form = NumberForm::Integer;
    let start = usize::from(bytes.first() == Some(&b'-'));
    let mut at = digits(start)?;
    if bytes.get(start) == Some(&b'0') && at > start + 1 {
        return Err(start + 1);
    }
    if bytes.get(at) == Some(&b'.') {
        form = NumberForm::Float;
        at = digits(at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        form = NumberForm::Float;
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = digits(at + 1 + sign)?;
    }
    Ok((at, form))
}
