//! The majority decision on a batch of renewals, as a pure function of the servers' answers.

use super::tally::{Outcome, VoteTally};
use crate::answer::Renewal;

/// The next step at a server that has answered. No other request is on its way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RenewalOrder {
    /// Grant it these leases again, which are given by their index in the batch.
    Restore(Vec<usize>),
    /// Nothing more.
    Rest,
}

/// The decision on a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RenewalVerdict {
    /// One answer for each lease.
    Decided(Vec<Renewal>),
    /// Too many servers failed for a decision on any of the leases.
    InDoubt,
}

/// The majority decision on a batch of renewals.
///
/// Each lease has its own majority. A server that lost a lease gets it again only after a majority has renewed
/// it, because then no other owner can hold it.
#[derive(Debug, Clone)]
pub(super) struct RenewalVote {
    /// One for each lease.
    tallies: Vec<VoteTally>,
    seats: Vec<Seat>,
    verdict: Option<RenewalVerdict>,
}

#[derive(Debug, Clone)]
enum Seat {
    Asked,
    /// It has answered, and lacks these leases.
    Answered(Vec<usize>),
    /// It failed, or has its last order.
    Resting,
}

impl RenewalVote {
    /// All these servers have been asked to renew so many leases.
    pub(super) fn new(leases: usize, servers: usize) -> Self {
        Self {
            tallies: vec![VoteTally::default(); leases],
            seats: vec![Seat::Asked; servers],
            verdict: None,
        }
    }

    /// Takes in a server's answers, one for each lease.
    pub(super) fn hear(&mut self, server: usize, answers: &[Renewal]) {
        let mut lacks = Vec::new();
        for (index, (tally, answer)) in self.tallies.iter_mut().zip(answers).enumerate() {
            match answer {
                Renewal::Renewed => tally.yes += 1,
                Renewal::NotOwner => tally.another += 1,
                Renewal::Vanished => {
                    tally.free += 1;
                    lacks.push(index);
                }
            }
        }
        self.seat(server, Seat::Answered(lacks));
        self.decide();
    }

    /// Takes in that a server gave no definite answer.
    pub(super) fn fail(&mut self, server: usize) {
        self.tallies.iter_mut().for_each(|tally| tally.failed += 1);
        self.seat(server, Seat::Resting);
        self.decide();
    }

    fn seat(&mut self, server: usize, seat: Seat) {
        if let Some(old) = self.seats.get_mut(server) {
            *old = seat;
        }
    }

    /// Whether some leases are certain, and the others of their batch depend on slow servers.
    pub(super) fn hinges_on_the_slow(&self) -> bool {
        self.verdict.is_none() && self.outcomes().any(is_certain)
    }

    /// Decides a batch that hinges on slow servers: the leases that are not certain count as lost.
    pub(super) fn give_up(&mut self) {
        self.decide_now();
    }

    /// The decision, once there is one. It does not change any more.
    pub(super) fn verdict(&self) -> Option<&RenewalVerdict> {
        self.verdict.as_ref()
    }

    /// The next steps at the servers that have answered. Each server gets one order.
    pub(super) fn orders(&mut self) -> Vec<(usize, RenewalOrder)> {
        let outcomes: Vec<_> = self.outcomes().collect();
        let is = |index: usize, outcome| outcomes.get(index) == Some(&outcome);
        // The holder of a lease that was answered as lost must not get it back.
        let may_be_kept = |index: usize| match &self.verdict {
            None => true,
            Some(RenewalVerdict::Decided(answers)) => answers.get(index) == Some(&Renewal::Renewed),
            Some(RenewalVerdict::InDoubt) => false,
        };
        let mut orders = Vec::new();
        for (server, seat) in self.seats.iter_mut().enumerate() {
            let Seat::Answered(lacks) = seat else { continue };
            if lacks.iter().any(|index| is(*index, Outcome::Open)) {
                continue;
            }
            lacks.retain(|index| is(*index, Outcome::Yes) && may_be_kept(*index));
            let order = match std::mem::take(lacks) {
                lacks if lacks.is_empty() => RenewalOrder::Rest,
                lacks => RenewalOrder::Restore(lacks),
            };
            *seat = Seat::Resting;
            orders.push((server, order));
        }
        orders
    }

    fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        self.tallies.iter().map(|tally| tally.outcome(self.seats.len()))
    }

    /// Decides as soon as all leases are certain or in doubt.
    fn decide(&mut self) {
        if self.outcomes().all(|outcome| outcome != Outcome::Open) {
            self.decide_now();
        }
    }

    /// Decides if any lease is certain, or if no answer can make one certain.
    ///
    /// A lease is in doubt after two faults at once: one server lost it, and another does not answer. An error
    /// would then repeat until the certain leases of the batch are lost too, so leases in doubt count as lost.
    fn decide_now(&mut self) {
        if self.verdict.is_some() {
            return;
        }
        let is_open = self.outcomes().any(|outcome| outcome == Outcome::Open);
        if !self.outcomes().any(is_certain) {
            self.verdict = (!is_open).then_some(RenewalVerdict::InDoubt);
        } else {
            let answers = self.outcomes().map(|outcome| match outcome {
                Outcome::Yes => Renewal::Renewed,
                Outcome::Another => Renewal::NotOwner,
                Outcome::Free | Outcome::Open | Outcome::InDoubt => Renewal::Vanished,
            });
            self.verdict = Some(RenewalVerdict::Decided(answers.collect()));
        }
    }
}

fn is_certain(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Open | Outcome::InDoubt)
}

#[cfg(test)]
mod tests {
    use Renewal::{NotOwner, Renewed, Vanished};

    use super::*;

    const SERVERS: usize = 3;

    /// A server's answers for two leases; `None` if it failed.
    type Answer = Option<[Renewal; 2]>;

    fn vote(answers: &[Answer]) -> RenewalVote {
        let mut vote = RenewalVote::new(2, SERVERS);
        for (server, answer) in answers.iter().enumerate() {
            hear(&mut vote, server, *answer);
        }
        vote
    }

    fn hear(vote: &mut RenewalVote, server: usize, answer: Answer) {
        match answer {
            Some(answers) => vote.hear(server, &answers),
            None => vote.fail(server),
        }
    }

    #[test]
    fn doubt_about_one_lease_spares_the_others() {
        let decided = |answers: [Renewal; 2]| Some(RenewalVerdict::Decided(answers.to_vec()));
        let (both, first, none) = ([Renewed; 2], [Renewed, Vanished], [Vanished; 2]);
        for (answers, early, late) in [
            (vec![], None, None),
            (vec![Some(both)], None, None),
            (vec![Some(both), Some(both)], decided(both), decided(both)),
            // The second lease depends on the third server.
            (vec![Some(both), Some(first)], None, decided(first)),
            (vec![Some(both), Some([Renewed, NotOwner])], None, decided(first)),
            (vec![Some(both), Some(first), None], decided(first), decided(first)),
            (vec![Some(both), Some(first), Some(both)], decided(both), decided(both)),
            (vec![Some(none), Some(none)], decided(none), decided(none)),
            (vec![Some([NotOwner; 2]), Some(none)], decided([NotOwner; 2]), decided([NotOwner; 2])),
            // Nothing is certain, so being late changes nothing.
            (vec![Some(both), Some(none)], None, None),
            (vec![None], None, None),
            (vec![None, None], Some(RenewalVerdict::InDoubt), Some(RenewalVerdict::InDoubt)),
            (
                vec![Some(both), Some(none), None],
                Some(RenewalVerdict::InDoubt),
                Some(RenewalVerdict::InDoubt),
            ),
        ] {
            let mut vote = vote(&answers);
            assert_eq!(vote.verdict(), early.as_ref(), "{answers:?}");
            assert_eq!(vote.hinges_on_the_slow(), early != late, "{answers:?}");
            vote.give_up();
            assert_eq!(vote.verdict(), late.as_ref(), "{answers:?}");
        }
    }

    #[test]
    fn lost_lease_returns_after_a_majority_renewed_it() {
        let mut vote = vote(&[Some([Renewed, Vanished])]);
        assert_eq!(vote.orders(), [], "the second lease may be another owner's");
        vote.hear(1, &[Renewed; 2]);
        assert_eq!(vote.orders(), [(1, RenewalOrder::Rest)]);
        vote.hear(2, &[Renewed; 2]);
        let orders = [(0, RenewalOrder::Restore(vec![1])), (2, RenewalOrder::Rest)];
        assert_eq!(vote.orders(), orders);
        assert_eq!(vote.orders(), [], "each server gets one order");
    }

