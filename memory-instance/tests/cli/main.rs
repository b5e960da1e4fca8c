//! The command `memory`, run as its users run it.
//!
//! The modules are marked as tests so that clippy takes them for what they are.
#![cfg(feature = "cli")]

#[cfg(test)]
mod commands;
#[cfg(test)]
mod data;
#[cfg(test)]
mod main_job;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod several;
#[cfg(test)]
mod support;
