//! `memory demo`: a short demonstration of the guarantees on a real store.

mod agents;
mod mishaps;
mod past;
mod slow;

use anyhow::{Context as _, ensure};
use memory_core::resource::PriorityBlock;
use memory_core::{ContentType, MemoryResource, Message, Priority, Profile, check_request};
use memory_instance::{MemoryInstance, MemoryManager, without_password};
use memory_lock::{Clock, ClockExt as _};
use serde_json::json;
use tokio::time::Instant;

use self::slow::SlowModel;
use crate::args::{Common, DEFAULT_TOKENIZER, built_in_resource, is_shared, sqlite_path};
use crate::health;
use crate::out::{Out, number};

/// The budget of the shared conversation.
const MAX_TOKENS: u64 = 4_000;

/// The budget of the context window at the end.
const WINDOW: u64 = 1_000;

/// State that all acts of the demo share.
pub(crate) struct Stage<'a> {
    out: &'a mut Out,
    manager: MemoryManager,
    memory: MemoryInstance,
    url: String,
    model: SlowModel,
    /// A suffix that separates the keys of this run from those of other runs in the same store.
    run: String,
}

pub(crate) async fn run(common: &Common, out: &mut Out) -> anyhow::Result<()> {
    let started = Instant::now();
    let (folder, url, run) = match &common.store {
        Some(url) => (None, url.clone(), format!("-{}", Clock::system().now_millis())),
        None => {
            let folder = tempfile::tempdir().context("make a temporary folder")?;
            let url = format!("sqlite://{}", folder.path().join("demo.db").display());
            (Some(folder), url, String::new())
        }
    };
    let model = SlowModel::default();
    let manager = MemoryManager::builder()
        .with_project("demo")
        .with_resource(resource())
        .with_resource(built_in_resource())
        .with_summarizer(model.summarizer())
        .open(&url)
        .await?;
    let memory = manager.memory("support", &format!("case-4711{run}"))?;
    let mut stage = Stage { out, manager, memory, url, model, run };
    let done = stage.play().await;
    stage.manager.shutdown(crate::EXIT_GRACE).await;
    stage.manager.locks().shutdown(crate::EXIT_GRACE).await;
    done?;
    if !stage.out.json() {
        let end = if folder.is_some() {
            "The temporary file is removed. To work with another file: memory --help".to_owned()
        } else if is_shared(&stage.url) {
            let url = without_password(&stage.url);
            format!("The messages are still in the store: memory keys --store '{url}'")
        } else {
            "The messages are lost with this process.".to_owned()
        };
        let seconds = started.elapsed().as_secs_f64();
        stage.out.line(format_args!("\nThat took {seconds:.1} s. {end}"))?;
    }
    drop(folder);
    Ok(())
}

/// A small budget: the agents write more than it within a second.
fn resource() -> MemoryResource {
    let mut resource = MemoryResource::new("support", MAX_TOKENS);
    resource.tokenizer = DEFAULT_TOKENIZER;
    resource.priority_blocks = vec![
        PriorityBlock::new(Priority::CRITICAL, [ContentType::SystemPrompt]),
        PriorityBlock::new(Priority::IMPORTANT, [ContentType::RecentContext, ContentType::Summary]),
        PriorityBlock::new(Priority::OPTIONAL, [ContentType::HistoricalMessages]),
    ];
    resource.recent_window = Some(1_000);
    resource.flushing_strategy.kind = Some("hybrid_summary".into());
    resource
}

impl Stage<'_> {
    async fn play(&mut self) -> anyhow::Result<()> {
        let place = sqlite_path(&self.url).map_or_else(
            || format!("the store {}", without_password(&self.url)),
            |path| format!("the SQLite file {}", path.display()),
        );
        self.say(format_args!(
            "Three agents (intake, resolver, planner) share one support conversation in\n\
             {place}.\n\
             It may hold {} tokens. At 80 % old messages are summarized, down to 50 %.",
            number(MAX_TOKENS)
        ))?;
        let prompt =
            "You handle support case 4711. Never promise a refund before the planner agrees.";
        self.memory.append(Message::system(prompt)).await?;

        self.write_at_once().await?;
        self.write_under_pressure().await?;
        self.crash().await?;
        self.come_too_late().await?;
        self.kill().await?;
        self.ask_for_the_window().await?;
        self.look_back().await?;
        self.account().await
    }

    async fn ask_for_the_window(&mut self) -> anyhow::Result<()> {
        self.title("The request to the model")?;
        let window = self.memory.context(WINDOW).await?;
        check_request(&window.request().to_string(), &Profile::openai_chat())
            .context("the context window")?;
        let first = window.messages.first().map_or("nothing", |message| message.role().as_str());
        ensure!(first == "system" && window.tokens <= WINDOW, "the context window is wrong");
        self.say(format_args!(
            "A window of {} tokens: {} messages, {} tokens. The system prompt is in it, and every\n\
             tool call is directly before its results, as model APIs demand.",
            number(WINDOW),
            window.messages.len(),
            number(window.tokens)
        ))
    }

    /// Compares the counters with a recount, to show that nothing was lost.
    async fn account(&mut self) -> anyhow::Result<()> {
        self.title("The counters")?;
        let health = self.memory.health().await?;
        let life = health.lifetime;
        let accounted =
            life.present + life.summarized + life.evicted + life.cleared + life.withdrawn;
        let conserved = life.appended == accounted;
        if self.out.json() {
            self.out.compact(&json!({"conserved": conserved, "health": health}))?;
        }
        self.say(health::report(&health))?;
        self.say(format_args!(
            "appended {} = present {} + summarized {} + evicted {} + cleared {} + withdrawn {}: {}",
            life.appended,
            life.present,
            life.summarized,
            life.evicted,
            life.cleared,
            life.withdrawn,
            if conserved { "nothing was lost, nothing was doubled." } else { "DOES NOT ADD UP" },
        ))?;
        ensure!(conserved, "the counters do not add up; please report this as a bug");
        Ok(())
    }

    /// Prints a line, unless the user asked for JSON.
    fn say(&mut self, text: impl std::fmt::Display) -> anyhow::Result<()> {
        if self.out.json() {
            return Ok(());
        }
        self.out.line(text)?;
        self.out.flush()
    }

    fn title(&mut self, title: &str) -> anyhow::Result<()> {
        self.say(format_args!("\n-- {title}"))
    }
}