    #[test]
    fn lease_answered_as_lost_is_not_restored() {
        let mut vote = vote(&[Some([Renewed, Vanished]), Some([Renewed; 2])]);
        vote.give_up();
        let lost = RenewalVerdict::Decided(vec![Renewed, Vanished]);
        assert_eq!(vote.verdict(), Some(&lost));
        vote.hear(2, &[Renewed; 2]);
        assert_eq!(vote.verdict(), Some(&lost));
        assert_eq!(vote.orders(), [0, 1, 2].map(|server| (server, RenewalOrder::Rest)));
    }

    /// All answers that one server can give.
    fn all_answers() -> Vec<Answer> {
        let each = [Renewed, NotOwner, Vanished];
        let pairs = each.into_iter().flat_map(|one| each.map(|two| Some([one, two])));
        pairs.chain([None]).collect()
    }

    /// Three servers, two leases: every combination of answers in every order, given up at every moment.
    #[test]
    fn every_order_of_answers_keeps_the_rules() {
        let answers = all_answers();
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let mut runs = 0;
        for (a, b) in answers.iter().flat_map(|a| answers.iter().map(move |b| (*a, *b))) {
            for c in &answers {
                for order in orders {
                    for give_up_after in 0..=SERVERS {
                        runs += 1;
                        check_run([a, b, *c], order, give_up_after);
                    }
                }
            }
        }
        assert_eq!(runs, 10 * 10 * 10 * 6 * 4);
    }

    fn check_run(answers: [Answer; SERVERS], order: [usize; SERVERS], give_up_after: usize) {
        let run = format!("{answers:?} in the order {order:?}, given up after {give_up_after}");
        let said = |lease: usize, renewal| {
            answers.iter().flatten().filter(|answer| answer[lease] == renewal).count()
        };
        let mut vote = RenewalVote::new(2, SERVERS);
        let (mut decided, mut orders) = (None, Vec::new());
        for (heard, server) in order.into_iter().enumerate() {
            hear(&mut vote, server, answers[server]);
            if heard + 1 == give_up_after {
                vote.give_up();
            }
            decided = decided.or_else(|| vote.verdict().cloned());
            assert_eq!(vote.verdict(), decided.as_ref(), "it changed: {run}");
            orders.extend(vote.orders());
        }
        let verdict = decided.expect("all have answered, and nothing is certain");
        let kept = |lease: usize| match &verdict {
            RenewalVerdict::Decided(answers) => answers[lease] == Renewed,
            RenewalVerdict::InDoubt => false,
        };
        for lease in 0..2 {
            let no = said(lease, NotOwner) + said(lease, Vanished);
            assert!(!kept(lease) || said(lease, Renewed) >= 2, "{run}");
            if let RenewalVerdict::Decided(answers) = &verdict
                && answers[lease] == NotOwner
            {
                assert!(no >= 2 && said(lease, NotOwner) > 0, "{run}");
            }
            // Only a lease in doubt, or one that was given up, is lost without a majority of no.
            let in_doubt = said(lease, Renewed) < 2 && no < 2;
            let was_given_up = (1..SERVERS).contains(&give_up_after);
            assert!(kept(lease) || no >= 2 || in_doubt || was_given_up, "{run}");
        }
        let mut servers: Vec<_> = orders.iter().map(|(server, _)| *server).collect();
        servers.sort_unstable();
        let answered: Vec<_> = (0..SERVERS).filter(|server| answers[*server].is_some()).collect();
        assert_eq!(servers, answered, "one order for each server that answered: {run}");
        for (server, order) in orders {
            let lacks = |lease: &usize| answers[server].is_some_and(|it| it[*lease] == Vanished);
            let restored: Vec<_> = (0..2).filter(|lease| lacks(lease) && kept(*lease)).collect();
            let expected = match restored {
                restored if restored.is_empty() => RenewalOrder::Rest,
                restored => RenewalOrder::Restore(restored),
            };
            assert_eq!(order, expected, "server {server}: {run}");
        }
    }
}
