//! The command `memory`: try shared memories and inspect them.
//!
//! Data is written to stdout, progress and logs to stderr. The exit code is 0 on success, 1 after a failure
//! and 2 after a mistake in the command line; in both error cases one line on stderr names the place and the
//! remedy.

#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

mod args;
mod encoding;
mod erase;
mod escape;
mod failure;
mod out;
mod stop;

mod archive;
mod backup;
mod clear;
mod config;
mod context;
mod copy;
mod export;
mod flush;
mod fork;
mod health;
mod import;
mod kept;
mod keys;
mod lease;
mod list_keys;
mod metadata;
mod replace_all;
mod rewind;
mod run;
mod search;
mod stats;
mod sweep;
mod tail;

#[cfg(feature = "full")]
mod bench;
mod delete;
mod demo;
mod edit;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use memory_instance::FlushMode;
use tokio::runtime;
use tracing_subscriber::EnvFilter;

use crate::args::{Common, MissingFile};
use crate::out::Out;

/// Shared, async-safe memory for LLM agents: many agents write one conversation, nothing is lost,
/// duplicated or torn, and each request to a model fits its window.
#[derive(Debug, Parser)]
#[command(name = "memory", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  memory demo                                        see what it does, in some seconds
  memory import chats.jsonl.gz --agents 8            conversations by their `conversation_id`
  memory import log.jsonl --key 'case-{{ line.case }}'   ... or by a custom field
  memory keys                                        all memories
  memory tail --key airline-00-0 -f                  watch a conversation
  memory context --key airline-00-0 --budget 1500    the request to send to a model
  memory health --key airline-00-0                   its size, budget and last flush

Without --store and MEMORY_STORE, memories are in the file memory.db of the current folder. Machines share
those of a Redis or Valkey server: memory keys --store redis://localhost. Set MEMORY_STORE for a URL with
a password: arguments are visible to other users.
Each command has its help: memory import --help. For logs set RUST_LOG=info.";

/// The arguments of each command describe it.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run a demonstration: agents share a conversation under pressure, one crashes, one comes too late
    Demo,
    Config(config::Args),
    Import(import::Args),
    Export(export::Args),
    Context(context::Args),
    Health(health::Args),
    Keys(keys::Args),
    ListKeys(list_keys::Args),
    Flush(flush::Args),
    Lease(lease::Args),
    Metadata(metadata::Args),
    Archive(archive::Args),
    Backup(backup::Args),
    Restore(backup::RestoreArgs),
    Copy(copy::Args),
    Fork(fork::Args),
    Clear(clear::Args),
    Erase(erase::Args),
    Delete(delete::Args),
    Replace(edit::ReplaceArgs),
    ReplaceAll(replace_all::Args),
    Rewind(rewind::Args),
    Run(run::Args),
    Search(search::Args),
    Set(edit::SetArgs),
    Stats(stats::Args),
    Sweep(sweep::Args),
    Tail(tail::Args),
    #[cfg(feature = "full")]
    Bench(bench::Args),
    #[cfg(feature = "full")]
    #[command(hide = true)]
    BenchWorker(bench::flush::WorkerArgs),
}

/// The time limit for releasing the active leases when a command has ended.
const EXIT_GRACE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::of_clap(&error),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let done = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let done = runtime.block_on(Box::pin(run(cli)));
            // A thread may still wait for its standard input.
            runtime.shutdown_timeout(EXIT_GRACE);
            done
        }
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

