//! Tests of the configuration of projects. The tables of the specification are table tests.

mod compat;
mod documents;
mod levels;
mod loader;
mod operations;
mod properties;
