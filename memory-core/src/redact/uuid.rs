//! UUIDs in text.

use std::ops::Range;

/// The bytes of a UUID in text.
const LENGTH: usize = 36;

/// The places of its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// Adds the positions of UUIDs.
pub(super) fn find(text: &str, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let mut from = 0_usize;
    // At most nine bytes are compared for each start, unless the text has hyphens where a UUID has them.
    while let Some(window) = bytes.get(from..from.saturating_add(LENGTH)) {
        let end = from.saturating_add(LENGTH);
        let before = from.checked_sub(1).and_then(|before| bytes.get(before));
        if is_uuid(window) && !is_word(before) && !is_word(bytes.get(end)) {
            found.push(from..end);
            from = end;
        } else {
            from = from.saturating_add(1);
        }
    }
}

fn is_uuid(window: &[u8]) -> bool {
    window.iter().enumerate().all(|(place, byte)| {
        if HYPHENS.contains(&place) { *byte == b'-' } else { byte.is_ascii_hexdigit() }
    })
}
