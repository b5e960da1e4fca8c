//! Messages without their contents, of which only the tool calls and results remain.

use super::Message;
use crate::dialect::{Arguments, CallKind, CallPart, Dialect, Part, ResultPart};
use crate::json::{Json, JsonObject};
use crate::link::{ToolLink, ToolRef};

/// The key of the replacement in the arguments of a call, which APIs require to be an object.
const ARGUMENT: &str = "withheld";

impl Message {
    /// The message with only its role, the ids of its calls and results, and the names of their functions. The
    /// replacement takes the place of its texts and media, of the arguments of each call, and of each result. Reasoning,
    /// author names, tools that the provider ran, and fields that no dialect knows are left out.
    ///
    /// It makes and answers the same calls, in the same dialect where that can express it. `None` for a message without
    /// calls and results of the application's tools, because nothing of it would remain, and for one that no dialect can
    /// express without its contents: a call and its result in one message, without ids.
    ///
    /// # Examples
    ///
    /// ```
    /// use memory_core::Message;
    ///
    /// let result = Message::tool_result("call_7", "Ann Lee, born 1950-01-02");
    /// let withheld = result.withheld("[REDACTED]").ok_or("no result")?;
    /// assert_eq!(withheld, Message::tool_result("call_7", "[REDACTED]"));
    /// assert_eq!(Message::user("Ann Lee").withheld("[REDACTED]"), None);
    /// # Ok::<(), &str>(())
    /// ```
    #[must_use]
    pub fn withheld(&self, replacement: &str) -> Option<Self> {
        let link = self.tool_link();
        if link.is_none() {
            return None;
        }
        let arguments = Json::from(JsonObject::new().with(ARGUMENT, replacement));
        let parts = self.parts();
        let kept = kept(&parts, &link, &arguments, replacement);
        let role = self.role();
        // Some dialects cannot express each combination of calls and results as one message, and an item of Responses is
        // none without its id.
        let others = Dialect::ALL.into_iter().filter(|other| *other != self.dialect());
        let has_ids = link.calls.iter().chain(&*link.results).all(|link| !link.id.is_empty());
        let dialects = std::iter::once(self.dialect()).chain(others);
        let mut dialects = dialects.filter(|it| has_ids || *it != Dialect::Responses);
        dialects.find_map(|dialect| {
            let mut written = dialect.write(role, &kept).messages;
            let only = written.pop().filter(|_| written.is_empty())?;
            let stub = Self::from_any(only);
            let is_same = {
                let ToolLink { calls, results, .. } = stub.tool_link();
                calls == link.calls && results == link.results
            };
            is_same.then_some(stub)
        })
    }
}

/// The parts of the stub.
fn kept<'a>(
    parts: &[Part<'a>],
    link: &ToolLink,
    arguments: &'a Json,
    replacement: &'a str,
) -> Vec<Part<'a>> {
    let mut has_text = false;
    let mut kept = Vec::new();
    for part in parts {
        match part {
            Part::Call(call) if !call.provider_run && is_in(&link.calls, call.id, call.name) => {
                let arguments = match call.kind {
                    CallKind::Custom => Arguments::Text(replacement),
                    _ => Arguments::Json(arguments),
                };
                let kind = kept_kind(call.kind);
                kept.push(Part::Call(CallPart {
                    kind,
                    ..CallPart::new(call.id, call.name, arguments)
                }));
            }
            Part::Result(result)
                if !result.provider_run
                    && is_in(&link.results, result.link, result.name.unwrap_or_default()) =>
            {
                let content = vec![Part::text(replacement)];
                let kind = kept_kind(result.kind);
                let empty = ResultPart::new(result.link, result.name, content);
                kept.push(Part::Result(ResultPart { kind, ..empty }));
            }
            Part::Text(_) | Part::Media(_) | Part::Data(_) if !has_text && !part.is_blank() => {
                has_text = true;
                kept.push(Part::text(replacement));
            }
            _ => {}
        }
    }
    kept
}

/// Calls and results of tools that a provider defines have other fields, so they become those of functions.
fn kept_kind(kind: CallKind<'_>) -> CallKind<'_> {
    match kind {
        CallKind::Native(_) => CallKind::Function,
        kept => kept,
    }
}

/// Whether a call or result is in the link. One that is paired within the message is not.
fn is_in(links: &[ToolRef], id: Option<&str>, name: &str) -> bool {
    let legacy = |link: &ToolRef| link.id.strip_prefix("function_call:") == Some(name);
    links.iter().any(|link| match id {
        Some(id) => *link.id == *id,
        None => link.id.is_empty() && *link.name == *name || legacy(link),
    })
}

#[cfg(test)]
mod tests;
