//! The content that must not be stored.

use serde::{Deserialize, Serialize};

use super::{MemoryResource, ResourceError};
use crate::message::{Message, Role};
use crate::policy::{Entry, default_type};
use crate::priority::ContentType;
use crate::redact::{RedactPreset, Redactor};

/// The content that must not be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PrivacyPolicy {
    /// Regular expressions for text that is replaced before it is counted or stored.
    pub redact_patterns: Vec<String>,
    /// Named kinds of secrets that are replaced as well.
    pub redact_presets: Vec<RedactPreset>,
    /// The replacement text. Default: `[REDACTED]`.
    pub replacement: String,
    /// Roles and content types of messages that are not stored, such as `tool` or `patient_record`; at most 64, of 1
    /// to 128 bytes each. Names are compared exactly. Any name that is neither a role nor a built-in type is a custom
    /// role or type. Default: none. See [`exclusion`](Self::exclusion).
    pub non_persistable_message_types: Vec<String>,
}

impl Default for PrivacyPolicy {
    fn default() -> Self {
        Self {
            redact_patterns: Vec::new(),
            redact_presets: Vec::new(),
            replacement: Redactor::DEFAULT_REPLACEMENT.into(),
            non_persistable_message_types: Vec::new(),
        }
    }
}

/// Why a message is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExclusionReason {
    /// The entry is marked with [`do_not_persist`](Entry::do_not_persist).
    Flag,
    /// Its role or content type is among the
    /// [`non_persistable_message_types`](PrivacyPolicy::non_persistable_message_types).
    Type,
}

impl ExclusionReason {
    /// The reason as in the audit log: `flag` or `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Type => "type",
        }
    }
}

/// The most types of messages that a policy excludes.
pub(crate) const MAX_EXCLUDED_TYPES: usize = 64;

impl PrivacyPolicy {
    /// Why this message must not be stored; `None` if it may be.
    ///
    /// The list is compared with the role in the [neutral spelling](Role::as_str) and as the message spells it, and
    /// with the content type. A message with the result of a tool has the role `tool` too, in dialects that send
    /// results as the user's.
    ///
    /// ```
    /// use memory_core::resource::{ExclusionReason, PrivacyPolicy};
    /// use memory_core::{ContentType, Entry, Message};
    ///
    /// let mut policy = PrivacyPolicy::default();
    /// policy.non_persistable_message_types = vec!["patient_record".into()];
    /// let entry = Entry::new(Message::user("Blood type 0"));
    /// assert_eq!(policy.exclusion(&entry), None);
    /// let record = entry.with_content_type(ContentType::from("patient_record"));
    /// assert_eq!(policy.exclusion(&record), Some(ExclusionReason::Type));
    /// ```
    #[must_use]
    pub fn exclusion(&self, entry: &Entry) -> Option<ExclusionReason> {
        let Entry { message, content_type, do_not_persist, .. } = entry;
        if *do_not_persist {
            return Some(ExclusionReason::Flag);
        }
        if self.non_persistable_message_types.is_empty() {
            return None;
        }
        let is_excluded = self.excludes_role(message)
            || match content_type {
                Some(content_type) => self.excludes_type(content_type),
                None => self.excludes_type(&default_type(message)),
            };
        is_excluded.then_some(ExclusionReason::Type)
    }

    /// Whether messages of this content type must not be stored.
    #[must_use]
    pub fn excludes_type(&self, content_type: &ContentType) -> bool {
        self.has(content_type.as_str())
    }

    fn excludes_role(&self, message: &Message) -> bool {
        let is_native = || {
            let role = message.field("role");
            role.as_deref().and_then(|role| role.as_str()).is_some_and(|role| self.has(role))
        };
        let is_result = || self.has(Role::Tool.as_str()) && !message.tool_link().results.is_empty();
        self.has(message.role().as_str()) || is_native() || is_result()
    }

    fn has(&self, name: &str) -> bool {
        self.non_persistable_message_types.iter().any(|excluded| excluded == name)
    }
}

impl MemoryResource {
    /// The redactor of its messages, if it has patterns or presets.
    ///
    /// # Errors
    /// [`ResourceError`] for a pattern that is not a regular expression.
    pub fn redactor(&self) -> Result<Option<Redactor>, ResourceError> {
        let PrivacyPolicy { redact_patterns, redact_presets, replacement, .. } =
            &self.privacy_policy;
        if redact_patterns.is_empty() && redact_presets.is_empty() {
            return Ok(None);
        }
        let redactor = Redactor::new(redact_patterns, replacement.as_str());
        redactor.map(|redactor| Some(redactor.with_presets(redact_presets))).map_err(|(index, reason)| {
            let problem = match reason {
                regex::Error::CompiledTooBig(most) => format!(
                    "takes more than {most} bytes when compiled; lower its repetitions, or split it"
                ),
                _ => "is not a regular expression; write it as for the `regex` crate, with `\\\\` for a backslash where the format needs it".to_owned(),
            };
            let path = format!("privacy_policy.redact_patterns[{index}]");
            ResourceError::field(&self.id, &path, problem)
        })
    }

