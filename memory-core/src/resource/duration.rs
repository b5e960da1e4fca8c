//! Durations as people write them: `30s`, `1h 30m`, `7d`.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};

fn parse(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "write a duration with its unit, such as 30s, 10m, 24h or 7d";
    let span: Span = text.parse().map_err(|_| FORM)?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| FORM)?;
    Duration::try_from(length).map_err(|_| "a duration must not be negative")
}

/// The duration in the same form, for messages.
pub(super) fn display(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

pub(super) mod required {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in crate::resource) fn serialize<S: Serializer>(
        value: &Duration,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::display(*value))
    }

    pub(in crate::resource) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Duration, D::Error> {
        super::parse(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

pub(super) mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

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
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| super::parse(&text)).transpose().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_people_write_them() {
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
        assert_eq!(parse("-1s"), Err("a duration must not be negative"));
        for text in ["", "30", "soon", "1 month"] {
            let form = "write a duration with its unit, such as 30s, 10m, 24h or 7d";
            assert_eq!(parse(text), Err(form), "{text}");
        }
        assert_eq!(display(Duration::MAX), "18446744073709551615.999999999s");
    }
}
