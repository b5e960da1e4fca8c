//! Fuzzing of key templates and their values.

use std::time::Duration;

use memory_core::MemoryKey;
use memory_core::limits::MAX_KEY_PART_BYTES;
use memory_core_testkit::fuzz::{SECRET, fuzz, peak_of};
use memory_instance::{KeyContext, KeyTemplate};
use serde_json::json;
use tokio::time::Instant;

memory_core_testkit::count_allocations!();

/// A template has at most 2 KiB, and each of its filters and operators produces at most 64 KiB more.
const MOST: usize = 16 << 20;

#[test]
fn templates_never_panic_hang_or_leak_values() {
    let context = KeyContext::new()
        .with("workflow.id", "wf")
        .with(
            "workflow.input",
            json!({"userId": format!("<{SECRET}>"), "n": 5, "f": 1.5, "list": ["a", SECRET]}),
        )
        .with("line.content", format!("{SECRET} {{{{ user.id }}}} \u{202e}").repeat(200))
        .with("user.id", "u");
    fuzz("template", 3_000, |input| {
        let text = String::from_utf8_lossy(input);
        let started = Instant::now();
        let (rendered, peak) =
            peak_of(|| KeyTemplate::parse(&text).and_then(|template| template.render(&context)));
        assert!(peak <= MOST, "{peak} bytes for {text}");
        assert!(started.elapsed() < Duration::from_secs(5), "{text}");
        match rendered {
            Ok(key) => {
                assert!(key.len() <= MAX_KEY_PART_BYTES && !key.trim().is_empty());
                let stored = MemoryKey::new("p", "m", &key).unwrap();
                if let Some((_, _, back)) = stored.parts() {
                    assert_eq!(back, key);
                }
            }
            Err(error) => {
                let told = error.to_string();
                assert!(!told.contains(SECRET) || text.contains(SECRET), "{told}");
                assert!(told.len() < 8_000, "{} bytes", told.len());
            }
        }
    });
}
