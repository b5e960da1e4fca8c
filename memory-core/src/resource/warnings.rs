//! Warnings about settings that are allowed but probably unintended.

use super::explain::nearest;
use super::{MemoryResource, ModelInfo};
use crate::priority::ContentType;

impl MemoryResource {
    /// Settings that are allowed but probably unintended, each with the path of the field: an unknown model without
    /// tokenizer or context size, and content types that are not built in. Such a type is a custom one, which only
    /// entries appended with it have; a misspelled name matches no entries.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let blocks = self.priority_blocks.iter().enumerate().flat_map(|(index, block)| {
            let path = format!("priority_blocks[{index}].content_types");
            block.content_types.iter().map(move |content_type| (path.clone(), content_type))
        });
        let shares = self.content_shares.keys().map(|it| ("content_shares".to_owned(), it));
        let custom = blocks.chain(shares).filter_map(|(path, content_type)| match content_type {
            ContentType::Custom(_) => Some((path, content_type.as_str())),
            _ => None,
        });
        let custom = custom.map(|(path, name)| format!("{path}: {}", problem(name)));
        self.unknown_model().into_iter().chain(custom).collect()
    }

    fn unknown_model(&self) -> Option<String> {
        let model = self.model.as_deref().filter(|model| ModelInfo::of(model).is_none())?;
        let missing = match (self.tokenizer, self.context_size) {
            (Some(_), Some(_)) => return None,
            (Some(_), None) => "its context size is not checked; set `context_size`",
            (None, Some(_)) => {
                "its tokens are estimated; set `tokenizer`, and `token_factor` if it counts more"
            }
            (None, None) => {
                "its tokens are estimated and its context size is not checked; set `tokenizer` and `context_size`"
            }
        };
        Some(format!("model: `{model}` is not known, so {missing}"))
    }
}

fn problem(name: &str) -> String {
    let built_in = ContentType::BUILT_IN;
    match nearest(name, built_in.iter().map(ContentType::as_str)) {
        Some(meant) => format!("`{name}` is not a built-in content type; did you mean `{meant}`?"),
        None => format!(
            "`{name}` is a custom content type, which only entries appended with it have (built in: {})",
            built_in.map(|it| it.to_string()).join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn warns_of_unknown_model() {
        let warnings = |more: serde_json::Value| {
            let mut value = json!({"id": "r", "max_tokens": 10, "model": "llama-9"});
            for (key, field) in more.as_object().unwrap() {
                value[key] = field.clone();
            }
            MemoryResource::from_value(value).unwrap().warnings()
        };
        for (more, expected) in [
            (json!({}), Some("its tokens are estimated and its context size is not checked")),
            (json!({"tokenizer": "estimate"}), Some("its context size is not checked")),
            (json!({"context_size": 9_000}), Some("its tokens are estimated; set")),
            (json!({"context_size": 9_000, "tokenizer": "estimate"}), None),
            (json!({"model": "us.anthropic.claude-sonnet-4-5-20250929-v1:0"}), None),
        ] {
            let warnings = warnings(more.clone());
            assert_eq!(warnings.len(), usize::from(expected.is_some()), "{more}: {warnings:?}");
            let start = expected.map(|it| format!("model: `llama-9` is not known, so {it}"));
            assert!(start.is_none_or(|start| warnings[0].starts_with(&start)), "{warnings:?}");
        }
    }

    #[test]
    fn warns_of_unknown_content_types() {
        let resource = MemoryResource::from_value(json!({
            "id": "r", "max_tokens": 10,
            "priority_blocks": [
                {"priority": 0, "content_types": ["system_prompt", "recent_contxt"]},
                {"priority": 1, "content_types": ["notes"]},
            ],
            "token_allocation": {"short_term": 0.5, "long_term": 0.2, "system": 0.1},
            "content_shares": {"sumary": "long_term"},
        }));
        let warnings = resource.unwrap().warnings();
        assert_eq!(
            (warnings.len(), &*warnings[0], &*warnings[2]),
            (
                3,
                "priority_blocks[0].content_types: `recent_contxt` is not a built-in content type; did you mean `recent_context`?",
                "content_shares: `sumary` is not a built-in content type; did you mean `summary`?",
            )
        );
        let custom = "priority_blocks[1].content_types: `notes` is a custom content type";
        assert!(warnings[1].starts_with(custom), "{warnings:?}");
        assert!(MemoryResource::new("r", 10).warnings().is_empty());
    }
}
