//! The rules of each API, and how a model's generation changes them.

use super::{
    Alphabet, Alternation, ArgumentForm, ContentKey, FirstMessage, LastMessage, NameForm, Profile,
    ProfileName, ReasoningForm, ResultPlacement, SystemPlacement, TextForm,
};
use crate::model_name::{Family, ModelName};

const MIB: usize = 1 << 20;

pub(super) fn for_model(model: Option<&str>) -> Profile {
    let name = model.map(ModelName::new);
    let profile = match &name {
        Some(name) if name.bedrock => ProfileName::Bedrock,
        Some(name) => match name.family() {
            Family::Claude => ProfileName::Anthropic,
            Family::Gemini => ProfileName::Gemini,
            Family::Mistral => ProfileName::Mistral,
            Family::OpenAi
            | Family::DeepSeek
            | Family::Kimi
            | Family::Reasoning
            | Family::Other => ProfileName::OpenaiChat,
        },
        None => ProfileName::OpenaiChat,
    };
    Profile { model: model.map(str::to_owned), ..build(profile, name.as_ref()) }
}

pub(super) fn new(profile: ProfileName, model: Option<&str>) -> Profile {
    let rules = build(profile, model.map(ModelName::new).as_ref());
    Profile { model: model.map(str::to_owned), ..rules }
}

fn build(profile: ProfileName, model: Option<&ModelName>) -> Profile {
    match profile {
        ProfileName::OpenaiChat => openai_chat(model),
        ProfileName::OpenaiResponses => openai_responses(),
        ProfileName::Anthropic => anthropic(model),
        ProfileName::Gemini => gemini(model),
        ProfileName::Bedrock => bedrock(model),
        ProfileName::Mistral => mistral(model),
        ProfileName::StrictTemplate => strict_template(),
    }
}

fn openai_chat(model: Option<&ModelName>) -> Profile {
    let is_openai = model.is_none_or(|model| model.family() == Family::OpenAi);
    Profile {
        name: ProfileName::OpenaiChat,
        model: None,
        developer_role: is_openai,
        function_role: is_openai,
        system: SystemPlacement::Anywhere,
        first: FirstMessage::Any,
        alternation: Alternation::Free,
        last: LastMessage::Any,
        results: ResultPlacement::DirectlyAfter,
        call_id: NameForm::new(Alphabet::Any, 40),
        arguments: ArgumentForm::Text,
        function_name: NameForm::new(Alphabet::Word, 64),
        message_name: Some(NameForm::new(Alphabet::Word, 64)),
        max_calls: Some(128),
        text_beside_calls: true,
        content: if is_openai { ContentKey::Optional } else { ContentKey::Required },
        text: TextForm::NotEmpty,
        reasoning: model.map_or(ReasoningForm::Refused, reasoning_fields),
        media_in_results: false,
        max_images: Some(500),
        max_documents: None,
        max_cache_marks: None,
        max_bytes: Some(50 * MIB),
    }
}

/// Which hosts of OpenAI's chat API take reasoning back.
fn reasoning_fields(model: &ModelName) -> ReasoningForm {
    match (model.family(), model.version()) {
        _ if model.groq => ReasoningForm::Refused,
        (Family::DeepSeek, _) if model.has("r1") => ReasoningForm::Refused,
        // The alias of R1, which refuses the field, and of V3.2, which wants it beside calls only.
        (Family::DeepSeek, _) if model.has("reasoner") => ReasoningForm::FieldsBesideCalls,
        (Family::DeepSeek, Some(version)) if version >= (3, 2) => ReasoningForm::FieldsWithCalls,
        (Family::Kimi, _) if model.has("thinking") => ReasoningForm::FieldsWithCalls,
        (Family::Kimi, Some(version)) if version >= (2, 5) => ReasoningForm::FieldsWithCalls,
        (Family::DeepSeek | Family::Kimi | Family::Reasoning, _) => ReasoningForm::Fields,
        (Family::OpenAi | Family::Claude | Family::Gemini | Family::Mistral | Family::Other, _) => {
            ReasoningForm::Refused
        }
    }
}

