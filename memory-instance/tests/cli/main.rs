//! The command `memory`, run as its users run it.
#![cfg(feature = "cli")]

mod commands;
mod data;
mod main_job;
mod mistakes;
mod several;
mod support;
