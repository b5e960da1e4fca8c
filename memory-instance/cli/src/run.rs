//! `memory run`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use memory_instance::{MemoryOperation, Mode, OperationContext};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::args::Memories;
use crate::backup::FileSink;
use crate::failure::usage;
use crate::out::Out;

/// Execute an operation that a document describes, such as a task of a workflow, and print a JSON report
///
/// The document is YAML or JSON: `operation` (read, write, append, delete, flush, health, clear, stats, list-keys, update-metadata), the id of
/// the resource as `memory_ref`, and a template of the key as `key_template`, in which `*` is a wildcard. Variables come from
/// --var. The resource is that of --resource. Nothing is flushed after an append. If the operation fails for any memory, the
/// exit code is 1; the report has the error codes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory run flush.yaml --resource support.yaml --var case=4711
  memory run clear.yaml --resource support.yaml --backups backups/
  echo '{operation: stats, memory_ref: default, key_template: \"air*\"}' | memory run -")]
pub(crate) struct Args {
    /// The document; - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Refuse what changes a memory
    #[arg(long)]
    read_only: bool,
    /// An existing folder for the backups of `clear` with `backup: true`
    #[arg(long, value_name = "FOLDER")]
    backups: Option<PathBuf>,
}

/// The longest document, in bytes.
const MAX_BYTES: u64 = 1 << 20;

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let operation = read(&args.file).await?;
    let mut sink = args.backups.as_deref().map(FileSink::folder);
    let mut context = OperationContext::new(memories.variables.clone());
    if args.read_only {
        context = context.with_mode(Mode::ReadOnly);
    }
    if let Some(sink) = &mut sink {
        context = context.with_backups(sink);
    }
    let report = memories.manager.run(&operation, context).await;
    out.value(&report)?;
    out.flush()?;
    if let Some(error) = &report.error {
        anyhow::bail!("{} ({})", error.message, error.code);
    }
    if !report.success {
        anyhow::bail!("{}: it failed for some memories; see the report", report.operation);
    }
    Ok(())
}

async fn read(file: &Path) -> anyhow::Result<MemoryOperation> {
    let text = if file == Path::new("-") {
        text_of(tokio::io::stdin()).await.context("read the standard input")?
    } else {
        let opened = File::open(file).await;
        let opened = opened.with_context(|| format!("open {}; check the path", file.display()))?;
        text_of(opened).await.with_context(|| format!("read {}", file.display()))?
    };
    parse(&text).map_err(|error| usage(error.to_string()))
}

async fn text_of(from: impl AsyncRead + Unpin) -> std::io::Result<String> {
    let mut text = String::new();
    // One byte more, so that a longer document is refused and not cut.
    from.take(MAX_BYTES + 1).read_to_string(&mut text).await?;
    Ok(text)
}

#[cfg(feature = "full")]
fn parse(text: &str) -> Result<MemoryOperation, memory_instance::OperationError> {
    MemoryOperation::from_yaml(text)
}

#[cfg(not(feature = "full"))]
fn parse(text: &str) -> Result<MemoryOperation, memory_instance::OperationError> {
    MemoryOperation::from_json(text)
}
