//! Fuzzing: the JSON of a message.

use memory_core::json::Json;
use memory_core::limits::Limits;
use memory_core::resource::Redactor;
use memory_core::tokens::message_tokens;
use memory_core::{EstimateCounter, Message};
use memory_core_testkit::fuzz::{SECRET, fuzz, peak_of};

memory_core_testkit::count_allocations!();

/// The limit of the memory that reading a message may take, as a multiple of its length. An object of one short
/// field takes a node of some 640 bytes for 7 bytes of JSON.
const MULTIPLE: usize = 200;

#[test]
fn message_never_panics_loses_or_exceeds_memory() {
    let redactor = Redactor::new(&[r"\d{3}"], "").unwrap();
    fuzz("message", 3_000, |input| {
        let text = String::from_utf8_lossy(input);
        let (read, peak) = peak_of(|| Message::from_json(&text));
        assert!(peak <= MULTIPLE * text.len() + (64 << 10), "{peak} bytes for {}", text.len());
        let message = match read {
            Ok(message) => message,
            Err(error) => {
                let text = error.to_string();
                // Only text that looks like a field name is quoted, as a place.
                let unquoted: String = text.split('`').step_by(2).collect();
                assert!(!unquoted.contains(SECRET) && text.len() < 200, "{text}");
                return;
            }
        };
        let json = message.to_json().unwrap();
        assert_eq!(Message::from_json(&json).unwrap(), message);
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message);
        assert!(message_tokens(&EstimateCounter, &message) > 0);
        let _ = (message.text(), message.tool_link(), redactor.redact(message.clone()));
        if let Err(error) = Limits::default().check([&message]) {
            assert!(!error.to_string().contains(SECRET), "{error}");
        } else {
            // The container of a message may add levels of nesting.
            let wrapped = format!("[[[{json}]]]");
            assert!(serde_json::from_str::<Json>(&wrapped).is_ok());
        }
    });
}
