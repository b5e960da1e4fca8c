//! `memory backup` and `memory restore`.

mod sink;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use memory_instance::backup::{BackupError, BackupReader, CopyReceipt, RestoredTtl};
use memory_instance::{MemoryError, MemoryInstance};
use tokio::fs::{self, File};
use tokio::io::{AsyncRead, BufWriter};

pub(crate) use self::sink::FileSink;
use crate::args::Memories;
use crate::failure::note;
use crate::out::{Out, count};

/// Write a whole memory to a file: messages with priorities, summaries, receipts, the archive
///
/// The file is complete or not there: it is written under another name first. Messages that come meanwhile are not
/// part of it; after a flush the command begins again. The file has the texts in plain form. Format: JSON lines with
/// a SHA-256 of each part and of the whole, see docs/backup-format.md of the repository.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory backup airline.memory --key airline-00-0
  memory backup - --key airline-00-0 | gzip > airline.memory.gz")]
pub(crate) struct Args {
    /// The file, which is replaced; - for stdout
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Restore a memory from a file that `memory backup` wrote
///
/// The memory equals the original in every command. Its key is the original's, or that of --key, which must have no
/// memory. A restore that was interrupted leaves a memory that cannot be opened; run the command again to complete it.
/// Damaged files are refused with the place.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory restore airline.memory --store sqlite://new.db
  memory restore airline.memory --key airline-copy
  gunzip < airline.memory.gz | memory restore - --store redis://localhost")]
pub(crate) struct RestoreArgs {
    /// The file; - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Restore the memory without its TTL, such as one that has ended since; the next append sets that of the resource
    #[arg(long)]
    without_ttl: bool,
}

/// How often a backup is begun, if flushes come in between.
const ATTEMPTS: u32 = 8;

fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    if is_standard(&args.file) {
        let receipt = memory.backup(BufWriter::new(tokio::io::stdout())).await?;
        let archived = archived(&receipt);
        note(format_args!("{}: backed up, {}{archived}", receipt.key, messages(&receipt)));
        return Ok(());
    }
    let partial = partial_of(&args.file)?;
    let receipt = match to_file(&memory, &partial).await {
        Ok(receipt) => receipt,
        Err(error) => {
            // It would not be complete. If it cannot be removed, its name says so.
            let _ = fs::remove_file(&partial).await;
            return Err(error);
        }
    };
    fs::rename(&partial, &args.file)
        .await
        .with_context(|| format!("rename the backup to {}", args.file.display()))?;
    sync_folder(&args.file).await?;
    if out.json() {
        return out.compact(&receipt);
    }
    let (messages, archived) = (messages(&receipt), archived(&receipt));
    let file = args.file.display();
    out.line(format!("{}: backed up to {file}, {messages}{archived}", receipt.key))
}

async fn to_file(memory: &MemoryInstance, partial: &Path) -> anyhow::Result<CopyReceipt> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut file = BufWriter::new(create(partial).await?);
        match memory.backup(&mut file).await {
            Err(BackupError::Memory(MemoryError::Contended { .. })) if attempts < ATTEMPTS => {
                fs::remove_file(partial).await.context("begin the backup again")?;
            }
            Err(error) => return Err(error.into()),
            Ok(receipt) => {
                file.get_ref().sync_all().await.context("write the backup to the disk")?;
                return Ok(receipt);
            }
        }
    }
}

/// A name beside the file that no other backup to it uses.
fn partial_of(file: &Path) -> anyhow::Result<PathBuf> {
    let name = |number: u32| {
        let mut name = file.to_owned().into_os_string();
        name.push(format!(".{}-{number}.partial", std::process::id()));
        PathBuf::from(name)
    };
    // A process that was killed may have had the same id.
    let free = (0..100).map(name).find(|name| !name.exists());
    free.with_context(|| format!("remove the files {}.*.partial", file.display()))
}

/// A new file that only its owner may read, as a store's file: it has all texts.
async fn create(partial: &Path) -> anyhow::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    let file = options.open(partial).await;
    file.with_context(|| format!("create {}; check the folder", partial.display()))
}

/// Makes the new name durable.
async fn sync_folder(file: &Path) -> anyhow::Result<()> {
    if cfg!(unix) {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).await;
        folder.context("open the folder of the backup")?.sync_all().await.context("sync it")?;
    }
    Ok(())
}

fn messages(receipt: &CopyReceipt) -> String {
    count(receipt.counters.present.messages, "message", "messages")
}

fn archived(receipt: &CopyReceipt) -> String {
    match receipt.archived {
        0 => String::new(),
        archived => format!(" and {} of its archive", count(archived, "message", "messages")),
    }
}

pub(crate) async fn restore(
    memories: &Memories,
    args: &RestoreArgs,
    out: &mut Out,
) -> anyhow::Result<()> {
    if is_standard(&args.file) {
        return restore_from(memories, args, tokio::io::stdin(), out).await;
    }
    let name = args.file.display();
    let file = File::open(&args.file).await;
    let file = file.with_context(|| format!("open {name}; check the path"))?;
    restore_from(memories, args, file, out).await.with_context(|| format!("restore {name}"))
}

async fn restore_from(
    memories: &Memories,
    args: &RestoreArgs,
    from: impl AsyncRead + Unpin + Send,
    out: &mut Out,
) -> anyhow::Result<()> {
    let backup = BackupReader::open(from).await?;
    let memory = memories.other(backup.key())?;
    let ttl = if args.without_ttl { RestoredTtl::Dropped } else { RestoredTtl::Kept };
    let receipt = memory.restore_backup(backup, ttl).await?;
    report(&receipt, "restored", out)
}

pub(crate) fn report(receipt: &CopyReceipt, done: &str, out: &mut Out) -> anyhow::Result<()> {
    if out.json() {
        return out.compact(receipt);
    }
    let key = &receipt.key;
    if receipt.completed_before {
        return out.line(format!("{key}: it was {done} before"));
    }
    out.line(format!("{key}: {done}, {}{}", messages(receipt), archived(receipt)))
}
