//! Leases kept by a majority of independent Redis servers.
//!
//! [`vote`], [`renewal_vote`] and [`tally`] decide: they are pure functions of the servers' answers.
//! [`grant`] and [`renew`] send the requests, execute the decisions, and handle late answers. A [`member`]
//! is one of the servers, whose [`turns`] keep the calls of one owner in order.

mod grant;
mod lock;
mod member;
#[cfg(test)]
mod model;
mod quorum;
mod renew;
mod renewal_vote;
mod tally;
mod turns;
mod vote;

pub use lock::RedlockLock;
