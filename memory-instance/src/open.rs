//! Backends by URL.

mod scheme;

use std::sync::Arc;
use std::time::Duration;

use memory_core::resource::StoreKind;
use memory_core::{InMemoryStore, MemoryResource, MemoryStore};
use memory_lock::{Clock, ClockExt as _, InProcessLock, LockManager};

use crate::error::MemoryError;

/// The default clock. Processes that share a store need the wall clock; a store of one process can use a clock that
/// does not follow the wall clock's steps.
pub(crate) fn default_clock(url: &str) -> Clock {
    if url.starts_with("memory://") { Clock::anchored() } else { Clock::system() }
}

/// Logs a warning for each resource that is meant for another kind of store.
pub(crate) fn warn_of_other_kind(url: &str, resources: &[MemoryResource]) {
    let (scheme, _) = url.split_once("://").unwrap_or((url, ""));
    for resource in resources {
        let (kind, is_meant) = match resource.persistence.kind {
            Some(StoreKind::Redis) => {
                ("redis", scheme.starts_with("redis") || scheme.starts_with("valkey"))
            }
            Some(StoreKind::InMemory) => ("in_memory", scheme == "memory"),
            _ => continue,
        };
        if !is_meant {
            tracing::warn!(
                resource = %resource.id,
                "persistence.type: is `{kind}`, but the store is {}; the URL of the store decides",
                without_password(url)
            );
        }
    }
}

/// Opens the store and the leases that a URL names. `patience` is the time that callers wait for a failing store.
#[cfg_attr(
    not(any(feature = "redis", feature = "sqlite")),
    expect(clippy::unused_async, reason = "only opening a store outside of this process awaits")
)]
pub(crate) async fn open(
    url: &str,
    clock: &Clock,
    patience: Duration,
) -> Result<(Arc<dyn MemoryStore>, LockManager), MemoryError> {
    #[cfg(not(feature = "sqlite"))]
    let _ = patience;
    match place(url)? {
        Place::Memory => {
            let store = InMemoryStore::new(clock.clone());
            let locks = LockManager::new(Arc::new(InProcessLock::new(clock.clone())));
            Ok((Arc::new(store), locks))
        }
        #[cfg(feature = "sqlite")]
        Place::Sqlite(file) => file.open(url, clock, patience).await,
        #[cfg(feature = "redis")]
        Place::Redis(config) => redis::open(*config).await,
    }
}

/// The target of a URL.
enum Place {
    Memory,
    #[cfg(feature = "sqlite")]
    Sqlite(Box<sqlite::File>),
    #[cfg(feature = "redis")]
    Redis(Box<memory_store_redis::RedisConfig>),
}

fn place(url: &str) -> Result<Place, MemoryError> {
    let refuse = |problem: &str| {
        Err(MemoryError::Url { url: without_password(url), problem: problem.to_owned() })
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return refuse(&scheme::without(url));
    };
    if rest.trim_start_matches('/').starts_with(":memory:") {
        return refuse(scheme::IN_MEMORY);
    }
    match scheme {
        "memory" if rest.is_empty() => Ok(Place::Memory),
        "memory" => refuse("takes nothing after memory://; remove the rest"),
        #[cfg(feature = "sqlite")]
        "sqlite" => sqlite::File::named(url, rest).map(|file| Place::Sqlite(Box::new(file))),
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => refuse("needs the feature `sqlite`; enable it"),
        #[cfg(feature = "redis")]
        scheme if is_redis(scheme) => redis::config(url).map(Place::Redis),
        #[cfg(not(feature = "redis"))]
        scheme if is_redis(scheme) => refuse("needs the feature `redis`; enable it"),
        unknown => refuse(&scheme::unknown(unknown)),
    }
}

/// Checks the scheme, the place and the settings of a store's URL. Nothing is opened, created or connected to.
///
/// # Errors
/// [`MemoryError::Url`] with the problem and the remedy, as returned by
/// [`ManagerBuilder::open`](crate::ManagerBuilder::open).
///
/// ```
/// use memory_instance::check_url;
///
/// assert!(check_url("sqlite://memory.db?synchronous=normal").is_ok());
/// let error = check_url("sqlite://memory.db?synchronous=off").unwrap_err();
/// assert!(error.to_string().contains("unknown setting `synchronous=off`"));
/// ```
pub fn check_url(url: &str) -> Result<(), MemoryError> {
    place(url).map(|_| ())
}

/// Redis and Valkey, with or without TLS; a single server, Cluster or Sentinel.
fn is_redis(scheme: &str) -> bool {
    let (server, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    matches!(server, "redis" | "rediss" | "valkey" | "valkeys")
        && matches!(kind, "" | "unix" | "cluster" | "sentinel")
}

/// A store's URL for printing and logging: without user and password, and without a query that contains a password.
///
/// ```
/// use memory_instance::without_password;
///
/// assert_eq!(without_password("redis://me:secret@host/2"), "redis://***@host/2");
/// assert_eq!(without_password("sqlite://memory.db"), "sqlite://memory.db");
/// ```
#[must_use]
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // A mistyped URL may still contain a password.
        return match url.rsplit_once('@') {
            _ if url.contains("pass") => "***".to_owned(),
            Some((_, host)) => format!("***@{host}"),
            None => url.to_owned(),
        };
    };
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) if query.contains("pass") => (place, query),
        _ => (rest, ""),
    };
    // A question mark in an unescaped password: the end of the password is unknown.
    if query.contains('@') {
        return format!("{scheme}://***");
    }
    match place.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None => format!("{scheme}://{place}"),
    }
}

