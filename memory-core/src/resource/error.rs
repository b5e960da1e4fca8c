//! What is wrong with a resource, and how to mend it.

use std::fmt::Display;

/// A resource that cannot work: which field, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// Not even in the format.
    #[error("a resource in {format}: {problem}")]
    Syntax {
        /// JSON, YAML or TOML.
        format: &'static str,
        /// Where, and what was expected.
        problem: String,
    },
    /// A field that is unknown, missing, out of range, or in contradiction to another.
    #[error("resource `{resource}`: {}{problem}", place(path))]
    Field {
        /// The resource's id, empty if it has none.
        resource: String,
        /// The path of the field, empty for the resource as a whole.
        path: String,
        /// What is wrong, and the mend.
        problem: String,
    },
}

impl ResourceError {
    pub(super) fn syntax(format: &'static str, problem: &dyn Display) -> Self {
        // Parsers draw the place over several lines; the first says what and where.
        let problem = problem.to_string();
        let line = problem.lines().next().unwrap_or_default().trim().to_owned();
        Self::Syntax { format, problem: shortened(&line) }
    }

    pub(super) fn field(resource: &str, path: &str, problem: impl Into<String>) -> Self {
        let problem = shortened(&problem.into());
        Self::Field { resource: shortened(resource), path: shortened(path), problem }
    }
}

/// On one line, and of a length that can be read: parsers quote what they did not expect, which may be
/// all of the text.
fn shortened(text: &str) -> String {
    const MOST: usize = 900;
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn place(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_of_a_length_that_can_be_read() {
        let error = ResourceError::field("r", "a.b", "is odd;\nmend it");
        assert_eq!(error.to_string(), "resource `r`: a.b: is odd; mend it");
        assert_eq!(ResourceError::field("r", "", "is odd").to_string(), "resource `r`: is odd");
        let error = ResourceError::syntax("YAML", &"  what\twhere  \n  drawn below");
        assert_eq!(error.to_string(), "a resource in YAML: what where");
        assert_eq!(shortened(&"é".repeat(900)), "é".repeat(900));
        assert_eq!(shortened(&"é".repeat(901)), format!("{}...", "é".repeat(900)));
    }
}
