//! The request rules of model providers, as data.
//!
//! A [`Profile`] lists which rules hold for a request: [`check_request`](crate::check_request())
//! verifies them, and a renderer obeys them. Each field names its source with a letter: **D**
//! documentation of the provider, **T** types in a provider's SDK, **E** the text of an API error
//! quoted in an issue tracker (`repository#number`), **K** third-party code or notes, **M** memory
//! of an error text without a citation. **[?]** marks a reading that is not verified; the stricter
//! one was chosen.
//!
//! ```
//! use memory_core::profile::{LastMessage, Profile, ProfileName};
//!
//! let profile = Profile::for_model(Some("us.anthropic.claude-sonnet-4-5-20250929-v1:0"));
//! assert_eq!(profile.name, ProfileName::Bedrock);
//!
//! // Rules that differ between generations follow from the model.
//! let old = Profile::for_model(Some("claude-3-5-sonnet-20241022"));
//! let new = Profile::for_model(Some("claude-opus-5.5"));
//! assert_eq!(old.last, LastMessage::Any);
//! assert_eq!(new.last, LastMessage::NotAssistant);
//! # let named: Profile = "anthropic".parse()?;
//! # assert_eq!(named, Profile::named("anthropic")?);
//! # Ok::<(), memory_core::profile::ProfileError>(())
//! ```

mod name;
mod presets;
mod rules;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::name::{ProfileError, ProfileName};
pub use self::rules::{
    Alphabet, Alternation, ArgumentForm, ContentKey, FirstMessage, LastMessage, NameForm,
    ReasoningForm, ResultPlacement, SystemPlacement, TextForm,
};

