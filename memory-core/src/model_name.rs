//! The provider and the generation of a model, read from its name.

/// Regions of Bedrock's cross-region inference profiles.
const REGIONS: [&str; 10] = ["us", "eu", "apac", "ap", "jp", "au", "ca", "sa", "us-gov", "global"];
/// Vendors in Bedrock's model ids, such as `anthropic.claude-...`.
const VENDORS: [&str; 17] = [
    "ai21",
    "amazon",
    "anthropic",
    "cohere",
    "deepseek",
    "google",
    "luma",
    "meta",
    "minimax",
    "mistral",
    "moonshot",
    "moonshotai",
    "nvidia",
    "openai",
    "qwen",
    "writer",
    "zai",
];
const MISTRAL: [&str; 11] = [
    "mistral",
    "ministral",
    "magistral",
    "codestral",
    "devstral",
    "pixtral",
    "mixtral",
    "mathstral",
    "voxtral",
    "open-mistral",
    "open-mixtral",
];
const OPENAI: [&str; 12] = [
    "gpt",
    "chatgpt",
    "o1",
    "o3",
    "o4",
    "ft",
    "codex",
    "computer-use",
    "text-davinci",
    "davinci",
    "babbage",
    "omni",
];

/// The families of models, by the organization that trained them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Claude,
    Gemini,
    Mistral,
    OpenAi,
    DeepSeek,
    Kimi,
    /// A family whose hosts read and return `reasoning_content`.
    Reasoning,
    Other,
}

/// A model's name, normalized: lower case, without routing prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelName {
    name: String,
    /// Whether the id is one of Bedrock.
    pub(crate) bedrock: bool,
    /// Whether the name is routed to Groq, which refuses unknown fields.
    pub(crate) groq: bool,
    /// Whether the name is routed to Ollama, whose windows are configured and not the model's.
    pub(crate) ollama: bool,
}

impl ModelName {
    pub(crate) fn new(model: &str) -> Self {
        let lower = model.trim().trim_start_matches('~').to_lowercase();
        let is_arn = lower.starts_with("arn:") && lower.contains(":bedrock");
        let (routes, last) = lower.rsplit_once('/').unwrap_or(("", &lower));
        let is_routed = |to: &str| routes.split('/').any(|route| route == to);
        let (vendor, rest) = split_vendor(last);
        let name = if rest.starts_with("ft:") { rest.get(3..).unwrap_or(rest) } else { rest };
        Self {
            bedrock: is_arn || vendor || is_routed("bedrock") || is_routed("converse"),
            groq: is_routed("groq"),
            ollama: is_routed("ollama") || is_routed("ollama_chat"),
            name: name.to_owned(),
        }
    }

    /// Whether the name begins with this family name, followed by the end or by anything but a
    /// letter.
    pub(crate) fn is(&self, family: &str) -> bool {
        self.name
            .strip_prefix(family)
            .is_some_and(|rest| rest.chars().next().is_none_or(|next| !next.is_ascii_alphabetic()))
    }

    pub(crate) fn family(&self) -> Family {
        let any = |names: &[&str]| names.iter().any(|name| self.is(name));
        match () {
            () if self.name.starts_with("claude") => Family::Claude,
            () if self.name.starts_with("gemini") => Family::Gemini,
            () if any(&MISTRAL) => Family::Mistral,
            // Open weights: served by other hosts, whose parsers return the reasoning.
            () if self.is("gpt-oss") => Family::Other,
            () if any(&OPENAI) => Family::OpenAi,
            () if self.is("deepseek") => Family::DeepSeek,
            () if any(&["kimi", "moonshot"]) => Family::Kimi,
            () if any(&["glm", "qwen", "qwq", "minimax", "grok"]) => Family::Reasoning,
            () => Family::Other,
        }
    }

    /// Whether a word is part of the name.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.words().any(|part| part == word)
    }

    /// Whether the name is this entry of a table, or begins with it and a separator. In entries every
    /// separator is `-`, so that `claude-sonnet-4.5` is `claude-sonnet-4-5`.
    pub(crate) fn is_entry(&self, entry: &str) -> bool {
        let mut rest = self.name.chars();
        let is_same = |(wanted, letter): (char, char)| {
            wanted == letter || wanted == '-' && is_separator(letter)
        };
        let begins =
            entry.chars().all(|wanted| rest.next().is_some_and(|it| is_same((wanted, it))));
        begins && rest.next().is_none_or(is_separator)
    }

    /// Whether this Claude has the tokenizer introduced with Opus 4.7, which counts a third more. An unknown version
    /// is treated as new.
    pub(crate) fn has_new_claude_tokenizer(&self) -> bool {
        self.version().is_none_or(|it| it >= (5, 0) || it >= (4, 7) && self.has("opus"))
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.name.split(|letter: char| !letter.is_ascii_alphanumeric())
    }

    /// The version, as major and minor number: the first number of at most two digits and the one
    /// after it. Dates and `v1:0` are no versions. `None` if the name has none.
    pub(crate) fn version(&self) -> Option<(u32, u32)> {
        let mut words = self.words().map(|word| {
            let digits = word.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
            // `v3.2` and `k2.5` are versions; `v1:0` at the end of a Bedrock id comes after them.
            // them.
            let prefix = word.len() - digits.len();
            if prefix <= 1 && (1..=2).contains(&digits.len()) { digits.parse().ok() } else { None }
        });
        let major = words.by_ref().find_map(|number| number)?;
        Some((major, words.next().flatten().unwrap_or(0)))
    }
}

