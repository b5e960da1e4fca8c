//! Checks the form of a key template before `tera` parses it.
//!
//! `tera` recurses into nested expressions, so deep nesting could overflow the stack, and nested loops could run
//! forever. So the size and the number of tags and operators are limited, and loops are refused.

/// The maximum length of a template, in bytes.
pub(super) const MAX_TEMPLATE_BYTES: usize = 2_048;

/// The maximum number of `{{ }}` and `{% %}` tags.
const MAX_TAGS: usize = 64;

/// The maximum number of operators, brackets and filters in one tag.
const MAX_OPERATORS: usize = 64;

/// The permitted first words of a tag.
const TAGS: [&str; 4] = ["if", "elif", "else", "endif"];

/// Words that count as operators.
const OPERATORS: [&str; 6] = ["not", "and", "or", "in", "is", "if"];

/// The wildcard of patterns, if it is in the text of a template and not in a tag.
pub(super) const WILDCARD: char = '*';

/// Checks the form of a template, and removes the leading dot of Go-style names.
pub(super) fn read_form(text: &str) -> Result<String, String> {
    read_form_with(text, WILDCARD)
}

/// The same, with this letter in place of each wildcard.
pub(super) fn read_form_with(text: &str, wildcard: char) -> Result<String, String> {
    if text.len() > MAX_TEMPLATE_BYTES {
        return Err(format!(
            "has {} bytes, over the limit of {MAX_TEMPLATE_BYTES}; shorten it",
            text.len()
        ));
    }
    let mut form = Form { out: String::with_capacity(text.len()), rest: text, wildcard };
    let mut tags = 0;
    while let Some(open) = form.take_text() {
        if open == "{#" {
            form.take_comment();
            continue;
        }
        tags += 1;
        if tags > MAX_TAGS {
            return Err(format!("has more than {MAX_TAGS} tags; leave some out"));
        }
        form.take_tag(if open == "{{" { "}}" } else { "%}" })?;
    }
    Ok(form.out)
}

struct Form<'a> {
    out: String,
    rest: &'a str,
    wildcard: char,
}

impl Form<'_> {
    fn take(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.out.push_str(taken);
        self.rest = rest;
    }

    /// Takes the text before the next tag or comment, and returns the opening delimiter.
    fn take_text(&mut self) -> Option<&'static str> {
        let found = ["{{", "{%", "{#"]
            .into_iter()
            .filter_map(|open| Some((self.rest.find(open)?, open)))
            .min();
        let (text, rest) = match found {
            Some((start, _)) => self.rest.split_at_checked(start).unwrap_or((self.rest, "")),
            None => (self.rest, ""),
        };
        let letter = |letter| if letter == WILDCARD { self.wildcard } else { letter };
        self.out.extend(text.chars().map(letter));
        self.rest = rest;
        let (_, open) = found?;
        self.take(open.len());
        Some(open)
    }

    fn take_comment(&mut self) {
        let end = self.rest.find("#}").map_or(self.rest.len(), |end| end + 2);
        self.take(end);
    }

    /// Takes a tag up to its end. `tera` reports a tag without an end.
    fn take_tag(&mut self, end: &str) -> Result<(), String> {
        let (mut operators, mut before, mut first) = (0, ' ', true);
        while let Some(character) = self.rest.chars().next() {
            if self.rest.starts_with(end) {
                self.take(end.len());
                return Ok(());
            }
            match character {
                '"' | '\'' | '`' => self.take(quoted(self.rest, character)),
                '.' if self.begins_name(before) => {
                    self.rest = self.rest.get(1..).unwrap_or_default();
                }
                c if c.is_alphabetic() || c == '_' => {
                    let length = self
                        .rest
                        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                        .unwrap_or(self.rest.len());
                    let word = self.rest.get(..length).unwrap_or_default();
                    let is_field = before == '.';
                    if !is_field
                        && (word == "for" || (first && end == "%}" && !TAGS.contains(&word)))
                    {
                        return Err(format!(
                            "`{word}` is not for keys; of the tags there are if, elif, else and endif"
                        ));
                    }
                    operators += usize::from(!is_field && OPERATORS.contains(&word));
                    first = false;
                    self.take(length);
                }
                c => {
                    operators += usize::from(c.is_ascii_punctuation() && c != '.');
                    self.take(c.len_utf8());
                }
            }
            if operators > MAX_OPERATORS {
                return Err(format!(
                    "has more than {MAX_OPERATORS} operators and brackets in one tag; make it simpler"
                ));
            }
            before = self.out.chars().next_back().unwrap_or(' ');
        }
        Ok(())
    }

    /// Whether the next dot is at a position where a name can begin.
    fn begins_name(&self, before: char) -> bool {
        let next = self.rest.chars().nth(1);
        let starts_name = next.is_some_and(|next| next.is_alphabetic() || next == '_');
        let follows_name = before.is_alphanumeric() || matches!(before, '_' | ']' | ')' | '?');
        starts_name && !follows_name
    }
}

/// The length of the quoted text that comes next; `\` escapes a character.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    let mut characters = text.char_indices().skip(1);
    characters
        .find(|(_, character)| {
            let ends = !escaped && *character == quote;
            escaped = !escaped && *character == '\\';
            ends
        })
        .map_or(text.len(), |(end, _)| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_running_or_deep_templates_are_refused() {
        for (template, problem) in [
            ("{% for x in y %}{% endfor %}", "`for` is not for keys"),
            ("{%- for x in y %}", "`for` is not for keys"),
            ("{{ [x for x in y] }}", "`for` is not for keys"),
            ("{% set x = 'a' %}", "`set` is not for keys"),
            ("{# {{ ' #}{% set_global x = 1 %}", "`set_global` is not for keys"),
            ("{{ '\\'' }}{% macro m() %}", "`macro` is not for keys"),
            ("{% raw %}{{ '{% endraw %}{% for x in y %}", "`raw` is not for keys"),
            (&format!("{{{{ {}1 }}}}", "(".repeat(65)), "has more than 64 operators"),
            (&format!("{{{{ {}1 }}}}", "not ".repeat(65)), "has more than 64 operators"),
            (&"{% if a %}".repeat(65), "has more than 64 tags"),
            (&"a".repeat(2_049), "has 2049 bytes, over the limit of 2048; shorten it"),
        ] {
            let refused = read_form(template).unwrap_err();
            assert!(refused.starts_with(problem), "{template}: {refused}");
        }
    }
}
