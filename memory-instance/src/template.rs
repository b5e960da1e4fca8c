//! Keys from `tera` templates, rendered with the variables of a workflow.

use std::io;

use memory_core::limits::MAX_KEY_PART_BYTES;
use serde::Serialize;
use serde_json::{Map, Value};
use tera::{Context, Kwargs, State, Tera, TeraResult};

use self::form::{MAX_TEMPLATE_BYTES, read_form};

mod form;
mod pattern;

/// The variables of key templates: those of the workflow, and any that the caller adds.
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

    /// Adds a variable. Dots separate nested objects: `workflow.id` sets `id` within `workflow`. A value that cannot
    /// be serialized as JSON is omitted.
    #[must_use]
    pub fn with(mut self, path: &str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            insert(&mut self.0, path, value);
        }
        self
    }

    /// Adds a variable unless it is there already.
    pub(crate) fn or_with(self, path: &str, value: &str) -> Self {
        let mut fields = &self.0;
        let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            match fields.get(parent) {
                Some(Value::Object(inner)) => fields = inner,
                // A caller's variable that is no object is not replaced by one.
                Some(_) => return self,
                None => return self.with(path, value),
            }
        }
        if fields.contains_key(name) { self } else { self.with(path, value) }
    }

    /// The paths of all variables that hold a string, a number or a boolean.
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
/// The syntax is that of [`tera`], with expressions, filters and conditions: `{{ workflow.id }}`. For users who
/// migrate, the Go style `{{ .workflow.id }}` means the same. Values are inserted as data and never parsed as
/// templates.
///
/// Templates have no loops, so rendering takes little time and memory. `for`, `set`, `raw` and all features for
/// pages (`block`, `include`, `range`, `indent`, `escape`, ...) are refused. A template has at most
/// [`MAX_BYTES`](Self::MAX_BYTES), a key [`MAX_KEY_PART_BYTES`](memory_core::limits::MAX_KEY_PART_BYTES).
#[derive(Debug, Clone)]
pub struct KeyTemplate {
    tera: Tera,
    text: String,
}

/// The name of the only template in each [`Tera`] here.
const NAME: &str = "key";

/// The maximum number of variables that an error lists.
const LISTED: usize = 20;

impl KeyTemplate {
    /// The maximum length of a template, in bytes.
    pub const MAX_BYTES: usize = MAX_TEMPLATE_BYTES;

    /// Parses a template.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] with the position.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let refuse = |problem| TemplateError::Syntax { template: shown(text), problem };
        let form = read_form(text).map_err(refuse)?;
        Self::compile(text, &form)
    }

    fn compile(text: &str, form: &str) -> Result<Self, TemplateError> {
        let mut tera = Tera::default();
        bound(&mut tera);
        tera.add_raw_template(NAME, form).map_err(|error| TemplateError::Syntax {
            template: shown(text),
            problem: first_line(&error),
        })?;
        // Keys are not HTML, so nothing in them is escaped.
        tera.autoescape_on(Vec::<&str>::new());
        Ok(Self { tera, text: text.to_owned() })
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Renders the key.
    ///
    /// # Errors
    /// [`TemplateError::Render`] for a missing variable, with the names of the existing ones, and for a key that is
    /// too long; [`TemplateError::Empty`] if the key is empty or only white space.
    pub fn render(&self, context: &KeyContext) -> Result<String, TemplateError> {
        let mut variables = Context::new();
        for (name, value) in &context.0 {
            variables.insert(name.clone(), value);
        }
        let mut rendered = Rendered::default();
        let done = self.tera.render_to(NAME, &variables, &mut rendered);
        if rendered.is_full {
            return Err(self.too_long(context));
        }
        done.map_err(|error| self.refusal(describe(&first_line(&error)), context))?;
        let Ok(rendered) = String::from_utf8(rendered.text) else {
            return Err(self.refusal("gives no text".into(), context));
        };
        if rendered.trim().is_empty() {
            return Err(TemplateError::Empty { template: self.text.clone() });
        }
        Ok(rendered)
    }

    fn too_long(&self, context: &KeyContext) -> TemplateError {
        self.refusal(TOO_LONG.into(), context)
    }

    fn refusal(&self, problem: String, context: &KeyContext) -> TemplateError {
        let paths = context.paths();
        let more = paths.len().saturating_sub(LISTED);
        let mut available =
            paths.iter().take(LISTED).map(|path| shown(path)).collect::<Vec<_>>().join(", ");
        if more > 0 {
            available.push_str(&format!(" and {more} more"));
        }
        if available.is_empty() {
            available.push_str("none");
        }
        TemplateError::Render { template: self.text.clone(), problem, available }
    }
}

