//! Confirmation that a write reached replicas or the disk.

use std::time::Duration;

use redis::{Cmd, Value};

/// The way in which a write is confirmed after it was applied.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Confirmation {
    Replicas { count: u32, within: Duration },
    Disk { within: Duration },
}

impl Confirmation {
    pub(crate) fn command(self) -> Cmd {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        match self {
            Self::Replicas { count, within } => {
                redis::cmd("WAIT").arg(count).arg(millis(within)).take()
            }
            Self::Disk { within } => redis::cmd("WAITAOF").arg(1).arg(0).arg(millis(within)).take(),
        }
    }

    /// The number of confirmations that were requested, and the number that arrived.
    pub(crate) fn counts(self, answer: &Value) -> (u32, u32) {
        let int = |value: Option<&Value>| match value {
            Some(Value::Int(number)) => u32::try_from(*number).unwrap_or_default(),
            _ => 0,
        };
        match (self, answer) {
            (Self::Replicas { count, .. }, answer) => (count, int(Some(answer))),
            (Self::Disk { .. }, Value::Array(parts)) => (1, int(parts.first())),
            (Self::Disk { .. }, _) => (1, 0),
        }
    }

    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Replicas { .. } => "replicas",
            Self::Disk { .. } => "disks",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_millis(1_500);

    /// `WAITAOF` returns the numbers of local disks and of replicas that have the write; `WAIT` returns one
    /// number.
    #[test]
    fn only_numeric_confirmations_are_counted() {
        let (disk, replicas) = (
            Confirmation::Disk { within: WITHIN },
            Confirmation::Replicas { count: 2, within: WITHIN },
        );
        let ints =
            |numbers: &[i64]| Value::Array(numbers.iter().copied().map(Value::Int).collect());
        for (confirmation, answer, counts) in [
            (disk, ints(&[1, 0]), (1, 1)),
            (disk, ints(&[0, 3]), (1, 0)),
            (disk, ints(&[]), (1, 0)),
            (disk, Value::Int(1), (1, 0)),
            (disk, Value::Array(vec![Value::Nil, Value::Int(1)]), (1, 0)),
            (disk, Value::Nil, (1, 0)),
            (replicas, Value::Int(2), (2, 2)),
            (replicas, Value::Int(0), (2, 0)),
            (replicas, Value::Int(-1), (2, 0)),
            (replicas, ints(&[2, 2]), (2, 0)),
            (replicas, Value::Nil, (2, 0)),
        ] {
            assert_eq!(confirmation.counts(&answer), counts, "{confirmation:?}: {answer:?}");
        }
    }

    #[test]
    fn confirmation_wait_is_local_and_bounded() {
        let packed = |confirmation: Confirmation| {
            let packed = confirmation.command().get_packed_command();
            String::from_utf8(packed).unwrap().replace("\r\n", " ")
        };
        let disk = packed(Confirmation::Disk { within: WITHIN });
        assert_eq!(disk, "*4 $7 WAITAOF $1 1 $1 0 $4 1500 ");
        // A timeout of zero would mean without limit.
        let replicas = packed(Confirmation::Replicas { count: 2, within: Duration::ZERO });
        assert_eq!(replicas, "*3 $4 WAIT $1 2 $1 1 ");
    }
}
