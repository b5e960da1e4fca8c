//! The command `memory`, run as its users run it.
//!
//! The modules are marked as tests, so that clippy applies its rules for tests.

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

#[cfg(test)]
mod commands;
#[cfg(test)]
mod context;
#[cfg(test)]
mod data;
#[cfg(test)]
mod fire;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod main_job;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod several;
#[cfg(test)]
mod support;
