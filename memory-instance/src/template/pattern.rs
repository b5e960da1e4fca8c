//! Patterns from templates: a `*` of the template is a wildcard, one of a variable is a letter.

use memory_core::store::KeyPattern;

use super::form::{WILDCARD, read_form_with};
use super::{KeyContext, KeyTemplate, TemplateError, shown};

/// Takes the place of the wildcards in a second rendering. As long as they are, so that both renderings have the same
/// places.
const OTHER: char = '+';

impl KeyTemplate {
    /// Renders a pattern of keys. A `*` in the template's own text is a wildcard: any run of characters. One in a tag, or
    /// one that a variable brings, is a letter.
    ///
    /// ```
    /// use memory_instance::{KeyContext, KeyTemplate};
    ///
    /// let template = KeyTemplate::parse("{{ user.id }}-*")?;
    /// let pattern = template.render_pattern(&KeyContext::new().with("user.id", "*"))?;
    /// assert!(pattern.matches("*-2026") && !pattern.matches("u7-2026"));
    /// # Ok::<(), memory_instance::TemplateError>(())
    /// ```
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_pattern(&self, context: &KeyContext) -> Result<KeyPattern, TemplateError> {
        let rendered = self.render(context)?;
        if !self.text.contains(WILDCARD) {
            return Ok(KeyPattern::from_texts([rendered]));
        }
        let form = read_form_with(&self.text, OTHER)
            .map_err(|problem| TemplateError::Syntax { template: shown(&self.text), problem })?;
        // No tag can look at the text around it, so the renderings differ in the wildcards alone.
        let other = Self::compile(&self.text, &form)?.render(context)?;
        pattern_of(&rendered, &other).ok_or_else(|| {
            self.refusal("gives another text each time; leave functions out".into(), context)
        })
    }
}

/// The pattern with a wildcard where the renderings differ. `None` if they differ otherwise.
fn pattern_of(rendered: &str, other: &str) -> Option<KeyPattern> {
    if rendered.len() != other.len() {
        return None;
    }
    let mut texts = vec![String::new()];
    for (letter, other) in rendered.chars().zip(other.chars()) {
        match (letter, other) {
            (WILDCARD, OTHER) => texts.push(String::new()),
            _ if letter == other => texts.last_mut()?.push(letter),
            _ => return None,
        }
    }
    Some(KeyPattern::from_texts(texts))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(template: &str, value: &str) -> KeyPattern {
        let context = KeyContext::new().with("v", value);
        KeyTemplate::parse(template).unwrap().render_pattern(&context).unwrap()
    }

    #[test]
    fn only_stars_of_the_text_are_wildcards() {
        for (template, texts) in [
            ("case-*", vec!["case-", ""]),
            ("*", vec!["", ""]),
            ("a{# * #}b", vec!["ab"]),
            ("{{ v }}*{{ v }}", vec!["x*+", "x*+"]),
            ("{{ '*' }}-{{ 2 * 3 }}-+*", vec!["*-6-+", ""]),
            ("{% if v == '*' %}*{% else %}a*b{% endif %}", vec!["a", "b"]),
            ("é* {{- v }}", vec!["é", "x*+"]),
        ] {
            assert_eq!(pattern(template, "x*+"), KeyPattern::from_texts(texts), "{template}");
        }
        assert!(pattern_of("a", "b").is_none() && pattern_of("a", "ab").is_none());
        assert!(
            KeyTemplate::parse("*{{ w }}").unwrap().render_pattern(&KeyContext::new()).is_err()
        );
    }

    proptest! {
        #[test]
        fn variables_bring_no_wildcard(value in "[a*+{}é]{1,6}", end in "[a*+]{0,3}") {
            let found = pattern("k{{ v }}-*", &value);
            prop_assert!(found.matches(&format!("k{value}-{end}")), "{found}");
            let other = value.replace('*', "b");
            let is_match = found.matches(&format!("k{other}-{end}"));
            prop_assert_eq!(is_match, other == value, "{}", found);
        }
    }
}
