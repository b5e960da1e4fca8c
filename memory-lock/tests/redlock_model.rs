//! The quorum's decisions, checked in every order of events: three servers, two attempts, and any key
//! may vanish at any moment. What decides is the very code of the backend.

#![cfg(feature = "redlock")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "../src/redlock/vote.rs"]
#[allow(dead_code, reason = "the model needs less of it than the backend")]
mod vote;

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use memory_core::lease::FencingToken;
use vote::{Answer, Motion, Order, Verdict, Vote, majority};

const SERVERS: usize = 3;
const ATTEMPTS: usize = 2;

/// How an attempt comes to its grant.
trait Protocol: Clone {
    fn new() -> Self;
    /// Hashes what concerns one server.
    fn hash_server(&self, server: usize, mark: &mut Mark);
    /// Hashes what concerns none of them.
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
            Some(Verdict::Granted(token)) => Some(token.number()),
            _ => None,
        }
    }

    fn orders(&mut self) -> Vec<(usize, Order)> {
        self.orders()
    }
}

/// The negative control: the greatest token of a majority counts at once.
#[derive(Clone, Default)]
struct OnePhase {
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

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Request {
    Ask,
    Settle(u64),
    Withdraw,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Mail {
    Nothing,
    Going(Request),
    Coming(Answer),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Server {
    key: Option<(usize, u64)>,
    counter: u64,
}

#[derive(Clone)]
struct Attempt<P> {
    protocol: P,
    began: bool,
    proposal: u64,
    mail: [Mail; SERVERS],
    /// A request that was given up waiting for, and may be carried out yet.
    late: [Option<Request>; SERVERS],
    granted: Option<u64>,
    /// The tokens of attempts that were decided before this one began.
    before: u64,
}

#[derive(Clone)]
struct State<P> {
    servers: [Server; SERVERS],
    attempts: [Attempt<P>; ATTEMPTS],
    forgotten: u8,
    timed_out: u8,
}

/// What may happen besides the delivery of messages.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// A key vanishes: it runs out, or its server comes back without it.
    vanishing: bool,
    /// How often an answer is not waited for any longer; its request may still be carried out.
    timeouts: u8,
    /// How often a server loses its counter with its keys.
    forgets: u8,
    /// An attempt proposes a token above all that were decided before it began, as clocks do.
    proposals_rise: bool,
}

#[derive(Debug, Default)]
struct Found {
    states: usize,
    granted_twice: usize,
    same_token: usize,
    out_of_order: usize,
    undecided: usize,
    left_behind: usize,
}

impl<P: Protocol> State<P> {
    fn new(counters: [u64; SERVERS], proposals: [u64; ATTEMPTS]) -> Self {
        let attempt = |proposal| Attempt {
            protocol: P::new(),
            began: false,
            proposal,
            mail: [Mail::Nothing; SERVERS],
            late: [None; SERVERS],
            granted: None,
            before: 0,
        };
        Self {
            servers: counters.map(|counter| Server { key: None, counter }),
            attempts: proposals.map(attempt),
            forgotten: 0,
            timed_out: 0,
        }
    }

    /// Everything that can happen next.
    fn next(&self, faults: Faults, mut then: impl FnMut(Self)) {
        for number in 0..ATTEMPTS {
            let attempt = &self.attempts[number];
            // Of two attempts that are alike it does not matter which one begins.
            let is_next = number == 0 || self.attempts[0].began || !self.are_alike();
            if !attempt.began && is_next {
                let mut state = self.clone();
                let decided = self.attempts.iter().filter_map(|it| it.granted).max();
                let attempt = &mut state.attempts[number];
                attempt.began = true;
                attempt.before = decided.unwrap_or_default();
                if faults.proposals_rise {
                    attempt.proposal = attempt.proposal.max(attempt.before + 1);
                }
                attempt.mail = [Mail::Going(Request::Ask); SERVERS];
                then(state);
            }
            for server in 0..SERVERS {
                match attempt.mail[server] {
                    Mail::Nothing => {}
                    Mail::Going(request) => {
                        let mut state = self.clone();
                        let answer = state.carry_out(number, server, request);
                        state.attempts[number].mail[server] = Mail::Coming(answer);
                        then(state);
                        if self.timed_out < faults.timeouts {
                            let mut state = self.clone();
                            state.attempts[number].late[server] = Some(request);
                            state.timed_out += 1;
                            state.hear(number, server, Answer::Unknown);
                            then(state);
                        }
                    }
                    Mail::Coming(answer) => {
                        let mut state = self.clone();
                        state.hear(number, server, answer);
                        then(state);
                        if self.timed_out < faults.timeouts {
                            let mut state = self.clone();
                            state.timed_out += 1;
                            state.hear(number, server, Answer::Unknown);
                            then(state);
                        }
                    }
                }
                if let Some(request) = attempt.late[server] {
                    let mut state = self.clone();
                    state.attempts[number].late[server] = None;
                    state.carry_out(number, server, request);
                    then(state);
                }
            }
        }
        for server in 0..SERVERS {
            if faults.vanishing && self.servers[server].key.is_some() {
                let mut state = self.clone();
                state.servers[server].key = None;
                then(state);
            }
            if self.forgotten < faults.forgets && self.servers[server].counter > 0 {
                let mut state = self.clone();
                state.servers[server] = Server { key: None, counter: 0 };
                state.forgotten += 1;
                then(state);
            }
        }
    }

    fn are_alike(&self) -> bool {
        self.attempts[0].proposal == self.attempts[1].proposal
    }

    /// What the scripts do.
    fn carry_out(&mut self, number: usize, server: usize, request: Request) -> Answer {
        let proposal = self.attempts[number].proposal;
        let server = &mut self.servers[server];
        let not_ours = Answer::NotOurs { holder: None, remaining: None };
        let mine = server.key.filter(|(owner, _)| *owner == number);
        match (request, mine) {
            (Request::Ask, Some((_, token))) => Answer::Holds(FencingToken::new(token)),
            (Request::Ask, None) if server.key.is_some() => not_ours,
            (Request::Ask, None) => {
                server.counter = (server.counter + 1).max(proposal);
                server.key = Some((number, server.counter));
                Answer::Holds(FencingToken::new(server.counter))
            }
            (_, None) => not_ours,
            (Request::Settle(token), Some(_)) => {
                server.key = Some((number, token));
                server.counter = server.counter.max(token);
                Answer::Holds(FencingToken::new(token))
            }
            (Request::Withdraw, Some(_)) => {
                server.key = None;
                Answer::Failed
            }
        }
    }

    fn hear(&mut self, number: usize, server: usize, answer: Answer) {
        let attempt = &mut self.attempts[number];
        attempt.mail[server] = Mail::Nothing;
        attempt.protocol.hear(server, answer);
        attempt.granted = attempt.protocol.granted();
        for (server, order) in attempt.protocol.orders() {
            assert!(attempt.mail[server] == Mail::Nothing, "two requests at once");
            attempt.mail[server] = match order {
                Order::Settle(token) => Mail::Going(Request::Settle(token.number())),
                Order::Withdraw => Mail::Going(Request::Withdraw),
                Order::Rest => Mail::Nothing,
            };
        }
    }

    fn is_quiet(&self) -> bool {
        let is_quiet = |attempt: &Attempt<P>| {
            attempt.began
                && attempt.mail == [Mail::Nothing; SERVERS]
                && attempt.late == [None; SERVERS]
        };
        self.attempts.iter().all(is_quiet)
    }

    fn judge(&self, found: &mut Found) {
        let [one, two] = &self.attempts;
        if let (Some(first), Some(second)) = (one.granted, two.granted) {
            found.granted_twice += 1;
            found.same_token += usize::from(first == second);
            found.out_of_order += usize::from(first <= one.before || second <= two.before);
        }
        if self.is_quiet() {
            found.undecided += self.attempts.iter().filter(|it| !it.protocol.is_decided()).count();
            let is_left = |server: &&Server| {
                server.key.is_some_and(|(owner, _)| self.attempts[owner].granted.is_none())
            };
            found.left_behind += self.servers.iter().filter(is_left).count();
        }
    }

    /// Equal for states that differ only in which server is which: what can follow differs no more than
    /// that, and one of them is enough.
    fn mark(&self) -> u128 {
        let mut servers: [u128; SERVERS] = std::array::from_fn(|server| {
            let mut mark = Mark(0);
            self.servers[server].hash(&mut mark);
            for attempt in &self.attempts {
                attempt.protocol.hash_server(server, &mut mark);
                (attempt.mail[server], attempt.late[server]).hash(&mut mark);
            }
            mark.0
        });
        servers.sort_unstable();
        let mut mark = Mark(0);
        for server in servers {
            mark.write_u64(server as u64);
            mark.write_u64((server >> 64) as u64);
        }
        for attempt in &self.attempts {
            attempt.protocol.hash_rest(&mut mark);
            let Attempt { began, proposal, granted, before, .. } = attempt;
            (began, proposal, granted, before).hash(&mut mark);
        }
        (self.forgotten, self.timed_out).hash(&mut mark);
        mark.0
    }
}

/// 128 bits instead of the state itself: among millions of states none is taken for another.
#[derive(Default)]
struct Mark(u128);

impl Hasher for Mark {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let mixed = (self.0 ^ u128::from(word)).wrapping_mul(ODD);
        self.0 = mixed ^ (mixed >> 67);
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u128(&mut self, mark: u128) {
        self.0 = mark;
    }

    fn finish(&self) -> u64 {
        (self.0 >> 64) as u64
    }
}

type Marks = HashSet<u128, BuildHasherDefault<Mark>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Both attempts are decided, after which no token changes.
    Decided,
    /// Nothing is under way any more.
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

/// Those of them that differ by more than a shift, which matters only to proposals.
fn shapes() -> Vec<[u64; SERVERS]> {
    counters().into_iter().filter(|counters| counters[0] == 0).collect()
}

fn from<P: Protocol>(counters: Vec<[u64; SERVERS]>, proposals: [u64; ATTEMPTS]) -> Vec<State<P>> {
    counters.into_iter().map(|counters| State::new(counters, proposals)).collect()
}

const VANISHING: Faults =
    Faults { vanishing: true, timeouts: 0, forgets: 0, proposals_rise: false };

#[test]
fn tokens_are_unique_and_rise_whatever_vanishes() {
    let found = explore(from::<Vote>(shapes(), [0, 0]), VANISHING, Until::Decided);
    println!("without proposals: {found:?}");
    assert!(found.granted_twice > 1_000, "the model hardly comes to two grants");
    assert_eq!((found.same_token, found.out_of_order), (0, 0));
}

#[test]
fn proposals_change_nothing_about_that() {
    let found = explore(from::<Vote>(counters(), [2, 3]), VANISHING, Until::Decided);
    println!("with proposals: {found:?}");
    assert!(found.granted_twice > 1_000, "the model hardly comes to two grants");
    assert_eq!((found.same_token, found.out_of_order), (0, 0));
}

#[test]
fn requests_that_are_carried_out_after_they_were_given_up_change_nothing_either() {
    let faults = Faults { timeouts: 1, ..VANISHING };
    let found = explore(from::<Vote>(vec![[0, 0, 1]], [0, 0]), faults, Until::Decided);
    println!("with time-outs: {found:?}");
    assert!(found.granted_twice > 1_000, "the model hardly comes to two grants");
    assert_eq!((found.same_token, found.out_of_order), (0, 0));
}

#[test]
fn every_attempt_is_decided_and_leaves_nothing_behind() {
    let mut found = explore(from::<Vote>(shapes(), [0, 0]), Faults::default(), Until::Quiet);
    println!("to the end: {found:?}");
    assert_eq!((found.undecided, found.left_behind), (0, 0));
    found = explore(from::<Vote>(vec![[0, 1, 2]], [2, 3]), VANISHING, Until::Quiet);
    println!("to the end, with keys that vanish: {found:?}");
    assert_eq!((found.undecided, found.left_behind), (0, 0));
}

/// Clocks stand in for a counter that was lost: what is granted later has the greater token. Attempts
/// that overlap may get the same one, which is why the documentation asks for time to pass.
#[test]
fn tokens_rise_over_lost_counters_where_clocks_go_on() {
    let faults = Faults { forgets: 1, proposals_rise: true, ..VANISHING };
    let found = explore(from::<Vote>(vec![[0, 0, 1]], [0, 0]), faults, Until::Decided);
    println!("lost counters, clocks: {found:?}");
    assert_eq!(found.out_of_order, 0);
    let faults = Faults { proposals_rise: false, ..faults };
    let found = explore(from::<Vote>(vec![[0, 0, 1]], [0, 0]), faults, Until::Decided);
    println!("lost counters, no clocks: {found:?}");
    assert!(found.out_of_order > 0, "this is what clocks are for");
}

/// Everything that servers may answer, in every order, to being asked and to a token that is written
/// back to them.
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
            // What follows a verdict is clearing up.
            if vote.verdict().is_none() {
                assert!(!pending.is_empty(), "nothing is certain, nothing under way: {vote:?}");
                hear_everything(&vote, &pending, answers, seen);
            }
        }
    }
}

