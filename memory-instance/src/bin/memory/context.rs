//! `memory context`.

use crate::args::Memories;
use crate::out::Out;

/// The context of many of today's models, in tokens.
const MODEL_CONTEXT: u64 = 128_000;

/// The messages to send to a model, as a JSON array
///
/// They are never more than the budget, by the resource's tokenizer. Critical messages come first,
/// then the others by priority and age; calls of tools are whole and answered; the order is that of
/// the memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory context --key airline-00-0 --budget 1500
  memory context --resource support.yaml --key case-4711 | jq '{model: \"gpt-4o\", messages: .}'")]
pub(crate) struct Args {
    /// The most tokens [default: the resource's budget, and 128,000 at most]
    #[arg(long, value_name = "TOKENS")]
    budget: Option<u64>,
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let budget = match args.budget {
        Some(budget) => budget,
        None => memories.resource.policy()?.max_tokens.min(MODEL_CONTEXT),
    };
    out.value(&memory.context(budget).await?.messages)
}
