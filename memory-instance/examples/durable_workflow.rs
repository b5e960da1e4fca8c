//! A durable workflow: an engine records which steps have ended, and repeats a step whose process crashed before that. Each
//! step appends as a named writer, so that a repeated step appends nothing twice. Flushes are steps too
//! (`FlushMode::Manual`): no process ends with one in the background. The last step deletes what the workflow needed only for
//! itself.
//!
//! `cargo run -p memory-instance --example durable_workflow`, any number of times: the engine forgets its records from run to
//! run, and the memory still has each message once.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use futures::poll;
use memory_instance::{
    FlushMode, FlushOptions, KeyContext, MemoryInstance, MemoryManager, MemoryResource, Message,
    Role, WorkflowScope, WriterId,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const WORKFLOW: &str = "refund-4711";

/// The steps, in their order.
const STEPS: [Step; 9] = [
    Step::Talk("My flight to Oslo was canceled, and I had to stay at a hotel for two nights."),
    Step::Talk("The booking is X1, for two persons, and I paid by card in advance."),
    Step::Talk("The hotel cost 240 euros, breakfast and the taxi to the airport included."),
    Step::Talk("Your colleague at the gate said that the airline pays for all of that."),
    Step::Talk("Please transfer the money to the account from which I paid for the flight."),
    Step::Talk("And please send the confirmation by mail, I do not read paper letters."),
    Step::Report,
    Step::Flush,
    Step::Finish,
];

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Stores what the customer says, and the answer.
    Talk(&'static str),
    /// Counts how often each message is there.
    Report,
    /// Frees tokens if the budget asks for it.
    Flush,
    /// Deletes the memories that belong to the workflow alone.
    Finish,
}

/// The place in a step at which its process crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    Before,
    /// The step has begun, and its requests may have reached the store.
    Within,
    /// The step has ended, and the engine does not know it.
    After,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run("sqlite://durable_workflow.db").await {
        Ok(text) => print!("{text}"),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The engine: starts processes until all steps have ended. Each process crashes at the next point.
async fn run(store: &str) -> Result<String> {
    let points = [Crash::Before, Crash::Within, Crash::After];
    let mut crashes: Vec<_> =
        (0..STEPS.len()).flat_map(|step| points.map(|point| (step, point))).rev().collect();
    let (mut ended, mut processes, mut text) = (0, 0, String::new());
    while ended < STEPS.len() {
        processes += 1;
        // All that a process has in memory is lost with it.
        let process = Process::start(store).await?;
        while let Some(&step) = STEPS.get(ended) {
            let crash = crashes.pop_if(|(at, _)| *at == ended).map(|(_, point)| point);
            let Some(done) = process.execute(step, crash).await? else { break };
            text += &format!("step {ended}: {done}\n");
            ended += 1;
        }
    }
    let process = Process::start(store).await?;
    let (counters, scratch) = (process.case.counters().await?, process.scratch.len().await?);
    let appended = counters.appended;
    text += &format!("{processes} processes, {appended} messages were ever appended\n");
    text += &format!("{scratch} notes remain\n");
    Ok(text)
}

/// A process that executes steps.
struct Process {
    scope: WorkflowScope,
    case: MemoryInstance,
    scratch: MemoryInstance,
}

impl Process {
    async fn start(store: &str) -> Result<Self> {
        let manager = MemoryManager::builder()
            .with_resource(MemoryResource::new("case", 300)) // small, so that a flush is due
            .with_resource(MemoryResource::new("scratch", 8_000))
            .with_flush_mode(FlushMode::Manual)
            .open(store)
            .await?;
        // Nothing is deleted if this process crashes: the next one opens the same keys.
        let scope = manager.workflow(WORKFLOW, ["scratch"])?;
        let case = scope.memory("case", "4711")?;
        let scratch = scope.memory_for("scratch", "{{ workflow.id }}", &KeyContext::new())?;
        Ok(Self { scope, case, scratch })
    }

    /// Executes a step. `None` if the process crashed.
    async fn execute(&self, step: Step, crash: Option<Crash>) -> Result<Option<String>> {
        if crash == Some(Crash::Before) {
            return Ok(None);
        }
        let mut activity = Box::pin(self.activity(step));
        if crash == Some(Crash::Within) {
            let _may_be_done = poll!(&mut activity);
            return Ok(None);
        }
        let done = activity.await?;
        Ok((crash != Some(Crash::After)).then_some(done))
    }

    /// The work of a step. It may have been done before, completely or in part.
    async fn activity(&self, step: Step) -> Result<String> {
        match step {
            Step::Talk(question) => self.talk(question).await,
            Step::Report => self.report().await,
            Step::Flush => {
                let receipt = self.case.flush(&FlushOptions::new().only_if_due()).await?;
                let freed = |receipt: memory_instance::FlushReceipt| {
                    receipt.tokens_before.saturating_sub(receipt.tokens_after)
                };
                Ok(receipt.map_or("no flush is due".into(), |it| format!("freed {}", freed(it))))
            }
            Step::Finish => {
                let report = self.scope.finish().await?;
                Ok(format!("finished, {} memory deleted", report.deleted.len()))
            }
        }
    }

    async fn talk(&self, question: &'static str) -> Result<String> {
        // A repeated step may get another answer. The memory keeps the first one.
        let answer = format!("I noted {} words.", question.split_whitespace().count());
        // One writer for each step, because a writer's numbers must be sent in their order. They number the appends of
        // the step.
        let writer = WriterId::named(&format!("{WORKFLOW}/{question}"));
        let batch = [Message::user(question), Message::assistant(answer.clone())];
        let appended = self.case.send(&self.case.prepare_as(writer.write(1), batch)?).await?;
        let note = [Message::assistant(answer)];
        self.scratch.send(&self.scratch.prepare_as(writer.write(1), note)?).await?;
        let is_new = !appended.outcome.is_duplicate();
        Ok(if is_new { "appended" } else { "appended before" }.into())
    }

    async fn report(&self) -> Result<String> {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for stored in self.case.messages().await? {
            if *stored.message.role() == Role::User {
                *times.entry(stored.message.text().into_owned()).or_default() += 1;
            }
        }
        let twice = times.values().filter(|times| **times > 1).count();
        let notes = self.scratch.len().await?;
        Ok(format!("{} questions, {twice} of them twice, {notes} notes", times.len()))
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn crashes_duplicate_and_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite://{}", folder.path().join("workflow.db").display());
        let first = super::run(&store).await.unwrap();
        assert!(first.contains("6 questions, 0 of them twice, 6 notes\n"), "{first}");
        for _ in 1..3 {
            let again = super::run(&store).await.unwrap();
            assert!(again.contains(", 0 of them twice, 6 notes\nstep 7: no flush is due\n"));
            assert!(again.contains("finished, 1 memory deleted\n"), "{again}");
            let end = "28 processes, 12 messages were ever appended\n0 notes remain\n";
            assert!(again.ends_with(end), "{again}");
        }
    }
}
