//! Errors in a resource, with remedies.

use std::fmt::Display;

/// An invalid resource: the field, the problem and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// The text is not valid JSON, YAML or TOML.
    #[error("a resource in {format}: {problem}")]
    Syntax {
        /// JSON, YAML or TOML.
        format: &'static str,
        /// The place, and what the parser expected.
        problem: String,
    },
    /// A field that is unknown, missing, out of range, or in contradiction to another.
    #[error("{}: {}{problem}", subject(resource), place(path))]
    Field {
        /// The resource's id, empty if it has none.
        resource: String,
        /// The path of the field, empty for the resource as a whole.
        path: String,
        /// The problem and the remedy.
        problem: String,
    },
}

impl ResourceError {
    pub(super) fn syntax(format: &'static str, problem: &dyn Display) -> Self {
        // Parsers print the place over several lines; the first states the problem.
        let problem = problem.to_string();
        let line = problem.lines().next().unwrap_or_default().trim().to_owned();
        Self::Syntax { format, problem: shortened(&line) }
    }

    /// The parser's text suggests options of its API as remedies; this one does not.
    #[cfg(feature = "yaml")]
    pub(super) fn yaml(error: &serde_saphyr::Error) -> Self {
        use serde_saphyr::Error;
        let problem = error.without_snippet();
        let text = match problem {
            Error::MultipleDocuments { .. } => "there are several documents; write one resource to a file, without `---` in between".to_owned(),
            Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` is there twice; leave one of them"),
            Error::DuplicateMappingKey { .. } => "a key is there twice; leave one of them".to_owned(),
            Error::UnknownAnchor { .. } => "an alias (`*name`) has no anchor (`&name`); put the text in quotes, or add the anchor".to_owned(),
            other => {
                let text = other.render_with_formatter(&serde_saphyr::UserMessageFormatter);
                return Self::syntax("YAML", &text.trim_start_matches("error: "));
            }
        };
        match error.location() {
            Some(place) => Self::syntax(
                "YAML",
                &format!("line {} column {}: {text}", place.line(), place.column()),
            ),
            None => Self::syntax("YAML", &text),
        }
    }

    /// The parser prints the reason below an excerpt of the text.
    #[cfg(feature = "toml")]
    pub(super) fn toml(text: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Self::syntax("TOML", &format!("line {line}: {}", error.message()))
    }

    pub(super) fn field(resource: &str, path: &str, problem: impl Into<String>) -> Self {
        let problem = shortened(&problem.into());
        Self::Field { resource: shortened(resource), path: shortened(path), problem }
    }
}

/// On one line and of bounded length, because parsers quote unexpected text, which may be the whole input.
fn shortened(text: &str) -> String {
    const MOST: usize = 900;
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn subject(resource: &str) -> String {
    if resource.is_empty() { "the resource".to_owned() } else { format!("resource `{resource}`") }
}

fn place(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_one_short_line() {
        let error = ResourceError::field("r", "a.b", "is odd;\nfix it");
        assert_eq!(error.to_string(), "resource `r`: a.b: is odd; fix it");
        assert_eq!(ResourceError::field("r", "", "is odd").to_string(), "resource `r`: is odd");
        let error = ResourceError::syntax("YAML", &"  what\twhere  \n  drawn below");
        assert_eq!(error.to_string(), "a resource in YAML: what where");
        assert_eq!(shortened(&"é".repeat(900)), "é".repeat(900));
        assert_eq!(shortened(&"é".repeat(901)), format!("{}...", "é".repeat(900)));
    }
}
