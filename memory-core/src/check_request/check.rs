//! Shared by the checks of all profiles: collects problems, and defines fields as data.

use super::error::{MAX_PROBLEMS, RequestError, RequestProblem};
use super::json::{Json, Tape};
use super::rule::RequestRule;
use crate::profile::{NameForm, Profile, TextForm};

/// The problems found so far, and counts over the whole request.
#[derive(Debug)]
pub(super) struct Check<'t> {
    pub(super) profile: &'t Profile,
    /// The node, the rule, and the name of a field that is missing there.
    problems: Vec<(usize, RequestRule, Option<&'static str>)>,
    total: usize,
    images: usize,
    documents: usize,
    cache_marks: usize,
}

/// The value of a field. `null` is refused except by [`Kind::Any`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Any value; the caller checks it.
    Any,
    Text,
    /// A string with at least one character.
    Filled,
    Bool,
    Object,
    Array,
    TextOrArray,
    /// One of these strings.
    OneOf(&'static [&'static str]),
}

/// A field of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    name: &'static str,
    kind: Kind,
    is_required: bool,
}

impl Field {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }
}

pub(super) const fn required(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, is_required: true }
}

pub(super) const fn optional(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, is_required: false }
}

/// The side of a conversation that a message is from, in APIs with two roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    User,
    Model,
}

/// How the names of fields are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    Exact,
    /// `functionCall` is also `function_call`, as in the JSON form of protocol buffers.
    CamelOrSnake,
}

impl<'t> Check<'t> {
    pub(super) fn new(profile: &'t Profile) -> Self {
        Self { profile, problems: Vec::new(), total: 0, images: 0, documents: 0, cache_marks: 0 }
    }

    pub(super) fn report(&mut self, rule: RequestRule, at: Json<'_>) {
        self.report_node(rule, at.at());
    }

    pub(super) fn report_node(&mut self, rule: RequestRule, node: usize) {
        self.push(rule, node, None);
    }

    pub(super) fn missing(&mut self, object: Json<'_>, field: &'static str) {
        self.push(RequestRule::MissingField, object.at(), Some(field));
    }

