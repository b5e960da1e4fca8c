//! Random programs run on leases of a real server and on a model; both must give the same answers.

use std::time::Duration;

use crate::programs::{Time, run, steps};
use memory_lock::{LockKey, RedisLock};
use memory_redis_link::{Keyspace, RedisConfig, RedisLink};
use memory_redis_testkit::{any_server, unique_prefix};
use proptest::test_runner::{Config, TestRunner};
use redis::aio::MultiplexedConnection;

/// A server counts real time: an hour has passed once its leases end an hour earlier.
struct Shortened {
    server: MultiplexedConnection,
    keys: Keyspace,
}

impl Time for Shortened {
    /// No program lasts that long.
    const UNIT: Duration = Duration::from_secs(3_600);

    async fn pass(&self, _: u32, left: &[(LockKey, Duration)]) {
        for (key, left) in left {
            let mut shorten = redis::cmd("PEXPIRE");
            shorten
                .arg(self.keys.lease(key.as_str()))
                .arg(u64::try_from(left.as_millis()).unwrap());
            let found: bool = shorten.query_async(&mut self.server.clone()).await.unwrap();
            assert!(found, "{key} is not there");
        }
    }
}

#[test]
fn redis_backend_answers_like_the_model() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(any_server());
    let config = Config { cases: 256, failure_persistence: None, ..Config::default() };
    let done = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(async {
            let prefix = unique_prefix();
            let config = RedisConfig::from_url(server.url()).unwrap().with_prefix(&prefix).unwrap();
            let link = RedisLink::open(config).await.unwrap();
            let client = redis::Client::open(server.url()).unwrap();
            let server = client.get_multiplexed_async_connection().await.unwrap();
            let time = Shortened { server, keys: link.keys().clone() };
            run(&RedisLock::new(link), &time, steps).await;
        });
        Ok(())
    });
    if let Err(failure) = done {
        panic!("{failure}");
    }
}
