//! The command `memory`, run as its users run it.

/// Runs a test on a SQLite file and on a Redis server. Tests that are listed after `on_servers` also run on a Cluster
/// and behind Sentinels, one after another on servers that are started once.
macro_rules! on_every_store {
    ($($name:ident),* $(,)? $(; on_servers: $($everywhere:ident),* $(,)?)?) => {
        mod on_sqlite {
            $(#[test]
            fn $name() {
                super::$name(&crate::support::Folder::new());
            })*
            $($(#[test]
            fn $everywhere() {
                super::$everywhere(&crate::support::Folder::new());
            })*)?
        }
        mod on_redis {
            $(#[test]
            fn $name() {
                crate::on_redis::on_a_server(super::$name);
            })*
            $($(#[test]
            fn $everywhere() {
                crate::on_redis::on_a_server(super::$everywhere);
            })*)?
        }
        $(mod on_redis_servers {
            const TESTS: &[crate::on_redis_servers::Named] =
                &[$((stringify!($everywhere), super::$everywhere)),*];

            #[test]
            fn on_a_cluster() {
                crate::on_redis_servers::on_a_cluster(TESTS);
            }

            #[test]
            fn behind_sentinels() {
                crate::on_redis_servers::behind_sentinels(TESTS);
            }
        })?
    };
}

mod backup;
mod commands;
mod config;
mod context;
mod data;
mod fire;
mod formats;
mod main_job;
mod mistakes;
mod on_redis;
mod on_redis_servers;
mod privacy;
mod several;
mod support;
mod unknown_resource;
