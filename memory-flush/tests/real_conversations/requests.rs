//! Windows of the conversations are read by the types of a client library.

use async_openai::types::chat::ChatCompletionRequestMessage;
use async_openai::types::responses::InputParam;
use memory_core::{EstimateCounter, Profile, WindowOptions, trim_messages};
use serde_json::Value;

use crate::conversations;

#[test]
fn windows_have_the_types_of_openai() {
    for messages in conversations() {
        for budget in [3_000, 100_000] {
            let request = |profile| {
                let options = WindowOptions::new(budget).with_profile(profile);
                let window = trim_messages(messages.clone(), &EstimateCounter, options);
                window.ok().map(|window| window.request)
            };
            let Some(chat) = request(Profile::openai_chat()) else { continue };
            let text = serde_json::to_string(&chat).unwrap();
            let read: Vec<ChatCompletionRequestMessage> = serde_json::from_str(&text).unwrap();
            let mut expected = chat.to_value();
            for message in expected.as_array_mut().unwrap() {
                // The crate omits null fields.
                message.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            }
            assert_eq!(serde_json::to_value(read).unwrap(), expected);

            let items = request(Profile::openai_responses()).unwrap().to_value();
            let items: Value = items["input"].clone();
            let read: InputParam = serde_json::from_value(items.clone()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), items);
        }
    }
}
