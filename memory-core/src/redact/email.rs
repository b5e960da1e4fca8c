//! E-mail addresses.

use std::ops::Range;

/// Adds the places of the addresses in a text.
pub(super) fn find(text: &str, found: &mut Vec<Range<usize>>) {
    let addresses = text.match_indices('@').filter_map(|(at, _)| {
        let local = local_part(text.get(..at)?)?;
        let domain = domain(text.get(at + 1..)?)?;
        Some(at - local..at + 1 + domain)
    });
    found.extend(addresses);
}

/// The length of the local part at the end of this text. Characters that are allowed but never used, such as `=` and
/// `/`, do not count, because usually the address is embedded in them.
fn local_part(before: &str) -> Option<usize> {
    let mut length = 0;
    let mut rest = before.chars().rev().peekable();
    while let Some(character) = rest.next() {
        let is_part = is_letter_or_digit(character)
            || matches!(character, '.' | '_' | '%' | '+' | '-')
            // `o'brien`, but not the quotes around an address.
            || character == '\'' && length > 0 && rest.peek().copied().is_some_and(is_letter_or_digit);
        if !is_part {
            break;
        }
        length += character.len_utf8();
    }
    let local = before.get(before.len() - length..)?.trim_start_matches(['.', '-', '\'']);
    (!local.is_empty()).then_some(local.len())
}

/// The length of the domain at the start of this text: at least two labels, the last of letters.
fn domain(after: &str) -> Option<usize> {
    let is_part = |character| is_letter_or_digit(character) || matches!(character, '-' | '.');
    let end = after.find(|character| !is_part(character)).unwrap_or(after.len());
    let mut length = 0;
    let mut domain = None;
    for label in after.get(..end)?.split('.') {
        if label.is_empty() || label.starts_with('-') {
            break;
        }
        let letters = if label.starts_with("xn--") {
            label.trim_end_matches('-').len()
        } else {
            label.find(|character: char| !character.is_alphabetic()).unwrap_or(label.len())
        };
        let is_long = label.get(..letters).is_some_and(|letters| letters.chars().count() > 1);
        if length > 0 && is_long {
            domain = Some(length + letters);
        }
        length += label.len() + 1;
    }
    domain.filter(|length| !after.get(..*length).is_some_and(is_scale_of_image))
}

/// Whether it is the end of a file name such as `icon@2x.png`.
fn is_scale_of_image(domain: &str) -> bool {
    matches!(
        domain.split_once('.'),
        Some(("2x" | "3x", "png" | "jpg" | "jpeg" | "gif" | "webp" | "svg"))
    )
}

fn is_letter_or_digit(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || !character.is_ascii()
            && character.is_alphanumeric()
            && !is_written_without_spaces(character)
}

/// Whether the character is of a script that does not separate words by spaces, or that appends endings directly to
/// words in another script.
const fn is_written_without_spaces(character: char) -> bool {
    matches!(character,
        '\u{e00}'..='\u{eff}'       // Thai, Lao
        | '\u{1000}'..='\u{109f}'   // Burmese
        | '\u{1780}'..='\u{17ff}'   // Khmer
        | '\u{3000}'..='\u{9fff}'   // Japanese, Chinese
        | '\u{ac00}'..='\u{d7af}'   // Korean
        | '\u{f900}'..='\u{faff}'   // Chinese
        | '\u{ff00}'..='\u{ffef}'   // wide and narrow forms
        | '\u{20000}'..='\u{3ffff}' // Chinese
    )
}
