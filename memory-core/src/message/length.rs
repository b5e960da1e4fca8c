//! The length of a message in its stored form.

use std::io::{self, Write};

use super::{Message, Repr};

impl Message {
    /// The bytes of the message as [JSON](Self::to_json).
    #[must_use]
    pub(crate) fn json_bytes(&self) -> u64 {
        let mut length = Length(0);
        let done = match &self.0 {
            Repr::Plain(plain) => serde_json::to_writer(&mut length, &**plain).is_ok(),
            Repr::Full(full) => write!(length, "{}", full.json).is_ok(),
        };
        debug_assert!(done, "counting bytes does not fail");
        length.0
    }
}

/// Counts the bytes that are written.
struct Length(u64);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
