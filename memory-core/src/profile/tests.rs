use super::*;

#[test]
fn model_chooses_profile() {
    use ProfileName::{Anthropic, Bedrock, Gemini, Mistral, OpenaiChat};
    for (model, profile) in [
        ("claude-opus-5.5", Anthropic),
        ("anthropic/claude-sonnet-4.5", Anthropic),
        ("CLAUDE-3-5-SONNET-20241022", Anthropic),
        ("vertex_ai/claude-sonnet-4@20250514", Anthropic),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Bedrock),
        ("anthropic.claude-3-haiku-20240307-v1:0", Bedrock),
        ("apac.amazon.nova-lite-v1:0", Bedrock),
        ("meta.llama3-1-70b-instruct-v1:0", Bedrock),
        ("mistral.mistral-large-2402-v1:0", Bedrock),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-5", Bedrock),
        ("gemini-2.5-pro", Gemini),
        ("models/gemini-3-flash-preview", Gemini),
        ("Google/Gemini-2.5-flash", Gemini),
        ("mistral-large-latest", Mistral),
        ("ministral-8b-2410", Mistral),
        ("magistral-medium-2507", Mistral),
        ("codestral-latest", Mistral),
        ("devstral-small", Mistral),
        ("pixtral-12b", Mistral),
        ("mistralai/Mistral-Nemo-Instruct-2407", Mistral),
        ("open-mistral-7b", Mistral),
        ("gpt-4o", OpenaiChat),
        ("openai/gpt-4o-2024-08-06", OpenaiChat),
        ("o3", OpenaiChat),
        ("deepseek-chat", OpenaiChat),
        ("my-deployment", OpenaiChat),
        ("mistralish", OpenaiChat),
        ("", OpenaiChat),
    ] {
        assert_eq!(Profile::for_model(Some(model)).name, profile, "{model}");
    }
    assert_eq!(Profile::for_model(None), Profile::openai_chat());
    assert_eq!(Profile::default(), Profile::openai_chat());
}

#[test]
fn claude_generations_differ() {
    use LastMessage::{Any, NotAssistant};
    use ReasoningForm::{BoundBlocks, SignedBlocks};
    use SystemPlacement::{TopLevel, TopLevelOrAfterUser};
    for (model, last, system, reasoning, max_images) in [
        ("claude-3-5-sonnet-20241022", Any, TopLevel, SignedBlocks, 100),
        ("claude-haiku-4-5-20251001", Any, TopLevel, SignedBlocks, 100),
        ("claude-opus-4-6", NotAssistant, TopLevel, SignedBlocks, 600),
        ("claude-opus-4-8", NotAssistant, TopLevelOrAfterUser, SignedBlocks, 600),
        ("claude-opus-5", NotAssistant, TopLevelOrAfterUser, SignedBlocks, 600),
        ("claude-sonnet-5", NotAssistant, TopLevel, SignedBlocks, 600),
        ("claude-sonnet-5-5", NotAssistant, TopLevelOrAfterUser, BoundBlocks, 600),
        ("claude-haiku-5.5", NotAssistant, TopLevelOrAfterUser, BoundBlocks, 600),
        ("claude-fable-5", NotAssistant, TopLevelOrAfterUser, SignedBlocks, 600),
        ("claude-fable-5-1", NotAssistant, TopLevelOrAfterUser, BoundBlocks, 600),
        ("claude-opus-6", NotAssistant, TopLevelOrAfterUser, BoundBlocks, 600),
        ("claude-latest", NotAssistant, TopLevel, BoundBlocks, 100),
    ] {
        let profile = Profile::for_model(Some(model));
        assert_eq!(
            (profile.last, profile.system, profile.reasoning, profile.max_images),
            (last, system, reasoning, Some(max_images)),
            "{model}"
        );
    }
    let reasoning = |model| Profile::for_model(Some(model)).reasoning;
    assert_eq!(reasoning("us.anthropic.claude-opus-5-5-v1:0"), BoundBlocks);
    assert_eq!(reasoning("us.anthropic.claude-opus-4-6-v1:0"), SignedBlocks);
    assert_eq!(reasoning("amazon.nova-pro-v1:0"), ReasoningForm::Signatures);
}

#[test]
fn reasoning_follows_the_model() {
    use ReasoningForm::{
        Fields, FieldsBesideCalls, FieldsWithCalls, Refused, Signatures, SignedCalls,
    };
    for (model, reasoning) in [
        ("gpt-5.2", Refused),
        ("deepseek-r1", Refused),
        ("deepseek-ai/DeepSeek-R1-0528", Refused),
        ("deepseek-r1:14b", Refused),
        ("deepseek-reasoner", FieldsBesideCalls),
        ("deepseek/deepseek-reasoner", FieldsBesideCalls),
        ("deepseek-chat", Fields),
        ("deepseek-v3.1", Fields),
        ("deepseek/deepseek-v3.2-exp", FieldsWithCalls),
        ("deepseek-v4-flash", FieldsWithCalls),
        ("kimi-k2-0905-preview", Fields),
        ("kimi-k2-thinking", FieldsWithCalls),
        ("kimi-k3", FieldsWithCalls),
        ("groq/kimi-k3", Refused),
        ("glm-4.6", Fields),
        ("my-deployment", Refused),
        ("gemini-2.5-pro", Signatures),
        ("gemini-3.1-pro", SignedCalls),
        ("gemini-flash-latest", SignedCalls),
    ] {
        assert_eq!(Profile::for_model(Some(model)).reasoning, reasoning, "{model}");
    }
}

#[test]
fn compatible_hosts_are_stricter_than_openai() {
    let openai = Profile::for_model(Some("gpt-4o"));
    assert_eq!(Profile { model: None, ..openai.clone() }, Profile::openai_chat());
    assert!(openai.developer_role && openai.function_role);
    let host = Profile::for_model(Some("llama-3.3-70b"));
    assert!(!host.developer_role && !host.function_role);
    assert_eq!(host.content, ContentKey::Required);
}

#[test]
fn mistral_large_takes_text_beside_calls() {
    for (model, both) in
        [("mistral-large-latest", true), ("mistral-medium-3", true), ("devstral-small", false)]
    {
        assert_eq!(Profile::for_model(Some(model)).text_beside_calls, both, "{model}");
    }
}

#[test]
fn profiles_are_written_by_name() {
    for name in ProfileName::ALL {
        let profile = Profile::from(name);
        assert_eq!(profile.to_string(), name.as_str());
        assert_eq!(Profile::named(name.as_str()), Ok(profile.clone()));
        let json = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<Profile>(&json).unwrap(), profile);
    }
    assert_eq!(Profile::named("Anthropic"), Err(ProfileError));
    assert!(serde_json::from_str::<Profile>("\"openai\"").is_err());
}