const fn is_separator(letter: char) -> bool {
    matches!(letter, '-' | '.' | '_' | ':' | '@' | '[' | ' ')
}

/// Whether an id begins with a region or vendor of Bedrock, and the rest.
fn split_vendor(id: &str) -> (bool, &str) {
    let strip = |id: &'_ str, names: &[&str]| {
        let (first, _) = id.split_once('.')?;
        names.contains(&first).then_some(first.len() + 1)
    };
    let region = strip(id, &REGIONS).unwrap_or(0);
    let rest = id.get(region..).unwrap_or(id);
    match strip(rest, &VENDORS) {
        Some(vendor) => (true, rest.get(vendor..).unwrap_or(rest)),
        None => (false, id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_any_spelling() {
        for (model, version) in [
            ("claude-opus-4-20250514", Some((4, 0))),
            ("claude-sonnet-4@20250514", Some((4, 0))),
            ("claude-4-sonnet", Some((4, 0))),
            ("claude-3-5-sonnet-20241022", Some((3, 5))),
            ("claude-sonnet-4.5", Some((4, 5))),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Some((4, 5))),
            ("anthropic.claude-opus-4-20250514-v1:0", Some((4, 0))),
            ("claude-opus-5-5[1m]", Some((5, 5))),
            ("claude-2.1", Some((2, 1))),
            ("CLAUDE-FABLE-5.1-latest", Some((5, 1))),
            ("claude-latest", None),
            ("gemini-2.5-flash-preview-05-20", Some((2, 5))),
            ("gemini-3-pro-preview", Some((3, 0))),
            ("gemini-flash-latest", None),
            ("deepseek/deepseek-v3.2", Some((3, 2))),
            ("deepseek-v4-pro", Some((4, 0))),
            ("kimi-k2.5", Some((2, 5))),
            ("moonshotai/kimi-k2-thinking", Some((2, 0))),
        ] {
            assert_eq!(ModelName::new(model).version(), version, "{model}");
        }
    }

    #[test]
    fn families_are_read_from_any_spelling() {
        for (model, family, bedrock) in [
            ("openai/gpt-4o", Family::OpenAi, false),
            ("GPT-4o-2024-08-06", Family::OpenAi, false),
            ("ft:gpt-4o-mini-2024-07-18:org:name:id", Family::OpenAi, false),
            ("o3-mini", Family::OpenAi, false),
            ("gpt-oss-120b", Family::Other, false),
            ("anthropic/claude-sonnet-4.5", Family::Claude, false),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Family::Claude, true),
            ("bedrock/anthropic.claude-3-haiku-20240307-v1:0", Family::Claude, true),
            ("amazon.nova-pro-v1:0", Family::Other, true),
            ("us-gov.anthropic.claude-3-5-sonnet-20240620-v1:0", Family::Claude, true),
            ("mistral.mistral-large-2402-v1:0", Family::Mistral, true),
            ("arn:aws:bedrock:us-east-1:1:inference-profile/eu.meta.llama3-3", Family::Other, true),
            ("arn:aws:bedrock:us-east-1:1:application-inference-profile/x1", Family::Other, true),
            ("models/gemini-2.5-pro", Family::Gemini, false),
            ("publishers/google/models/gemini-3-pro", Family::Gemini, false),
            ("mistralai/Mistral-7B-Instruct-v0.3", Family::Mistral, false),
            ("open-mixtral-8x22b", Family::Mistral, false),
            ("deepseek-ai/DeepSeek-V3.2", Family::DeepSeek, false),
            ("moonshotai/Kimi-K2-Thinking", Family::Kimi, false),
            ("qwen3-coder", Family::Reasoning, false),
            ("gpt-4.1", Family::OpenAi, false),
            ("llama-3.3-70b", Family::Other, false),
            ("", Family::Other, false),
            ("o1x", Family::Other, false),
        ] {
            let name = ModelName::new(model);
            assert_eq!((name.family(), name.bedrock), (family, bedrock), "{model}");
        }
        assert!(ModelName::new("groq/llama-3.3-70b").groq);
    }
}
