//! The facade through its public face, on every backend.

mod append;
mod bad_input;
mod cancel;
mod exclusive;
mod flush;
mod isolation;
mod read;
mod support;
