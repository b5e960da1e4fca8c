//! A resource's factor and prices apply wherever tokens are counted.

use memory_core::profile::ProfileName;
use memory_core::tokens::MediaTokens;
use memory_core::{MemoryResource, Message};
use serde_json::json;

use crate::support::{On, checked, with};

fn image() -> Message {
    let image = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
    Message::from_value(json!({"role": "user", "content": [image]})).unwrap()
}

/// The tokens of the stored messages, and those of a window with all of them.
async fn counted(resource: MemoryResource, message: Message) -> (u64, u64) {
    let world = On::Memory.world(with(resource)).await;
    let memory = world.memory();
    memory.append(message).await.unwrap();
    let stored = checked(&memory, &world.manager).await.head.counters.present.tokens;
    let window = memory.context(90_000).await.unwrap();
    assert_eq!(window.messages.len(), 1);
    (stored, window.tokens)
}

#[tokio::test(start_paused = true)]
async fn prices_of_media_reach_store_and_window() {
    let plain = MemoryResource::new("m", 90_000);
    let mut set = plain.clone();
    set.media_tokens = MediaTokens { image: Some(7), ..MediaTokens::default() };
    let mut of_model = plain.clone();
    of_model.model = Some("us.anthropic.claude-opus-4-7".into());
    // Bedrock itself accepts no image by URL.
    of_model.profile = Some(ProfileName::Anthropic);
    // Framing and role take four tokens.
    assert_eq!(counted(plain, image()).await, (1_304, 1_304));
    assert_eq!(counted(set, image()).await, (11, 11));
    let (stored, window) = counted(of_model, image()).await;
    assert_eq!((stored, window), (1_369 + 3 + 2, stored));
}

#[tokio::test(start_paused = true)]
async fn factor_reaches_store_and_window() {
    let text = || Message::user("Please bring your booking and an identity card. ".repeat(50));
    let mut resource = MemoryResource::new("m", 90_000);
    let (plain, _) = counted(resource.clone(), text()).await;
    resource.token_factor = Some(2.0);
    let (stored, window) = counted(resource, text()).await;
    assert_eq!(stored, window);
    assert_eq!(stored - 3, 2 * (plain - 3));
}
