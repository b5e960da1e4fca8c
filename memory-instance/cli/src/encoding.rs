//! Detects the encoding or format of bytes that are not UTF-8 text.

/// The text, or the reason why the bytes are not text, with the remedy.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, String> {
    if let Some(problem) = problem(bytes) {
        return Err(problem);
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        format!(
            "is not UTF-8 text (byte {at}); convert it, such as with `iconv -f LATIN1 -t UTF-8`"
        )
    })
}

/// The binary format that the beginning of a file shows, if any.
///
/// UTF-16 by its byte order mark, or by the zero in one half of its first character, which JSON and YAML
/// begin with an ASCII one; others by the bytes that their formats begin with.
pub(crate) fn problem(bytes: &[u8]) -> Option<String> {
    let convert = |from: &str| {
        Some(format!("is {from} text; convert it, such as with `iconv -f {from} -t UTF-8`"))
    };
    let packed = |kind: &str| {
        Some(format!("is a {kind} file; give the unpacked text, or the text packed by gzip"))
    };
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => convert("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => convert("UTF-16"),
        [0, first, ..] if first.is_ascii_graphic() => convert("UTF-16BE"),
        [first, 0, ..] if first.is_ascii_graphic() => convert("UTF-16LE"),
        [b'P', b'K', 3, 4, ..] => packed("ZIP"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => packed("Zstandard"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => packed("XZ"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => packed("bzip2"),
        [b'S', b'Q', b'L', b'i', b't', b'e', b' ', b'f', ..] => {
            Some("is a SQLite database; read it with --store sqlite://PATH".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_encodings_and_formats_are_named() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        for (bytes, named) in [
            (utf16("\u{feff}{}"), "UTF-16 text"),
            (utf16("{}"), "UTF-16LE text"),
            (b"\0{\0}".to_vec(), "UTF-16BE text"),
            (b"PK\x03\x04".to_vec(), "ZIP file"),
            (b"\x28\xb5\x2f\xfd".to_vec(), "Zstandard file"),
            (b"gr\xfcn".to_vec(), "is not UTF-8 text (byte 2)"),
        ] {
            let problem = text(&bytes).unwrap_err();
            assert!(problem.contains(named), "{problem}");
        }
        assert_eq!(text("{\"ü\": 1}".as_bytes()), Ok("{\"ü\": 1}"));
        assert_eq!(text(b""), Ok(""));
    }
}
