//! Rendering a rendered request changes nothing.

use proptest::prelude::*;

use super::histories::{lines, messages};
use super::{profiles, render_all};
use crate::dialect::Dialect;
use crate::json::{Json, JsonObject};
use crate::message::Message;
use crate::render::request::dialect_of;
use crate::render::{Extent, Request};

/// The messages of a request, as an application stores them again.
fn read_back(request: &Request) -> Vec<Message> {
    let dialect = dialect_of(request.profile());
    let system = request.system().map(|system| {
        let message = JsonObject::new().with("role", "system");
        let message = match (dialect, system) {
            (Dialect::Gemini, Json::Object(content)) => {
                message.with("parts", content.get("parts").unwrap().clone())
            }
            _ => message.with("content", system.clone()),
        };
        message.into()
    });
    let all = system.into_iter().chain(request.messages().iter().cloned());
    all.map(Message::from_any).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]
    #[test]
    fn rendered_request_is_a_fixed_point(lines in lines(12)) {
        let messages = messages(&lines);
        for profile in profiles() {
            let first = render_all(&messages, &profile, Extent::Whole);
            let again = render_all(&read_back(&first.request), &profile, Extent::Whole);
            prop_assert_eq!(&again.request, &first.request, "{}", profile.name);
            prop_assert!(again.repairs.is_empty(), "{} {:?} of {}", profile.name, again.repairs, first.request);
        }
    }
}
