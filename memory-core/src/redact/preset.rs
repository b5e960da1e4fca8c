//! Named kinds of secrets.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::digits::Digits;
use super::{email, uuid};

/// A kind of secret that [`Redactor`](super::Redactor) recognizes without a pattern.
///
/// A secret may be adjacent to a character of a script that is written without spaces. ASCII letters adjacent to a
/// number make it part of a word, such as a hash, which is not redacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RedactPreset {
    /// A social security number of the USA: 3, 2 and 4 digits with hyphens or spaces between them. Not redacted are
    /// numbers that are never issued (000, 666 and 900 to 999 in front, 00 in the middle, 0000 at the end; Social
    /// Security Administration, POMS RM 10201.035), and nine digits without separators.
    UsSsn,
    /// A number of a payment card: 13 to 19 digits that begin with 2 to 6 and pass the check of Luhn (ISO/IEC
    /// 7812-1), as one number or in groups of 4-4-4-4, 4-4-4-4-3, 4-6-5 or 4-6-4 with hyphens or spaces
    /// between them. One in ten other numbers of this form passes the check too.
    CardNumber,
    /// An e-mail address. Letters of scripts that are written without spaces do not count as part of it,
    /// because they may be the words around it.
    Email,
    /// A telephone number in international form, that is `+` and 8 to 15 digits (ITU-T E.164), with spaces, hyphens,
    /// points, slashes or parentheses between them; or in that of the USA, 3, 3 and 4 digits with hyphens, points,
    /// spaces or parentheses between them and optionally a leading `1`. Digits without any such mark are not
    /// redacted.
    Phone,
    /// An IPv4 address: four numbers from 0 to 255 without leading zeros. Longer dotted numbers are not redacted.
    Ipv4,
    /// A UUID (RFC 9562) in its usual form, 8, 4, 4, 4 and 12 hexadecimal digits with hyphens between them, in either case and
    /// of any version. Not redacted are 32 digits without hyphens.
    Uuid,
}

impl RedactPreset {
    /// All presets.
    pub const ALL: [Self; 6] =
        [Self::UsSsn, Self::CardNumber, Self::Email, Self::Phone, Self::Ipv4, Self::Uuid];

    /// The name in a resource.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UsSsn => "us_ssn",
            Self::CardNumber => "card_number",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Ipv4 => "ipv4",
            Self::Uuid => "uuid",
        }
    }

    /// Adds the positions of its matches.
    pub(super) fn find(self, text: &str, found: &mut Vec<Range<usize>>) {
        match self {
            Self::UsSsn => Digits::of(text).social_security_numbers(found),
            Self::CardNumber => Digits::of(text).card_numbers(found),
            Self::Email => email::find(text, found),
            Self::Phone => Digits::of(text).phone_numbers(found),
            Self::Ipv4 => Digits::of(text).ipv4_addresses(found),
            Self::Uuid => uuid::find(text, found),
        }
    }
}

#[cfg(test)]
mod tests;