fn openai_responses() -> Profile {
    Profile {
        name: ProfileName::OpenaiResponses,
        model: None,
        developer_role: true,
        function_role: false,
        system: SystemPlacement::Anywhere,
        first: FirstMessage::Any,
        alternation: Alternation::Free,
        last: LastMessage::Any,
        results: ResultPlacement::AfterCall,
        call_id: NameForm::new(Alphabet::Any, 64),
        arguments: ArgumentForm::Text,
        function_name: NameForm::new(Alphabet::Word, 64),
        message_name: None,
        max_calls: None,
        text_beside_calls: true,
        content: ContentKey::Required,
        text: TextForm::NotEmpty,
        reasoning: ReasoningForm::Items,
        media_in_results: true,
        max_images: Some(500),
        max_documents: None,
        max_cache_marks: None,
        max_bytes: Some(50 * MIB),
    }
}

/// The differences between Claude's generations. An unknown version has the newest rules.
struct Claude {
    prefill: bool,
    system_in_middle: bool,
    bound: bool,
    max_images: usize,
}

impl Claude {
    fn of(model: Option<&ModelName>) -> Self {
        let Some((model, version)) = model.and_then(|model| Some((model, model.version()?))) else {
            return Self { prefill: false, system_in_middle: false, bound: true, max_images: 100 };
        };
        let is = |word| model.has(word);
        let at_least = |least| version >= least;
        let is_story = is("fable") || is("mythos");
        Self {
            prefill: !at_least((4, 6)),
            system_in_middle: (is("opus") && at_least((4, 8)))
                || ((is("sonnet") || is("haiku")) && at_least((5, 5)))
                || (is_story && at_least((5, 0))),
            bound: at_least((5, 5)) || (is_story && at_least((5, 1))),
            // 600 for models whose window has 1,000,000 tokens.
            max_images: match () {
                () if is("haiku") && !at_least((5, 5)) => 100,
                () if at_least((4, 6)) => 600,
                () => 100,
            },
        }
    }

    fn reasoning(&self) -> ReasoningForm {
        if self.bound { ReasoningForm::BoundBlocks } else { ReasoningForm::SignedBlocks }
    }
}

fn anthropic(model: Option<&ModelName>) -> Profile {
    let claude = Claude::of(model);
    Profile {
        name: ProfileName::Anthropic,
        model: None,
        developer_role: false,
        function_role: false,
        system: if claude.system_in_middle {
            SystemPlacement::TopLevelOrAfterUser
        } else {
            SystemPlacement::TopLevel
        },
        first: FirstMessage::User,
        alternation: Alternation::Free,
        last: if claude.prefill { LastMessage::Any } else { LastMessage::NotAssistant },
        results: ResultPlacement::NextMessageFirst,
        call_id: NameForm::new(Alphabet::Word, 64),
        arguments: ArgumentForm::Object,
        function_name: NameForm::new(Alphabet::Word, 128),
        message_name: None,
        max_calls: None,
        text_beside_calls: true,
        content: ContentKey::Required,
        text: TextForm::NotBlank,
        reasoning: claude.reasoning(),
        media_in_results: true,
        max_images: Some(claude.max_images),
        max_documents: None,
        max_cache_marks: Some(4),
        max_bytes: Some(32 * MIB),
    }
}

