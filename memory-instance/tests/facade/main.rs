//! The facade through its public face, on every backend.
//!
//! The modules are marked as tests so that clippy takes them for what they are.

#[cfg(test)]
mod append;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod breaker;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod exclusive;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod flush;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod read;
#[cfg(test)]
mod support;
