//! What is allowed in a resource and rarely meant.

use super::MemoryResource;
use super::explain::nearest;
use crate::priority::ContentType;

impl MemoryResource {
    /// What is allowed and rarely meant, each with the path of the field: content types that are not built
    /// in. Such a type is a custom one, which only entries appended with it have; a misspelled name has
    /// none at all.
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
        custom.map(|(path, name)| format!("{path}: {}", problem(name))).collect()
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
    fn warns_of_content_types_that_are_not_built_in() {
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
