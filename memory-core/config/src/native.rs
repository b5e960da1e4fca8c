//! All problems of one resource. `MemoryResource` reports the first, so the field that has it is removed, and the rest is
//! read again.

use memory_core::{MemoryResource, ResourceError};
use serde_json::Value;

use crate::error::ConfigErrors;

/// A problem: the path of the field within the resource, and the text.
pub(crate) type Problem = (String, String);

/// A budget in place of one that is refused, so that other problems are found.
const ANY_BUDGET: u64 = 1_000_000_000;

/// An id in place of one that is refused.
const UNNAMED: &str = "unnamed";

/// The resource, or its problems, at most [`ConfigErrors::MOST`].
pub(crate) fn read(mut value: Value) -> Result<MemoryResource, Vec<Problem>> {
    let mut problems: Vec<Problem> = Vec::new();
    let mut removed = Removed::default();
    loop {
        let (path, problem) = match MemoryResource::from_value(value.clone()) {
            Ok(resource) if problems.is_empty() => return Ok(resource),
            Ok(_) => return Err(problems),
            Err(ResourceError::Field { path, problem, .. }) => (path, problem),
            Err(other) => (String::new(), other.to_string()),
        };
        let original = removed.original(&path);
        // A required field that was removed is missing in what contains it.
        let missing = problem.strip_prefix("missing field `");
        let missing =
            missing.and_then(|rest| rest.split_once('`')).map(|(field, _)| field.to_owned());
        let is_derived = missing.as_ref().is_some_and(|field| {
            let field = crate::report::join(&original, field);
            problems.iter().any(|(path, _)| *path == field)
        });
        if problems.iter().any(|(earlier, _)| *earlier == original) {
            return Err(problems);
        }
        if !is_derived {
            problems.push((original, problem));
        }
        if problems.len() < ConfigErrors::MOST
            && missing.is_some_and(|field| path.is_empty() && field == "id")
            && let Some(fields) = value.as_object_mut()
        {
            fields.insert("id".to_owned(), UNNAMED.into());
            continue;
        }
        if problems.len() >= ConfigErrors::MOST || !removed.remove(&mut value, &path) {
            return Err(problems);
        }
    }
}

/// The list items that were removed: the path of the list, and the index that the item had at first.
#[derive(Debug, Default)]
struct Removed(Vec<(String, usize)>);

/// A step of a path.
#[derive(Debug, PartialEq, Eq)]
enum Step<'p> {
    Field(&'p str),
    Item(usize),
}

/// The steps of a path such as `a.b[2].c`. `None` for one that is written otherwise.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (field, items) = part.split_once('[').unwrap_or((part, ""));
        steps.push(Step::Field(field));
        for item in items.split('[').filter(|item| !item.is_empty()) {
            steps.push(Step::Item(item.strip_suffix(']')?.parse().ok()?));
        }
    }
    Some(steps)
}

impl Removed {
    /// The path before items were removed.
    fn original(&self, path: &str) -> String {
        let Some(steps) = steps(path) else { return path.to_owned() };
        let mut original = String::new();
        for step in steps {
            match step {
                Step::Field(field) => original = crate::report::join(&original, field),
                Step::Item(index) => {
                    let mut index = index;
                    let mut gone: Vec<_> =
                        self.0.iter().filter(|(list, _)| *list == original).collect();
                    gone.sort_unstable_by_key(|(_, index)| *index);
                    for (_, removed) in gone {
                        index += usize::from(*removed <= index);
                    }
                    original.push_str(&format!("[{index}]"));
                }
            }
        }
        original
    }

    /// Removes the field or item at a path. Returns whether it was there.
    fn remove(&mut self, value: &mut Value, path: &str) -> bool {
        let Some(mut steps) = steps(path) else { return false };
        let Some(last) = steps.pop() else { return false };
        let mut parent = Some(value);
        for step in &steps {
            parent = parent.and_then(|value| match step {
                Step::Field(field) => value.get_mut(*field),
                Step::Item(index) => value.get_mut(*index),
            });
        }
        match (parent, last) {
            (Some(Value::Object(fields)), Step::Field(field)) => {
                let found = fields.remove(field).is_some();
                if steps.is_empty() && field == "id" {
                    fields.insert(field.to_owned(), UNNAMED.into());
                    return true;
                }
                if steps.is_empty() && matches!(field, "max_tokens" | "max_context_ratio") {
                    fields.entry("max_tokens").or_insert(ANY_BUDGET.into());
                    return true;
                }
                found
            }
            (Some(Value::Array(items)), Step::Item(index)) if index < items.len() => {
                let original = self.original(path);
                items.remove(index);
                if let Some((list, item)) = original.rsplit_once('[')
                    && let Ok(item) = item.trim_end_matches(']').parse()
                {
                    self.0.push((list.to_owned(), item));
                }
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_problem_of_a_resource_is_found() {
        let value = json!({
            "id": 7, "max_tokens": 0, "max_token": 1, "lock": {"ttl": 30, "tll": "1s"},
            "priority_blocks": [
                {"priority": "high", "content_types": ["summary"]},
                {"priority": 1, "content_types": [], "limit": 5},
            ],
            "privacy_policy": {"redact_patterns": ["(", "fine", "[", "("]},
            "message_limit": 0,
        });
        let problems = read(value).unwrap_err();
        let mut paths: Vec<_> = problems.iter().map(|(path, _)| path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "id",
                "lock.tll",
                "lock.ttl",
                "max_token",
                "max_tokens",
                "message_limit",
                "priority_blocks[0].priority",
                "priority_blocks[1].content_types",
                "priority_blocks[1].limit",
                "privacy_policy.redact_patterns[0]",
                "privacy_policy.redact_patterns[2]",
                "privacy_policy.redact_patterns[3]",
            ]
        );
    }
}
