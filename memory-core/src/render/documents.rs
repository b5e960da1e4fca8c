//! The names of documents in a request to Bedrock.

use std::collections::{HashMap, HashSet};
use std::slice::Iter;

use super::repair::{RepairKind, Repairs};
use super::turn::Turn;
use crate::dialect::{MAX_DOCUMENT_NAME, MediaKind, MediaPart, Part, document_name};
use crate::profile::{Profile, ProfileName};

/// New names for the documents, in their order. Nothing where the old one stays.
#[derive(Debug, Default)]
pub(super) struct DocumentNames(Vec<Option<String>>);

impl DocumentNames {
    /// Chooses a name of the allowed characters for each document, and no name twice: Bedrock refuses a request
    /// whose "messages can't contain duplicate document names". (E bifrost#7003) Of several documents with one name
    /// the first keeps it.
    pub(super) fn choose(turns: &[Turn<'_>], profile: &Profile) -> Self {
        if profile.name != ProfileName::Bedrock {
            return Self::default();
        }
        let titles: Vec<Option<&str>> =
            turns.iter().flat_map(documents).map(|it| it.title).collect();
        let wanted: Vec<String> = titles.iter().map(|title| document_name(*title)).collect();
        // Whether case matters is not documented.
        let taken: HashSet<String> = wanted.iter().map(|name| name.to_ascii_lowercase()).collect();
        let mut used: HashSet<String> = HashSet::with_capacity(wanted.len());
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let names = titles.into_iter().zip(wanted).map(|(title, wanted)| {
            let key = wanted.to_ascii_lowercase();
            if used.insert(key.clone()) {
                return (title.unwrap_or("document") != wanted).then_some(wanted);
            }
            let number = numbers.entry(key).or_insert(1);
            loop {
                *number += 1;
                let new = numbered(&wanted, *number);
                let key = new.to_ascii_lowercase();
                if !taken.contains(&key) && used.insert(key) {
                    return Some(new);
                }
            }
        });
        Self(names.collect())
    }

    /// Sets the chosen names.
    pub(super) fn set<'a>(&'a self, turns: &mut [Turn<'a>], repairs: &mut Repairs) {
        let mut names = self.0.iter();
        for turn in turns {
            let mut is_changed = false;
            for part in &mut turn.parts {
                is_changed |= match part {
                    Part::Result(result) => {
                        let is_renamed = rename(&mut result.content, &mut names);
                        result.native = result.native.filter(|_| !is_renamed);
                        is_renamed
                    }
                    part => rename(std::slice::from_mut(part), &mut names),
                };
            }
            if is_changed {
                turn.touch();
                repairs.add(RepairKind::DocumentName, turn.sequence);
            }
        }
    }
}

/// Gives the documents their names; `false` if each keeps its own.
fn rename<'a>(parts: &mut [Part<'a>], names: &mut Iter<'a, Option<String>>) -> bool {
    let mut is_renamed = false;
    for part in parts {
        if let Part::Media(medium) = part
            && is_document(medium)
            && let Some(Some(name)) = names.next()
        {
            medium.title = Some(name);
            is_renamed = true;
        }
    }
    is_renamed
}

/// The documents of a turn, those in results included.
fn documents<'t, 'a>(turn: &'t Turn<'a>) -> impl Iterator<Item = &'t MediaPart<'a>> {
    let parts = turn.parts.iter().flat_map(|part| match part {
        Part::Result(result) => result.content.as_slice(),
        part => std::slice::from_ref(part),
    });
    parts.filter_map(|part| match part {
        Part::Media(medium) => Some(medium).filter(|medium| is_document(medium)),
        _ => None,
    })
}

/// Whether a medium is written as a `document`: a search result has no name.
fn is_document(medium: &MediaPart<'_>) -> bool {
    medium.kind == MediaKind::Document
        && medium.native.is_none_or(|native| native.json.get("document").is_some())
}

