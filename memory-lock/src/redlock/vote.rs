//! The majority decision on a grant, as a pure function of the servers' answers. The backend and the exhaustively
//! checked model run the same code.

use std::time::Duration;

use memory_core::lease::{FencingToken, OwnerId};

/// The size of a majority of so many servers.
pub(super) const fn majority(servers: usize) -> usize {
    servers / 2 + 1
}

/// The subject of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Motion {
    /// Grant a free lease to the owner.
    Acquire,
    /// Pass the owner's lease to another owner.
    HandOver,
}

/// The newest answer of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    /// The server has the lease as the owner's, under this token.
    Holds(FencingToken),
    /// It does not: another owner holds it, or the grant has vanished.
    NotOurs {
        /// The holder, if it is known.
        holder: Option<OwnerId>,
        /// The rest of the holder's TTL, if it is known.
        remaining: Option<Duration>,
    },
    /// There was no answer, and the request may have been carried out.
    Unknown,
    /// There was no answer, and the request was certainly not carried out.
    Failed,
}

/// The next step at a server that has answered. No other request is on its way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Order {
    /// Write this token to the lease if it is still the owner's, and pass the answer to [`Vote::hear`].
    Settle(FencingToken),
    /// Release the lease if it is the owner's.
    Withdraw,
    /// Nothing more.
    Rest,
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum VoteResult {
    /// Each server of a majority has had the lease as the owner's under exactly this token.
    Granted(FencingToken),
    /// No majority can be reached, because other owners hold the lease.
    Refused,
    /// No majority can be reached, and the answers of the servers that failed would have mattered.
    InDoubt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Seat {
    Asked,
    /// It has answered, and has no order yet.
    Said(Answer),
    /// A token is on its way to it.
    Settling,
    /// It gets no more orders. Its last answer.
    Resting(Answer),
    Withdrawn,
}

/// The majority decision on one grant and its fencing token.
///
/// # Correctness
///
/// A grant under token `t` is decided only when each server of a majority has had the lease as
/// `(owner, t)`, where `t` is not lower than what that server had granted. Two majorities share a
/// server. There the lease was one owner's before it was the other's, and the later grant got a token above
/// a counter of at least `t`. So no two grants have the same token, and a grant that began after another was
/// decided has the greater token, as long as no server's counter decreases.
///
/// So the greatest of a majority's tokens is not enough: the token must have reached a majority before it
/// counts. This is the second phase, [`Order::Settle`]. A server whose own token is above the target never
/// counts for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Vote {
    motion: Motion,
    seats: Vec<Seat>,
    /// The token of the second phase, once a majority has granted different tokens.
    target: Option<FencingToken>,
    verdict: Option<VoteResult>,
}

impl Vote {
    /// All these servers have been asked.
    pub(super) fn new(motion: Motion, servers: usize) -> Self {
        Self { motion, seats: vec![Seat::Asked; servers], target: None, verdict: None }
    }

    /// Takes in a server's answer to the first request, or to an order to settle.
    pub(super) fn hear(&mut self, server: usize, answer: Answer) {
        if let Some(seat) = self.seats.get_mut(server) {
            *seat = Seat::Said(answer);
        }
        self.decide();
    }

    /// Whether a majority has answered, and the decision still depends on the other servers.
    /// The vote must not wait for a server that hangs: the lease may be free at the others in the meantime.
    pub(super) fn hinges_on_the_slow(&self) -> bool {
        let answered =
            |seat: &&Seat| matches!(seat.answer(), Some(Answer::Holds(_) | Answer::NotOurs { .. }));
        self.verdict.is_none()
            && self.motion == Motion::Acquire
            && self.seats.iter().filter(answered).count() >= majority(self.seats.len())
            && self.seats.iter().any(|it| matches!(it.answer(), Some(Answer::NotOurs { .. })))
    }

    /// Refuses an acquisition that hinges on slow servers.
    pub(super) fn give_up(&mut self) {
        if self.hinges_on_the_slow() {
            self.verdict = Some(VoteResult::Refused);
        }
    }

    /// The decision, once there is one. It does not change any more.
    pub(super) fn verdict(&self) -> Option<VoteResult> {
        self.verdict
    }

