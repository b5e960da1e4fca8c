//! The agents without faults.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use memory_core::dialect::ToolCall;
use memory_core::{Message, Role};
use memory_instance::{MemoryError, MemoryInstance};
use tokio::time::Instant;

use super::Stage;
use super::slow::{DEMO_PAUSE, SlowModel};
use crate::out::number;

const AGENTS: [&str; 3] = ["intake", "resolver", "planner"];

/// How many turns each agent takes at first.
const TURNS: u64 = 8;

/// How long an agent thinks between two turns.
const DEMO_THINKING: Duration = Duration::from_millis(10);

/// The number of summaries during which the agents write.
const SUMMARIES: usize = 2;

impl Stage<'_> {
    /// Several tasks append to one memory.
    pub(super) async fn write_at_once(&mut self) -> anyhow::Result<()> {
        self.title("They write at the same time")?;
        let tasks = AGENTS.map(|agent| {
            let memory = self.memory.clone();
            tokio::spawn(async move {
                for turn in 0..TURNS {
                    take_turn(&memory, agent, turn).await?;
                }
                Ok::<_, MemoryError>(())
            })
        });
        for task in tasks {
            task.await??;
        }
        let messages = self.memory.messages().await?;
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        for stored in &messages {
            let step = stored.message.field("step").and_then(|step| step.as_u64());
            if let (Some(agent), Some(step)) = (stored.message.name(), step) {
                let last = newest.insert(agent, step);
                ensure!(
                    last.is_none_or(|last| last <= step),
                    "the messages of {agent} changed order"
                );
            }
        }
        self.say(format_args!(
            "{} messages are there, each once; those of each agent are in the order in which it\n\
             wrote them. Other agents' messages may be between a tool call and its result; the two still\n\
             belong together.",
            messages.len()
        ))
    }

    /// Appends continue while a summary is written.
    pub(super) async fn write_under_pressure(&mut self) -> anyhow::Result<()> {
        self.title("The memory fills up, and the summarizer is slow")?;
        let tasks = AGENTS.map(|agent| {
            let (memory, model) = (self.memory.clone(), self.model.clone());
            tokio::spawn(write_through(memory, model, agent))
        });
        let (mut meanwhile, mut slowest) = (0, Duration::ZERO);
        for task in tasks {
            let written = task.await??;
            meanwhile += written.meanwhile;
            slowest = slowest.max(written.slowest);
        }
        let receipts = self.memory.receipts().await?;
        let receipt = receipts.last().context("the receipt of the first flush")?;
        let waited = if slowest < DEMO_PAUSE {
            format!("and none of\nthem waited for it: the slowest append took {slowest:.1?}.")
        } else {
            format!(
                "and the\nslowest append took {slowest:.1?}: the disk is slow, because appends never wait for a summary."
            )
        };
        self.say(format_args!(
            "Each summary takes {DEMO_PAUSE:?}. The agents wrote {meanwhile} messages in the meantime, {waited}\n\
             The first flush put {} messages into a summary and came from {} down to {} tokens; the\n\
             messages appended meanwhile are kept.",
            receipt.summarized.len(),
            number(receipt.tokens_before),
            number(receipt.tokens_after)
        ))
    }
}

/// The observations of one agent while summaries were written.
struct Observed {
    meanwhile: u64,
    slowest: Duration,
}

async fn write_through(
    memory: MemoryInstance,
    model: SlowModel,
    agent: &'static str,
) -> Result<Observed, MemoryError> {
    let mut written = Observed { meanwhile: 0, slowest: Duration::ZERO };
    let mut turn = TURNS;
    while model.ended() < SUMMARIES {
        let busy = model.is_busy();
        let (messages, slowest) = take_turn(&memory, agent, turn).await?;
        if busy {
            written.meanwhile += messages;
            written.slowest = written.slowest.max(slowest);
        }
        turn += 1;
        tokio::time::sleep(DEMO_THINKING).await;
    }
    Ok(written)
}

/// Appends the messages of this agent's turn. Returns their number and the slowest append.
async fn take_turn(
    memory: &MemoryInstance,
    agent: &'static str,
    turn: u64,
) -> Result<(u64, Duration), MemoryError> {
    let mut slowest = Duration::ZERO;
    let messages = script(agent, turn);
    let count = messages.len() as u64;
    for message in messages {
        let message = message.with_field("step", turn);
        let started = Instant::now();
        memory.append(message.with_name(agent)).await?;
        slowest = slowest.max(started.elapsed());
    }
    Ok((count, slowest))
}

fn script(agent: &str, turn: u64) -> Vec<Message> {
    match agent {
        "intake" => vec![Message::user(format!(
            "The customer adds (note {turn}): my flight was cancelled, I was rebooked twice, and the bag is still in Kyoto."
        ))],
        "resolver" => {
            let call = format!("call-{turn}");
            let arguments = format!(r#"{{"booking":"K7Q{turn:03}"}}"#);
            vec![
                Message::calls([ToolCall::function(&call, "find_booking", arguments)]),
                Message::tool_result(
                    &call,
                    format!(
                        r#"{{"booking":"K7Q{turn:03}","status":"cancelled","fare":"flexible"}}"#
                    ),
                ),
            ]
        }
        _ => vec![Message::new(
            Role::Assistant,
            format!(
                "Plan, version {turn}: confirm the fare rules, then offer a refund or the next flight."
            ),
        )],
    }
}
