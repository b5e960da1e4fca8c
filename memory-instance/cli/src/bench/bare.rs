//! The bare database, as the baseline of the measurements.

mod append;
mod redis;
mod sqlite;

use std::path::Path;

use memory_core::store::Durability;

use self::redis::BareRedis;
use self::sqlite::BareSqlite;
use super::Keys;
use super::measure::Measured;
use crate::args::sqlite_path;

/// The database behind a store, used directly.
pub(crate) enum Bare {
    Sqlite(BareSqlite),
    Redis(BareRedis),
}

impl Bare {
    /// The database that a URL leads to; none for a store without one, a Cluster and a Sentinel.
    pub(crate) async fn open(
        url: &str,
        temporary: &Path,
        durability: Durability,
    ) -> anyhow::Result<Option<Self>> {
        if let Some(folder) = sqlite_path(url).map(|file| folder_of(file, temporary)) {
            return Ok(Some(Self::Sqlite(BareSqlite::open(folder, durability).await?)));
        }
        if url.starts_with("redis://") || url.starts_with("rediss://") {
            return Ok(Some(Self::Redis(BareRedis::open(url).await?)));
        }
        Ok(None)
    }

    /// The label of its appends.
    pub(crate) const fn append_name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "bare insert",
            Self::Redis(_) => "bare script",
        }
    }

    /// The label of its reads.
    pub(crate) const fn read_name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "bare select of 10 of 10,000",
            Self::Redis(_) => "bare LRANGE of 10 of 10,000",
        }
    }

    /// Appends by this many tasks; SQLite has one writer at a time, so more than one measure nothing more.
    pub(crate) async fn appends(
        &self,
        tasks: usize,
        keys: Keys,
        count: usize,
    ) -> anyhow::Result<Option<Measured>> {
        match self {
            Self::Sqlite(bare) if tasks == 1 => bare.inserts(count).await.map(Some),
            Self::Sqlite(_) => Ok(None),
            Self::Redis(bare) => bare.appends(tasks, keys, count).await.map(Some),
        }
    }

    pub(crate) async fn fill(&self, count: usize) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(bare) => bare.fill(count).await,
            Self::Redis(bare) => bare.fill(count).await,
        }
    }

    pub(crate) async fn reads(&self, count: usize) -> anyhow::Result<Measured> {
        match self {
            Self::Sqlite(bare) => bare.reads(count).await,
            Self::Redis(bare) => bare.reads(count).await,
        }
    }

    /// Removes all its data.
    pub(crate) async fn clean_up(&self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Redis(bare) => bare.clean_up().await,
        }
    }
}

/// A path for a file of the bare database on the same disk.
fn folder_of(file: &Path, temporary: &Path) -> std::path::PathBuf {
    match file.parent() {
        Some(parent) if parent.starts_with(temporary) => temporary.to_owned(),
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => ".".into(),
    }
}