    /// The next steps at the servers that have answered. Each order is given once.
    pub(super) fn orders(&mut self) -> Vec<(usize, Order)> {
        let (motion, verdict, target) = (self.motion, self.verdict, self.target);
        let mut orders = Vec::new();
        for (server, seat) in self.seats.iter_mut().enumerate() {
            let Seat::Said(answer) = *seat else { continue };
            let order = match (verdict, answer) {
                (None, Answer::Holds(token)) => match target {
                    Some(target) if token < target => Order::Settle(target),
                    // It may still count, or have to be withdrawn.
                    _ => continue,
                },
                // All servers should have the same token, because every later answer contains it. This
                // write does not count as a vote. It may lower a token, but never a counter.
                (Some(VoteResult::Granted(granted)), Answer::Holds(token)) if token != granted => {
                    Order::Settle(granted)
                }
                (None, Answer::Unknown) => continue,
                (Some(VoteResult::Refused), Answer::Holds(_) | Answer::Unknown) => Order::Withdraw,
                // After a hand-over the lease may be the receiver's, and only the receiver may release it.
                (Some(VoteResult::InDoubt), Answer::Holds(_) | Answer::Unknown)
                    if motion == Motion::Acquire =>
                {
                    Order::Withdraw
                }
                _ => Order::Rest,
            };
            *seat = match order {
                Order::Settle(_) => Seat::Settling,
                Order::Withdraw => Seat::Withdrawn,
                Order::Rest => Seat::Resting(answer),
            };
            orders.push((server, order));
        }
        orders
    }

    /// The part of the state about one server. The model treats servers as interchangeable.
    #[cfg(test)]
    pub(super) fn seat(&self, server: usize) -> impl std::hash::Hash + '_ {
        self.seats.get(server)
    }

    /// The part of the state that is about no server.
    #[cfg(test)]
    pub(super) fn rest(&self) -> impl std::hash::Hash + '_ {
        (self.motion, self.target, self.verdict)
    }

    /// Whether the request may have changed the state of a server.
    pub(super) fn may_have_changed(&self) -> bool {
        self.seats.iter().any(|seat| match seat {
            Seat::Said(answer) | Seat::Resting(answer) => {
                matches!(answer, Answer::Holds(_) | Answer::Unknown)
            }
            Seat::Asked | Seat::Settling | Seat::Withdrawn => true,
        })
    }

    /// After a refusal: the time until a majority may be free. Zero if the servers are split between several owners
    /// that asked at the same time, and none of them can have won.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let needed = majority(self.seats.len());
        let mut held: Vec<Option<Duration>> = Vec::new();
        let (mut holders, mut hidden, mut free) = (Vec::new(), 0, 0);
        for seat in &self.seats {
            match seat {
                Seat::Said(answer) | Seat::Resting(answer) => match answer {
                    Answer::NotOurs { holder, remaining } => {
                        held.push(*remaining);
                        match holder {
                            Some(holder) => holders.push(*holder),
                            None => hidden += 1,
                        }
                    }
                    Answer::Holds(_) => free += 1,
                    Answer::Unknown | Answer::Failed => hidden += 1,
                },
                // Not hidden: two different holders are the sign of a split, whatever these servers answer.
                Seat::Asked => {}
                Seat::Settling | Seat::Withdrawn => free += 1,
            }
        }
        let has = |holder| holders.iter().filter(|other| *other == holder).count();
        if hidden < needed && holders.iter().all(|holder| has(holder) + hidden < needed) {
            return Some(Duration::ZERO);
        }
        held.sort_unstable_by_key(|remaining| remaining.unwrap_or(Duration::MAX));
        held.get(needed.saturating_sub(free + 1)).or(held.last()).copied().flatten()
    }

    fn decide(&mut self) {
        if self.verdict.is_some() {
            return;
        }
        let needed = majority(self.seats.len());
        let held: Vec<FencingToken> = self.seats.iter().filter_map(Seat::token).collect();
        let exactly = |token: &FencingToken| held.iter().filter(|held| *held == token).count();
        if let Some(token) = held.iter().find(|token| exactly(token) >= needed) {
            self.verdict = Some(VoteResult::Granted(*token));
            return;
        }
        if self.target.is_none() && held.len() >= needed {
            self.target = held.iter().copied().max();
        }
        let may_count = |seat: &&Seat| match seat {
            Seat::Asked | Seat::Settling => true,
            seat => seat.token().is_some_and(|token| self.target.is_none_or(|most| token <= most)),
        };
        let count = |is: &dyn Fn(&&Seat) -> bool| self.seats.iter().filter(is).count();
        if count(&may_count) >= needed {
            return;
        }
        let failed = count(&|seat| matches!(seat.answer(), Some(Answer::Unknown | Answer::Failed)));
        let not_ours = count(&|seat| matches!(seat.answer(), Some(Answer::NotOurs { .. })));
        let open = count(&|seat| matches!(seat, Seat::Asked | Seat::Settling));
        self.verdict = match self.motion {
            Motion::Acquire if self.seats.len() - failed >= needed => Some(VoteResult::Refused),
            Motion::Acquire => Some(VoteResult::InDoubt),
            // A refusal makes the holder give up its lease, so errors alone must not cause one.
            Motion::HandOver if not_ours >= needed => Some(VoteResult::Refused),
            Motion::HandOver if not_ours + open < needed => Some(VoteResult::InDoubt),
            Motion::HandOver => None,
        };
    }
}

