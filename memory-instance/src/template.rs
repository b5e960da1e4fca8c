//! Keys from templates: `tera` over the context of a workflow.

use serde::Serialize;
use serde_json::{Map, Value};
use tera::{Context, Tera};

/// The variables that key templates see: those of the workflow, and whatever the caller adds.
///
/// ```
/// use memory_instance::{KeyContext, KeyTemplate};
///
/// let context = KeyContext::new()
///     .with("workflow.id", "refund")
///     .with("workflow.input", serde_json::json!({"userId": "u-7"}))
///     .with("session.id", "s-1");
/// let template = KeyTemplate::parse("{{ .workflow.input.userId }}:{{ session.id }}")?;
/// assert_eq!(template.render(&context)?, "u-7:s-1");
/// # Ok::<(), memory_instance::TemplateError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KeyContext(Map<String, Value>);

impl KeyContext {
    /// A context without variables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same context with one more variable. Dots lead into objects: `workflow.id` sets `id`
    /// within `workflow`. What cannot be written as JSON is left out.
    #[must_use]
    pub fn with(mut self, path: &str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            insert(&mut self.0, path, value);
        }
        self
    }

    /// The paths of all variables that hold a text, a number or a truth value.
    fn paths(&self) -> Vec<String> {
        fn walk(prefix: &str, map: &Map<String, Value>, paths: &mut Vec<String>) {
            for (name, value) in map {
                let path =
                    if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                match value {
                    Value::Object(inner) => walk(&path, inner, paths),
                    _ => paths.push(path),
                }
            }
        }
        let mut paths = Vec::new();
        walk("", &self.0, &mut paths);
        paths.sort();
        paths
    }
}

fn insert(map: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            map.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = map.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// A template of keys.
///
/// `{{ workflow.id }}` and all else that [`tera`] knows; the Go-style `{{ .workflow.id }}` of
/// migrating users means the same. What is filled in is data, and never a template again.
#[derive(Debug, Clone)]
pub struct KeyTemplate {
    tera: Tera,
    text: String,
}

/// The name of the one template that each [`Tera`] here holds.
const NAME: &str = "key";

/// How many of the variables an error lists.
const LISTED: usize = 20;

impl KeyTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] with the place.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut tera = Tera::default();
        tera.add_raw_template(NAME, &without_leading_dots(text)).map_err(|error| {
            TemplateError::Syntax { template: text.to_owned(), problem: first_line(&error) }
        })?;
        // Keys are no HTML: nothing in them is to be escaped.
        tera.autoescape_on(Vec::<&str>::new());
        Ok(Self { tera, text: text.to_owned() })
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Fills the template in.
    ///
    /// # Errors
    /// [`TemplateError::Render`] for a missing variable, which it names along with those there are;
    /// [`TemplateError::Empty`] where nothing but white space comes out.
    pub fn render(&self, context: &KeyContext) -> Result<String, TemplateError> {
        let mut variables = Context::new();
        for (name, value) in &context.0 {
            variables.insert(name.clone(), value);
        }
        let rendered = self.tera.render(NAME, &variables).map_err(|error| {
            let paths = context.paths();
            let more = paths.len().saturating_sub(LISTED);
            let mut available = paths.into_iter().take(LISTED).collect::<Vec<_>>().join(", ");
            if more > 0 {
                available.push_str(&format!(" and {more} more"));
            }
            if available.is_empty() {
                available.push_str("none");
            }
            let problem = first_line(&error);
            TemplateError::Render { template: self.text.clone(), problem, available }
        })?;
        if rendered.trim().is_empty() {
            return Err(TemplateError::Empty { template: self.text.clone() });
        }
        Ok(rendered)
    }
}

