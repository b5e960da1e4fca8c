//! Patterns of rendered keys.

use std::fmt;

use super::{KeyError, KeyPrefix, MemoryKey};

/// A pattern of rendered keys: texts, with any run of characters between two of them, also an empty one.
///
/// ```
/// use memory_core::store::KeyPattern;
///
/// let pattern = KeyPattern::parse("case-*-open");
/// assert!(pattern.matches("case-4711-open"));
/// assert!(!pattern.matches("case-4711-closed"));
/// // Not every `*` need be a wildcard.
/// let letter = KeyPattern::from_texts(["case-*-", ""]);
/// assert!(letter.matches("case-*-open") && !letter.matches("case-4711-open"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyPattern {
    first: String,
    /// The texts after each wildcard.
    rest: Vec<String>,
}

impl KeyPattern {
    /// A pattern in which each `*` is a wildcard.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::from_texts(text.split('*'))
    }

    /// A pattern with a wildcard between each two of these texts. Characters in them mean themselves. One text is a key
    /// without a wildcard.
    #[must_use]
    pub fn from_texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut texts = texts.into_iter().map(Into::into);
        Self { first: texts.next().unwrap_or_default(), rest: texts.collect() }
    }

    /// Whether it has a wildcard. Otherwise it matches one key.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Whether only its end is a wildcard, so that it matches all keys with its [prefix](Self::prefix).
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.has_wildcard() && self.rest.iter().all(String::is_empty)
    }

    /// The text with which each matching key begins; the key, if there is no wildcard.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.first
    }

    /// Whether the rendered key matches.
    #[must_use]
    pub fn matches(&self, rendered: &str) -> bool {
        let Some((last, middle)) = self.rest.split_last() else { return rendered == self.first };
        let Some(mut rest) = rendered.strip_prefix(self.first.as_str()) else { return false };
        for text in middle {
            // The first place leaves the most for the texts that follow.
            let Some((_, after)) = rest.split_once(text.as_str()) else { return false };
            rest = after;
        }
        rest.ends_with(last.as_str())
    }

    /// Whether the storage key is that of a matching memory of this project and resource.
    ///
    /// The rendered key of a key that is stored as a hash ([`MAX_KEY_BYTES`](crate::limits::MAX_KEY_BYTES)) is not known. It
    /// matches by its readable part, if only the pattern's end is a wildcard.
    ///
    /// # Errors
    /// [`KeyError`] if no memory can have such a key.
    pub fn matches_key(
        &self,
        project: &str,
        memory_id: &str,
        key: &MemoryKey,
    ) -> Result<bool, KeyError> {
        if !self.has_wildcard() {
            return Ok(MemoryKey::new(project, memory_id, &self.first)? == *key);
        }
        if !KeyPrefix::new(project, memory_id, &self.first)?.matches(key) {
            return Ok(false);
        }
        Ok(match key.parts() {
            Some((.., rendered)) => self.matches(&rendered),
            None => self.is_prefix(),
        })
    }
}

/// With `*` for each wildcard, and for each letter that is one.
impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first)?;
        self.rest.iter().try_for_each(|text| write!(f, "*{text}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: a wildcard matches any run of characters.
    fn matches(texts: &[String], key: &str) -> bool {
        let [first, rest @ ..] = texts else { return key.is_empty() };
        let Some(after) = key.strip_prefix(first.as_str()) else { return false };
        if rest.is_empty() {
            return after.is_empty();
        }
        let ends = after.char_indices().map(|(at, _)| at).chain([after.len()]);
        ends.into_iter().any(|at| matches(rest, &after[at..]))
    }

    fn part() -> impl Strategy<Value = String> {
        prop_oneof![3 => "[ab*:%~/]{1,4}", 1 => "[aé\n]{1,3}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn wildcards_match_any_run(
            texts in prop::collection::vec("[abé*]{0,2}", 1..5),
            key in "[abé*]{0,9}",
        ) {
            let pattern = KeyPattern::from_texts(texts.clone());
            prop_assert_eq!(pattern.matches(&key), matches(&texts, &key), "{}", pattern);
            if texts.iter().all(|text| !text.contains('*')) {
                prop_assert_eq!(KeyPattern::parse(&pattern.to_string()), pattern);
            }
        }

        #[test]
        fn matches_only_keys_of_its_resource(
            triple in (part(), part(), part()),
            of in (part(), part()),
            texts in prop::collection::vec("[ab:]{0,1}", 2..4),
        ) {
            let key = MemoryKey::new(&triple.0, &triple.1, &triple.2).unwrap();
            let pattern = KeyPattern::from_texts(texts);
            let is_of = (&triple.0, &triple.1) == (&of.0, &of.1);
            let found = pattern.matches_key(&of.0, &of.1, &key).unwrap();
            prop_assert_eq!(found, is_of && pattern.matches(&triple.2));
            prop_assert_eq!(
                pattern.matches_key(&triple.0, &triple.1, &key).unwrap(),
                pattern.matches(&triple.2)
            );
        }
    }

    #[test]
    fn long_keys_match_by_their_readable_part() {
        let long = format!("case-{}", "k".repeat(600));
        let key = MemoryKey::new("p", "m", &long).unwrap();
        let is_match = |pattern| KeyPattern::parse(pattern).matches_key("p", "m", &key).unwrap();
        assert!(is_match("case-*") && is_match("**") && is_match(&long));
        assert!(!is_match("case-*k") && !is_match("post-*") && !is_match(&long[1..]));
    }
}
