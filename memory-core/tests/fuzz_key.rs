//! Fuzzing: storage keys, from their parts and from stored text.

use memory_core::MemoryKey;
use memory_core::limits::MAX_KEY_BYTES;
use memory_core_testkit::fuzz::{fuzz, peak_of};

memory_core_testkit::count_allocations!();

#[test]
fn parsed_key_is_canonical() {
    fuzz("key", 4_000, |input| {
        let text = String::from_utf8_lossy(input);
        let (read, peak) = peak_of(|| text.parse::<MemoryKey>());
        assert!(peak <= 4 * MAX_KEY_BYTES + 1_024, "{peak}");
        match read {
            Ok(key) => {
                assert_eq!(key.as_str(), text);
                let _ = (key.memory_id(), key.flush_lease_name());
                match key.parts() {
                    Some((project, id, rendered)) => {
                        assert_eq!(MemoryKey::new(&project, &id, &rendered), Ok(key));
                    }
                    None => assert!(text.contains("%~"), "{text}"),
                }
            }
            Err(error) => assert!(error.to_string().len() < 500),
        }
        let (made, peak) = peak_of(|| MemoryKey::new("p", "m", &text));
        assert!(peak <= 8 * text.len() + 2_048, "{peak} for {}", text.len());
        if let Ok(made) = made {
            assert!(made.as_str().len() <= MAX_KEY_BYTES);
            assert_eq!(made.as_str().parse::<MemoryKey>(), Ok(made));
        }
    });
}
