//! The place where random programs run on Redis.

use std::sync::Arc;

use memory_lock::{Clock, LockBackend, RedisLock};
use memory_redis_testkit::unique_prefix;
use memory_store_redis::{RedisConfig, RedisLink, RedisStore, RedisStoreConfig, TokenChecks};
use tokio::runtime::Runtime;

use memory_core_testkit::programs::{Opened, Place};

/// A separate prefix, which includes the leases.
#[derive(Debug)]
pub(crate) struct Prefixed {
    config: RedisConfig,
    checks: TokenChecks,
}

impl Prefixed {
    pub(crate) fn new(url: &str, checks: TokenChecks) -> Self {
        let config = RedisConfig::from_url(url).unwrap().with_prefix(&unique_prefix()).unwrap();
        Self { config, checks }
    }
}

impl Place for Prefixed {
    async fn open(&self, clock: &Clock) -> Opened {
        let link = RedisLink::open(self.config.clone()).await.unwrap();
        let leases: Option<Arc<dyn LockBackend>> = match self.checks {
            TokenChecks::LiveLeases => Some(Arc::new(RedisLock::new(link.clone()))),
            _ => None,
        };
        let config =
            RedisStoreConfig::new().with_token_checks(self.checks).with_clock(clock.clone());
        Opened { store: Arc::new(RedisStore::with_config(link, config)), leases }
    }
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}
