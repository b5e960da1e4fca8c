//! Durations in text form: `30s`, `1h 30m`, `7d`.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::de;

pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let form = || match text.parse::<f64>() {
        Ok(_) => without_unit(text),
        Err(_) => "write a duration with its unit, such as 30s, 10m, 24h or 7d".to_owned(),
    };
    let span: Span = text.parse().map_err(|_| form())?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| form())?;
    Duration::try_from(length).map_err(|_| "a duration must not be negative".to_owned())
}

fn without_unit(number: impl fmt::Display) -> String {
    format!(
        "{number} has no unit; write {number}s for seconds, or another unit as in 10m, 24h or 7d"
    )
}

/// Reads the text form. The error for a number states that the unit is missing.
struct Text;

impl de::Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, such as 30s, 10m, 24h or 7d")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Duration, E> {
        Err(E::custom(without_unit(number)))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Duration, E> {
        Err(E::custom("a duration must not be negative"))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Duration, E> {
        Err(E::custom(without_unit(number)))
    }
}

/// The duration in text form, for messages.
pub(super) fn display(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

pub(super) mod required {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    pub(in crate::resource) fn serialize<S: Serializer>(
        value: &Duration,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::display(*value))
    }

    pub(in crate::resource) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Duration, D::Error> {
        from.deserialize_any(super::Text)
    }
}

pub(super) mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde's `with` asks for")]
    pub(in crate::resource) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.serialize_str(&super::display(*value)),
            None => to.serialize_none(),
        }
    }

    pub(in crate::resource) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Written(#[serde(deserialize_with = "super::required::deserialize")] Duration);
        Ok(Option::<Written>::deserialize(from)?.map(|Written(duration)| duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip_in_text_form() {
        for (text, seconds, shown) in [
            ("30s", 30, "30s"),
            ("90s", 90, "1m 30s"),
            ("1h 30m", 5_400, "1h 30m"),
            ("7d", 604_800, "168h"),
            ("0s", 0, "0s"),
        ] {
            let duration = Duration::from_secs(seconds);
            assert_eq!((parse(text), &*display(duration)), (Ok(duration), shown));
        }
        assert_eq!(parse("-1s").unwrap_err(), "a duration must not be negative");
        for text in ["", "soon", "1 month"] {
            let form = "write a duration with its unit, such as 30s, 10m, 24h or 7d";
            assert_eq!(parse(text).unwrap_err(), form, "{text}");
        }
        let form = "30 has no unit; write 30s for seconds, or another unit as in 10m, 24h or 7d";
        assert_eq!(parse("30").unwrap_err(), form);
        assert_eq!(display(Duration::MAX), "18446744073709551615.999999999s");
    }
}