fn gemini(model: Option<&ModelName>) -> Profile {
    let is_old = model.and_then(ModelName::version).is_some_and(|(major, _)| major < 3);
    Profile {
        name: ProfileName::Gemini,
        model: None,
        developer_role: false,
        function_role: false,
        system: SystemPlacement::TopLevel,
        first: FirstMessage::User,
        alternation: Alternation::CallAfterUser,
        last: LastMessage::NotAssistant,
        results: ResultPlacement::NextMessageOnly,
        call_id: NameForm { alphabet: Alphabet::Any, min_length: 1, max_length: usize::MAX },
        arguments: ArgumentForm::Object,
        function_name: NameForm::new(Alphabet::Dotted, 64),
        message_name: None,
        max_calls: None,
        text_beside_calls: true,
        content: ContentKey::Required,
        text: TextForm::NotEmpty,
        reasoning: if is_old { ReasoningForm::Signatures } else { ReasoningForm::SignedCalls },
        // Unknown models count as Gemini 3 for signatures, which is the stricter reading, and here
        // as well: the field is then a newer one, and only names of old models are known to refuse
        // it.
        media_in_results: !is_old,
        max_images: Some(3_000),
        max_documents: None,
        max_cache_marks: None,
        max_bytes: Some(20 * MIB),
    }
}

fn bedrock(model: Option<&ModelName>) -> Profile {
    Profile {
        name: ProfileName::Bedrock,
        model: None,
        developer_role: false,
        function_role: false,
        system: SystemPlacement::TopLevel,
        first: FirstMessage::User,
        alternation: Alternation::Strict,
        last: LastMessage::NotAssistant,
        results: ResultPlacement::NextMessageFirst,
        call_id: NameForm::new(Alphabet::Word, 64),
        arguments: ArgumentForm::Object,
        function_name: NameForm::new(Alphabet::Word, 64),
        message_name: None,
        max_calls: None,
        text_beside_calls: true,
        content: ContentKey::Required,
        text: TextForm::NotBlank,
        reasoning: match model.filter(|model| model.family() != Family::Claude) {
            // Signatures are Claude's. (T: the field is optional)
            Some(_) => ReasoningForm::Signatures,
            None => Claude::of(model).reasoning(),
        },
        media_in_results: true,
        max_images: Some(20),
        max_documents: Some(5),
        max_cache_marks: None,
        max_bytes: Some(25 * MIB),
    }
}

fn mistral(model: Option<&ModelName>) -> Profile {
    let takes_both = model.is_some_and(|model| model.has("medium") || model.has("large"));
    Profile {
        name: ProfileName::Mistral,
        model: None,
        developer_role: false,
        function_role: false,
        system: SystemPlacement::Leading,
        first: FirstMessage::User,
        alternation: Alternation::AssistantAfterTool,
        last: LastMessage::MarkedPrefix,
        results: ResultPlacement::DirectlyAfter,
        call_id: NameForm { alphabet: Alphabet::Alphanumeric, min_length: 9, max_length: 9 },
        arguments: ArgumentForm::Text,
        function_name: NameForm::new(Alphabet::Word, 64),
        message_name: Some(NameForm::new(Alphabet::Word, 64)),
        max_calls: None,
        text_beside_calls: takes_both,
        content: ContentKey::Required,
        text: TextForm::NotEmpty,
        reasoning: ReasoningForm::Chunks,
        media_in_results: false,
        max_images: Some(8),
        max_documents: None,
        max_cache_marks: None,
        max_bytes: Some(50 * MIB),
    }
}

fn strict_template() -> Profile {
    Profile {
        name: ProfileName::StrictTemplate,
        model: None,
        developer_role: false,
        function_role: false,
        system: SystemPlacement::FirstOnly,
        first: FirstMessage::User,
        alternation: Alternation::Strict,
        last: LastMessage::NotAssistant,
        results: ResultPlacement::DirectlyAfter,
        call_id: NameForm::new(Alphabet::Any, 40),
        arguments: ArgumentForm::ObjectOrText,
        function_name: NameForm::new(Alphabet::Word, 64),
        message_name: Some(NameForm::new(Alphabet::Word, 64)),
        max_calls: None,
        text_beside_calls: true,
        content: ContentKey::Required,
        text: TextForm::NotEmpty,
        reasoning: ReasoningForm::Fields,
        media_in_results: false,
        max_images: None,
        max_documents: None,
        max_cache_marks: None,
        max_bytes: None,
    }
}