/// Takes the dot off names that begin with one, within `{{ }}` and `{% %}`.
fn without_leading_dots(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut inside, mut quote, mut before) = (false, None, ' ');
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let next = characters.peek().copied();
        match (inside, quote, character) {
            (false, _, '{') if matches!(next, Some('{' | '%')) => inside = true,
            (true, None, '}' | '%') if next == Some('}') && before != '{' => inside = false,
            (true, None, '"' | '\'' | '`') => quote = Some(character),
            (true, Some(open), close) if open == close => quote = None,
            (true, None, '.') => {
                let starts_name = next.is_some_and(|next| next.is_alphabetic() || next == '_');
                let follows_name =
                    before.is_alphanumeric() || matches!(before, '_' | ']' | ')' | '?');
                if starts_name && !follows_name {
                    before = character;
                    continue;
                }
            }
            _ => {}
        }
        out.push(character);
        before = character;
    }
    out
}

/// The first line of an error of `tera`, without the picture of the template below it.
fn first_line(error: &tera::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Why a template gives no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Not a template.
    #[error("key template `{template}`: {problem}; write variables as {{{{ workflow.id }}}}")]
    Syntax {
        /// The template.
        template: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A variable is missing, or cannot be used in that way.
    #[error("key template `{template}`: {problem}; the variables there are: {available}")]
    Render {
        /// The template.
        template: String,
        /// What went wrong, naming the variable.
        problem: String,
        /// The variables that there are.
        available: String,
    },
    /// Nothing comes out.
    #[error("key template `{template}` gives an empty key: fill in its variables")]
    Empty {
        /// The template.
        template: String,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn context() -> KeyContext {
        KeyContext::new()
            .with("workflow.id", "wf")
            .with("workflow.input", json!({"userId": "<a&b>", "n": 5, "t": "{{ user.id }}"}))
            .with("user.id", "u")
    }

    fn render(template: &str) -> Result<String, String> {
        let render = |template: KeyTemplate| template.render(&context());
        KeyTemplate::parse(template).and_then(render).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_fill_in_data_as_it_is() {
        for (template, key) in [
            ("support:{{ workflow.id }}", "support:wf"),
            ("{{ workflow.input.userId }}", "<a&b>"),
            ("{{ workflow.input.t }}", "{{ user.id }}"),
            ("{{.workflow.id}}-{{ .user.id | upper }}", "wf-U"),
            ("{{ workflow.id ~ .user.id }}", "wfu"),
            ("{% if .workflow.input.n > 4 %}big{% endif %}", "big"),
            ("a.b {{ \".x\" }} .c", "a.b .x .c"),
            ("plain", "plain"),
            ("{{ nothing | default(value='d') }}", "d"),
        ] {
            assert_eq!(render(template), Ok(key.into()), "{template}");
        }
    }

    #[test]
    fn what_gives_no_key_says_why_and_what_there_is() {
        for (template, error) in [
            (
                "{{ session.id }}",
                "key template `{{ session.id }}`: Variable `session` is not defined. Available variables: user, workflow; the variables there are: user.id, workflow.id, workflow.input.n, workflow.input.t, workflow.input.userId",
            ),
            (
                "{{ workflow.exec_id }}",
                "key template `{{ workflow.exec_id }}`: Field `exec_id` is not defined. Available fields: id, input; the variables there are: user.id, workflow.id, workflow.input.n, workflow.input.t, workflow.input.userId",
            ),
            (
                "{{ workflow.id",
                "key template `{{ workflow.id`: Unexpected end of input; write variables as {{ workflow.id }}",
            ),
            (
                "{{ workflow.id | frobnicate }}",
                "key template `{{ workflow.id | frobnicate }}`: Unknown filter `frobnicate`; write variables as {{ workflow.id }}",
            ),
            (" ", "key template ` ` gives an empty key: fill in its variables"),
            ("{{ '' }}", "key template `{{ '' }}` gives an empty key: fill in its variables"),
        ] {
            assert_eq!(render(template), Err(error.into()), "{template}");
        }
    }

    proptest! {
        #[test]
        fn no_template_makes_it_panic(template in "[{}%. a-z'\"|()\\[\\]0-9]{0,24}") {
            let _ = render(&template);
        }

        #[test]
        fn a_value_comes_out_as_it_went_in(value in "\\PC{1,20}") {
            prop_assume!(!value.trim().is_empty());
            let context = KeyContext::new().with("user.id", &value);
            let template = KeyTemplate::parse("{{ .user.id }}").unwrap();
            prop_assert_eq!(template.render(&context), Ok(value));
        }
    }
}
