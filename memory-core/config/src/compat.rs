//! Reads resources that were written for the original engine. Everything that this library knows under another name is
//! renamed first; [`native`] then judges the result.

mod budget;
mod flushing;
mod sections;

use std::time::Duration;

use memory_core::MemoryResource;
use memory_core::resource::LockSettings;
use serde_json::{Map, Value, json};

use crate::error::{ConfigErrorKind, ConfigErrors};
use crate::native;
use crate::note::{Note, NoteKind, Strictness};
use crate::report::{Report, join, type_of};

/// Reads a resource in the spelling of this library, of the original requirements or of the original engine's later
/// schema.
///
/// A resource of this library is read unchanged, as by [`MemoryResource::from_value`], with a note only if it has no
/// description. Other spellings are mapped; each is noted. The paths of notes are those of the document. Reading the
/// result again changes nothing.
///
/// A budget that is a share of a context needs the size of the context. `agent_models` are the names of the models of the
/// agents that use the memory; the smallest known context counts, if the resource names no model itself.
///
/// # Errors
/// All problems, at most [`ConfigErrors::MOST`].
///
/// # Examples
///
/// ```
/// use memory_config::{Strictness, read_compat};
/// use serde_json::json;
///
/// let old = json!({
///     "id": "berth-log", "description": "Talk about one berth", "type": "buffer", "max_messages": 40,
/// });
/// let (resource, _) = read_compat(old.clone(), Strictness::Lenient, &[])?;
/// assert_eq!(resource.message_limit, Some(40));
/// // The original engine has no budget in tokens here, this library needs one.
/// assert!(read_compat(old, Strictness::Strict, &[]).is_err());
/// # Ok::<(), memory_config::ConfigErrors>(())
/// ```
pub fn read_compat(
    value: Value,
    strictness: Strictness,
    agent_models: &[&str],
) -> Result<(MemoryResource, Vec<Note>), ConfigErrors> {
    let mut report = Report::new(strictness);
    let resource = read_resource(value, "", agent_models, &mut report);
    report.finish(resource)
}

/// Reads the resource at a path of a document. `None` if something was refused.
pub(crate) fn read_resource(
    value: Value,
    at: &str,
    agent_models: &[&str],
    report: &mut Report,
) -> Option<MemoryResource> {
    let Value::Object(fields) = value else {
        let found = type_of(&value);
        report.refuse(
            ConfigErrorKind::Field,
            at,
            format!("is {found}; write a mapping with at least `id` and `max_tokens`"),
        );
        return None;
    };
    let before = report.problems();
    let mut reader =
        Reader { fields, at, report, renamed: Vec::new(), flushing: STRATEGY, is_old: false };
    reader.read(agent_models);
    let Reader { fields, renamed, report, .. } = reader;
    match native::read(Value::Object(fields)) {
        Ok(resource) => (report.problems() == before).then_some(resource),
        Err(problems) => {
            for (path, problem) in problems {
                let path = join(at, &as_written(&renamed, &path));
                report.refuse(ConfigErrorKind::Field, path, problem);
            }
            None
        }
    }
}

/// The native name of the block of a flushing strategy.
const STRATEGY: &str = "flushing_strategy";

/// A resource on its way to the native form.
struct Reader<'r> {
    fields: Map<String, Value>,
    at: &'r str,
    report: &'r mut Report,
    /// Native paths, with the paths in the document.
    renamed: Vec<(String, String)>,
    /// The name of the block of the flushing strategy in the document.
    flushing: &'static str,
    /// Whether something is written as for the original engine.
    is_old: bool,
}

