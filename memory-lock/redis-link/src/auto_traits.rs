//! Checks at compile time that programs with several threads can share the link and spawn its futures.

use redis::Cmd;

use crate::{
    Keyspace, LinkError, RedisConfig, RedisLink, Reply, Script, ServerStatus, WriteOutcome,
};

const fn shared<T: Send + Sync + 'static>() {}
const fn spawned<T: Send>(_: &T) {}

const _: () = {
    shared::<RedisLink>();
    shared::<RedisConfig>();
    shared::<Keyspace>();
    shared::<LinkError>();
    shared::<Reply>();
    shared::<Script>();
    shared::<ServerStatus>();
    shared::<WriteOutcome>();
};

/// The bodies are compiled and never run.
const _: fn(&RedisLink, &Script, &Cmd) = |link, script, call| {
    spawned(&link.run(script, call));
    spawned(&link.write(script, call));
    spawned(&link.send(call));
    spawned(&link.status());
    spawned(&link.subscribe(String::new()));
    spawned(&link.scan_memories(drop));
};
const _: fn(RedisConfig) = |config| spawned(&RedisLink::open(config));
