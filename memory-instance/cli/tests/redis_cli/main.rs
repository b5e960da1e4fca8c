//! The command `memory` on a Redis server: the same tests as on a SQLite file, and a few more.
#![allow(dead_code, reason = "what other stores need is not needed here")]

/// Runs a test on a server, under a separate prefix.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        mod on_redis {
            $(#[test]
            fn $name() {
                crate::server::on_a_server(super::$name);
            })*
        }
    };
}

#[path = "../cli/commands.rs"]
mod commands;
#[path = "../cli/data.rs"]
mod data;
#[path = "../cli/fire.rs"]
mod fire;
#[path = "../cli/main_job.rs"]
mod main_job;
mod server;
#[path = "../cli/several.rs"]
mod several;
#[path = "../cli/support.rs"]
mod support;
