//! Leaving out incomplete tools of the provider.

use std::collections::{HashMap, HashSet};

use super::Fit;
use crate::dialect::Part;
use crate::render::repair::RepairKind;
use crate::render::turn::Turn;

impl Fit<'_> {
    /// Leaves out tools of the provider whose call or result is missing, repeated or of a refused id.
    pub(super) fn drop_unanswered(&mut self, turn: &mut Turn<'_>) {
        let answers = answers(&turn.parts);
        let mut called: HashSet<&str> = HashSet::new();
        let before = turn.parts.len();
        turn.parts.retain(|part| match part {
            Part::Call(call) if call.provider_run => call.id.is_some_and(|id| {
                let stays = self.profile.call_id.accepts(id)
                    && answers.get(id) == Some(&1)
                    && self.provider_ids.insert(id.to_owned());
                stays && called.insert(id)
            }),
            Part::Result(result) => result.link.is_some_and(|id| called.contains(id)),
            _ => true,
        });
        if turn.parts.len() != before {
            self.repairs.add(RepairKind::ProviderRunLeftOut, turn.sequence);
        }
    }
}

/// For each tool that the provider ran, how many results are behind its call. Each part is looked at once.
fn answers<'p, 'a: 'p>(parts: impl IntoIterator<Item = &'p Part<'a>>) -> HashMap<&'a str, usize> {
    let mut answers = HashMap::new();
    for part in parts {
        match part {
            Part::Call(call) if call.provider_run => {
                if let Some(id) = call.id {
                    answers.entry(id).or_insert(0);
                }
            }
            Part::Result(result) => {
                if let Some(count) = result.link.and_then(|id| answers.get_mut(id)) {
                    *count += 1;
                }
            }
            _ => {}
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::answers;
    use crate::dialect::Dialect;
    use crate::json::Json;
    use crate::message::Message;
    use crate::profile::Profile;
    use crate::render::tests::render_all;
    use crate::render::{Rendered, RepairKind};

    fn call(id: &str) -> Value {
        json!({"type": "server_tool_use", "id": id, "name": "web_search", "input": {}})
    }

    fn result(id: &str) -> Value {
        json!({"type": "web_search_tool_result", "tool_use_id": id, "content": []})
    }

    fn said(blocks: &[Value]) -> Json {
        let message = json!({"role": "assistant", "content": blocks});
        Json::parse(&message.to_string()).unwrap()
    }

    fn rendered(blocks: &[Value]) -> Rendered {
        let messages = [Message::user("go"), Message::from_any(said(blocks)), Message::user("go")];
        render_all(&messages, &Profile::anthropic(), crate::render::Extent::Whole)
    }

    #[test]
    fn many_server_tools_take_linear_work() {
        const CALLS: usize = 20_000;
        let ids: Vec<String> = (0..CALLS).map(|number| format!("srvtoolu_{number}")).collect();
        let calls = ids.iter().map(|id| call(id));
        let blocks: Vec<_> = calls.chain(ids.iter().rev().map(|id| result(id))).collect();
        let message = said(&blocks);
        let parts = Dialect::Anthropic.parts(&message);
        let mut looked_at = 0;
        let found = answers(parts.iter().inspect(|_| looked_at += 1));
        assert_eq!((looked_at, found.len()), (2 * CALLS, CALLS));
        let rendered = rendered(&blocks);
        assert_eq!(rendered.repairs, []);
        let sent = rendered.request.messages()[1].get("content").and_then(Json::as_array);
        assert_eq!(sent.map(<[Json]>::len), Some(2 * CALLS));
    }

    #[test]
    fn server_tool_needs_one_result_behind_it() {
        let text = json!({"type": "text", "text": "ok"});
        for blocks in [
            vec![call("srvtoolu_1"), text.clone()],
            vec![result("srvtoolu_1"), call("srvtoolu_1"), text.clone()],
            vec![call("srvtoolu_1"), result("srvtoolu_1"), result("srvtoolu_1"), text],
        ] {
            let rendered = rendered(&blocks);
            let sent = rendered.request.messages()[1].get_str("content");
            assert_eq!(sent, Some("ok"));
            let is_listed =
                |repair: &crate::render::Repair| repair.kind == RepairKind::ProviderRunLeftOut;
            assert!(rendered.repairs.iter().any(is_listed));
        }
    }
}
