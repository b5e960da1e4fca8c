//! Runs a program: first with faults, then without, until everything works again.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use memory_core::resource::PriorityBlock;
use memory_core::{MemoryKey, MemoryResource, MemoryStore, TokenCounter};
use memory_instance::{FlushMode, MemoryInstance, MemoryManager};
use memory_lock::{
    Clock, ClockExt as _, LockBackend, LockKey, LockManager, LockOptions, ManagerOptions,
    ReleaseOutcome,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::agent::{Tags, run_agent};
use crate::bug::Bug;
use crate::checks::check_history;
use crate::healed::verify_healed;
use crate::history::{Caller, History, Recorder};
use crate::json;
use crate::link::Link;
use crate::program::{Faults, KEPT_FOR, Keep, Past, Program};
use crate::server::Server;
use crate::summarizer::ModelSummarizer;
use crate::violation::{Check, Violation};

/// The memories of a program: two, or three. Their keys differ only in a character that some encodings would replace.
pub(crate) const KEYS: [&str; 3] = ["k/1", "k_1", "k.1"];

/// The budget of each memory, in tokens.
pub(crate) const BUDGET: u64 = 600;

/// The maximum time of a program, faults and recovery together, by its own clock.
const LONGEST: Duration = Duration::from_secs(600);

/// Separates the randomness of clock steps from other randomness of a program's seed.
const STEPS: u64 = 0x5354_4550;

thread_local! {
    /// The start of this thread's program.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Microseconds since the program began.
pub(crate) fn elapsed_micros() -> u64 {
    let began = BEGAN.with(Cell::get);
    began.map_or(0, |began| u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// The result of a program.
#[derive(Debug)]
pub struct Outcome {
    /// Violations; none if the program passed.
    pub violations: Vec<Violation>,
    /// The number of checked histories.
    pub histories: usize,
    /// The number of recorded operations.
    pub operations: usize,
    /// The number of injected faults.
    pub faults: u64,
    /// Equal for runs with the same events at the same times.
    pub trace_hash: u64,
    /// The events, one line each.
    pub trace: Vec<String>,
    /// Its duration by its own clock.
    pub virtual_time: Duration,
}

/// A process: its link, its managers, and its death.
pub(crate) struct Process {
    pub(crate) link: Arc<Link>,
    pub(crate) manager: MemoryManager,
    pub(crate) died: Notify,
}

impl Process {
    /// Kills the process, which releases nothing.
    pub(crate) fn die(&self) {
        self.link.die();
        self.died.notify_waiters();
    }

    pub(crate) fn memory(&self, key: usize) -> MemoryInstance {
        let rendered = KEYS.get(key).copied().unwrap_or("k");
        #[expect(clippy::expect_used, reason = "the model's own resource and keys are good")]
        self.manager.memory("m", rendered).expect("the model's keys are good")
    }
}

/// The index of this memory in the program.
pub(crate) fn key_number(key: &MemoryKey) -> usize {
    let rendered = key.parts().map(|(_, _, rendered)| rendered).unwrap_or_default();
    KEYS.iter().position(|known| *known == rendered).unwrap_or(0)
}

/// Runs a program from its start, on a separate clock. The same program has the same outcome.
#[must_use]
pub fn run(program: &Program, bug: Option<Bug>) -> Outcome {
    let (mut history, virtual_time) = play(program, bug);
    if let Some(folder) = std::env::var_os(json::FOLDER) {
        let saved = json::save(Path::new(&folder), &history, program, bug);
        #[expect(clippy::expect_used, reason = "a developer asked for the files")]
        saved.expect("the folder for histories can be written");
    }
    check_history(&mut history, program, program.keys());
    let mut hasher = DefaultHasher::new();
    for line in &history.trace {
        hasher.write(line.as_bytes());
        hasher.write_u8(0);
    }
    let operations = history.len();
    let histories = (0..program.keys()).filter(|key| !history.of(*key).is_empty()).count();
    let History { violations, faults, trace, .. } = history;
    let trace_hash = hasher.finish();
    Outcome { violations, histories, operations, faults, trace_hash, trace, virtual_time }
}

/// Runs a program and records it.
pub(crate) fn play(program: &Program, bug: Option<Bug>) -> (History, Duration) {
    // The pauses between retries are jittered by the thread's generator.
    fastrand::seed(program.seed);
    #[expect(clippy::expect_used, reason = "without a runtime nothing can be tested")]
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let recorder = Arc::<Recorder>::default();
    let virtual_time = runtime.block_on(async {
        let began = Instant::now();
        BEGAN.with(|cell| cell.set(Some(began)));
        let world = World::new(program, bug, &recorder);
        if timeout(LONGEST, world.play()).await.is_err() {
            recorder
                .history()
                .broken(Check::NeverEnds, "the program did not come to its end".into());
        }
        began.elapsed()
    });
    drop(runtime);
    let history = std::mem::take(&mut *recorder.history());
    (history, virtual_time)
}

/// The processes of a program, and the server they share.
struct World<'p> {
    program: &'p Program,
    bug: Option<Bug>,
    recorder: Arc<Recorder>,
    server: Arc<Server>,
    clock: Clock,
    faulty: Arc<AtomicBool>,
    processes: Vec<Arc<Process>>,
}

impl<'p> World<'p> {
    fn new(program: &'p Program, bug: Option<Bug>, recorder: &Arc<Recorder>) -> Self {
        let clock = Clock::tokio();
        let server = Arc::new(Server::new(&clock, program, bug));
        let mut world = Self {
            program,
            bug,
            recorder: Arc::clone(recorder),
            server,
            clock,
            faulty: Arc::new(AtomicBool::new(true)),
            processes: Vec::new(),
        };
        let count = program.agents.iter().map(|agent| agent.process).max().unwrap_or(0) + 1;
        world.processes =
            (0..count).map(|number| world.process(u64::from(number), program.faults)).collect();
        world
    }

    fn process(&self, number: u64, faults: Faults) -> Arc<Process> {
        let seed = self.program.process_seed(number);
        let link = Arc::new(Link::new(
            &self.server,
            &self.recorder,
            &self.faulty,
            faults,
            self.program,
            number,
        ));
        let options =
            ManagerOptions::new().with_seed(seed).with_answer_timeout(Duration::from_secs(1));
        let backend: Arc<dyn LockBackend> = Arc::clone(&link) as _;
        #[expect(clippy::expect_used, reason = "the model's own options and resource are good")]
        let locks = LockManager::with_options(backend, options).expect("the options are good");
        let holds = (self.bug == Some(Bug::SummarizerUnderLease)).then(|| {
            #[expect(clippy::expect_used, reason = "the model's keys are good")]
            let key = MemoryKey::new("model", "m", KEYS[0]).expect("the key is good");
            (locks.clone(), lease_key(&key))
        });
        let names = self.program.past.is_some();
        let summarizer = Arc::new(ModelSummarizer { kind: self.program.summarizer, names, holds });
        let mode =
            if self.program.inline_flush { FlushMode::Inline } else { FlushMode::Background };
        let mut builder = MemoryManager::builder()
            .with_project("model")
            .with_clock(self.clock.clone())
            .with_seed(seed)
            .with_resource(resource(self.program))
            .with_token_counter(Arc::new(Bytes))
            .with_summarizer(summarizer)
            .with_summarizer_time_limit(Duration::from_secs(3))
            .with_flush_mode(mode);
        if let Some(bytes) = self.program.view_bytes() {
            builder = builder.with_view_bytes(bytes);
        }
        let store: Arc<dyn MemoryStore> = Arc::clone(&link) as _;
        #[expect(clippy::expect_used, reason = "the model's own options and resource are good")]
        let manager = builder.build(store, locks).expect("the resource is good");
        Arc::new(Process { link, manager, died: Notify::new() })
    }

    /// Runs both phases.
    async fn play(&self) {
        let tags = Arc::<Tags>::default();
        let agents = self.program.agents.iter().enumerate().filter_map(|(number, agent)| {
            let process = self.processes.get(usize::from(agent.process))?;
            let process = Arc::clone(process);
            let agent = run_agent(number, agent, process, &self.recorder, &tags, self.program);
            Some(Caller::Agent(number).run(agent))
        });
        tokio::select! {
            biased;
            _ = join_all(agents) => {}
            () = self.step_clock() => {}
        }

        self.faulty.store(false, Ordering::SeqCst);
        self.recorder.note("faults end");
        let fresh = self.process(99, Faults { percent: 0, latency: self.program.faults.latency });
        self.nothing_forgotten(&fresh).await;
        // The surviving processes, and a new one.
        for (number, process) in self.survivors() {
            let used = |key: &usize| {
                let mut agents = self.program.agents.iter();
                agents.any(|a| usize::from(a.process) == number && usize::from(a.key) == *key)
            };
            for key in (0..self.program.keys()).filter(used) {
                let healed = verify_healed(key, process, &self.recorder, &tags, self.program);
                Caller::Recovery(process.link.number()).run(healed).await;
            }
        }
        for key in 0..self.program.keys() {
            let healed = verify_healed(key, &fresh, &self.recorder, &tags, self.program);
            Caller::Recovery(fresh.link.number()).run(healed).await;
        }
        self.until_quiet(&fresh).await;
        for key in 0..self.program.keys() {
            self.nothing_left(key, &fresh).await;
        }
    }

    /// Steps the wall clock now and then by more than a lease's TTL, as an operator or NTP may. Leases must not be
    /// affected.
    async fn step_clock(&self) {
        let mut random = fastrand::Rng::with_seed(self.program.seed ^ STEPS);
        loop {
            sleep(Duration::from_millis(random.u64(100..2_000))).await;
            let by = Duration::from_secs(random.u64(3..60));
            let forward = random.bool();
            // Forward and back, so that the total stays within the time for which a call may stay open.
            for forward in [forward, !forward] {
                if forward {
                    self.clock.step_forward(by);
                    self.server.clock_stepped_forward();
                } else {
                    self.clock.step_back(by);
                    self.server.clock_stepped_back();
                }
                self.recorder.note("the clock steps");
                sleep(Duration::from_millis(random.u64(1..500))).await;
            }
        }
    }

    /// P7: background work ends: a late request, a flush with a hanging summarizer, a release without an answer, the
    /// lease of a dead process.
    async fn until_quiet(&self, fresh: &Process) {
        let leases = self.leases(fresh);
        let mut quiet = 0;
        for _ in 0..120 {
            sleep(Duration::from_millis(500)).await;
            let is_quiet = self.busy(fresh) == 0 && !self.any_held(&leases);
            quiet = if is_quiet { quiet + 1 } else { 0 };
            // Twice, because a task may have been between two steps.
            if quiet == 2 {
                return;
            }
        }
        self.recorder
            .history()
            .broken(Check::LeaseLeft, "leases are left a minute after the faults ended".into());
    }

    fn survivors(&self) -> impl Iterator<Item = (usize, &Arc<Process>)> {
        let all = self.processes.iter().enumerate();
        all.filter(|(_, process)| !process.link.is_dead())
    }

    /// The number of lease requests and waiters in all processes.
    fn busy(&self, fresh: &Process) -> usize {
        let survivors = self.survivors().map(|(_, process)| &**process);
        let stats = survivors.chain([fresh]).map(|process| process.manager.locks().stats());
        stats.map(|stats| stats.held + stats.releasing + stats.waiting).sum()
    }

    fn any_held(&self, leases: &[LockKey]) -> bool {
        leases.iter().any(|lease| matches!(self.server.inspect(lease), Ok(Some(_))))
    }

    /// P7: if no process died and no request was lost, a lease that no process knows is not held, long before its TTL
    /// ends.
    async fn nothing_forgotten(&self, fresh: &Process) {
        let someone_died = self.processes.iter().any(|process| process.link.is_dead());
        if self.program.faults.percent > 0 || someone_died {
            return;
        }
        let leases = self.leases(fresh);
        let mut idle = 0;
        for _ in 0..600 {
            sleep(Duration::from_millis(50)).await;
            idle = if self.busy(fresh) == 0 { idle + 1 } else { 0 };
            if idle == 6 {
                if self.any_held(&leases) {
                    let what = "a lease is held that no process knows of".into();
                    self.recorder.history().broken(Check::LeaseForgotten, what);
                }
                return;
            }
        }
    }

    fn leases(&self, process: &Process) -> Vec<LockKey> {
        let memories = (0..self.program.keys()).map(|key| process.memory(key));
        memories
            .flat_map(|memory| {
                let key = memory.key().clone();
                let flush = LockKey::new(key.flush_lease_name()).ok();
                [Some(lease_key(&key)), flush]
            })
            .flatten()
            .collect()
    }

    /// P7: a new agent gets the lease at once, and releases it.
    async fn nothing_left(&self, key: usize, fresh: &Process) {
        let lease = lease_key(fresh.memory(key).key());
        let taken = fresh.manager.locks().try_lock(&lease, &LockOptions::new()).await;
        let mut free = match taken {
            Ok(Some(guard)) => guard.release().await == ReleaseOutcome::Released,
            _ => false,
        };
        free &= matches!(self.server.inspect(&lease), Ok(None));
        if !free {
            let what = format!("memory {key}: the lease is not free at the end");
            self.recorder.history().broken(Check::LeaseNotFree, what);
        }
    }
}

/// The lease on a memory.
pub(crate) fn lease_key(key: &MemoryKey) -> LockKey {
    #[expect(clippy::expect_used, reason = "a memory's lease name is a good key")]
    LockKey::new(key.lease_name()).expect("a lease name is a good key")
}

/// Small, so that flushes are due every few messages, and with short leases.
pub(crate) fn resource(program: &Program) -> MemoryResource {
    use memory_core::resource::{ArchiveSettings, ClearToolResults};
    use memory_core::{ContentType, Priority};

    let mut resource = MemoryResource::new("m", BUDGET);
    resource.flushing_strategy.kind = Some("hybrid_summary".into());
    resource.flushing_strategy.min_messages = 4;
    resource.flushing_strategy.summary_tokens = Some(80);
    resource.priority_blocks = vec![
        PriorityBlock::new(Priority::CRITICAL, [ContentType::SystemPrompt]),
        PriorityBlock::new(Priority::IMPORTANT, [ContentType::ImportantFacts]).with_max_tokens(200),
    ];
    resource.lock.ttl = Duration::from_secs(2);
    resource.lock.refresh_interval = Duration::from_millis(700);
    resource.lock.wait_timeout = Duration::from_secs(10);
    if let Some(Past { max_bytes, clears_results, keep }) = program.past {
        resource.archive = match keep {
            Keep::Forever => ArchiveSettings::forever(),
            Keep::ForAWhile => ArchiveSettings::keep_for(KEPT_FOR),
        };
        if keep == Keep::ForAWhile {
            // Steps of the clock must not make calls abandoned, which the checks of windows do not know.
            resource.open_call_timeout = Some(Duration::from_hours(24 * 365));
        }
        resource.archive.max_bytes = max_bytes;
        resource.flushing_strategy.clear_tool_results =
            clears_results.then(|| ClearToolResults::new(1, 0));
    }
    resource
}

/// A message has as many tokens as its text has bytes, and its framing.
#[derive(Debug)]
pub(crate) struct Bytes;

impl TokenCounter for Bytes {
    fn name(&self) -> &str {
        "bytes"
    }

    fn count(&self, text: &str) -> usize {
        text.len()
    }
}
