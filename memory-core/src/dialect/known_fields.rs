//! The known fields of a message or part, and its copy with these alone.

use super::Dialect;
use super::fields::{Field, Holds, Position};
use crate::json::{Json, JsonObject};

impl Dialect {
    /// The fields that are known at this position; `None` for a type of part or item that is not known.
    ///
    /// All other fields are storage fields or belong to another dialect, and are not sent.
    #[must_use]
    pub fn known_fields(self, position: Position<'_>) -> Option<&'static [Field]> {
        match self {
            Self::Chat => super::chat::fields(position),
            Self::Responses => super::responses::fields(position),
            Self::Anthropic => super::anthropic::fields(position),
            Self::Gemini => super::gemini::fields(position),
            Self::Bedrock => super::bedrock::fields(position),
            Self::AiSdk => super::ai_sdk::fields(position),
        }
    }

    /// A copy of a message of this dialect with its known fields only, otherwise unchanged and in order, without
    /// fields that are `null` (except `content` in Chat) or an empty array of calls. Parts of an unknown type are
    /// left out.
    #[must_use]
    pub fn copy_known(self, message: &Json) -> Json {
        Json::Object(self.copy_fields(message, self.message_fields(message)))
    }

    /// The fields that a message of this dialect may have, empty if it is an item of an unknown type.
    pub(crate) fn message_fields(self, message: &Json) -> &'static [Field] {
        let fields = match self {
            Self::Responses => super::responses::item_fields(message),
            _ => self.known_fields(Position::Message),
        };
        fields.unwrap_or_default()
    }

    /// A copy of a part with its known fields only; `None` if its type is not known or nothing
    /// is left.
    pub(super) fn copy_part(self, part: &Json) -> Option<JsonObject> {
        let copy = self.copy_fields(part, self.part_fields(part)?);
        (!copy.is_empty()).then_some(copy)
    }

    /// Whether the type of a part is known.
    pub(super) fn knows_part(self, part: &Json) -> bool {
        self.part_fields(part).is_some()
    }

    /// The fields that a part may have; `None` if its type is not known.
    pub(crate) fn part_fields(self, part: &Json) -> Option<&'static [Field]> {
        let object = part.as_object()?;
        let tag = match self {
            Self::Bedrock => super::bedrock::tag(object)?,
            Self::Gemini => "",
            _ => object.get("type")?.as_str()?,
        };
        self.known_fields(Position::Part(tag))
    }

    pub(super) fn copy_fields(self, json: &Json, fields: &[Field]) -> JsonObject {
        let Some(object) = json.as_object() else { return JsonObject::new() };
        let known = object.iter().filter_map(|(key, value)| {
            let field = fields.iter().find(|field| field.name == key)?;
            // Many servers require the key `content` even without content.
            let is_content = self == Self::Chat && matches!(field.holds, Holds::Parts);
            let is_nothing = value.is_null() && !is_content
                || matches!(field.holds, Holds::Members(_)) && value.as_array() == Some(&[]);
            (!is_nothing).then(|| (key, self.copy_value(value, field.holds)))
        });
        known.collect()
    }

    fn copy_value(self, value: &Json, holds: Holds) -> Json {
        match (holds, value) {
            (Holds::Members(fields), Json::Object(_)) => {
                Json::Object(self.copy_fields(value, fields))
            }
            (Holds::Members(fields), Json::Array(items)) => Json::Array(
                items
                    .iter()
                    .map(|item| match item {
                        Json::Object(_) => Json::Object(self.copy_fields(item, fields)),
                        other => other.clone(),
                    })
                    .collect(),
            ),
            (Holds::Parts, Json::Array(items)) => Json::Array(
                items
                    .iter()
                    .filter_map(|item| match item {
                        Json::Object(_) => self.copy_part(item).map(Json::Object),
                        other => Some(other.clone()),
                    })
                    .collect(),
            ),
            _ => value.clone(),
        }
    }
}
