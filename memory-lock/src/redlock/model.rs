//! A model of the quorum that visits every order of events: three servers, two attempts, and any key may vanish
//! at any moment. The backend's own [`Vote`] makes the decisions.

mod mark;
mod protocol;
mod state;

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use memory_core::lease::FencingToken;

use self::mark::Mark;
use self::protocol::{OnePhase, Protocol};
use self::state::{ATTEMPTS, Faults, Found, SERVERS, State};
use super::vote::{Answer, Motion, Order, Vote, VoteResult};

type Marks = HashSet<u128, BuildHasherDefault<Mark>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Both attempts are decided, after which no token changes.
    Decided,
    /// No request is in progress any more.
    Quiet,
}

/// Visits every state that can be reached from these beginnings.
fn explore<P: Protocol>(
    beginnings: impl IntoIterator<Item = State<P>>,
    faults: Faults,
    until: Until,
) -> Found {
    let (mut found, mut seen) = (Found::default(), Marks::default());
    let mut open = Vec::new();
    for state in beginnings {
        if seen.insert(state.mark()) {
            open.push(state);
        }
    }
    while let Some(state) = open.pop() {
        found.states += 1;
        state.judge(&mut found);
        if until == Until::Decided && state.attempts.iter().all(|it| it.protocol.is_decided()) {
            continue;
        }
        state.next(faults, |next| {
            if seen.insert(next.mark()) {
                open.push(next);
            }
        });
    }
    found
}

/// All counters of 0 to 2, up to the servers' order.
fn counters() -> Vec<[u64; SERVERS]> {
    let all = (0..3).flat_map(|a| (a..3).flat_map(move |b| (b..3).map(move |c| [a, b, c])));
    let all: Vec<_> = all.collect();
    assert_eq!(all.len(), 10);
    all
}

/// Without those that equal others up to a shift, which makes a difference only for proposals.
fn shapes() -> Vec<[u64; SERVERS]> {
    counters().into_iter().filter(|counters| counters[0] == 0).collect()
}

fn from<P: Protocol>(counters: Vec<[u64; SERVERS]>, proposals: [u64; ATTEMPTS]) -> Vec<State<P>> {
    counters.into_iter().map(|counters| State::new(counters, proposals)).collect()
}

const VANISHING: Faults =
    Faults { vanishing: true, timeouts: 0, forgets: 0, proposals_rise: false };

#[test]
fn tokens_are_unique_and_rise_when_keys_vanish() {
    let found = explore(from::<Vote>(shapes(), [0, 0]), VANISHING, Until::Decided);
    println!("without proposals: {found:?}");
    assert!(found.granted_twice > 1_000, "the model hardly comes to two grants");
    assert_eq!((found.same_token, found.out_of_order), (0, 0));
}

#[test]
fn proposed_tokens_are_unique_and_rise() {
    let found = explore(from::<Vote>(counters(), [2, 3]), VANISHING, Until::Decided);
    println!("with proposals: {found:?}");
    assert!(found.granted_twice > 1_000, "the model hardly comes to two grants");
    assert_eq!((found.same_token, found.out_of_order), (0, 0));
}

#[test]
fn late_requests_keep_tokens_unique() {
    let faults = Faults { timeouts: 1, ..VANISHING };
    let found = explore(from::<Vote>(vec![[0, 0, 1]], [0, 0]), faults, Until::Decided);
    println!("with time-outs: {found:?}");
    assert!(found.granted_twice > 1_000, "the model hardly comes to two grants");
    assert_eq!((found.same_token, found.out_of_order), (0, 0));
}

#[test]
fn every_attempt_ends_without_leftovers() {
    let mut found = explore(from::<Vote>(shapes(), [0, 0]), Faults::default(), Until::Quiet);
    println!("to the end: {found:?}");
    assert_eq!((found.undecided, found.left_behind), (0, 0));
    found = explore(from::<Vote>(vec![[0, 1, 2]], [2, 3]), VANISHING, Until::Quiet);
    println!("to the end, with keys that vanish: {found:?}");
    assert_eq!((found.undecided, found.left_behind), (0, 0));
}