    pub(super) fn check_excluded_types(&self) -> Result<(), ResourceError> {
        const PATH: &str = "privacy_policy.non_persistable_message_types";
        let types = &self.privacy_policy.non_persistable_message_types;
        let refuse = |path: &str, problem| Err(ResourceError::field(&self.id, path, problem));
        if types.len() > MAX_EXCLUDED_TYPES {
            let (found, most) = (types.len(), MAX_EXCLUDED_TYPES);
            let problem = format!("has {found} names, over the limit of {most}; remove some");
            return refuse(PATH, problem);
        }
        for (index, name) in types.iter().enumerate() {
            let path = format!("{PATH}[{index}]");
            let most = ContentType::MAX_BYTES;
            if name.trim().is_empty() {
                return refuse(&path, "is empty; name a role or a content type".to_owned());
            }
            if name.len() > most {
                let found = name.len();
                let problem = format!("has {found} bytes, over the limit of {most}; shorten it");
                return refuse(&path, problem);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(types: &[&str]) -> PrivacyPolicy {
        let non_persistable_message_types = types.iter().map(|&name| name.into()).collect();
        PrivacyPolicy { non_persistable_message_types, ..PrivacyPolicy::default() }
    }

    fn excludes(types: &[&str], message: serde_json::Value) -> bool {
        let entry = Entry::new(Message::from_value(message).unwrap());
        policy(types).exclusion(&entry).is_some()
    }

    #[test]
    fn names_are_compared_with_role_and_type() {
        let user = json!({"role": "user", "content": "hi"});
        for (types, expected) in [
            (&["user"][..], true),
            (&["conversation"], true),
            (&["tool", "system"], false),
            (&["User"], false),
            (&["use"], false),
            (&["user "], false),
            (&[], false),
        ] {
            assert_eq!(excludes(types, user.clone()), expected, "{types:?}");
        }
        assert!(excludes(&["system_prompt"], json!({"role": "developer", "content": "hi"})));
        assert!(!excludes(&["system"], json!({"role": "developer", "content": "hi"})));
        assert!(excludes(&["critic"], json!({"role": "critic", "content": "hi"})));
        let typed =
            |name: &str| Entry::new(Message::user("hi")).with_content_type(ContentType::from(name));
        assert_eq!(policy(&["note"]).exclusion(&typed("note")), Some(ExclusionReason::Type));
        assert_eq!(policy(&["note"]).exclusion(&typed("notes")), None);
        assert_eq!(policy(&["conversation"]).exclusion(&typed("note")), None);
        let flagged = typed("note").do_not_persist();
        assert_eq!(policy(&["note"]).exclusion(&flagged), Some(ExclusionReason::Flag));
    }

    #[test]
    fn role_is_found_in_every_dialect() {
        let gemini = json!({"role": "model", "parts": [{"text": "hi"}]});
        assert!(excludes(&["assistant"], gemini.clone()) && excludes(&["model"], gemini));
        let results = [
            json!({"role": "tool", "tool_call_id": "c", "content": "x"}),
            json!({"role": "function", "name": "f", "content": "x"}),
            json!({"type": "function_call_output", "call_id": "c", "output": "x"}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "x"}]}),
            json!({"role": "user", "content": [{"toolResult": {"toolUseId": "c", "content": [{"text": "x"}]}}]}),
            json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}),
        ];
        for result in results {
            assert!(excludes(&["tool"], result.clone()), "{result}");
            assert!(!excludes(&["assistant", "system"], result.clone()), "{result}");
        }
        assert!(excludes(&["human"], json!({"role": "human", "content": "hi"})));
        assert!(!excludes(&["tool"], json!({"role": "user", "content": "hi"})));
    }

    #[test]
    fn names_have_limits() {
        let check = |types: Vec<String>| {
            let mut resource = MemoryResource::new("r", 100);
            resource.privacy_policy.non_persistable_message_types = types;
            resource.validate().map_err(|error| error.to_string())
        };
        assert_eq!(check(vec!["n".repeat(128); 64]), Ok(()));
        for (types, problem) in [
            (vec!["n".into(); 65], "types: has 65 names, over the limit of 64; remove some"),
            (vec!["a".into(), "é".repeat(65)], "types[1]: has 130 bytes, over the limit of 128"),
            (vec![" ".into()], "types[0]: is empty; name a role"),
        ] {
            let error = check(types).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
