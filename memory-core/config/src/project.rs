//! The configuration of a project.

use std::collections::HashMap;

use memory_core::MemoryResource;
use serde_json::{Map, Value};

use crate::agent::AgentConfig;
use crate::agents::{self, Known};
use crate::compat;
use crate::error::{ConfigErrorKind, ConfigErrors};
use crate::format::Format;
use crate::note::{Note, Strictness};
use crate::report::{Report, shown_id, type_of};

/// The memories and agents of a project.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct ProjectConfig {
    /// The memory resources, in the order of the documents.
    pub memories: Vec<MemoryResource>,
    /// The agents, in the order of the documents.
    pub agents: Vec<AgentConfig>,
    /// The other fields at the root of the documents, which belong to the host program. Of two documents with the same
    /// field the later one counts.
    pub extra: Map<String, Value>,
    /// Settings that were read in another form than they were written, or that are not used.
    pub notes: Vec<Note>,
}

impl ProjectConfig {
    /// Reads a project document in JSON.
    ///
    /// # Errors
    /// All problems, at most [`ConfigErrors::MOST`].
    pub fn from_json(text: &str) -> Result<Self, ConfigErrors> {
        Self::from_text(Format::Json, text)
    }

    /// Reads a project document in YAML.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    #[cfg(feature = "yaml")]
    pub fn from_yaml(text: &str) -> Result<Self, ConfigErrors> {
        Self::from_text(Format::Yaml, text)
    }

    /// Reads a project document in TOML.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self, ConfigErrors> {
        Self::from_text(Format::Toml, text)
    }

    /// Reads a project document that is already a JSON value.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_value(value: Value) -> Result<Self, ConfigErrors> {
        let mut parts = Parts::default();
        let mut report = Report::new(Strictness::Lenient);
        parts.add_document("", value, &mut report);
        parts.read(report)
    }

    fn from_text(format: Format, text: &str) -> Result<Self, ConfigErrors> {
        match format.read(text) {
            Ok(value) => Self::from_value(value),
            Err(problem) => {
                let mut report = Report::new(Strictness::Lenient);
                report.refuse(ConfigErrorKind::Syntax, "", problem);
                Parts::default().read(report)
            }
        }
    }

    /// The agent with this id.
    #[must_use]
    pub fn agent(&self, id: &str) -> Option<&AgentConfig> {
        self.agents.iter().find(|agent| agent.id == id)
    }
}

/// A value of a document, with its place.
#[derive(Debug)]
struct Part {
    file: String,
    path: String,
    value: Value,
}

impl Part {
    /// The id, if it is a text.
    fn id(&self) -> Option<&str> {
        self.value.get("id")?.as_str().filter(|id| !id.trim().is_empty())
    }

    /// The place of the id, as errors name it.
    fn place(&self) -> String {
        match (self.file.as_str(), self.path.as_str()) {
            (file, "") => file.to_owned(),
            ("", path) => format!("{path}.id"),
            (file, path) => format!("{file}: {path}.id"),
        }
    }
}

/// The values of all documents, before they are judged: references concern all of them.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    memories: Vec<Part>,
    agents: Vec<Part>,
    extra: Map<String, Value>,
}

impl Parts {
    /// Adds a project document.
    pub(crate) fn add_document(&mut self, file: &str, value: Value, report: &mut Report) {
        report.begin(file);
        let mut fields = match value {
            Value::Object(fields) => fields,
            // An empty document.
            Value::Null => return,
            other => {
                let problem =
                    format!("is {}; write a mapping with `memories` and `agents`", type_of(&other));
                return report.refuse(ConfigErrorKind::Field, "", problem);
            }
        };
        for (name, into) in [("memories", &mut self.memories), ("agents", &mut self.agents)] {
            match fields.remove(name) {
                None | Some(Value::Null) => {}
                Some(Value::Array(items)) => {
                    into.extend(items.into_iter().enumerate().map(|(index, value)| Part {
                        file: file.to_owned(),
                        path: format!("{name}[{index}]"),
                        value,
                    }));
                }
                Some(other) => {
                    let problem = format!("is {}; write a list", type_of(&other));
                    report.refuse(ConfigErrorKind::Field, name, problem);
                }
            }
        }
        self.extra.extend(fields);
    }

    /// Adds the file of one resource.
    pub(crate) fn add_resource(&mut self, file: &str, value: Value) {
        self.memories.push(Part { file: file.to_owned(), path: String::new(), value });
    }

    /// Judges everything.
    pub(crate) fn read(self, mut report: Report) -> Result<ProjectConfig, ConfigErrors> {
        let Self { memories, agents, extra } = self;
        let known = known(&memories);
        let models = models(&agents);
        let mut ids: HashMap<String, String> = HashMap::new();
        let mut read = ProjectConfig { extra, ..ProjectConfig::default() };
        for part in memories {
            report.begin(&part.file);
            if let Some(id) = part.id() {
                refuse_twin(
                    &mut ids,
                    id.to_lowercase(),
                    &part,
                    "ids differ in more than case",
                    &mut report,
                );
            }
            let models = part.id().and_then(|id| models.get(id)).map_or(&[][..], Vec::as_slice);
            let models: Vec<&str> = models.iter().map(String::as_str).collect();
            let resource = compat::read_resource(part.value, &part.path, &models, &mut report);
            read.memories.extend(resource);
        }
        let mut ids = HashMap::new();
        for part in agents {
            report.begin(&part.file);
            if let Some(id) = part.id() {
                refuse_twin(
                    &mut ids,
                    id.to_owned(),
                    &part,
                    "each agent has its own id",
                    &mut report,
                );
            }
            let agent = agents::read_agent(part.value, &part.path, &known, &mut report);
            read.agents.extend(agent);
        }
        let (mut read, notes) = report.finish(Some(read))?;
        read.notes = notes;
        Ok(read)
    }
}

/// Refuses an id that is there already, and names both places.
fn refuse_twin(
    ids: &mut HashMap<String, String>,
    id: String,
    part: &Part,
    rule: &str,
    report: &mut Report,
) {
    if let Some(earlier) = ids.get(&id) {
        let shown = part.id().map(shown_id).unwrap_or_default();
        let path = crate::report::join(&part.path, "id");
        let problem =
            format!("`{shown}` is there already ({earlier}); {rule}, so rename one of the two");
        return report.refuse(ConfigErrorKind::Duplicate, path, problem);
    }
    ids.insert(id, part.place());
}

/// The ids of all memories, also of those that are refused, so that each mistake is reported once.
fn known(memories: &[Part]) -> Known {
    let key_of = |part: &Part| {
        let key = ["key", "default_key_template"]
            .into_iter()
            .find_map(|name| part.value.get(name)?.as_str());
        key.filter(|key| !key.trim().is_empty()).map(str::to_owned)
    };
    memories.iter().filter_map(|part| Some((part.id()?.to_owned(), key_of(part)))).collect()
}

/// The models of the agents that mention each memory.
fn models(agents: &[Part]) -> HashMap<String, Vec<String>> {
    let mut models: HashMap<String, Vec<String>> = HashMap::new();
    for agent in agents {
        let Some(model) = agent.value.pointer("/config/model").and_then(Value::as_str) else {
            continue;
        };
        let fields = ["memory", "memories"].into_iter().filter_map(|name| agent.value.get(name));
        let items = fields.flat_map(|field| match field {
            Value::Array(items) => items.iter().collect(),
            one => vec![one],
        });
        for id in items.filter_map(|item| item.as_str().or_else(|| item.get("id")?.as_str())) {
            models.entry(id.to_owned()).or_default().push(model.to_owned());
        }
    }
    models
}
