//! Servers for a sequence of tests.

use memory_redis_testkit::{Cluster, Sentinels, unique_prefix};
use tokio::runtime::Runtime;

use crate::support::Folder;

/// A test and its name.
type Named = (&'static str, fn(&Folder));

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

/// The job of one process is left out: one server and a file run it, and here several processes do the same.
const OF_ONE_PROCESS: [&str; 2] = [
    "an_import_takes_everything_once_and_export_gives_it_back_unchanged",
    "under_pressure_windows_fit_and_the_books_balance",
];

fn run(tests: &[Named], url: &str) {
    for (name, test) in tests.iter().filter(|(name, _)| !OF_ONE_PROCESS.contains(name)) {
        println!("{name}");
        test(&Folder::at(format!("{url}prefix={}", unique_prefix())));
    }
}
