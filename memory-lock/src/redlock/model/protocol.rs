//! The decisions under test, and a wrong one.

use std::hash::Hash as _;

use super::mark::Mark;
use super::state::SERVERS;
use crate::redlock::vote::{Answer, Motion, Order, Vote, VoteResult, majority};

/// The decision on one attempt.
pub(super) trait Protocol: Clone {
    fn new() -> Self;
    /// Hashes the part about one server.
    fn hash_server(&self, server: usize, mark: &mut Mark);
    /// Hashes the part that is about no server.
    fn hash_rest(&self, mark: &mut Mark);
    fn hear(&mut self, server: usize, answer: Answer);
    fn is_decided(&self) -> bool;
    fn granted(&self) -> Option<u64>;
    fn orders(&mut self) -> Vec<(usize, Order)>;
}

impl Protocol for Vote {
    fn new() -> Self {
        Self::new(Motion::Acquire, SERVERS)
    }

    fn hash_server(&self, server: usize, mark: &mut Mark) {
        self.seat(server).hash(mark);
    }

    fn hash_rest(&self, mark: &mut Mark) {
        self.rest().hash(mark);
    }

    fn hear(&mut self, server: usize, answer: Answer) {
        self.hear(server, answer);
    }

    fn is_decided(&self) -> bool {
        self.verdict().is_some()
    }

    fn granted(&self) -> Option<u64> {
        match self.verdict() {
            Some(VoteResult::Granted(token)) => Some(token.number()),
            _ => None,
        }
    }

    fn orders(&mut self) -> Vec<(usize, Order)> {
        self.orders()
    }
}

/// The negative control: the greatest token of a majority counts at once.
#[derive(Clone, Default)]
pub(super) struct OnePhase {
    tokens: Vec<u64>,
    granted: Option<u64>,
}

impl Protocol for OnePhase {
    fn new() -> Self {
        Self::default()
    }

    fn hash_server(&self, _server: usize, _mark: &mut Mark) {}

    fn hash_rest(&self, mark: &mut Mark) {
        (&self.tokens, self.granted).hash(mark);
    }

    fn hear(&mut self, _server: usize, answer: Answer) {
        if let Answer::Holds(token) = answer {
            self.tokens.push(token.number());
            if self.granted.is_none() && self.tokens.len() >= majority(SERVERS) {
                self.granted = self.tokens.iter().copied().max();
            }
        }
    }

    fn is_decided(&self) -> bool {
        self.granted.is_some()
    }

    fn granted(&self) -> Option<u64> {
        self.granted
    }

    fn orders(&mut self) -> Vec<(usize, Order)> {
        Vec::new()
    }
}