impl Seat {
    /// Its last answer, unless it has another order since.
    fn answer(&self) -> Option<Answer> {
        match self {
            Self::Said(answer) | Self::Resting(answer) => Some(*answer),
            Self::Asked | Self::Settling | Self::Withdrawn => None,
        }
    }

    fn token(&self) -> Option<FencingToken> {
        match self.answer() {
            Some(Answer::Holds(token)) => Some(token),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn token(number: u64) -> FencingToken {
        FencingToken::new(number)
    }

    const fn holds(number: u64) -> Answer {
        Answer::Holds(token(number))
    }

    /// Another owner holds it, for so many seconds.
    fn held(holder: u128, seconds: u64) -> Answer {
        let remaining = Some(Duration::from_secs(seconds));
        Answer::NotOurs { holder: Some(OwnerId::new(holder)), remaining }
    }

    /// A vote of three servers. The first ones have given these answers.
    fn vote(motion: Motion, answers: &[Answer]) -> Vote {
        let mut vote = Vote::new(motion, 3);
        for (server, answer) in answers.iter().enumerate() {
            vote.hear(server, *answer);
        }
        vote
    }

    #[test]
    fn majority_is_more_than_half() {
        assert_eq!([1, 2, 3, 4, 5, 7].map(majority), [1, 2, 2, 3, 3, 4]);
    }

    #[test]
    fn decides_once_no_answer_can_change_it() {
        use Answer::{Failed, Unknown};
        use Motion::{Acquire, HandOver};
        let no = held(9, 10);
        for (motion, answers, verdict) in [
            (Acquire, vec![], None),
            (Acquire, vec![holds(5)], None),
            (Acquire, vec![holds(5), holds(5)], Some(VoteResult::Granted(token(5)))),
            (Acquire, vec![holds(5), holds(6)], None),
            (Acquire, vec![holds(5), holds(6), holds(6)], Some(VoteResult::Granted(token(6)))),
            (Acquire, vec![no], None),
            (Acquire, vec![no, no], Some(VoteResult::Refused)),
            (Acquire, vec![no, Unknown], Some(VoteResult::Refused)),
            (Acquire, vec![no, Failed], Some(VoteResult::Refused)),
            (Acquire, vec![holds(5), no], None),
            (Acquire, vec![holds(5), no, no], Some(VoteResult::Refused)),
            (Acquire, vec![Failed], None),
            (Acquire, vec![Failed, Unknown], Some(VoteResult::InDoubt)),
            (Acquire, vec![holds(5), Failed, Failed], Some(VoteResult::InDoubt)),
            // Errors alone must not take the lease from its holder.
            (HandOver, vec![no, no], Some(VoteResult::Refused)),
            (HandOver, vec![no, Failed], None),
            (HandOver, vec![no, Failed, no], Some(VoteResult::Refused)),
            (HandOver, vec![no, Failed, Unknown], Some(VoteResult::InDoubt)),
            (HandOver, vec![Failed, Unknown], Some(VoteResult::InDoubt)),
            (HandOver, vec![holds(5), no], None),
            (HandOver, vec![holds(5), holds(5)], Some(VoteResult::Granted(token(5)))),
        ] {
            assert_eq!(vote(motion, &answers).verdict(), verdict, "{motion:?}, {answers:?}");
        }
        let mut decided = vote(Acquire, &[no, no]);
        decided.hear(2, holds(5));
        decided.hear(3, holds(5));
        assert_eq!(decided.verdict(), Some(VoteResult::Refused), "it does not change any more");
    }

    #[test]
    fn different_tokens_settle_on_the_greatest() {
        let mut vote = vote(Motion::Acquire, &[holds(5), holds(6)]);
        assert_eq!(vote.orders(), [(0, Order::Settle(token(6)))]);
        assert_eq!(vote.orders(), [], "each order is given once");
        assert_eq!(vote.verdict(), None);
        // A token above the target never counts for it.
        vote.hear(2, holds(7));
        assert_eq!((vote.orders(), vote.verdict()), (vec![], None));
        let mut other = vote.clone();
        vote.hear(0, holds(6));
        assert_eq!(vote.verdict(), Some(VoteResult::Granted(token(6))));
        let rest = [(0, Order::Rest), (1, Order::Rest), (2, Order::Settle(token(6)))];
        assert_eq!(vote.orders(), rest, "all servers get the same token");
        other.hear(0, Answer::Unknown);
        assert_eq!(other.verdict(), Some(VoteResult::Refused));
    }

    #[test]
    fn useless_grants_are_withdrawn() {
        use Answer::{Failed, Unknown};
        use Order::{Rest, Withdraw};
        let no = held(9, 10);
        let orders = |motion, answers: &[Answer]| {
            let orders = vote(motion, answers).orders();
            orders.into_iter().map(|(_, order)| order).collect::<Vec<_>>()
        };
        assert_eq!(orders(Motion::Acquire, &[holds(5), Unknown]), [], "they may still count");
        assert_eq!(orders(Motion::Acquire, &[no]), [Rest]);
        assert_eq!(orders(Motion::Acquire, &[holds(5), no, no]), [Withdraw, Rest, Rest]);
        assert_eq!(orders(Motion::Acquire, &[Unknown, no, no]), [Withdraw, Rest, Rest]);
        assert_eq!(
            orders(Motion::Acquire, &[holds(5), Failed, Unknown]),
            [Withdraw, Rest, Withdraw]
        );
        assert_eq!(orders(Motion::HandOver, &[holds(5), no, no]), [Withdraw, Rest, Rest]);
        // The lease may be the receiver's.
        assert_eq!(orders(Motion::HandOver, &[holds(5), Failed, Unknown]), [Rest, Rest, Rest]);
        assert_eq!(orders(Motion::Acquire, &[holds(5), holds(5), Unknown]), [Rest, Rest, Rest]);
    }

    #[test]
    fn acquisition_does_not_wait_for_slow_servers() {
        let no = held(9, 10);
        let mut hinges = vote(Motion::Acquire, &[holds(5), no]);
        assert!(hinges.hinges_on_the_slow());
        hinges.give_up();
        assert_eq!(hinges.verdict(), Some(VoteResult::Refused));
        assert!(!hinges.hinges_on_the_slow(), "it is decided");
        for (motion, answers) in [
            (Motion::HandOver, vec![holds(5), no]),
            (Motion::Acquire, vec![]),
            (Motion::Acquire, vec![no]),
            (Motion::Acquire, vec![holds(5), Answer::Failed]),
            (Motion::Acquire, vec![holds(5), holds(6)]),
        ] {
            let mut vote = vote(motion, &answers);
            assert!(!vote.hinges_on_the_slow(), "{motion:?}, {answers:?}");
            vote.give_up();
            assert_eq!(vote.verdict(), None, "{motion:?}, {answers:?}");
        }
    }

    #[test]
    fn unchanged_only_if_every_server_says_so() {
        let no = held(9, 10);
        assert!(vote(Motion::Acquire, &[no, no]).may_have_changed(), "one has not answered");
        assert!(vote(Motion::Acquire, &[no, no, Answer::Unknown]).may_have_changed());
        assert!(vote(Motion::Acquire, &[no, Answer::Failed, holds(5)]).may_have_changed());
        let mut none = vote(Motion::Acquire, &[no, Answer::Failed, no]);
        assert!(!none.may_have_changed());
        assert_eq!(none.orders(), [0, 1, 2].map(|server| (server, Order::Rest)));
        assert!(!none.may_have_changed(), "at rest as well");
        let mut withdrawn = vote(Motion::Acquire, &[holds(5), no, no]);
        withdrawn.orders();
        assert!(withdrawn.may_have_changed());
    }

    #[test]
    fn refusal_estimates_when_a_majority_is_free() {
        let unknown = Answer::NotOurs { holder: Some(OwnerId::new(9)), remaining: None };
        let nameless = |seconds| {
            let remaining = Some(Duration::from_secs(seconds));
            Answer::NotOurs { holder: None, remaining }
        };
        for (answers, seconds) in [
            // Two of three must be free.
            (vec![held(9, 10), held(9, 20)], Some(20)),
            (vec![held(9, 30), held(9, 10), held(9, 20)], Some(20)),
            (vec![holds(5), held(9, 20), held(9, 10)], Some(10)),
            (vec![held(9, 10), Answer::Failed], Some(10)),
            (vec![unknown, held(9, 10)], None),
            // Several owners asked at the same time, and none of them can have won.
            (vec![held(8, 10), held(9, 20)], Some(0)),
            (vec![held(7, 10), held(8, 20), held(9, 30)], Some(0)),
            // One of them may have won, at the server that does not show its holder.
            (vec![held(8, 10), held(9, 20), Answer::Failed], Some(20)),
            (vec![held(8, 10), held(9, 20), Answer::Unknown], Some(20)),
            (vec![held(8, 10), nameless(20)], Some(20)),
            (vec![nameless(10), nameless(20)], Some(20)),
        ] {
            let remaining = vote(Motion::Acquire, &answers).remaining();
            assert_eq!(remaining, seconds.map(Duration::from_secs), "{answers:?}");
        }
        let mut withdrawn = vote(Motion::Acquire, &[holds(5), held(9, 20), held(9, 10)]);
        withdrawn.orders();
        assert_eq!(withdrawn.remaining(), Some(Duration::from_secs(10)), "ours will be free");
    }
}
