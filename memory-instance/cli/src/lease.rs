//! `memory lease`.

use memory_instance::{Leases, MemoryInstance};
use memory_lock::LeaseInfo;
use serde::Serialize;

use crate::args::Memories;
use crate::failure::usage;
use crate::out::{Out, table};

/// Show the holders of a memory's leases; `break` releases the leases
///
/// A memory has two leases: one for exclusive turns and queued writes, one for the flush. The lease of a killed
/// holder expires by itself after its TTL.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory lease --key airline-00-0
  memory lease break --key airline-00-0 --yes")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Take the leases away from their holders and release them
    ///
    /// The fencing token rises, so later writes of a former holder are refused. If leases are stored elsewhere
    /// than the data, a flush may still commit, which loses nothing.
    Break {
        /// Confirm that the leases are taken away
        #[arg(long)]
        yes: bool,
    },
}

impl Args {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.action {
            Some(Action::Break { yes: false }) => Err(usage(
                "break takes the leases away from their holders, whose turn or flush then fails; add --yes to do that",
            )),
            _ => Ok(()),
        }
    }
}

/// One lease, as JSON.
#[derive(Debug, Serialize)]
struct Row {
    owner: String,
    token: u64,
    held_ms: Option<u128>,
    remaining_ms: u128,
}

#[derive(Debug, Serialize)]
struct Report {
    key: String,
    broken: bool,
    memory: Option<Row>,
    flush: Option<Row>,
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let action = args.action.as_ref();
    let leases = match action {
        Some(Action::Break { .. }) => memory.break_leases().await?,
        None => memory.leases().await?,
    };
    if out.json() {
        out.compact(&report(&memory, leases, action))
    } else {
        shown(leases, action, out)
    }
}

fn report(memory: &MemoryInstance, leases: Leases, action: Option<&Action>) -> Report {
    let row = |lease: LeaseInfo| Row {
        owner: lease.owner.to_string(),
        token: lease.token.number(),
        held_ms: lease.held_for.map(|held| held.as_millis()),
        remaining_ms: lease.remaining.as_millis(),
    };
    let key = memory.key().to_string();
    let broken = action.is_some();
    Report { key, broken, memory: leases.memory.map(row), flush: leases.flush.map(row) }
}

fn shown(leases: Leases, action: Option<&Action>, out: &mut Out) -> anyhow::Result<()> {
    let mut rows = table(&["lease", "state"]);
    for (name, lease) in [("memory", leases.memory), ("flush", leases.flush)] {
        let state = match lease {
            None => "free".to_owned(),
            Some(lease) => {
                let owner: String = lease.owner.to_string().chars().take(8).collect();
                let was = if action.is_some() { "broken; was held" } else { "held" };
                let left = lease.remaining.as_millis();
                format!("{was} by {owner}, token {}, {left} ms left", lease.token)
            }
        };
        rows.add_row([name.to_owned(), state]);
    }
    out.line(rows)
}
