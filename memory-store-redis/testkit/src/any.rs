use std::env;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::port::random;
use crate::server::{HOW_TO_GET_ONE, Server, program};

/// The server of `MEMORY_TEST_REDIS_URL`, or one that was started for this test.
#[derive(Debug)]
pub struct AnyServer(Inner);

#[derive(Debug)]
enum Inner {
    Named(String),
    Own(Box<Server>),
}

/// The server that most tests use: the one of `MEMORY_TEST_REDIS_URL` if that is set, else a [`Server`].
///
/// The former may belong to a user: use only keys that begin with a [`unique_prefix`].
///
/// # Panics
///
/// If neither is available, with the remedy.
pub async fn any_server() -> AnyServer {
    if let Some(url) = env::var("MEMORY_TEST_REDIS_URL").ok().filter(|url| !url.is_empty()) {
        return AnyServer(Inner::Named(url));
    }
    assert!(program().is_some(), "this test needs a Redis server: {HOW_TO_GET_ONE}");
    AnyServer(Inner::Own(Box::new(Server::start().await)))
}

impl AnyServer {
    /// The URL of the server.
    #[must_use]
    pub fn url(&self) -> &str {
        match &self.0 {
            Inner::Named(url) => url,
            Inner::Own(server) => server.url(),
        }
    }

    /// The server, if it was started for this test and the test may do anything with it.
    #[must_use]
    pub fn own(&self) -> Option<&Server> {
        match &self.0 {
            Inner::Named(_) => None,
            Inner::Own(server) => Some(server),
        }
    }
}

/// A key prefix that no other test uses, here or elsewhere.
#[must_use]
pub fn unique_prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test-{:016x}-{}", random(), NEXT.fetch_add(1, Ordering::Relaxed))
}
