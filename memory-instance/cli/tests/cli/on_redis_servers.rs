//! Servers for a sequence of tests, and a server with a password.

use memory_redis_testkit::{Cluster, Sentinels, Server, unique_prefix};
use tokio::runtime::Runtime;

use crate::support::Folder;

/// A test and its name.
pub(crate) type Named = (&'static str, fn(&Folder));

/// Three masters, each with a replica.
pub(crate) fn on_a_cluster(tests: &[Named]) {
    let cluster = Runtime::new().unwrap().block_on(Cluster::start());
    run(tests, &format!("{}/?", cluster.url()));
}

/// A master with two replicas, and three Sentinels.
pub(crate) fn behind_sentinels(tests: &[Named]) {
    let sentinels = Runtime::new().unwrap().block_on(Sentinels::start());
    run(tests, &format!("{}&", sentinels.url()));
}

fn run(tests: &[Named], url: &str) {
    for (name, test) in tests {
        println!("{name}");
        test(&Folder::at(format!("{url}prefix={}", unique_prefix())));
    }
}

/// A URL with a password is never printed.
#[test]
fn no_command_prints_the_password() {
    const PASSWORD: &str = "very-secret";
    let started = Server::start_with(&["--requirepass", PASSWORD]);
    let server = Runtime::new().unwrap().block_on(started);
    let folder = Folder::at(server.url().to_owned());
    folder.write("talk.jsonl", r#"{"role":"user","content":"hi"}"#);
    let commands = [
        "import talk.jsonl --key k",
        "keys",
        "health --key k",
        "demo",
        "bench append --tasks 1 --keys one --messages 64 --rounds 1",
        "health --key x",
    ];
    for command in commands {
        let said = folder.run(command);
        assert_eq!(said.code == Some(0), command != "health --key x", "{command}: {said:?}");
        assert!(!format!("{said:?}").contains(PASSWORD), "{command}: {said:?}");
    }
    server.kill();
    for command in commands {
        let said = folder.run(command);
        assert_eq!(said.code, Some(1), "{command}: {said:?}");
        assert!(!format!("{said:?}").contains(PASSWORD), "{command}: {said:?}");
        assert_eq!(said.err.lines().count(), 1, "{command}: {said:?}");
    }
}
