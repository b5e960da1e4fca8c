//! How long a memory keeps removed messages.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::duration;
use crate::archive::Retention;
use crate::store::Durability;

/// The archive of a memory, which keeps the messages that a flush, a clear or a rewind removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ArchiveSettings {
    /// How long removed messages are kept, but never longer than `persistence.ttl`. Default: `30d`, and `none` on a
    /// store whose messages end with the process.
    pub keep: ArchiveKeep,
    /// The most bytes of archived messages of one memory; the oldest removals are dropped first. A removal that is larger
    /// is not kept. Default: 64 MiB.
    #[serde(deserialize_with = "bytes")]
    pub max_bytes: u64,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self { keep: ArchiveKeep::Default, max_bytes: Retention::DEFAULT_MAX_BYTES }
    }
}

impl ArchiveSettings {
    /// Keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { keep: ArchiveKeep::None, ..Self::default() }
    }

    /// Keeps removed messages for this time.
    #[must_use]
    pub fn keep_for(time: Duration) -> Self {
        Self { keep: ArchiveKeep::For(time), ..Self::default() }
    }

    /// Keeps removed messages without an end.
    #[must_use]
    pub fn forever() -> Self {
        Self { keep: ArchiveKeep::Forever, ..Self::default() }
    }

    /// The retention in a store of this durability; `None` if nothing is kept.
    /// [`MemoryResource::retention`](super::MemoryResource::retention) also obeys the TTL.
    #[must_use]
    pub fn retention(&self, durability: Durability) -> Option<Retention> {
        let keep = match self.keep {
            ArchiveKeep::Default if durability == Durability::Memory => return None,
            ArchiveKeep::None => return None,
            ArchiveKeep::Default => Some(ArchiveKeep::DEFAULT_TIME),
            ArchiveKeep::For(time) => Some(time),
            ArchiveKeep::Forever => None,
        };
        Some(Retention { keep, max_bytes: self.max_bytes })
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How long removed messages are kept. In a resource: `none`, `forever`, or a duration such as `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ArchiveKeep {
    /// For 30 days, but nothing on a store whose messages end with the process ([`Durability::Memory`]). In a resource:
    /// `default`.
    #[default]
    Default,
    /// Nothing is kept.
    None,
    /// For this time after the removal.
    For(Duration),
    /// Without an end.
    Forever,
}

impl ArchiveKeep {
    /// The time for which a store that outlives its process keeps removed messages by default: 30 days.
    pub const DEFAULT_TIME: Duration = Duration::from_secs(30 * 24 * 3_600);
}

impl Serialize for ArchiveKeep {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Default => to.serialize_str("default"),
            Self::None => to.serialize_str("none"),
            Self::For(time) => to.serialize_str(&duration::display(*time)),
            Self::Forever => to.serialize_str("forever"),
        }
    }
}

impl<'de> Deserialize<'de> for ArchiveKeep {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match &*text {
            "default" => Ok(Self::Default),
            "none" => Ok(Self::None),
            "forever" => Ok(Self::Forever),
            time => duration::parse(time).map(Self::For).map_err(|problem| {
                de::Error::custom(format!("{problem}; or write none or forever"))
            }),
        }
    }
}

/// A number of bytes: an integer, or a text such as `64MiB`.
fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    struct Bytes;

    impl de::Visitor<'_> for Bytes {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of bytes, such as 1048576, 512KiB, 64MiB or 1GiB")
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
            u64::try_from(number)
                .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let (number, unit) = text.split_at(end);
            let shift = match unit.trim() {
                "" | "B" => 0,
                "KiB" => 10,
                "MiB" => 20,
                "GiB" => 30,
                _ => return Err(E::invalid_value(de::Unexpected::Str(text), &self)),
            };
            let number: Option<u64> = number.parse().ok();
            number
                .and_then(|number| number.checked_mul(1 << shift))
                .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    from.deserialize_any(Bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn archive_is_read_and_written() {
        let read = |value: serde_json::Value| serde_json::from_value::<ArchiveSettings>(value);
        let day = Duration::from_hours(24);
        let thirty = read(json!({"keep": "30d"})).unwrap();
        assert_eq!(thirty, ArchiveSettings::keep_for(30 * day));
        assert_eq!(thirty.retention(Durability::Memory), Some(Retention::keep_for(30 * day)));
        let small = read(json!({"keep": "forever", "max_bytes": "512KiB"})).unwrap();
        let retention = small.retention(Durability::Memory).unwrap();
        assert_eq!((retention.keep, retention.max_bytes), (None, 512 << 10));
        assert_eq!(read(json!({"keep": "none"})).unwrap(), ArchiveSettings::none());
        assert_eq!(ArchiveSettings::none().retention(Durability::Disk), None);
        assert_eq!(read(json!({"max_bytes": 7})).unwrap().max_bytes, 7);
        for settings in [thirty, small, ArchiveSettings::default(), ArchiveSettings::none()] {
            assert_eq!(read(serde_json::to_value(settings).unwrap()).unwrap(), settings);
        }
        for (wrong, told) in [
            (json!({"keep": "always"}), "or write none or forever"),
            (json!({"keep": "30"}), "write 30s for seconds"),
            (json!({"max_bytes": "64MB"}), "such as 1048576, 512KiB"),
            (json!({"max_bytes": -1}), "a number of bytes"),
            (json!({"max_bytes": "99999999999GiB"}), "a number of bytes"),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn default_depends_on_the_store() {
        let resource = crate::MemoryResource::new("support", 8_000);
        let thirty = Some(Retention::keep_for(Duration::from_hours(30 * 24)));
        assert_eq!(resource.retention(Durability::Memory), None);
        assert_eq!(resource.retention(Durability::Process), thirty);
        assert_eq!(resource.retention(Durability::Disk), thirty);
    }

    #[test]
    fn nothing_is_kept_longer_than_the_ttl() {
        let mut resource = crate::MemoryResource::new("support", 8_000);
        let hour = Duration::from_hours(1);
        resource.persistence.ttl = Some(hour);
        for settings in [
            ArchiveSettings::default(),
            ArchiveSettings::forever(),
            ArchiveSettings::keep_for(2 * hour),
        ] {
            resource.archive = settings;
            assert_eq!(resource.retention(Durability::Disk), Some(Retention::keep_for(hour)));
        }
        resource.archive = ArchiveSettings::keep_for(hour / 2);
        assert_eq!(resource.retention(Durability::Disk), Some(Retention::keep_for(hour / 2)));
    }
}