#[test]
fn errors_never_make_a_loss_certain() {
    let holds = |token| Answer::Holds(FencingToken::new(token));
    let not_ours = Answer::NotOurs { holder: None, remaining: None };
    let errors = [holds(1), holds(2), Answer::Unknown, Answer::Failed];
    let one_no = [errors.as_slice(), &[not_ours]].concat();
    let mut seen = 0;
    for motion in [Motion::Acquire, Motion::HandOver] {
        let vote = Vote::new(motion, SERVERS);
        hear_everything(&vote, &[0, 1, 2].map(|server| (server, None)), &errors, &mut |vote| {
            seen += 1;
            assert_ne!(vote.verdict(), Some(Verdict::Refused), "{vote:?}");
        });
    }
    // A hand-over is refused only if a majority says that the lease is not the giver's.
    for (first, second) in [(0, 1), (1, 2), (2, 0)] {
        let mut vote = Vote::new(Motion::HandOver, SERVERS);
        vote.hear(first, not_ours);
        assert_eq!(vote.verdict(), None);
        vote.hear(second, Answer::Unknown);
        assert_eq!(vote.verdict(), None, "the third may say it too");
        let third = 3 - first - second;
        let mut refused = vote.clone();
        refused.hear(third, not_ours);
        assert_eq!(refused.verdict(), Some(Verdict::Refused));
        vote.hear(third, holds(1));
        assert_eq!(vote.verdict(), Some(Verdict::InDoubt));
        assert_eq!(vote.orders(), [0, 1, 2].map(|server| (server, Order::Rest)), "it may be held");
    }
    let vote = Vote::new(Motion::Acquire, SERVERS);
    hear_everything(&vote, &[0, 1, 2].map(|server| (server, None)), &one_no, &mut |_| seen += 1);
    println!("{seen} states of a vote");
}

#[test]
fn two_of_three_that_agree_are_enough() {
    for (first, second) in [(0, 1), (1, 2), (2, 0)] {
        let mut vote = Vote::new(Motion::Acquire, SERVERS);
        vote.hear(first, Answer::Holds(FencingToken::new(7)));
        assert_eq!(vote.verdict(), None);
        vote.hear(second, Answer::Holds(FencingToken::new(7)));
        assert_eq!(vote.verdict(), Some(Verdict::Granted(FencingToken::new(7))));
    }
}

/// The negative control: a check that cannot fail is worth nothing.
#[test]
fn the_greatest_token_in_one_phase_is_found_to_fail() {
    let found = explore(from::<OnePhase>(shapes(), [0, 0]), VANISHING, Until::Decided);
    println!("one phase: {found:?}");
    assert!(found.same_token > 0 && found.out_of_order > 0);
}