    fn push(&mut self, rule: RequestRule, node: usize, field: Option<&'static str>) {
        self.total += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push((node, rule, field));
        }
    }

    pub(super) fn finish(mut self, tape: &Tape<'_>) -> Result<(), RequestError> {
        if self.problems.is_empty() {
            return Ok(());
        }
        self.problems.sort_by_key(|(node, ..)| *node);
        let problems = self.problems.into_iter().map(|(node, rule, field)| {
            let mut place = tape.pointer(node);
            if let Some(field) = field {
                place.push('/');
                place.push_str(field);
            }
            RequestProblem { rule, place }
        });
        let problems = problems.collect();
        Err(RequestError { profile: self.profile.name, problems, total: self.total })
    }

    /// Checks the fields of an object: known, not repeated, of the right type, none missing. Returns `false` if the
    /// value is not an object.
    pub(super) fn object(&mut self, object: Json<'t>, fields: &[Field]) -> bool {
        self.object_with(object, fields, Spelling::Exact)
    }

    pub(super) fn object_with(
        &mut self,
        object: Json<'t>,
        fields: &[Field],
        spelling: Spelling,
    ) -> bool {
        if !object.is_object() {
            self.report(RequestRule::FieldType, object);
            return false;
        }
        let mut seen = 0_u32;
        for (key, value) in object.fields() {
            let found = fields.iter().enumerate().find(|(_, field)| {
                field.name == key
                    || (spelling == Spelling::CamelOrSnake && is_snake_of(key, field.name))
            });
            let Some((index, field)) = found else {
                self.report(RequestRule::UnknownField, value);
                continue;
            };
            if seen & (1 << index) != 0 {
                self.report(RequestRule::DuplicateField, value);
            }
            seen |= 1 << index;
            self.kind(value, field.kind);
        }
        for (index, field) in fields.iter().enumerate() {
            if field.is_required && seen & (1 << index) == 0 {
                self.missing(object, field.name);
            }
        }
        true
    }

    pub(super) fn kind(&mut self, value: Json<'t>, kind: Kind) {
        let is_right = match kind {
            Kind::Any => return,
            _ if value.is_null() => return self.report(RequestRule::NullField, value),
            Kind::Text => value.as_str().is_some(),
            Kind::Filled => match value.as_str() {
                Some("") => return self.report(RequestRule::FieldValue, value),
                text => text.is_some(),
            },
            Kind::Bool => value.as_bool().is_some(),
            Kind::Object => value.is_object(),
            Kind::Array => value.is_array(),
            Kind::TextOrArray => value.as_str().is_some() || value.is_array(),
            Kind::OneOf(values) => match value.as_str() {
                Some(text) if !values.contains(&text) => {
                    return self.report(RequestRule::FieldValue, value);
                }
                text => text.is_some(),
            },
        };
        if !is_right {
            self.report(RequestRule::FieldType, value);
        }
    }

    /// A text that is sent to the model: not empty, or not blank, as the profile says.
    pub(super) fn sent_text(&mut self, text: Json<'t>) {
        if text.as_str().is_some_and(|text| self.is_empty_text(text)) {
            self.report(RequestRule::EmptyText, text);
        }
    }

    pub(super) fn is_empty_text(&self, text: &str) -> bool {
        match self.profile.text {
            TextForm::NotEmpty => text.is_empty(),
            TextForm::NotBlank => text.trim().is_empty(),
        }
    }

    /// A name or an id, if it is a string.
    pub(super) fn name(&mut self, name: Json<'t>, form: NameForm, rule: RequestRule) {
        if name.as_str().is_some_and(|name| !form.accepts(name)) {
            self.report(rule, name);
        }
    }

    pub(super) fn function_name(&mut self, call: Json<'t>) {
        if let Some(name) = call.field("name") {
            self.name(name, self.profile.function_name, RequestRule::FunctionName);
        }
    }

    pub(super) fn image(&mut self, image: Json<'t>) {
        self.images += 1;
        if self.profile.max_images.is_some_and(|most| self.images > most) {
            self.report(RequestRule::MediaCount, image);
        }
    }

    pub(super) fn document(&mut self, document: Json<'t>) {
        self.documents += 1;
        if self.profile.max_documents.is_some_and(|most| self.documents > most) {
            self.report(RequestRule::MediaCount, document);
        }
    }

    pub(super) fn cache_mark(&mut self, mark: Json<'t>) {
        self.cache_marks += 1;
        if self.profile.max_cache_marks.is_some_and(|most| self.cache_marks > most) {
            self.report(RequestRule::CacheMarks, mark);
        }
    }

    /// The list of a request: the request itself, or this field of it.
    pub(super) fn list(&mut self, request: Json<'t>, field: &str) -> Option<Json<'t>> {
        let list = if request.is_object() { request.field(field) } else { Some(request) };
        let Some(list) = list.filter(|list| list.is_array()) else {
            self.report(RequestRule::Form, request);
            return None;
        };
        self.not_empty_list(list)
    }

    /// The list in this field of an object.
    pub(super) fn list_field(&mut self, request: Json<'t>, field: &str) -> Option<Json<'t>> {
        if !request.is_object() {
            self.report(RequestRule::Form, request);
            return None;
        }
        self.list(request, field)
    }

    fn not_empty_list(&mut self, list: Json<'t>) -> Option<Json<'t>> {
        if list.is_empty() {
            self.report(RequestRule::Messages, list);
            return None;
        }
        Some(list)
    }

    /// Reports fields of the request that occur twice: which one counts is unpredictable.
    pub(super) fn once(&mut self, request: Json<'t>, fields: &[&str]) {
        for name in fields {
            let repeated = request.fields().filter(|(key, _)| key == name).nth(1);
            if let Some((_, value)) = repeated {
                self.report(RequestRule::DuplicateField, value);
            }
        }
    }
}

/// Whether `key` is the snake-case form of a camel-case name.
pub(super) fn is_snake_of(key: &str, camel: &str) -> bool {
    let mut key = key.bytes();
    camel.bytes().all(|letter| {
        if letter.is_ascii_uppercase() {
            key.next() == Some(b'_') && key.next() == Some(letter.to_ascii_lowercase())
        } else {
            key.next() == Some(letter)
        }
    }) && key.next().is_none()
}
