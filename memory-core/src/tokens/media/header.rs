//! The size of a medium, from its header.

/// Decodes at most `most` bytes of base64: either alphabet, with or without padding. Other characters are skipped.
pub(super) fn decode(data: &str, most: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(most.min(data.len() / 4 * 3 + 3));
    let (mut bits, mut count) = (0_u32, 0);
    for letter in data.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            if bytes.len() >= most {
                break;
            }
            // The lowest eight of the remaining bits.
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

/// Enough for the headers of all formats but JPEG.
const HEADER: usize = 64;
/// JPEG stores its size after metadata and thumbnails.
const JPEG_HEADER: usize = 256 * 1024;

/// Width and height of an image in base64, in pixels.
pub(super) fn image_size(data: &str) -> Option<(u32, u32)> {
    let bytes = decode(data, HEADER);
    let (width, height) = match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => (big(&bytes, 16, 4)?, big(&bytes, 20, 4)?),
        [b'G', b'I', b'F', b'8', ..] => (little(&bytes, 6, 2)?, little(&bytes, 8, 2)?),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp_size(&bytes)?,
        [0xff, 0xd8, 0xff, ..] => jpeg_size(&decode(data, JPEG_HEADER))?,
        _ => return None,
    };
    let is_size = |side: &u32| (1..=100_000).contains(side);
    (is_size(&width) && is_size(&height)).then_some((width, height))
}

fn webp_size(bytes: &[u8]) -> Option<(u32, u32)> {
    match bytes.get(12..16)? {
        b"VP8X" => Some((little(bytes, 24, 3)? + 1, little(bytes, 27, 3)? + 1)),
        b"VP8 " => Some((little(bytes, 26, 2)? & 0x3fff, little(bytes, 28, 2)? & 0x3fff)),
        b"VP8L" => {
            let bits = little(bytes, 21, 4)?;
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        _ => None,
    }
}

fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        match *bytes.get(at..at + 2)? {
            // Fill bytes, and markers without a length.
            [0xff, 0xff] => at += 1,
            [0xff, 0x01 | 0xd0..=0xd8] => at += 2,
            [0xff, 0xc4 | 0xc8 | 0xcc] => at += 2 + big(bytes, at + 2, 2)? as usize,
            [0xff, 0xc0..=0xcf] => return Some((big(bytes, at + 7, 2)?, big(bytes, at + 5, 2)?)),
            // The image itself begins, or ends.
            [0xff, 0xd9 | 0xda] => return None,
            [0xff, _] => at += 2 + big(bytes, at + 2, 2)? as usize,
            _ => return None,
        }
    }
}

/// Bytes a second of WAV data in base64.
pub(super) fn byte_rate(data: &str) -> Option<u32> {
    let bytes = decode(data, HEADER);
    let is_wav = bytes.get(..4)? == b"RIFF" && bytes.get(8..16)? == b"WAVEfmt ";
    is_wav.then(|| little(&bytes, 28, 4)).flatten().filter(|rate| *rate > 0)
}

fn big(bytes: &[u8], at: usize, count: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + count)?;
    Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

fn little(bytes: &[u8], at: usize, count: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + count)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let bits = big(&[three, &[0, 0]].concat(), 0, 3).unwrap();
            for place in 0..=three.len() {
                text.push(LETTERS[(bits >> (18 - 6 * place) & 63) as usize].into());
            }
        }
        text
    }

    #[test]
    fn base64_of_either_alphabet_is_decoded() {
        assert_eq!(decode("aGVsbG8=", 99), b"hello");
        assert_eq!(decode("aGVs\nbG8", 99), b"hello");
        assert_eq!(decode("aGVsbG8", 3), b"hel");
        assert_eq!(decode("-_-_", 3), decode("+/+/", 3));
        assert_eq!(decode("", 3), b"");
    }

    #[test]
    fn sizes_are_read_from_every_format() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\x80\0\0\x01\xe0\x08\x06";
        let gif = b"GIF89a\x80\x02\xe0\x01\xf7";
        let lossy = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x80\x02\xe0\x01";
        let extended = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x7f\x02\0\xdf\x01\0";
        // 639 in 14 bits, then 479 in 14 bits.
        let lossless = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x7f\xc2\x77\0";
        let mut jpeg = b"\xff\xd8\xff\xe1\x9c\x42".to_vec();
        jpeg.extend([0xaa; 0x9c40]);
        jpeg.extend(b"\xff\xc4\0\x04\0\0\xff\xff\xc2\0\x11\x08\x01\xe0\x02\x80\x03");
        for image in [&png[..], gif, lossy, extended, lossless, &jpeg] {
            let name = String::from_utf8_lossy(image.get(..16).unwrap_or(image)).into_owned();
            assert_eq!(image_size(&encode(image)), Some((640, 480)), "{name}");
        }
    }

    #[test]
    fn broken_headers_have_no_size() {
        for image in [
            &b""[..],
            b"\x89PNG",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\0\0\0\x01\xe0\x08\x06",
            b"\xff\xd8\xff\xda\0\0\0\0",
            b"\xff\xd8\xff",
            b"\xff\xd8\xff\xe1\0\0",
            b"RIFF\0\0\0\0WEBPVP9 ",
            b"text of some length that is no image",
        ] {
            assert_eq!(image_size(&encode(image)), None, "{image:?}");
        }
    }

    #[test]
    fn wav_has_a_byte_rate() {
        let wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0";
        assert_eq!(byte_rate(&encode(wav)), Some(32_000));
        assert_eq!(byte_rate(&encode(b"RIFF\0\0\0\0WEBP")), None);
    }
}
