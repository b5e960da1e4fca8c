//! The command `memory`, run as its users run it.

/// Runs a test on a SQLite file; `redis_cli` and `redis_server_cli` run it on servers.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[test]
            fn $name() {
                super::$name(&crate::support::Folder::new());
            })*
        }
    };
}

mod commands;
mod context;
mod data;
mod fire;
mod formats;
mod main_job;
mod mistakes;
mod several;
mod support;
