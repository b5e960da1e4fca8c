//! Faults that occur in practice.

use std::fs::File;
use std::future::pending;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use memory_core::Message;
use memory_core::store::{Access, Append};
use memory_instance::{FlushMode, MemoryError, MemoryManager};
use memory_lock::{LockKey, LockOptions};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::{Stage, resource};
use crate::args::{STORE_VARIABLE, is_shared};
use crate::failure::one_line;

/// The lease of the agent that is too late.
const DEMO_TTL: Duration = Duration::from_millis(600);

/// The import of the process that is killed.
const LINES: u64 = 400;

/// The number of messages after which it is killed.
const KILLED_AFTER: u64 = 60;

/// Longer than any step here takes.
const DEMO_TIMEOUT: Duration = Duration::from_secs(20);

impl Stage<'_> {
    /// A task ends in the middle of its turn; its lease is released at once.
    pub(super) async fn crash(&mut self) -> anyhow::Result<()> {
        self.title("An agent crashes while it holds the lease")?;
        let (begun, in_the_middle) = oneshot::channel();
        let memory = self.memory.clone();
        let crashing = tokio::spawn(async move {
            let turn = memory.exclusive(|session| async move {
                session.append(Message::assistant("I am looking into the refund.")).await?;
                // The other end waits until the demonstration ends.
                let _ = begun.send(session.fence());
                pending::<()>().await;
                Ok::<_, MemoryError>(())
            });
            drop(turn.await);
        });
        let token = in_the_middle.await.context("the agent that is to crash")?;
        crashing.abort();
        let started = Instant::now();
        self.memory.append(Message::assistant("I take over the refund.")).await?;
        let waited = started.elapsed();
        let ttl = self.memory.resource().lock.ttl;
        self.say(format_args!(
            "It held the lease, with fencing token {token}, in the middle of a read-modify-write turn.\n\
             The lease runs for {ttl:?}, but the next agent's append succeeded after {waited:.1?}."
        ))
    }

    /// A lease expires unnoticed, another agent takes over, and the first one still writes.
    pub(super) async fn come_too_late(&mut self) -> anyhow::Result<()> {
        self.title("An agent sleeps past its lease, wakes up and writes")?;
        // The store sees a separate process; memory:// exists only in this one.
        let elsewhere = if is_shared(&self.url) {
            let builder = MemoryManager::builder().with_project("demo").with_resource(resource());
            builder.with_flush_mode(FlushMode::Manual).open(&self.url).await?
        } else {
            self.manager.clone()
        };
        let sleeper = elsewhere.memory_at(self.memory.key())?;
        let options = LockOptions::new().with_ttl(DEMO_TTL).without_refresh();
        let lease = LockKey::new(sleeper.key().lease_name())?;
        let guard = elsewhere.locks().lock(&lease, &options).await?;
        let (old, proof) = (guard.fence(), guard.proof());
        let reason =
            timeout(DEMO_TIMEOUT, guard.lost()).await.context("wait for the lease to end")?;

        let turn = self.memory.exclusive(|session| async move {
            session
                .append(Message::assistant("The sleeper's lease is over; I decide: refund."))
                .await?;
            Ok::<_, MemoryError>(session.fence())
        });
        let new =
            turn.await.map_err(|error| anyhow::anyhow!("the second agent's turn: {error}"))??;
        // A flush may run meanwhile, which changes all counters but this one.
        let before = self.memory.counters().await?.appended;

        let prepared = sleeper.prepare([Message::assistant("I decide: no refund.")])?;
        let append = Append {
            write: prepared.write(),
            messages: prepared.messages().into(),
            ttl: None,
            expected: None,
        };
        let access = Access::with_lease(proof);
        let refused = match elsewhere.store().append(sleeper.key(), access, &append).await {
            Ok(_) => bail!("a stale writer was not fenced off; please report this as a bug"),
            Err(refused) => one_line(&refused),
        };
        ensure!(self.memory.counters().await?.appended == before, "the stale write left traces");
        drop(guard);
        self.say(format_args!(
            "Its lease, with token {old}, ended after {DEMO_TTL:?}: {reason}.\n\
             Another agent took over with token {new} and decided. Then the sleeper wrote,\n\
             and the store itself refused, without changing anything:\n\n    {refused}"
        ))
    }

    /// A process is killed in the middle of an import, which is then run again.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        if !is_shared(&self.url) {
            return Ok(());
        }
        self.title("A process is killed in the middle of its work (kill -9)")?;
        let folder = tempfile::tempdir().context("make a temporary folder")?;
        let file = folder.path().join("log.jsonl");
        write_log(&file).with_context(|| format!("write {}", file.display()))?;
        let key = format!("log{}", self.run);
        let log = self.manager.memory("default", &key)?;

        let mut child = self.import(&file, &key)?;
        let watch = async {
            while log.len().await? < KILLED_AFTER {
                tokio::task::yield_now().await;
            }
            Ok::<_, MemoryError>(())
        };
        timeout(DEMO_TIMEOUT, watch).await.context("wait for the import to begin")??;
        child.kill().await.context("kill the import")?;
        let left = log.len().await?;

        let status = timeout(DEMO_TIMEOUT, self.import(&file, &key)?.wait()).await;
        let status = status.context("wait for the second import")??;
        ensure!(status.success(), "the second import ended with {status}");
        let steps: Vec<_> = log
            .messages()
            .await?
            .iter()
            .filter_map(|stored| stored.message.field("step")?.as_u64())
            .collect();
        ensure!(steps.iter().copied().eq(0..LINES), "messages were lost, doubled or moved");
        self.say(format_args!(
            "It had appended {left} of {LINES} messages. Run again, it recognized them and appended the\n\
             other {}: all {LINES} are there, each once and in order.",
            LINES - left
        ))
    }

    /// The same program as another process.
    fn import(&self, file: &Path, key: &str) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("find this program")?;
        Command::new(program)
            .args(["import", "--project", "demo", "--key", key, "--json"])
            .env(STORE_VARIABLE, &self.url)
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start this program again")
    }
}

fn write_log(path: &Path) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(File::create(path)?);
    for step in 0..LINES {
        let line = json!({"role": "user", "content": format!("measurement {step}"), "step": step});
        writeln!(file, "{line}")?;
    }
    file.flush()
}