impl Reader<'_> {
    fn read(&mut self, agent_models: &[&str]) {
        if let Some(version) = self.fields.get("version").filter(|version| version.is_number()) {
            let text = version.to_string();
            self.fields.insert("version".to_owned(), text.clone().into());
            self.note(
                NoteKind::Mapped,
                "version",
                format!("the number is read as the text {text}"),
            );
        }
        let description = self.fields.get("description");
        if description.is_none_or(|text| text.is_null() || text == &Value::from("")) {
            let text = "is missing; say in a sentence what the memory is for";
            self.report.note(NoteKind::Missing, join(self.at, "description"), text);
        }
        self.rename("default_key_template", "key");
        self.rename("max_messages", "message_limit");
        self.read_token_provider();
        self.read_type();
        self.read_budget(agent_models);
        self.read_allocation();
        self.read_persistence();
        self.read_locking();
        self.read_privacy();
        self.read_flushing();
    }

    /// Moves a field to its native name.
    fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(value) = take(&mut self.fields, from) else { return false };
        if is_there(&self.fields, to) {
            self.refuse_both(from, to);
            return false;
        }
        self.fields.insert(to.to_owned(), value);
        self.mapped(from, to);
        true
    }

    /// Moves a field of a block to its native name. `block` is the path of the block in the document, `native` that in
    /// the native form.
    fn rename_in(
        &mut self,
        fields: &mut Map<String, Value>,
        (block, native): (&str, &str),
        from: &str,
        to: &str,
    ) {
        let Some(value) = take(fields, from) else { return };
        let (from, path) = (join(block, from), join(native, to));
        if is_there(fields, to) {
            return self.refuse_both(&from, &join(block, to));
        }
        fields.insert(to.to_owned(), value);
        self.mapped(&from, &path);
    }

    fn mapped(&mut self, from: &str, to: &str) {
        self.renamed.push((to.to_owned(), from.to_owned()));
        self.note(NoteKind::Mapped, from, format!("read as `{to}`"));
    }

    fn refuse_both(&mut self, from: &str, to: &str) {
        self.refuse(
            from,
            format!("is set beside `{to}`, another spelling of it; keep one of the two"),
        );
    }

    /// Takes a block out, to be changed and put back. A value of another type remains, and is refused as such.
    fn take_block(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.fields.get_mut(name)? {
            Value::Object(fields) => Some(std::mem::take(fields)),
            _ => None,
        }
    }

    fn put_block(&mut self, name: &str, block: Map<String, Value>) {
        self.fields.insert(name.to_owned(), block.into());
    }

    fn note(&mut self, kind: NoteKind, path: &str, text: impl Into<String>) {
        self.is_old = true;
        self.report.note(kind, join(self.at, path), text);
    }

    fn refuse(&mut self, path: &str, problem: impl Into<String>) {
        self.report.refuse(ConfigErrorKind::Field, join(self.at, path), problem);
    }

    /// Refuses a value of another type.
    fn refuse_type(&mut self, path: &str, value: &Value, expected: &str) {
        self.refuse(path, format!("is {}; write {expected}", type_of(value)));
    }
}

/// Whether a field has a value.
fn is_there(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).is_some_and(|value| !value.is_null())
}

/// Removes a field; `None` if it has no value.
fn take(fields: &mut Map<String, Value>, name: &str) -> Option<Value> {
    fields.remove(name).filter(|value| !value.is_null())
}

/// The settings of leases with this TTL, which are in text the way to read and to write a duration.
fn lease_of(ttl: &Value) -> Option<LockSettings> {
    serde_json::from_value(json!({ "ttl": ttl })).ok()
}

fn duration(value: &Value) -> Option<Duration> {
    Some(lease_of(value)?.ttl)
}

/// The path in the document.
fn as_written(renamed: &[(String, String)], path: &str) -> String {
    let found = renamed.iter().filter_map(|(native, written)| {
        let rest = path.strip_prefix(native.as_str())?;
        let ends = rest.is_empty() || rest.starts_with(['.', '[']);
        ends.then(|| (native.len(), format!("{written}{rest}")))
    });
    found.max_by_key(|(length, _)| *length).map_or_else(|| path.to_owned(), |(_, written)| written)
}