fn numbered(name: &str, number: usize) -> String {
    let end = format!(" ({number})");
    let start: String = name.chars().take(MAX_DOCUMENT_NAME.saturating_sub(end.len())).collect();
    format!("{}{end}", start.trim_end())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::message::Message;
    use crate::profile::Profile;
    use crate::render::RepairKind;
    use crate::render::tests::render_all;
    use crate::stored::Sequence;
    use crate::tokens::EstimateCounter;

    fn document(name: &str) -> Value {
        let source = json!({"bytes": "JVBERi0="});
        json!({"document": {"format": "pdf", "name": name, "source": source,
            "citations": {"enabled": true}}})
    }

    fn user(blocks: Value) -> Value {
        let mut message = json!({"role": "user"});
        message["content"] = blocks;
        message
    }

    /// The names that are sent, and the places of the repaired messages.
    fn sent(messages: &[Value]) -> (Vec<String>, Vec<u64>) {
        let read = |message: &Value| Message::from_value(message.clone()).unwrap();
        let messages: Vec<_> = messages.iter().map(read).collect();
        let rendered = render_all(&messages, &Profile::bedrock(), crate::render::Extent::Whole);
        assert_eq!(rendered.tokens, rendered.request.count_tokens(&EstimateCounter));
        let request = rendered.request.to_string();
        let names = request.split(r#""name":""#).skip(1).filter_map(|rest| rest.split('"').next());
        let names = names.filter(|name| *name != "f").map(str::to_owned).collect();
        let renamed = rendered.repairs.iter().filter(|it| it.kind == RepairKind::DocumentName);
        let places = renamed.filter_map(|it| it.sequence).map(Sequence::number).collect();
        (names, places)
    }

    #[test]
    fn names_are_unique_and_allowed() {
        let text = json!({"text": "see"});
        let call = json!({"toolUse": {"toolUseId": "a", "name": "f", "input": {}}});
        let content = json!([{"text": "r"}, document("Tides")]);
        let untitled = json!({"type": "document", "source": {"type": "base64",
            "media_type": "application/pdf", "data": "JVBERi0="}});
        let (names, places) = sent(&[
            user(json!([text, document("tides"), document("tides (2)")])),
            json!({"role": "assistant", "content": [call]}),
            user(json!([{"toolResult": {"toolUseId": "a", "content": content}}])),
            json!({"role": "assistant", "content": [text]}),
            user(json!([text, document("a.b   c_d"), document("report-1 [x] (y)")])),
        ]);
        assert_eq!(names, ["tides", "tides (2)", "Tides (3)", "a b c d", "report-1 [x] (y)"]);
        assert_eq!(places, [3, 5]);
        let (names, places) = sent(&[user(json!([untitled, untitled]))]);
        assert_eq!((names, places), (vec!["document".into(), "document (2)".into()], vec![1]));
        let long = "x".repeat(300);
        let (names, _) = sent(&[user(json!([text, document(&long), document(&long)]))]);
        assert_eq!(names, ["x".repeat(200), format!("{} (2)", "x".repeat(196))]);
    }

    #[test]
    fn allowed_name_is_sent_as_stored() {
        let message = user(json!([{"text": "see"}, document("tides 7")]));
        let messages = [Message::from_value(message.clone()).unwrap()];
        let rendered = render_all(&messages, &Profile::bedrock(), crate::render::Extent::Whole);
        assert_eq!(rendered.repairs, []);
        assert_eq!(rendered.request.to_value()["messages"][0], message);
    }

    #[test]
    fn renamed_document_keeps_its_fields() {
        let message = user(json!([{"text": "see"}, document("a.pdf")]));
        let messages = [Message::from_value(message).unwrap()];
        let rendered = render_all(&messages, &Profile::bedrock(), crate::render::Extent::Whole);
        let request = rendered.request.to_value();
        assert_eq!(request["messages"][0]["content"][1], document("a pdf"));
    }
}