/// After a server lost its counter, clocks keep the tokens rising. Attempts that overlap may still get the same
/// token, so the documentation asks for time to pass.
#[test]
fn clocks_replace_lost_counters() {
    let faults = Faults { forgets: 1, proposals_rise: true, ..VANISHING };
    let found = explore(from::<Vote>(vec![[0, 0, 1]], [0, 0]), faults, Until::Decided);
    println!("lost counters, clocks: {found:?}");
    assert_eq!(found.out_of_order, 0);
    let faults = Faults { proposals_rise: false, ..faults };
    let found = explore(from::<Vote>(vec![[0, 0, 1]], [0, 0]), faults, Until::Decided);
    println!("lost counters, no clocks: {found:?}");
    assert!(found.out_of_order > 0, "without clocks the model must find it");
}

/// Visits all answers of the servers, in every order, to the request and to a token that is written back.
fn hear_everything(
    vote: &Vote,
    pending: &[(usize, Option<FencingToken>)],
    answers: &[Answer],
    seen: &mut impl FnMut(&Vote),
) {
    for (server, written) in pending {
        for answer in answers {
            let answer = match (answer, written) {
                (Answer::Holds(_), Some(token)) => Answer::Holds(*token),
                (answer, _) => *answer,
            };
            let mut vote = vote.clone();
            vote.hear(*server, answer);
            let mut pending: Vec<_> =
                pending.iter().copied().filter(|it| it.0 != *server).collect();
            for (server, order) in vote.orders() {
                if let Order::Settle(token) = order {
                    pending.push((server, Some(token)));
                }
            }
            seen(&vote);
            // After a verdict only cleanup follows.
            if vote.verdict().is_none() {
                assert!(!pending.is_empty(), "nothing is certain, nothing under way: {vote:?}");
                hear_everything(&vote, &pending, answers, seen);
            }
        }
    }
}

#[test]
fn errors_alone_never_refuse() {
    let holds = |token| Answer::Holds(FencingToken::new(token));
    let not_ours = Answer::NotOurs { holder: None, remaining: None };
    let errors = [holds(1), holds(2), Answer::Unknown, Answer::Failed];
    let one_no = [errors.as_slice(), &[not_ours]].concat();
    let mut seen = 0;
    for motion in [Motion::Acquire, Motion::HandOver] {
        let vote = Vote::new(motion, SERVERS);
        hear_everything(&vote, &[0, 1, 2].map(|server| (server, None)), &errors, &mut |vote| {
            seen += 1;
            assert_ne!(vote.verdict(), Some(VoteResult::Refused), "{vote:?}");
        });
    }
    // A hand-over is refused only if a majority reports that the giver does not hold the lease.
    for (first, second) in [(0, 1), (1, 2), (2, 0)] {
        let mut vote = Vote::new(Motion::HandOver, SERVERS);
        vote.hear(first, not_ours);
        assert_eq!(vote.verdict(), None);
        vote.hear(second, Answer::Unknown);
        assert_eq!(vote.verdict(), None, "the third may say it too");
        let third = 3 - first - second;
        let mut refused = vote.clone();
        refused.hear(third, not_ours);
        assert_eq!(refused.verdict(), Some(VoteResult::Refused));
        vote.hear(third, holds(1));
        assert_eq!(vote.verdict(), Some(VoteResult::InDoubt));
        assert_eq!(vote.orders(), [0, 1, 2].map(|server| (server, Order::Rest)), "it may be held");
    }
    let vote = Vote::new(Motion::Acquire, SERVERS);
    hear_everything(&vote, &[0, 1, 2].map(|server| (server, None)), &one_no, &mut |_| seen += 1);
    println!("{seen} states of a vote");
}

#[test]
fn two_of_three_decide() {
    for (first, second) in [(0, 1), (1, 2), (2, 0)] {
        let mut vote = Vote::new(Motion::Acquire, SERVERS);
        vote.hear(first, Answer::Holds(FencingToken::new(7)));
        assert_eq!(vote.verdict(), None);
        vote.hear(second, Answer::Holds(FencingToken::new(7)));
        assert_eq!(vote.verdict(), Some(VoteResult::Granted(FencingToken::new(7))));
    }
}

/// The negative control: the model must find a planted bug.
#[test]
fn model_finds_the_one_phase_bug() {
    let found = explore(from::<OnePhase>(shapes(), [0, 0]), VANISHING, Until::Decided);
    println!("one phase: {found:?}");
    assert!(found.same_token > 0 && found.out_of_order > 0);
}
