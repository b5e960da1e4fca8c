//! Secrets that are written in groups of digits.

use std::net::Ipv4Addr;
use std::ops::Range;

/// The most digits of an international telephone number, with the code of its country (ITU-T E.164).
const PHONE_DIGITS: usize = 15;
/// The fewest: shorter ones look like a number with a sign.
const FEWEST_PHONE_DIGITS: usize = 8;
/// The digits of a telephone number in the USA and other countries with code 1, including that code.
const NANP_DIGITS: usize = 11;

/// The groups of digits in a text.
pub(super) struct Digits<'t> {
    text: &'t str,
    groups: Vec<Range<usize>>,
}

impl<'t> Digits<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let mut groups: Vec<Range<usize>> = Vec::new();
        for (at, byte) in text.bytes().enumerate() {
            if !byte.is_ascii_digit() {
                continue;
            }
            match groups.last_mut() {
                Some(group) if group.end == at => group.end += 1,
                _ => groups.push(at..at + 1),
            }
        }
        Self { text, groups }
    }

    pub(super) fn social_security_numbers(&self, found: &mut Vec<Range<usize>>) {
        for first in 0..self.groups.len() {
            let (area, group, serial) =
                (self.digits(first), self.digits(first + 1), self.digits(first + 2));
            let is_given_out = [area.len(), group.len(), serial.len()] == [3, 2, 4]
                && !matches!(area, "000" | "666")
                && !area.starts_with('9')
                && group != "00"
                && serial != "0000";
            let separator = self.separator(first + 1);
            if is_given_out
                && is_hyphen_or_space(separator)
                && self.separator(first + 2) == separator
                && !self.is_longer(first, first + 2, separator)
            {
                found.extend(self.whole(first, first + 2));
            }
        }
    }

    pub(super) fn card_numbers(&self, found: &mut Vec<Range<usize>>) {
        for first in 0..self.groups.len() {
            // The digits of a fraction.
            if self.separator(first) == "." {
                continue;
            }
            // Several forms may fit if another number follows.
            for last in first..(first + 5).min(self.groups.len()) {
                let separator = self.separator(first + 1);
                let has_form = (first + 1..=last).all(|group| {
                    is_hyphen_or_space(separator) && self.separator(group) == separator
                }) && self.has_form_of_card(first, last);
                if has_form && self.is_card_number(first, last) {
                    found.extend(self.whole(first, last));
                }
            }
        }
    }

    fn has_form_of_card(&self, first: usize, last: usize) -> bool {
        let mut lengths = [0; 5];
        for (length, group) in lengths.iter_mut().zip(first..=last) {
            *length = self.digits(group).len();
        }
        matches!(lengths, [13..=19, 0, 0, 0, 0] | [4, 4, 4, 4, 0..=3] | [4, 6, 4 | 5, 0, 0])
    }

    /// Whether the digits have a card's prefix and a valid check digit.
    fn is_card_number(&self, first: usize, last: usize) -> bool {
        let digits = || (first..=last).flat_map(|group| self.digits(group).bytes());
        let sum: u32 = digits()
            .map(|digit| u32::from(digit - b'0'))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .enumerate()
            .map(|(place, digit)| match (place % 2, digit * 2) {
                (0, _) => digit,
                (_, twice @ 0..=9) => twice,
                (_, twice) => twice - 9,
            })
            .sum();
        matches!(digits().next(), Some(b'2'..=b'6')) && sum.is_multiple_of(10)
    }

    pub(super) fn ipv4_addresses(&self, found: &mut Vec<Range<usize>>) {
        for first in 0..self.groups.len() {
            let last = first + 3;
            let has_points = (first + 1..=last).all(|group| self.separator(group) == ".");
            // Five numbers are a version or an object identifier; a hyphen after it joins a range.
            if !has_points || self.separator(first) == "." || self.separator(last + 1) == "." {
                continue;
            }
            let is_address = |range: &Range<usize>| {
                self.text.get(range.clone()).is_some_and(|text| text.parse::<Ipv4Addr>().is_ok())
            };
            found.extend(self.whole(first, last).filter(is_address));
        }
    }

    pub(super) fn phone_numbers(&self, found: &mut Vec<Range<usize>>) {
        for first in 0..self.groups.len() {
            found.extend(self.international(first).or_else(|| self.of_usa(first)));
        }
    }

    /// The telephone number after the `+` before this group.
    fn international(&self, first: usize) -> Option<Range<usize>> {
        let plus = self.groups.get(first)?.start.checked_sub(1)?;
        let before = self.text.get(..plus)?;
        if !self.text.get(plus..)?.starts_with('+')
            || before.ends_with(|character: char| character.is_ascii_alphanumeric())
            || self.digits(first).starts_with('0')
        {
            return None;
        }
        let (fewest, most) = if self.digits(first).starts_with('1') {
            (NANP_DIGITS, NANP_DIGITS)
        } else {
            (FEWEST_PHONE_DIGITS, PHONE_DIGITS)
        };
        let mut last = first;
        let mut count = self.digits(first).len();
        while is_within_phone_number(self.separator(last + 1))
            && count + self.digits(last + 1).len() <= most
        {
            last += 1;
            count += self.digits(last).len();
        }
        // `+1234.5678` is a number with a fraction.
        let is_fraction = last == first + 1 && self.separator(last) == ".";
        let is_number = (fewest..=most).contains(&count) && !is_fraction;
        (is_number && self.ends_word(last)).then(|| plus..self.end(last))
    }

    /// The telephone number in the form of the USA whose area code is this group.
    fn of_usa(&self, area: usize) -> Option<Range<usize>> {
        let lengths = [area, area + 1, area + 2].map(|group| self.digits(group).len());
        if lengths != [3, 3, 4] {
            return None;
        }
        let start = self.groups.get(area)?.start;
        let before = self.text.get(..start)?;
        let separators = (self.separator(area + 1), self.separator(area + 2));
        let (start, has_form) = match separators.0.strip_prefix(')') {
            Some(behind) => {
                let has_form = before.ends_with('(') && (behind.is_empty() || is_mark(behind));
                (start.checked_sub(1)?, has_form && is_mark(separators.1))
            }
            None => {
                let has_points = (separators.0 == ".", separators.1 == ".");
                let has_form = is_mark(separators.0) && is_mark(separators.1);
                (start, has_form && has_points.0 == has_points.1)
            }
        };
        // A preceding `1` is the country code.
        let code = area.checked_sub(1).filter(|code| {
            let separator = self.separator(area);
            self.digits(*code) == "1"
                && is_mark(
                    separator
                        .strip_suffix('(')
                        .filter(|mark| !mark.is_empty())
                        .unwrap_or(separator),
                )
        });
        let first = code.unwrap_or(area);
        let last = area + 2;
        let is_longer = |group| is_joint(self.separator(group));
        if !has_form || is_longer(first) || is_longer(last + 1) {
            return None;
        }
        let begins_word = match code {
            Some(code) => self.begins_word(code),
            None => start < self.groups.get(area)?.start || self.begins_word(area),
        };
        let start = code.and_then(|code| self.groups.get(code)).map_or(start, |code| code.start);
        (begins_word && self.ends_word(last)).then(|| start..self.end(last))
    }

    /// The digits of a group; empty after the last one.
    fn digits(&self, group: usize) -> &'t str {
        self.groups.get(group).and_then(|range| self.text.get(range.clone())).unwrap_or_default()
    }

    fn end(&self, group: usize) -> usize {
        self.groups.get(group).map_or(self.text.len(), |range| range.end)
    }

    /// The text between a group and the previous one; empty before the first and after the last.
    fn separator(&self, group: usize) -> &'t str {
        let between = || {
            let before = self.groups.get(group.checked_sub(1)?)?;
            self.text.get(before.end..self.groups.get(group)?.start)
        };
        between().unwrap_or_default()
    }

    /// Whether more digits are joined to these groups, by this separator, a hyphen or a point.
    fn is_longer(&self, first: usize, last: usize, separator: &str) -> bool {
        [self.separator(first), self.separator(last + 1)]
            .into_iter()
            .any(|outer| !outer.is_empty() && (outer == separator || is_joint(outer)))
    }

    /// The place of these groups, unless a letter touches them.
    fn whole(&self, first: usize, last: usize) -> Option<Range<usize>> {
        let range = self.groups.get(first)?.start..self.groups.get(last)?.end;
        let after = self.text.get(range.end..)?;
        let is_word = after.starts_with(|character: char| character.is_ascii_alphabetic());
        (self.begins_word(first) && !is_word).then_some(range)
    }

    fn begins_word(&self, group: usize) -> bool {
        let before = self.groups.get(group).and_then(|range| self.text.get(..range.start));
        !before.is_some_and(|text| text.ends_with(|c: char| c.is_ascii_alphabetic()))
    }

    /// Whether no letter follows, except the `x` of an extension.
    fn ends_word(&self, group: usize) -> bool {
        let mut after = self.text.get(self.end(group)..).unwrap_or_default().chars();
        match after.next() {
            Some('x' | 'X') => after.next().is_some_and(|character| character.is_ascii_digit()),
            next => !next.is_some_and(|character| character.is_ascii_alphabetic()),
        }
    }
}

