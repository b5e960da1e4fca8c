//! Counting answers of yes and no, and the lease that a majority reports.

use memory_core::lease::FencingToken;

use super::vote::majority;
use crate::LeaseInfo;

/// The servers' answers to a question that each answers with yes, no, or not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct VoteTally {
    pub(super) yes: usize,
    /// No, because another owner holds the lease.
    pub(super) another: usize,
    /// No, because no owner holds it.
    pub(super) free: usize,
    pub(super) failed: usize,
}

/// The outcome of a tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It depends on the servers that have not answered yet.
    Open,
    /// A majority says yes.
    Yes,
    /// A majority says no, most of it because another owner holds the lease.
    Another,
    /// A majority says no, most of it because no owner holds it.
    Free,
    /// Too many failed for either.
    InDoubt,
}

impl VoteTally {
    /// The outcome among this odd number of servers.
    pub(super) fn outcome(self, servers: usize) -> Outcome {
        let needed = majority(servers);
        let no = self.another + self.free;
        let open = servers.saturating_sub(self.yes + no + self.failed);
        if self.yes >= needed {
            Outcome::Yes
        } else if no >= needed {
            if self.another >= self.free { Outcome::Another } else { Outcome::Free }
        } else if self.yes + open < needed && no + open < needed {
            Outcome::InDoubt
        } else {
            Outcome::Open
        }
    }
}

/// The lease that a majority reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// It depends on the servers that have not answered yet.
    Open,
    /// A majority reports it as one owner's.
    Held(LeaseInfo),
    /// No owner can have a majority.
    Free,
    /// Too many failed.
    InDoubt,
}