/// The result of a command that a signal stopped.
fn stopped(command: &Command) -> anyhow::Result<()> {
    match command {
        // A signal is the usual end of this command.
        Command::Tail(_) => Ok(()),
        Command::Import(_) => Err(anyhow::anyhow!(
            "import: stopped by a signal; appended messages are kept, run the import again to continue"
        )),
        _ => Err(anyhow::anyhow!("stopped by a signal; run the command again")),
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { common, command } = cli;
    let common = common.with_environment()?;
    let mut out = Out::new(&common);
    match command {
        Command::Demo => demo::run(&common, &mut out).await?,
        Command::Config(args) => config::run(&args, &mut out)?,
        #[cfg(feature = "full")]
        Command::Bench(args) => bench::run(&common, &args, &mut out).await?,
        #[cfg(feature = "full")]
        Command::BenchWorker(args) => bench::flush::run_worker(&common, &args, &mut out).await?,
        command => {
            match &command {
                Command::Import(args) => args.check()?,
                Command::Clear(args) => args.check()?,
                Command::Copy(args) => args.check()?,
                Command::Erase(args) => args.check()?,
                Command::Delete(args) => args.check()?,
                Command::Replace(args) => args.check()?,
                Command::ReplaceAll(args) => args.check()?,
                Command::Rewind(args) => args.check()?,
                Command::Search(args) => args.check()?,
                Command::Set(args) => args.check()?,
                Command::Sweep(args) => args.check()?,
                Command::Lease(args) => args.check()?,
                Command::Metadata(args) => args.check()?,
                _ => {}
            }
            let (missing, mode) = match &command {
                // When an import ends, its flushes must be complete too.
                Command::Import(_) => (MissingFile::Create, FlushMode::Inline),
                Command::Restore(_) => (MissingFile::Create, FlushMode::Manual),
                _ => (MissingFile::Refuse, FlushMode::Manual),
            };
            let stop = stop::requested();
            let memories = common.open(missing, mode).await?;
            let work = async {
                match &command {
                    Command::Import(args) => import::run(&memories, args, &mut out).await,
                    Command::Export(args) => export::run(&memories, args, &mut out).await,
                    Command::Context(args) => context::run(&memories, args, &mut out).await,
                    Command::Health(args) => health::run(&memories, args, &mut out).await,
                    Command::Keys(args) => keys::run(&memories, args, &mut out).await,
                    Command::ListKeys(args) => list_keys::run(&memories, args, &mut out).await,
                    Command::Flush(args) => flush::run(&memories, args, &mut out).await,
                    Command::Lease(args) => lease::run(&memories, args, &mut out).await,
                    Command::Metadata(args) => metadata::run(&memories, args, &mut out).await,
                    Command::Archive(args) => archive::run(&memories, args, &mut out).await,
                    Command::Backup(args) => backup::run(&memories, args, &mut out).await,
                    Command::Restore(args) => backup::restore(&memories, args, &mut out).await,
                    Command::Fork(args) => fork::run(&memories, args, &mut out).await,
                    Command::Copy(args) => copy::run(&memories, args, &mut out).await,
                    Command::Clear(args) => clear::run(&memories, args, &mut out).await,
                    Command::Erase(args) => erase::run(&memories, args, &mut out).await,
                    Command::Delete(args) => delete::run(&memories, args, &mut out).await,
                    Command::Replace(args) => edit::replace(&memories, args, &mut out).await,
                    Command::ReplaceAll(args) => replace_all::run(&memories, args, &mut out).await,
                    Command::Rewind(args) => rewind::run(&memories, args, &mut out).await,
                    Command::Run(args) => run::run(&memories, args, &mut out).await,
                    Command::Search(args) => search::run(&memories, args, &mut out).await,
                    Command::Set(args) => edit::set(&memories, args, &mut out).await,
                    Command::Stats(args) => stats::run(&memories, args, &mut out).await,
                    Command::Sweep(args) => sweep::run(&memories, args, &mut out).await,
                    Command::Tail(args) => tail::run(&memories, args, &mut out).await,
                    Command::Demo | Command::Config(_) => Ok(()),
                    #[cfg(feature = "full")]
                    Command::Bench(_) | Command::BenchWorker(_) => Ok(()),
                }
            };
            let done = tokio::select! {
                done = work => done,
                () = stop => stopped(&command),
            };
            memories.manager.shutdown(EXIT_GRACE).await;
            memories.manager.locks().shutdown(EXIT_GRACE).await;
            done?;
        }
    }
    out.flush()
}
