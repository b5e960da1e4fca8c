//! The command `memory` on a Cluster and behind Sentinels: the same tests as on a SQLite file.
#![allow(dead_code, reason = "what other stores need is not needed here")]

/// Runs the tests one after another on servers that are started once, each under a separate prefix.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        #[test]
        fn on_a_cluster() {
            crate::servers::on_a_cluster(&[$((stringify!($name), $name)),*]);
        }

        #[test]
        fn behind_sentinels() {
            crate::servers::behind_sentinels(&[$((stringify!($name), $name)),*]);
        }
    };
}

#[path = "../cli/data.rs"]
mod data;
#[path = "../cli/main_job.rs"]
mod main_job;
mod password;
mod servers;
#[path = "../cli/several.rs"]
mod several;
#[path = "../cli/support.rs"]
mod support;
