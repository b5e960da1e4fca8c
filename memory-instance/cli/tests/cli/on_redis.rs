//! The server of the tests, and the demo on it.

use memory_redis_testkit::{any_server, unique_prefix};
use tokio::runtime::Runtime;

use crate::support::Folder;

/// Runs a test on the available server, under a separate prefix.
pub(crate) fn on_a_server(test: fn(&Folder)) {
    let server = Runtime::new().unwrap().block_on(any_server());
    test(&Folder::at(format!("{}?prefix={}", server.url(), unique_prefix())));
}

#[test]
fn demo_prints_all_acts_and_how_to_look() {
    on_a_server(|folder| {
        let story = folder.ok("demo");
        for told in [
            "fenced off: the lease with token",
            "of 400 messages",
            "nothing was lost, nothing was doubled",
            &format!("memory keys --store '{}'", folder.store()),
        ] {
            assert!(story.contains(told), "`{told}` is not in the story:\n{story}");
        }
        let keys = folder.ok("keys");
        assert!(keys.contains("case-4711-") && keys.contains("log-"), "{keys}");
    });
}