/// The rules of one API, for one generation of models.
///
/// All fields are public and may be changed to suit a gateway that allows more or less than the
/// provider. The form of a request, such as the names of its fields, follows from
/// [`name`](Self::name); a field that has no meaning in that form is ignored.
///
/// `Display`, `FromStr` and serde use the name alone: a profile that is read back has the rules of
/// an unknown model. To keep the generation, store the [`ProfileName`] and the model, and call
/// [`Profile::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// The API.
    pub name: ProfileName,

    /// The model that the rules were made for, as it was named. Calibrations are kept per model.
    pub model: Option<String>,

    /// Whether the role `developer` is known. OpenAI's own models take it in place of `system`;
    /// compatible servers often know only `system`. (T openai-python `types/chat`)
    pub developer_role: bool,

    /// Whether the role `function` and the field `function_call` are known: OpenAI's first function
    /// API, deprecated. (T openai-python `types/chat`)
    pub function_role: bool,

    /// Where system messages may be.
    /// - OpenAI: anywhere. (T)
    /// - Anthropic: the field `system`; in the middle from Opus 4.8, Opus 5, Sonnet 5.5, Haiku 5.5,
    ///   Fable 5 and Mythos 5; Sonnet 5 counts as refusing [?]. (E claude-code#61242,
    ///   letta-code#3989, bifrost#5931, langchain#40622)
    /// - Gemini, Bedrock: the field only. (T; D API_runtime_Message)
    /// - Mistral: at the start; in the middle counts as refused [?].
    /// - Strict templates: one, first. (E crush#279)
    pub system: SystemPlacement,

    /// Which message may be the first after the system prompt.
    /// - OpenAI: any.
    /// - Anthropic, Gemini, Bedrock, Mistral, strict templates: the user's. (E lobehub#1601,
    ///   langchain4j#940, openfang#1011)
    pub first: FirstMessage,

    /// Which roles may follow each other.
    /// - OpenAI: any. Anthropic: any, because neighbors of one role are merged. (D)
    /// - Gemini: a turn with calls follows a user turn or a turn with results. (E gemini-cli#26486,
    ///   opencode#43479)
    /// - Bedrock: strict. (E langchain-aws#130, dify#9294, cline#431)
    /// - Mistral: the assistant follows tool results. (E pipecat-flows#178, hermes-agent#20154)
    /// - Strict templates: strict. (E crush#279)
    pub alternation: Alternation,

    /// Which message may be the last.
    /// - OpenAI: any.
    /// - Anthropic: any to 4.5, not the assistant's from 4.6. (E strands sdk-python#1694,
    ///   livekit/agents#4907; D migration guide)
    /// - Gemini: not the model's [?]. (E crewAI#7134)
    /// - Bedrock: not the assistant's. (E semantic-kernel#10281)
    /// - Mistral: the assistant's only with `prefix: true`. (E rig#1130)
    /// - Strict templates: not the assistant's [?].
    pub last: LastMessage,

    /// Where the results of calls are.
    /// - OpenAI Chat, Mistral, strict templates: directly after. (E litellm#10083; client-ts#106;
    ///   agno#3105)
    /// - Responses: anywhere after the call. (E GhidrAssist#78)
    /// - Anthropic: in the next user message, before its text. (E OpenHands#7512, claude-code#8210)
    /// - Bedrock: as Anthropic [?]. (K verifiers#1522)
    /// - Gemini: the next turn, which holds nothing else. (E gemini-cli#5443, #26486,
    ///   opencode#43479)
    pub results: ResultPlacement,

    /// The ids of calls and of their results.
    /// - OpenAI Chat, strict templates: at most 40 characters. Longer ids were also seen accepted
    ///   [?]. (E agno#5382, autogen#6377, vercel/ai#5171)
    /// - Responses: `call_id` of at most 64 characters. (E fastllm#45)
    /// - Anthropic: `[a-zA-Z0-9_-]`; the length is not documented, 64 is assumed [?]. (E
    ///   nanobot#4356, litellm#21215, bifrost#5097)
    /// - Gemini: any, and optional.
    /// - Bedrock: 1 to 64 of `[a-zA-Z0-9_-]`; a newer page adds `.` and `:`. (D
    ///   API_runtime_ToolUseBlock)
    /// - Mistral: 9 of `[a-zA-Z0-9]`. (E opencode#1680, gptel#1203)
    pub call_id: NameForm,

    /// How the arguments of a call are written.
    /// - OpenAI, Mistral: a string. (T) Mistral's SDK also has an object [?].
    /// - Anthropic, Gemini, Bedrock: an object. (T)
    /// - Strict templates: an object, or its JSON as a string, which the server parses. (K)
    pub arguments: ArgumentForm,

    /// The names of functions.
    /// - OpenAI, Mistral [?], strict templates, Bedrock: 1 to 64 of `[a-zA-Z0-9_-]`. (E mcp-use#90,
    ///   xiaozhi#1466; D API_runtime_ToolUseBlock)
    /// - Anthropic: 128, the limit of the definition, though `tool_use.name` may have 200. (E
    ///   claude-code#96152, #2673)
    /// - Gemini: 1 to 64 of `[a-zA-Z0-9_.:-]` [?].
    pub function_name: NameForm,

    /// The field `name` of a message; `None` if the field is refused.
    /// - OpenAI Chat, strict templates: 1 to 64 of `[a-zA-Z0-9_-]`. (E autogen#4157,
    ///   extended_openai_conversation#251)
    /// - Mistral: on tool messages only, where it is the function's name. (T)
    /// - Anthropic: refused. (E autogen#3034) The others have no such field. (T)
    pub message_name: Option<NameForm>,

    /// The most calls in one message. OpenAI: 128. (E copilot-cli#669, hexstrike-ai#29)
    pub max_calls: Option<usize>,

    /// Whether an assistant message may have both text and calls. Mistral refuses it for some
    /// models; medium and large accept it. (E langchain#21196, copilot-cli#4884)
    pub text_beside_calls: bool,

    /// Whether an assistant message with calls needs `content`. Models that OpenAI does not serve
    /// need it [?], Mistral too [?]. (E OpenHands#8685)
    pub content: ContentKey,

    /// Which texts are refused as empty.
    /// - Anthropic: empty text. (E autogen#6083, claude-code#59812) White space too. (M)
    /// - Bedrock: white space too, also inside results. (E OpenHands#5339, continue#9767, pi#3443)
    /// - The others: empty text [?]. (E OpenHands#8685, vercel/ai#3775, agno#6644)
    pub text: TextForm,

    /// Which reasoning may be sent back.
    /// - OpenAI Chat: none; a compatible host by its models: DeepSeek from V3.2 and Kimi from K2.5
    ///   or K2-thinking need it with calls, DeepSeek R1 refuses it; `deepseek-reasoner`, which was R1, gets it
    ///   with calls only. (D api-docs.deepseek.com
    ///   guides/thinking_mode, guides/reasoning_model; E continue#11711, new-api#3121, pi#3636,
    ///   LibreChat#13366). Groq refuses it. (E jan#8136)
    /// - Responses: items. (E coder/mux#59, openai-agents-js#929)
    /// - Anthropic, and Claude on Bedrock: signed blocks; bound to their prefix on Fable 5.1, Opus
    ///   5.5, Sonnet 5.5, Haiku 5.5 and later. (D build-with-claude/preserved-thinking)
    /// - Gemini: signatures, required from Gemini 3. (D
    ///   ai.google.dev/gemini-api/docs/thought-signatures)
    /// - Mistral: chunks. (D docs.mistral.ai)
    /// - Strict templates: optional fields. (K)
    pub reasoning: ReasoningForm,

    /// Whether a result may hold images. OpenAI Chat refuses them in tool messages; some hosts
    /// accept them [?]. Gemini accepts them from Gemini 3. (T) Mistral, strict templates: refused
    /// [?].
    pub media_in_results: bool,

    /// The most images in a request.
    /// - OpenAI: 500 [?]. Anthropic: 100 with windows of 200,000 tokens, else 600. (D vision) PDF
    ///   pages count in the same sum.
    /// - Gemini: 3,000. (D) Bedrock: 20. (D) Mistral: 8 [?].
    pub max_images: Option<usize>,

    /// The most documents in a request. Bedrock: 5. (D)
    pub max_documents: Option<usize>,

    /// The most blocks with `cache_control`. Anthropic: 4. (D prompt-caching)
    pub max_cache_marks: Option<usize>,

    /// The largest request in bytes. Anthropic: 32 MB. (D) OpenAI 50 MB [?], Gemini 20 MB [?],
    /// Bedrock 25 MB [?], Mistral 50 MB [?].
    pub max_bytes: Option<usize>,
}