/// Whether the text is one character of this kind.
fn is_one(text: &str, is_kind: impl Fn(char) -> bool) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(is_kind) && characters.next().is_none()
}

/// A hyphen or one of its typographic variants.
const fn is_hyphen(character: char) -> bool {
    matches!(character, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

const fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\u{a0}' | '\u{2007}' | '\u{2009}' | '\u{202f}')
}

fn is_hyphen_or_space(separator: &str) -> bool {
    is_one(separator, |character| is_hyphen(character) || is_space(character))
}

/// Whether this separator joins two numbers into one.
fn is_joint(separator: &str) -> bool {
    is_one(separator, |character| is_hyphen(character) || character == '.')
}

/// Whether this separator can be between the groups of a telephone number.
fn is_mark(separator: &str) -> bool {
    is_hyphen_or_space(separator) || separator == "."
}

/// Whether this separator can be between the groups of an international telephone number, such as `) ` or ` (`.
fn is_within_phone_number(separator: &str) -> bool {
    let is_allowed = |character| {
        is_hyphen(character) || is_space(character) || matches!(character, '.' | '/' | '(' | ')')
    };
    (1..=3).contains(&separator.chars().count())
        && separator.chars().all(is_allowed)
        && separator.chars().filter(|character| is_space(*character)).count() < 2
}
