//! Call ids are unique and deterministic.

use std::collections::HashSet;

use proptest::prelude::*;

use super::histories::{lines, messages};
use super::{profiles, render_all};
use crate::dialect::Part;
use crate::render::request::dialect_of;
use crate::render::{Extent, Rendered};

/// The ids of the calls in a request, and those of its results, without tools that the provider runs.
fn ids(rendered: &Rendered) -> (Vec<Option<String>>, Vec<Option<String>>) {
    let dialect = dialect_of(rendered.request.profile());
    let (mut calls, mut results) = (Vec::new(), Vec::new());
    for message in rendered.request.messages() {
        dialect.read(message, &mut |part| match part {
            Part::Call(call) if !call.provider_run => calls.push(call.id.map(Into::into)),
            Part::Result(result) if !result.provider_run => {
                results.push(result.link.map(Into::into));
            }
            _ => {}
        });
    }
    (calls, results)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]
    #[test]
    fn ids_are_unique_and_stable(lines in lines(12), cut in 0..24_usize, is_whole in any::<bool>()) {
        let messages = messages(&lines);
        let before = messages.get(..cut).unwrap_or(&messages);
        for profile in profiles() {
            let rendered = render_all(&messages, &profile, Extent::Whole);
            let (calls, results) = ids(&rendered);
            let mut seen = HashSet::new();
            prop_assert!(calls.iter().flatten().all(|id| seen.insert(id)), "{calls:?}");
            prop_assert_eq!(&results, &calls, "{}", rendered.request);
            prop_assert_eq!(&rendered.request, &render_all(&messages, &profile, Extent::Whole).request);
            // With more messages, and as part of a window.
            let (earlier, _) = ids(&render_all(before, &profile, if is_whole { Extent::Whole } else { Extent::Part }));
            for (earlier, now) in earlier.iter().zip(&calls) {
                // A call without an id gets one if its result comes in another form.
                let is_new = earlier.is_none() || now.is_none();
                prop_assert!(is_new || earlier == now, "{} {earlier:?} {now:?}", profile.name);
            }
        }
    }
}