impl Profile {
    /// The profile that suits a model.
    ///
    /// Bedrock ids and ARNs: `bedrock`. `claude*`: `anthropic`. `gemini*`: `gemini`. Families of
    /// Mistral: `mistral`. All others, and no model: `openai_chat`. Case, routing prefixes such as
    /// `openai/`, and dates do not matter.
    ///
    /// A gateway that serves Claude through OpenAI's API needs [`Profile::new`] with the name.
    #[must_use]
    pub fn for_model(model: Option<&str>) -> Self {
        presets::for_model(model)
    }

    /// The profile of an API, with the rules of this model's generation.
    ///
    /// Without a model, or with one whose generation is not recognized, the strictest rules of the
    /// API hold. `openai_chat` without a model has the rules of OpenAI's own models; with a model
    /// that is not one of them, those of compatible servers.
    #[must_use]
    pub fn new(name: ProfileName, model: Option<&str>) -> Self {
        presets::new(name, model)
    }

    /// The profile with this name and the rules of an unknown model.
    ///
    /// # Errors
    /// The name is not one of [`ProfileName`].
    pub fn named(name: &str) -> Result<Self, ProfileError> {
        name.parse()
    }

    /// OpenAI Chat Completions.
    #[must_use]
    pub fn openai_chat() -> Self {
        Self::new(ProfileName::OpenaiChat, None)
    }

    /// OpenAI Responses.
    #[must_use]
    pub fn openai_responses() -> Self {
        Self::new(ProfileName::OpenaiResponses, None)
    }

    /// Anthropic Messages.
    #[must_use]
    pub fn anthropic() -> Self {
        Self::new(ProfileName::Anthropic, None)
    }

    /// Google Gemini.
    #[must_use]
    pub fn gemini() -> Self {
        Self::new(ProfileName::Gemini, None)
    }

    /// AWS Bedrock Converse.
    #[must_use]
    pub fn bedrock() -> Self {
        Self::new(ProfileName::Bedrock, None)
    }

    /// Mistral.
    #[must_use]
    pub fn mistral() -> Self {
        Self::new(ProfileName::Mistral, None)
    }

    /// Chat templates with one system message and alternate roles.
    #[must_use]
    pub fn strict_template() -> Self {
        Self::new(ProfileName::StrictTemplate, None)
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::openai_chat()
    }
}

impl From<ProfileName> for Profile {
    fn from(name: ProfileName) -> Self {
        Self::new(name, None)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(name: &str) -> Result<Self, ProfileError> {
        name.parse().map(|name| Self::new(name, None))
    }
}

impl Serialize for Profile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Profile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ProfileName::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests;
