//! A plain chat message is read without an allocation.

use memory_core::dialect::{Dialect, Part};
use memory_core::json::Json;
use memory_core::tokens::message_tokens;
use memory_core::{EstimateCounter, Message};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The peak number of bytes that `run` allocates.
fn peak_of(mut run: impl FnMut()) -> usize {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    run();
    ALLOCATOR.peak_usage().saturating_sub(before)
}

// Only one test in this file, because allocations of other threads are counted too.
#[test]
fn plain_messages_are_read_without_allocation() {
    let messages = [
        r#"{"role":"user","content":"hello"}"#,
        r#"{"role":"assistant","content":"hello"}"#,
        r#"{"role":" System ","content":"hello"}"#,
        r#"{"role":"user","content":[{"type":"text","text":"hello"}]}"#,
        r#"{"role":"model","parts":[{"text":"hello"}]}"#,
        r#"{"role":"user","content":[{"text":"hello"}]}"#,
        r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"hello"}]}"#,
    ]
    .map(|text| Json::parse(text).unwrap());
    for message in &messages {
        let mut texts = 0;
        let peak = peak_of(|| {
            let dialect = Dialect::detect(message);
            let role = dialect.and_then(|dialect| dialect.role(message));
            if let (Some(dialect), Some(_)) = (dialect, role) {
                dialect.read(message, &mut |part| {
                    texts += usize::from(matches!(part, Part::Text(text) if text.text == "hello"));
                });
            }
        });
        assert_eq!((peak, texts), (0, 1), "{message}");
    }
    let message = Message::user("hello");
    let peak = peak_of(|| {
        let mut texts = 0;
        message.read(&mut |part| texts += usize::from(matches!(part, Part::Text(_))));
        assert_eq!((texts, &*message.text()), (1, "hello"));
        assert!(message.tool_link().is_none() && message_tokens(&EstimateCounter, &message) > 0);
    });
    assert_eq!(peak, 0, "a message on its way into a memory");
    // The measure notices one allocation.
    assert!(peak_of(|| drop(std::hint::black_box(Box::new(1_u8)))) > 0);
}
