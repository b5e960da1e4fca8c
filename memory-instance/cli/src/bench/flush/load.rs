//! Tasks that append without a pause.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use memory_core::Message;
use memory_instance::MemoryInstance;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::bench::ours;

/// The results that one task received.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    /// The appender: its process and its task.
    pub(super) name: String,
    /// The number of its first message; the others follow.
    pub(super) first: usize,
    /// How long each append took.
    pub(super) nanos: Vec<u64>,
    /// The place of each message.
    pub(super) places: Vec<u64>,
}

/// The appenders of a process.
pub(super) struct Load {
    process: &'static str,
    /// How many messages each task has appended.
    next: HashMap<String, usize>,
}

impl Load {
    pub(super) fn new(process: &'static str) -> Self {
        Self { process, next: HashMap::new() }
    }

    /// This many tasks append for this long.
    pub(super) async fn run(
        &mut self,
        memory: &MemoryInstance,
        tasks: u32,
        lasts: Duration,
    ) -> anyhow::Result<Vec<Part>> {
        let until = Instant::now() + lasts;
        let running: Vec<_> = (0..tasks)
            .map(|task| {
                let name = format!("{}{task}", self.process);
                let first = self.next.get(&name).copied().unwrap_or_default();
                tokio::spawn(append(memory.clone(), name, first, until))
            })
            .collect();
        let mut parts = Vec::new();
        for task in running {
            let part = task.await??;
            self.next.insert(part.name.clone(), part.first + part.nanos.len());
            parts.push(part);
        }
        Ok(parts)
    }
}

async fn append(
    memory: MemoryInstance,
    name: String,
    first: usize,
    until: Instant,
) -> anyhow::Result<Part> {
    let mut part = Part { name, first, nanos: Vec::new(), places: Vec::new() };
    while Instant::now() < until {
        let message = message(&part.name, first + part.nanos.len());
        let started = Instant::now();
        let appended = memory.append(message).await?;
        part.nanos.push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let place = appended.outcome.first().context("an append without a place")?;
        part.places.push(place.number());
    }
    Ok(part)
}

/// A message with a unique first word.
pub(super) fn message(name: &str, number: usize) -> Message {
    Message::assistant(format!("{} {}", id(name, number), ours::message(number).text()))
}

pub(super) fn id(name: &str, number: usize) -> String {
    format!("{name}-{number}")
}

/// The id in a text.
pub(super) fn id_in(text: &str) -> String {
    text.split(' ').next().unwrap_or_default().to_owned()
}