/// The lease as reported by the servers, of which these have answered and `failed` have failed.
pub(super) fn sight(seen: &[Option<LeaseInfo>], failed: usize, servers: usize) -> Sight {
    let needed = majority(servers);
    let hidden = servers.saturating_sub(seen.len());
    let mut most = 0;
    for info in seen.iter().flatten() {
        let of_owner = || seen.iter().flatten().filter(|other| other.owner == info.owner);
        let count = of_owner().count();
        most = most.max(count);
        if count < needed {
            continue;
        }
        // A majority lasts until the expiry after which too few are left.
        let mut remaining: Vec<_> = of_owner().map(|info| info.remaining).collect();
        remaining.sort_unstable_by(|one, other| other.cmp(one));
        let remaining = remaining.get(needed - 1).copied().unwrap_or_default();
        let exactly = |token: FencingToken| of_owner().filter(|i| i.token == token).count();
        // A grant is decided under one token; another token was never counted.
        let decided = of_owner().map(|info| info.token).find(|token| exactly(*token) >= needed);
        if decided.is_none() && hidden > failed {
            return Sight::Open;
        }
        let token = decided.or(of_owner().map(|info| info.token).max()).unwrap_or(info.token);
        let held_for = of_owner().filter_map(|info| info.held_for).max();
        let mut held = LeaseInfo::new(info.owner, token, remaining);
        held.held_for = held_for;
        return Sight::Held(held);
    }
    if most + hidden < needed {
        Sight::Free
    } else if hidden == failed {
        Sight::InDoubt
    } else {
        Sight::Open
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use memory_core::lease::OwnerId;

    use super::*;

    /// All tallies of this many servers.
    fn tallies(servers: usize) -> impl Iterator<Item = VoteTally> {
        let up_to = move || 0..=servers;
        up_to()
            .flat_map(move |yes| up_to().map(move |another| (yes, another)))
            .flat_map(move |(yes, another)| up_to().map(move |free| (yes, another, free)))
            .flat_map(move |(yes, another, free)| {
                up_to().map(move |failed| VoteTally { yes, another, free, failed })
            })
            .filter(move |tally| tally.heard() <= servers)
    }

    impl VoteTally {
        fn heard(self) -> usize {
            self.yes + self.another + self.free + self.failed
        }

        fn after_one_more(self) -> [Self; 4] {
            [
                Self { yes: self.yes + 1, ..self },
                Self { another: self.another + 1, ..self },
                Self { free: self.free + 1, ..self },
                Self { failed: self.failed + 1, ..self },
            ]
        }
    }

    #[test]
    fn outcome_is_final_and_decided_early() {
        let is_no = |outcome| matches!(outcome, Outcome::Another | Outcome::Free);
        let mut checked = 0;
        for servers in [3, 5, 7] {
            for tally in tallies(servers) {
                checked += 1;
                let outcome = tally.outcome(servers);
                if tally.heard() == servers {
                    assert_ne!(outcome, Outcome::Open, "{tally:?}");
                    continue;
                }
                let later = tally.after_one_more().map(|tally| tally.outcome(servers));
                match outcome {
                    Outcome::Open => {
                        let rest = servers - tally.heard();
                        let all_yes = VoteTally { yes: tally.yes + rest, ..tally };
                        let all_no = VoteTally { free: tally.free + rest, ..tally };
                        assert_ne!(all_yes.outcome(servers), all_no.outcome(servers), "{tally:?}");
                    }
                    outcome if is_no(outcome) => assert!(later.iter().all(|it| is_no(*it))),
                    outcome => assert_eq!(later, [outcome; 4], "{tally:?} of {servers}"),
                }
            }
        }
        assert_eq!(checked, 35 + 126 + 330);
    }

    #[test]
    fn refusal_names_another_holder_unless_more_are_free() {
        let no = |another, free| VoteTally { another, free, ..VoteTally::default() }.outcome(3);
        for (another, free) in [(2, 0), (1, 1), (2, 1), (3, 0)] {
            assert_eq!(no(another, free), Outcome::Another, "{another} and {free}");
        }
        for (another, free) in [(0, 2), (1, 2), (0, 3)] {
            assert_eq!(no(another, free), Outcome::Free, "{another} and {free}");
        }
    }

    #[test]
    fn errors_alone_are_never_a_refusal() {
        for servers in [3, 5] {
            for tally in tallies(servers).filter(|tally| tally.another + tally.free == 0) {
                let outcome = tally.outcome(servers);
                assert!(matches!(outcome, Outcome::Open | Outcome::Yes | Outcome::InDoubt));
            }
        }
    }

    fn info(owner: u128, token: u64, millis: u64) -> Option<LeaseInfo> {
        let (owner, token) = (OwnerId::new(owner), FencingToken::new(token));
        let mut info = LeaseInfo::new(owner, token, Duration::from_millis(millis));
        info.held_for = Some(Duration::from_millis(100 - millis));
        Some(info)
    }

    #[test]
    fn majority_decides_the_observed_lease() {
        let held = |token, millis, held_for| {
            let mut info = info(1, token, millis).unwrap();
            info.held_for = Some(Duration::from_millis(held_for));
            Sight::Held(info)
        };
        for (seen, failed, expected) in [
            (vec![], 0, Sight::Open),
            (vec![], 3, Sight::InDoubt),
            (vec![None, None], 0, Sight::Free),
            (vec![info(1, 5, 50)], 0, Sight::Open),
            (vec![info(1, 5, 50)], 2, Sight::InDoubt),
            (vec![info(1, 5, 50), info(1, 5, 40)], 0, held(5, 40, 60)),
            (vec![info(1, 9, 50), info(1, 5, 40), info(1, 5, 30)], 0, held(5, 40, 70)),
            (vec![info(1, 9, 50), info(1, 5, 40)], 0, Sight::Open),
            (vec![info(1, 9, 50), info(1, 5, 40)], 1, held(9, 40, 60)),
            (vec![info(1, 5, 50), info(2, 6, 40)], 0, Sight::Open),
            (vec![info(1, 5, 50), info(2, 6, 40)], 1, Sight::InDoubt),
            (vec![info(1, 5, 50), info(2, 6, 40), None], 0, Sight::Free),
            (vec![info(1, 5, 50), None, None], 0, Sight::Free),
            (vec![info(1, 5, 50), None], 0, Sight::Open),
        ] {
            assert_eq!(sight(&seen, failed, 3), expected, "{seen:?}, {failed} failed");
        }
    }
}
