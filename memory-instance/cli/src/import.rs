//! `memory import`.

pub(crate) mod formats;
mod pool;
mod records;
mod report;
mod scan;
mod source;
mod survey;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use memory_core::{MemoryKey, Message};
use memory_instance::KeyTemplate;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;

use self::formats::Format;
use self::pool::Pool;
use self::report::Report;
use self::source::Source;
use self::survey::{Findings, Router};
use crate::args::{Memories, check_ttl};
use crate::failure::{note, usage};
use crate::out::{Out, count};

/// Append messages from files of many formats; running it again appends nothing twice
///
/// Reads JSON Lines, values on several lines, or arrays; gzipped files too, and - is stdin. The format of each
/// record is detected, or named by --format. Messages of the six dialects (chat, responses, anthropic, gemini, bedrock,
/// ai_sdk) are stored as they are: fields that are not part of a message are kept and come back on export. Those of
/// other formats are converted.
///
/// Each record is appended to the memory that the key template names. The template gets the record's fields as
/// `line.*` (of a conversation, those of the object around the messages) and its place in the file as
/// `record.number`, counted from 1. Without --key and without a `key` in the resource it is '{{ line.conversation_id }}'.
///
/// All records are read and checked before the first is appended: a file with a bad record appends nothing, unless
/// --skip-bad skips it. An existing memory with a TTL needs --resource, which sets its TTL. Messages of one key are
/// appended in the order of the file, those of different keys by several agents at once. The command ends with a JSON report on stdout.
///
/// Running it again, also after a crash or from several processes at once, appends nothing twice: a
/// message is identified by its source, its memory and its place among the source's messages for that
/// memory. The source is identified by its content (SHA-256 of the uncompressed bytes), not by its path,
/// so that a changed file is never mistaken for the previous one. Give --source a name to import a file
/// again that has grown at its end: then only the new messages are appended. Under one name a file must
/// keep its earlier records, because known places are skipped.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory import tau-bench-airline.jsonl.gz --agents 8 --store sqlite://airline.db
  memory import monday.jsonl tuesday.jsonl --key 'case-{{ line.case_id }}'
  memory import train.jsonl --key 'example-{{ record.number }}'          (one conversation a line)
  memory import ~/.claude/projects/x/*.jsonl --key '{{ line.sessionId }}'
  memory import agent.log.jsonl --key agent-7 --source agent-7-log     (again when it has grown)
  zcat old.jsonl.gz | memory import - --key '{{ line.user }}:{{ line.session }}' --json")]
pub(crate) struct Args {
    /// Files of JSON; - is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How many agents append at once
    #[arg(long, value_name = "N", default_value = "4")]
    agents: NonZeroUsize,

    /// The name of the source of one file that only grows at its end [default: its content]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// The format of every record [default: detected for each record]
    #[arg(long, value_name = "NAME", value_parser = formats::parser())]
    format: Option<&'static Format>,

    /// Skip bad lines instead of appending nothing; stderr has their number and the first of them
    #[arg(long)]
    skip_bad: bool,

    /// Write U+FFFD for surrogate escapes without their other half (`\ud83d`), instead of refusing them
    #[arg(long)]
    replace_surrogates: bool,
}

/// The key of a line unless the user specifies another.
const DEFAULT_KEY: &str = "{{ line.conversation_id }}";

impl Args {
    /// Checks conditions that clap cannot express.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.source.is_some() && self.files.len() > 1 {
            return Err(usage(
                "--source names one file, and there are several; import them one by one, each with its own name",
            ));
        }
        if self.files.iter().filter(|file| file.as_os_str() == "-").count() > 1 {
            return Err(usage("- is given more than once among the files; stdin can be read once"));
        }
        Ok(())
    }
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let started = Instant::now();
    let template = match memories.template()? {
        Some(template) => template,
        None => KeyTemplate::parse(DEFAULT_KEY)?,
    };
    let router = Arc::new(Router {
        manager: memories.manager.clone(),
        resource: memories.resource.id.clone(),
        template,
        variables: memories.variables.clone(),
        line_bytes: memories.resource.limits.line_bytes(),
        format: args.format,
        skip_bad: args.skip_bad,
        replace_surrogates: args.replace_surrogates,
    });
    let progress = progress_bar(out);
    let (sources, mut findings) = {
        let (files, name) = (args.files.clone(), args.source.clone());
        let (router, progress) = (Arc::clone(&router), progress.clone());
        spawn_blocking(move || check_all(&files, name.as_deref(), &router, &progress)).await??
    };
    if let Some(bad) = findings.bad_records() {
        progress.suspend(|| note(format_args!("{}: {bad}", passed_over(findings.bad))));
    }
    if !memories.resource_given {
        check_ttls(memories, std::mem::take(&mut findings.keys), args.agents).await?;
    }
    progress.set_length(sources.iter().map(Source::messages).sum());
    progress.set_position(0);
    progress.set_message("appending");

    let pool = Pool::new(memories.manager.clone(), progress.clone());
    let reading = {
        let pool = pool.clone();
        spawn_blocking(move || {
            let done = sources.iter().try_for_each(|source| pool.feed(source, &router));
            pool.close();
            done
        })
    };
    let agents: Vec<_> =
        (0..args.agents.get()).map(|_| tokio::spawn(pool.clone().work())).collect();
    for agent in agents {
        agent.await.context("an agent of the import")?;
    }
    let read = reading.await?;
    progress.finish_and_clear();

    let report = Report::new(&pool, &findings, started.elapsed());
    if out.json() {
        out.compact(&report)?;
    } else {
        out.indented(&report)?;
    }
    read?;
    match pool.into_failure() {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}

/// Reads all of it before anything is appended.
fn check_all(
    files: &[PathBuf],
    name: Option<&str>,
    router: &Router,
    progress: &ProgressBar,
) -> anyhow::Result<(Vec<Source>, Findings)> {
    progress.set_message("checking");
    let sources = files.iter().map(|file| Source::open(file, name, router.line_bytes));
    let mut sources: Vec<_> = sources.collect::<Result<_, _>>()?;
    let mut findings = Findings::default();
    for source in &mut sources {
        survey::survey(source, router, &mut findings, progress)?;
    }
    match findings.bad_records().filter(|_| !router.skip_bad) {
        Some(bad) => anyhow::bail!("{bad}; nothing was appended"),
        None => Ok((sources, findings)),
    }
}

/// Nothing is appended if one of the memories would lose its TTL. This many are checked at once.
async fn check_ttls(
    memories: &Memories,
    keys: BTreeSet<MemoryKey>,
    at_once: NonZeroUsize,
) -> anyhow::Result<()> {
    let mut checks = JoinSet::new();
    for key in keys {
        if checks.len() >= at_once.get()
            && let Some(checked) = checks.join_next().await
        {
            checked.context("a check of the import")??;
        }
        let store = Arc::clone(memories.manager.store());
        checks.spawn(async move { check_ttl(&*store, &key).await });
    }
    while let Some(checked) = checks.join_next().await {
        checked.context("a check of the import")??;
    }
    Ok(())
}

/// The messages of a file that is to be the content of one memory. A bad record is an error.
pub(crate) async fn read_for(
    memories: &Memories,
    key: &MemoryKey,
    file: &Path,
    format: Option<&'static Format>,
) -> anyhow::Result<Vec<Message>> {
    let Some(template) = memories.template()? else {
        return Err(usage("give the memory by --key"));
    };
    let router = Router {
        manager: memories.manager.clone(),
        resource: memories.resource.id.clone(),
        template,
        variables: memories.variables.clone(),
        line_bytes: memories.resource.limits.line_bytes(),
        format,
        skip_bad: false,
        replace_surrogates: false,
    };
    let (file, key) = (file.to_owned(), key.clone());
    spawn_blocking(move || {
        let source = Source::open(&file, None, router.line_bytes)?;
        let mut messages = Vec::new();
        router.routing().read(&source, |_, routed| {
            let routed = routed.map_err(|problem| problem.in_source(&source))?;
            if let Some(other) = routed.key.filter(|other| *other != key) {
                let name = source.name();
                anyhow::bail!("{name}:{}: the record is of the memory {other}", routed.line);
            }
            messages.extend(routed.messages);
            Ok(())
        })?;
        Ok(messages)
    })
    .await?
}

fn passed_over(bad: u64) -> String {
    format!("passed over {}", count(bad, "bad line", "bad lines"))
}

fn progress_bar(out: &Out) -> ProgressBar {
    // It hides itself if stderr is not a terminal.
    let target =
        if out.json() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let progress = ProgressBar::with_draw_target(None, target);
    let style = "{msg:10} {wide_bar} {human_pos}/{human_len} messages, {per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}
