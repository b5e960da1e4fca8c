//! Leases kept by a majority of independent Redis servers.
//!
//! [`vote`] and [`tally`] decide, without servers, what answers amount to. [`grant`] and [`renew`] ask
//! the servers, carry out what was decided, and see to those that answer late. A [`member`] is one of
//! the servers, whose [`turns`] keep the calls of one owner in order.

mod grant;
mod lock;
mod member;
mod quorum;
mod renew;
mod tally;
mod turns;
mod vote;

pub use lock::RedlockLock;
