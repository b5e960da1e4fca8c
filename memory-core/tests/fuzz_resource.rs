//! Fuzzing: resources in JSON, YAML and TOML.

#![cfg(all(feature = "yaml", feature = "toml"))]

use memory_core::{MemoryResource, ResourceError};
use memory_core_testkit::fuzz::{fuzz, peak_of};

memory_core_testkit::count_allocations!();

/// Each pattern may take 4 MiB when compiled, and twice as much during compilation.
const MOST: usize = 24 << 20;

type Format = fn(&str) -> Result<MemoryResource, ResourceError>;

#[test]
fn resource_never_panics_or_exceeds_memory() {
    let formats: [Format; 3] =
        [MemoryResource::from_json, MemoryResource::from_yaml, MemoryResource::from_toml];
    fuzz("resource", 700, |input| {
        let text = String::from_utf8_lossy(input);
        for format in formats {
            let (read, peak) = peak_of(|| format(&text));
            assert!(peak <= MOST + 300 * text.len(), "{peak} bytes for {}", text.len());
            match read {
                Ok(resource) => {
                    resource.policy().unwrap();
                    resource.flush_settings().unwrap();
                    resource.redactor().unwrap();
                    let json = serde_json::to_string(&resource).unwrap();
                    assert_eq!(MemoryResource::from_json(&json), Ok(resource));
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.lines().count() <= 1, "{text}");
                    assert!(text.len() < 3_000, "{} bytes: {text}", text.len());
                }
            }
        }
    });
}

#[test]
fn oversized_text_is_refused_unread() {
    let text = "#".repeat(MemoryResource::MAX_BYTES + 1);
    let (refused, peak) = peak_of(|| MemoryResource::from_yaml(&text).unwrap_err());
    assert_eq!(
        refused.to_string(),
        "a resource in YAML: has 1048577 bytes, over the limit of 1048576; give it the file of one resource"
    );
    assert!(peak < 10_000, "{peak}");
}
