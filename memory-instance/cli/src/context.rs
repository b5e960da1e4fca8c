//! `memory context`.

use memory_instance::{NewestUnit, Profile, ProfileName, WindowOptions};

use crate::args::Memories;
use crate::failure::note;
use crate::out::Out;

/// The context of many of today's models, in tokens.
const MODEL_CONTEXT: u64 = 128_000;

/// Print the request to send to a model, in the form of its API
///
/// It never exceeds the budget, by the resource's tokenizer. Critical messages come first, then
/// the newest unit, then the others by priority and age; tool calls are complete and answered; the
/// order is that of the memory. An array of messages for openai_chat, mistral and strict_template; an
/// object with `system` and `messages`, `systemInstruction` and `contents`, or `input` for the others.
/// The changes that the API needed are reported on stderr.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory context --key airline-00-0 --budget 1500
  memory context --resource support.yaml --key case-4711 | jq '{model: \"gpt-4o\", messages: .}'
  memory context --key case-4711 --for anthropic | jq '. + {model: \"claude-sonnet-4-5\", max_tokens: 1000}'
  memory context --key case-4711 --json | jq '.tokens, .left_out'")]
pub(crate) struct Args {
    /// The most tokens [default: the resource's budget, and 128,000 at most]
    #[arg(long, value_name = "TOKENS")]
    budget: Option<u64>,

    /// The API: openai_chat, openai_responses, anthropic, gemini, bedrock, mistral or strict_template
    /// [default: by the resource's profile or model]
    #[arg(long = "for", value_name = "PROFILE")]
    profile: Option<ProfileName>,

    /// A system prompt that is not stored, before all others
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// The action if the newest unit does not fit
    #[arg(long, value_enum, default_value_t = NewestArg::Error)]
    newest: NewestArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum NewestArg {
    /// Fail, and name the unit and its tokens
    Error,
    /// Cut its longest texts
    Truncate,
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let budget = match args.budget {
        Some(budget) => budget,
        None => memories.resource.policy()?.max_tokens.min(MODEL_CONTEXT),
    };
    let mut options = WindowOptions::new(budget);
    if let Some(name) = args.profile {
        let model = memories.resource.model.as_deref();
        options = options.with_profile(Profile::new(name, model));
    }
    if let Some(system) = &args.system {
        options = options.with_system(system);
    }
    if args.newest == NewestArg::Truncate {
        options = options.with_newest(NewestUnit::Truncate);
    }
    let window = memory.window(&options).await?;
    if out.json() {
        return out.value(&window);
    }
    for repair in &window.repairs {
        note(repair);
    }
    out.value(window.request())
}