const TOO_LONG: &str =
    "the key is over the limit of 65536 bytes; name the memory by an id, not by a text";

/// The output of a template, limited to the longest key.
#[derive(Debug, Default)]
struct Rendered {
    text: Vec<u8>,
    is_full: bool,
}

impl io::Write for Rendered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len().saturating_add(bytes.len()) > MAX_KEY_PART_BYTES {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Replaces filters and functions that could produce long output: a chain of filters multiplies their effect.
fn bound(tera: &mut Tera) {
    const NO_KEY: &str = "is for pages, not for keys; leave it out";
    fn refused(_: tera::Value, _: Kwargs, _: &State<'_>) -> TeraResult<tera::Value> {
        Err(tera::Error::message(format!("a filter of this template {NO_KEY}")))
    }
    for filter in ["indent", "escape", "escape_html", "escape_xml", "newlines_to_br"] {
        tera.register_filter(filter, refused);
    }
    tera.register_filter("replace", |text: String, options: Kwargs, _: &State<'_>| {
        let from: String = options.must_get("from")?;
        let to: String = options.must_get("to")?;
        let times = text.matches(from.as_str()).count();
        short_enough(text.len().saturating_add(times.saturating_mul(to.len())))?;
        Ok::<_, tera::Error>(text.replace(&from, &to))
    });
    tera.register_filter("join", |values: Vec<tera::Value>, options: Kwargs, _: &State<'_>| {
        let between: String = options.get("sep")?.unwrap_or_default();
        let mut joined = String::new();
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                joined.push_str(&between);
            }
            joined.push_str(&value.to_string());
            short_enough(joined.len())?;
        }
        Ok::<_, tera::Error>(joined)
    });
    for function in ["range", "throw"] {
        tera.register_function(function, |_: Kwargs, _: &State<'_>| {
            Err::<String, _>(tera::Error::message(format!("a function of this template {NO_KEY}")))
        });
    }
}

fn short_enough(bytes: usize) -> TeraResult<()> {
    if bytes > MAX_KEY_PART_BYTES { Err(tera::Error::message(TOO_LONG)) } else { Ok(()) }
}

/// The message of an error of `tera`, without the values that some messages quote: in a key template these may be
/// parts of a message.
fn describe(problem: &str) -> String {
    const NUMBERS: [&str; 6] =
        ["Unable to perform", "Operand ", "Number ", "The float", "Cannot negate", "Exponent "];
    if problem.starts_with("The string `") {
        let behind = problem.rsplit('`').next().unwrap_or_default();
        return format!("a text that is filled in{behind}");
    }
    if NUMBERS.iter().any(|start| problem.starts_with(start)) {
        return "a number that is filled in is out of range".into();
    }
    if problem.starts_with("Map does not have a key") {
        return "a key that is filled in is missing".into();
    }
    problem.to_owned()
}

/// The beginning of a template, for errors.
fn shown(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The first line of an error of `tera`, without the excerpt of the template below it.
fn first_line(error: &tera::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// An error of a key template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The text is not a valid template.
    #[error("key template `{template}`: {problem}; write variables as {{{{ workflow.id }}}}")]
    Syntax {
        /// The template.
        template: String,
        /// The problem.
        problem: String,
    },
    /// A variable is missing, or has the wrong type for its use.
    #[error("key template `{template}`: {problem}; the variables there are: {available}")]
    Render {
        /// The template.
        template: String,
        /// The problem, naming the variable.
        problem: String,
        /// The existing variables.
        available: String,
    },
    /// The rendered key is empty.
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
    fn values_are_inserted_unchanged() {
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
            ("{{ \"\\\"\" ~ .user.id }}", "\"u"),
            ("{# it's {{ .x #}{{ .user.id }}", "u"),
            ("{{ workflow.input.for | default(value='for') }}", "for"),
            ("{{ 'a-b-c' | replace(from='-', to='+') }}", "a+b+c"),
            ("{{ 'a-b-c' | split(pat='-') | join(sep='.') }}", "a.b.c"),
        ] {
            assert_eq!(render(template), Ok(key.into()), "{template}");
        }
    }

    #[test]
    fn errors_name_the_problem_and_the_variables() {
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
        fn no_template_panics(template in "[{}%. a-z'\"|()\\[\\]0-9]{0,24}") {
            let _ = render(&template);
        }

        #[test]
        fn values_render_unchanged(value in "\\PC{1,20}") {
            prop_assume!(!value.trim().is_empty());
            let context = KeyContext::new().with("user.id", &value);
            let template = KeyTemplate::parse("{{ .user.id }}").unwrap();
            prop_assert_eq!(template.render(&context), Ok(value));
        }
    }
}