#[cfg(feature = "redis")]
mod redis {
    use std::sync::Arc;

    use memory_core::MemoryStore;
    use memory_lock::{LockManager, RedisLock};
    use memory_store_redis::{RedisConfig, RedisStore};

    use super::without_password;
    use crate::error::MemoryError;

    pub(super) fn config(url: &str) -> Result<Box<RedisConfig>, MemoryError> {
        RedisConfig::from_url(url).map(Box::new).map_err(|fault| MemoryError::Url {
            url: without_password(url),
            problem: fault.detail().to_owned(),
        })
    }

    /// Opens the store and its leases, which share one connection.
    pub(super) async fn open(
        config: RedisConfig,
    ) -> Result<(Arc<dyn MemoryStore>, LockManager), MemoryError> {
        let store = RedisStore::open(config).await?;
        let locks = LockManager::new(Arc::new(RedisLock::new(store.link().clone())));
        Ok((Arc::new(store), locks))
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::sync::Arc;
    use std::time::Duration;

    use memory_core::MemoryStore;
    use memory_core::store::Durability;
    use memory_lock::{Clock, LockManager, SqliteLock};
    use memory_store_sqlite::{Links, SqliteConfig, SqliteStore};

    use super::without_password;
    use crate::error::{MemoryError, OpenLeasesError};

    /// How long a call waits while other processes keep the file locked. This is less than the caller's timeout, so
    /// the caller learns that nothing was written. A call that is cut short leaves that unknown.
    fn busy_for(patience: Duration) -> Duration {
        (patience.saturating_mul(9) / 10).clamp(MIN_BUSY_WAIT, MAX_BUSY_WAIT)
    }

    /// Less than any caller waits for an answer.
    const MIN_BUSY_WAIT: Duration = Duration::from_millis(900);
    /// Less than the lock manager waits for an answer.
    const MAX_BUSY_WAIT: Duration = Duration::from_millis(4_900);

    /// A file, with the options for opening it.
    pub(super) struct File {
        path: String,
        durability: Durability,
        links: Links,
    }

    impl File {
        /// Parses a URL and its part after the scheme.
        pub(super) fn named(url: &str, rest: &str) -> Result<Self, MemoryError> {
            let refuse = |problem: String| MemoryError::Url { url: without_password(url), problem };
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            if path.is_empty() {
                return Err(refuse(
                    "names no file; write a path, such as sqlite://memory.db".into(),
                ));
            }
            let (mut durability, mut links) = (Durability::Disk, Links::Refuse);
            for setting in query.split('&').filter(|setting| !setting.is_empty()) {
                match setting {
                    "synchronous=full" => durability = Durability::Disk,
                    "synchronous=normal" => durability = Durability::Process,
                    "links=refuse" => links = Links::Refuse,
                    "links=allow" => links = Links::Allow,
                    other => {
                        return Err(refuse(format!(
                            "has the unknown setting `{other}`; there are synchronous=full, \
                         synchronous=normal, links=refuse and links=allow"
                        )));
                    }
                }
            }
            Ok(Self { path: path.to_owned(), durability, links })
        }

        pub(super) async fn open(
            self,
            url: &str,
            clock: &Clock,
            patience: Duration,
        ) -> Result<(Arc<dyn MemoryStore>, LockManager), MemoryError> {
            let Self { path, durability, links } = self;
            let config = SqliteConfig::new(&path)
                .with_durability(durability)
                .with_links(links)
                .with_clock(clock.clone())
                .with_operation_timeout(busy_for(patience));
            let store = SqliteStore::open(config).await?;
            let leases = SqliteLock::open_with_links(&path, clock.clone(), links)
                .map_err(|reason| {
                    let url = without_password(url);
                    MemoryError::OpenLeases(Box::new(OpenLeasesError { url, reason }))
                })?
                .with_operation_timeout(busy_for(patience));
            Ok((Arc::new(store), LockManager::new(Arc::new(leases))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn printed_urls_contain_no_password() {
        for (url, printed) in [
            ("redis://host/2?prefix=a", "redis://host/2?prefix=a"),
            ("redis://me:secret@host?prefix=a", "redis://***@host?prefix=a"),
            ("redis://:sec@ret@host", "redis://***@host"),
            ("redis://me:sec?ret@host", "redis://***@host"),
            ("redis://me:sec?retpass@host", "redis://***"),
            ("redis://me:s@c?retpass@host", "redis://***"),
            ("redis+sentinel://a,b/?master=m&sentinel_password=x", "redis+sentinel://a,b/"),
            ("redis+sentinel://u:p@a,b/?sentinel_password=x", "redis+sentinel://***@a,b/"),
            ("redis+sentinel://a,b/?sentinel_password=x@y", "redis+sentinel://***"),
            ("memory.db", "memory.db"),
            ("redis:/u:secret@host", "***@host"),
            ("redis:/host?password=secret", "***"),
        ] {
            assert_eq!(without_password(url), printed, "{url}");
        }
    }
}
