//! The servers, the attempts, and the messages between them.

use std::hash::{Hash, Hasher as _};

use memory_core::lease::FencingToken;

use super::mark::Mark;
use super::protocol::Protocol;
use crate::redlock::vote::{Answer, Order};

pub(super) const SERVERS: usize = 3;
pub(super) const ATTEMPTS: usize = 2;

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
pub(super) struct Attempt<P> {
    pub(super) protocol: P,
    began: bool,
    proposal: u64,
    mail: [Mail; SERVERS],
    /// A request that timed out, and may still be applied.
    late: [Option<Request>; SERVERS],
    granted: Option<u64>,
    /// The tokens of attempts that were decided before this one began.
    before: u64,
}

#[derive(Clone)]
pub(super) struct State<P> {
    servers: [Server; SERVERS],
    pub(super) attempts: [Attempt<P>; ATTEMPTS],
    forgotten: u8,
    timed_out: u8,
}

/// The events besides the delivery of messages.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    /// A key vanishes: it expires, or its server restarts without it.
    pub(super) vanishing: bool,
    /// The number of requests that time out. They may still be applied later.
    pub(super) timeouts: u8,
    /// The number of times a server loses its counter with its keys.
    pub(super) forgets: u8,
    /// An attempt proposes a token above all that were decided before it began, as clocks do.
    pub(super) proposals_rise: bool,
}

#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) granted_twice: usize,
    pub(super) same_token: usize,
    pub(super) out_of_order: usize,
    pub(super) undecided: usize,
    pub(super) left_behind: usize,
}

impl<P: Protocol> State<P> {
    pub(super) fn new(counters: [u64; SERVERS], proposals: [u64; ATTEMPTS]) -> Self {
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
    pub(super) fn next(&self, faults: Faults, mut then: impl FnMut(Self)) {
        for number in 0..ATTEMPTS {
            let attempt = &self.attempts[number];
            // Of two equal attempts only the first may begin first: the order makes no difference.
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

    /// As the scripts do.
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

    pub(super) fn judge(&self, found: &mut Found) {
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

    /// Equal for states that are permutations of each other's servers. The same states can follow them, so
    /// visiting one is enough.
    pub(super) fn mark(&self) -> u128 {
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
